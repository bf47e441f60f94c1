/** Normalizations. Each computes in float32 (float64 for float64) and rounds once. */
import { type DType, dtypeFromOnnx } from "@nimforge/tensor";
import { add, type Dim, sub } from "../dim.js";
import type { Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, constant } from "../scalar.js";
import { arithmetic, attributeOf, castTo } from "./expansion.js";
import { guarded } from "./window.js";

const { float } = typeSets;
const typed = (name: string, types: readonly DType[] = float, optional = false): InputSpec => ({
  name,
  types,
  optional,
});
const epsilon = attributeOf.float(1e-5);

/** A vector over the channels as [C, 1, …, 1], for X[N, C, …]. */
function overChannels(context: OpContext, vector: Value, rank: number): Value {
  const trailing = Array.from({ length: Math.max(0, rank - 2) }, (_, k) => k + 1);
  return trailing.length === 0 ? vector : context.apply("Unsqueeze", [vector, context.int64s(trailing)]);
}

/** x − mean, and 1/√(variance + ε) over the same axes. */
function standardize(context: OpContext, x: Value, axes: readonly number[]) {
  const { add, sub, mul, mean, sqrt, reciprocal } = arithmetic(context);
  const average = mean(x, axes);
  const centred = sub(x, average);
  const inverseDeviation = reciprocal(sqrt(add(mean(mul(centred, centred), axes), context.float("epsilon"))));
  return { average, inverseDeviation, normalized: mul(centred, inverseDeviation) };
}

/** The type that statistics are computed in: stash_type, float64 for float64. */
function stashType(context: OpContext): DType {
  const stash = dtypeFromOnnx(context.int("stash_type"));
  if (!stash || !float.includes(stash))
    context.fail("stash_type must be a floating point type", { found: String(context.int("stash_type")) });
  return context.dtype(0) === "float64" ? "float64" : stash;
}

const from = (axis: number, rank: number) => Array.from({ length: rank - axis }, (_, k) => axis + k);

