/** Reductions along axes and what is built from them: softmax, norms of vectors, cumulative sums. */
import { type DType, isFloat, isInteger } from "@nimforge/tensor";
import { add, type Dim, productOf, sub } from "../dim.js";
import type { Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, type Expr, index, type Monoid } from "../scalar.js";
import { arithmetic, castTo, inComputeType } from "./expansion.js";

const { float, numeric } = typeSets;
const data = (types: readonly DType[]): InputSpec => ({ name: "data", types });
const axesInput: InputSpec = { name: "axes", types: ["int64"], optional: true };

/** Axes from the second input; none given means all, or none with noop_with_empty_axes. Ascending. */
function reducedAxes(context: OpContext): number[] {
  const rank = context.rank(0);
  const given = context.has(1) ? context.needInts(1) : [];
  if (given.length === 0)
    return context.int("noop_with_empty_axes") ? [] : Array.from({ length: rank }, (_, axis) => axis);
  return context.axes(given, rank).sort((a, b) => a - b);
}

type Fold = (monoid: Monoid, element: (x: Expr) => Expr) => Expr;

/** out[kept axes] = result(fold), where fold combines the elements along `axes`. */
function alongAxes(context: OpContext, axes: readonly number[], result: (fold: Fold, count: Dim) => Expr) {
  const shape = context.shape(0);
  const keepdims = context.int("keepdims") !== 0;
  const reduced = new Set(axes);
  const out = shape.flatMap((size, axis) => (reduced.has(axis) ? (keepdims ? [1] : []) : [size]));
  const extents = axes.map((axis) => shape[axis] as Dim);
  return context.over(out, (...at) => {
    const fold: Fold = (monoid, element) =>
      reduceOver(monoid, extents, (...k) => {
        let kept = 0;
        let inner = 0;
        const where = shape.map((_, axis) => {
          if (!reduced.has(axis)) return at[kept++] as Dim;
          if (keepdims) kept++;
          return k[inner++] as Dim;
        });
        return element(context.load(0, where));
      });
    return result(fold, productOf(extents));
  });
}

const foldOp = (name: string, types: readonly DType[], result: (fold: Fold, dtype: DType, count: Dim) => Expr): Op =>
  loopOp(name, { inputs: [data(types), axesInput], attributes: { keepdims: 1, noop_with_empty_axes: 0 } }, (context) =>
    alongAxes(context, reducedAxes(context), (fold, count) => result(fold, context.dtype(0), count)),
  );

/** A sum in the compute type, finished there and rounded once; functions of integers are taken in float64. */
const summed = (name: string, element: (x: Expr) => Expr, finish?: (sum: Expr, count: Dim) => Expr): Op =>
  foldOp(name, numeric, (fold, dtype, count) => {
    const sum = fold("sum", (x) => element(cast(computeType(dtype), x)));
    return cast(dtype, finish ? finish(sum, count) : sum);
  });
const real = (x: Expr) => (isFloat(x.dtype) ? x : cast("float64", x));

const square = (x: Expr) => call("mul", x, x);

/** "max" and "min"; for bool they are "or" and "and". */
const extreme = (name: string, monoid: "max" | "min"): Op =>
  foldOp(name, [...numeric, "bool"], (fold, dtype) =>
    fold(dtype !== "bool" ? monoid : monoid === "max" ? "or" : "and", (x) => x),
  );

const argExtreme = (name: string, monoid: "argmax" | "argmin"): Op =>
  loopOp(name, { inputs: [data(numeric)], attributes: { axis: 0, keepdims: 1, select_last_index: 0 } }, (context) => {
    const axis = context.axis(context.int("axis"), context.rank(0));
    return alongAxes(context, [axis], (fold) =>
      fold(context.int("select_last_index") ? `${monoid}Last` : monoid, (x) => x),
    );
  });

/** out[…, i, …] = the fold of the elements up to i (before i when exclusive; from the other end when reversed). */
const cumulative = (name: string, monoid: "sum" | "prod"): Op =>
  loopOp(
    name,
    {
      inputs: [
        { name: "x", types: numeric },
        { name: "axis", types: typeSets.index },
      ],
      attributes: { exclusive: 0, reverse: 0 },
    },
    (context) => {
      const shape = context.shape(0);
      const axis = context.axis(context.needInts(1)[0] ?? context.fail("axis must have one element"), shape.length);
      const size = shape[axis] as Dim;
      const exclusive = context.int("exclusive") !== 0;
      return context.over(shape, (...at) => {
        const i = at[axis] as Dim;
        const back = context.int("reverse") !== 0;
        const inclusive = back ? sub(size, i) : add(i, 1);
        return cast(
          context.dtype(0),
          reduceOver(monoid, [exclusive ? sub(inclusive, 1) : inclusive], (k) => {
            const where = back ? add(i, k, exclusive ? 1 : 0) : k;
            return cast(
              computeType(context.dtype(0)),
              context.load(
                0,
                at.map((dim, a) => (a === axis ? where : dim)),
              ),
            );
          }),
        );
      });
    },
  );

/** An op on one float tensor along `axis`. */
const alongAxis = (
  name: string,
  attributes: Record<string, number>,
  body: (context: OpContext, x: Value, axis: number) => Value,
): Op =>
  compositeOp(
    name,
    { inputs: [{ name: "input", types: float }], attributes: { axis: -1, ...attributes } },
    (context, x) => {
      const axis = context.axis(context.int("axis"), context.rank(0));
      return inComputeType(context, x as Value, (wide) => body(context, wide, axis));
    },
  );

export const reduction: readonly Op[] = [
  summed("ReduceSum", (x) => x),
  summed(
    "ReduceMean",
    (x) => x,
    (sum, count) => call("div", sum, cast(sum.dtype, index(count))),
  ),
  summed("ReduceSumSquare", square),
  summed("ReduceL1", (x) => call("abs", x)),
  summed("ReduceL2", square, (sum) => call("sqrt", real(sum))),
  summed(
    "ReduceLogSum",
    (x) => x,
    (sum) => call("log", real(sum)),
  ),
  foldOp("ReduceProd", numeric, (fold, dtype) =>
    cast(
      dtype,
      fold("prod", (x) => cast(computeType(dtype), x)),
    ),
  ),
  extreme("ReduceMax", "max"),
  extreme("ReduceMin", "min"),
  // log Σ exp x = m + log Σ exp(x − m): m keeps exp in range; an infinite maximum stays the result by itself
  compositeOp(
    "ReduceLogSumExp",
    { inputs: [data(numeric), axesInput], attributes: { keepdims: 1, noop_with_empty_axes: 0 } },
    (context, x) => {
      const axes = reducedAxes(context);
      const dtype = context.dtype(0);
      const { add, sub, exp, log, max, sum } = arithmetic(context);
      const wide = castTo(context, x as Value, isInteger(dtype) ? "float64" : computeType(dtype));
      const greatest = max(wide, axes);
      const shift = context.apply("Where", [
        context.apply("IsInf", [greatest]),
        context.scalar(wide.dtype, 0),
        greatest,
      ]);
      const keepdims = context.int("keepdims");
      const total = log(sum(exp(sub(wide, shift)), axes, keepdims));
      const back = keepdims || axes.length === 0 ? shift : context.apply("Squeeze", [shift, context.int64s(axes)]);
      return castTo(context, add(total, back), dtype);
    },
  ),
  argExtreme("ArgMax", "argmax"),
  argExtreme("ArgMin", "argmin"),
  cumulative("CumSum", "sum"),
  cumulative("CumProd", "prod"),

  alongAxis("Softmax", {}, (context, x, axis) => {
    const { sub, div, exp, max, sum } = arithmetic(context);
    const e = exp(sub(x, max(x, [axis])));
    return div(e, sum(e, [axis]));
  }),
  alongAxis("LogSoftmax", {}, (context, x, axis) => {
    const { sub, exp, log, max, sum } = arithmetic(context);
    const shifted = sub(x, max(x, [axis]));
    return sub(shifted, log(sum(exp(shifted), [axis])));
  }),
  alongAxis("Hardmax", {}, (context, x, axis) => {
    const first = context.apply("ArgMax", [x], { axis, keepdims: 0 });
    const zeroOne = context.apply(
      "Concat",
      [context.scalar(x.dtype, 0), context.scalar(x.dtype, 1)].map((v) =>
        context.apply("Unsqueeze", [v, context.int64s([0])]),
      ),
      { axis: 0 },
    );
    return context.apply("OneHot", [first, context.int64s([x.shape[axis] as Dim]), zeroOne], { axis });
  }),
  // a vector of norm 0 stays 0
  alongAxis("LpNormalization", { p: 2 }, (context, x, axis) => {
    const p = context.int("p");
    if (p !== 1 && p !== 2) context.fail("p must be 1 or 2", { found: String(p) });
    const norm = context.apply(p === 1 ? "ReduceL1" : "ReduceL2", [x, context.int64s([axis])]);
    const zero = context.scalar(x.dtype, 0);
    return context.apply("Where", [context.apply("Equal", [norm, zero]), zero, context.apply("Div", [x, norm])]);
  }),
  compositeOp(
    "MeanVarianceNormalization",
    { inputs: [{ name: "X", types: float }], attributes: { axes: { type: "ints", default: [0, 2, 3] } } },
    (context, x) => {
      const axes = context.axes(context.ints("axes") ?? [], context.rank(0));
      const { add, sub, mul, div, sqrt, mean } = arithmetic(context);
      return inComputeType(context, x as Value, (wide) => {
        const centred = sub(wide, mean(wide, axes));
        return div(centred, add(sqrt(mean(mul(centred, centred), axes)), 1e-9));
      });
    },
  ),
];