export const normalization: readonly Op[] = [
  // Inference is x·a + b with a = scale/√(var + ε) and b = B − mean·a, which fold to constants; training takes mean and variance from X.
  compositeOp(
    "BatchNormalization",
    {
      inputs: [typed("X"), typed("scale"), typed("B"), typed("input_mean"), typed("input_var")],
      attributes: { epsilon, momentum: attributeOf.float(0.9), training_mode: 0 },
    },
    (context, ...inputs) => {
      const [x, scale, bias, mean, variance] = inputs as [Value, Value, Value, Value, Value];
      const rank = context.rank(0);
      const math = arithmetic(context);
      const wide = computeType(x.dtype);
      const widened = (value: Value) => castTo(context, value, wide);
      const apply = (m: Value, v: Value): Value => {
        const a = math.div(widened(scale), math.sqrt(math.add(v, context.float("epsilon"))));
        const b = math.sub(widened(bias), math.mul(m, a));
        return castTo(
          context,
          math.add(math.mul(widened(x), overChannels(context, a, rank)), overChannels(context, b, rank)),
          x.dtype,
        );
      };
      if (context.int("training_mode") === 0) return apply(widened(mean), widened(variance));
      const others = [0, ...from(2, rank)];
      const centre = math.mean(widened(x), others);
      const difference = math.sub(widened(x), centre);
      const saved = [math.mean(widened(x), others, 0), math.mean(math.mul(difference, difference), others, 0)] as const;
      const momentum = context.float("momentum");
      const running = [mean, variance].map((old, k) =>
        castTo(
          context,
          math.add(math.mul(widened(old), momentum), math.mul(saved[k] as Value, 1 - momentum)),
          old.dtype,
        ),
      );
      return [apply(...saved), ...running].slice(0, context.outputCount);
    },
  ),

  compositeOp(
    "InstanceNormalization",
    { inputs: [typed("input"), typed("scale"), typed("B")], attributes: { epsilon } },
    (context, ...inputs) => {
      const [x, scale, bias] = inputs as [Value, Value, Value];
      const rank = context.rank(0);
      const { add, mul } = arithmetic(context);
      const wide = computeType(x.dtype);
      const channels = (vector: Value) => overChannels(context, castTo(context, vector, wide), rank);
      const { normalized } = standardize(context, castTo(context, x, wide), from(2, rank));
      return castTo(context, add(mul(normalized, channels(scale)), channels(bias)), x.dtype);
    },
  ),

  compositeOp(
    "LayerNormalization",
    { inputs: [typed("X"), typed("Scale"), typed("B", float, true)], attributes: { axis: -1, epsilon, stash_type: 1 } },
    (context, x, scale, bias) => {
      const rank = context.rank(0);
      const wide = stashType(context);
      const { add, mul } = arithmetic(context);
      const widened = (value: Value | undefined) => castTo(context, value as Value, wide);
      const { average, inverseDeviation, normalized } = standardize(
        context,
        widened(x),
        from(context.axis(context.int("axis"), rank), rank),
      );
      const scaled = mul(normalized, widened(scale));
      const y = castTo(context, bias ? add(scaled, widened(bias)) : scaled, context.dtype(0));
      return [y, average, inverseDeviation].slice(0, context.outputCount);
    },
  ),

  compositeOp(
    "GroupNormalization",
    {
      inputs: [typed("X"), typed("scale"), typed("bias")],
      attributes: { epsilon, num_groups: { type: "int", required: true }, stash_type: 1 },
    },
    (context, ...inputs) => {
      const [x, scale, bias] = inputs as [Value, Value, Value];
      const shape = context.shape(0);
      const channels = shape[1] as Dim;
      const groups = context.int("num_groups");
      if (groups < 1 || (typeof channels === "number" && channels % groups !== 0))
        context.fail("num_groups must divide the channels", {
          expected: `a divisor of ${channels}`,
          found: String(groups),
        });
      const wide = stashType(context);
      const { add, mul } = arithmetic(context);
      const vector = (value: Value) => overChannels(context, castTo(context, value, wide), shape.length);
      const grouped = context.apply("Reshape", [
        castTo(context, x, wide),
        context.int64s([shape[0] as Dim, groups, -1]),
      ]);
      const { normalized } = standardize(context, grouped, [2]);
      const restored = context.apply("Reshape", [normalized, context.int64s(shape)]);
      return castTo(context, add(mul(restored, vector(scale)), vector(bias)), x.dtype);
    },
  ),

  compositeOp(
    "RMSNormalization",
    { inputs: [typed("X"), typed("scale")], attributes: { axis: -1, epsilon, stash_type: 1 } },
    (context, x, scale) => {
      const rank = context.rank(0);
      const wide = stashType(context);
      const { add, mul, mean, sqrt, reciprocal } = arithmetic(context);
      const value = castTo(context, x as Value, wide);
      const axes = from(context.axis(context.int("axis"), rank), rank);
      const inverse = reciprocal(sqrt(add(mean(mul(value, value), axes), context.float("epsilon"))));
      return castTo(context, mul(mul(value, inverse), castTo(context, scale as Value, wide)), (scale as Value).dtype);
    },
  ),

  // x / (bias + α/size · Σ x²)^β over the `size` channels around each
  loopOp(
    "LRN",
    {
      inputs: [typed("X")],
      attributes: {
        alpha: attributeOf.float(1e-4),
        beta: attributeOf.float(0.75),
        bias: attributeOf.float(1),
        size: { type: "int", required: true },
      },
    },
    (context) => {
      const shape = context.shape(0);
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      const size = context.int("size");
      const before = Math.floor((size - 1) / 2);
      return context.over(shape, (n, c, ...at) => {
        const sum = reduceOver("sum", [size], (k) => {
          const channel = sub(add(c as Dim, k), before);
          const square = () => {
            const x = cast(wide, context.load(0, [n as Dim, channel, ...at]));
            return call("mul", x, x);
          };
          return guarded([channel], [shape[1] as Dim], square, () => constant(wide, 0));
        });
        const base = call(
          "add",
          constant(wide, context.float("bias")),
          call("mul", constant(wide, context.float("alpha") / size), sum),
        );
        return cast(
          dtype,
          call(
            "div",
            cast(wide, context.load(0, [n as Dim, c as Dim, ...at])),
            call("pow", base, constant(wide, context.float("beta"))),
          ),
        );
      });
    },
  ),
];
