/** Pooling over windows and whole images. */
import type { DType } from "@nimforge/tensor";
import { add, ceildiv, type Dim, floordiv, max, min, mod, mul, productOf, sub } from "../dim.js";
import {
  compositeOp,
  type InputSpec,
  linearize,
  loopOp,
  type Op,
  type OpContext,
  reduceOver,
  typeSets,
} from "../op.js";
import { call, cast, computeType, constant, type Expr, index, indexBy, type Monoid } from "../scalar.js";
import { attributeOf } from "./expansion.js";
import { regions } from "./regions.js";
import { explicitPads, guarded, lowest, perAxis, tap, type WindowAxis, windowAxes } from "./window.js";

const { float } = typeSets;
const typed = (name: string, types: readonly DType[], optional = false): InputSpec => ({ name, types, optional });
const poolable: readonly DType[] = [...float, "int8", "uint8"];

const windowAttributes = {
  auto_pad: "NOTSET",
  ceil_mode: 0,
  dilations: attributeOf.ints,
  kernel_shape: { type: "ints", required: true } as const,
  pads: attributeOf.ints,
  strides: attributeOf.ints,
};

interface Pool {
  readonly batch: Dim;
  readonly channels: Dim;
  readonly spatial: readonly Dim[];
  readonly axes: readonly WindowAxis[];
  readonly shape: readonly Dim[];
}

function windows(context: OpContext): Pool {
  const [batch, channels, ...spatial] = context.shape(0);
  if (batch === undefined || channels === undefined || spatial.length === 0)
    context.fail("X must have a batch, a channel and at least one spatial axis", { found: `rank ${context.rank(0)}` });
  const kernel = perAxis(context, "kernel_shape", spatial.length, 1);
  const axes = windowAxes(context, spatial, kernel, context.int("ceil_mode") !== 0);
  return { batch, channels, spatial, axes, shape: [batch, channels, ...axes.map((axis) => axis.output)] };
}

/** Combines element(x) over the window at output position `o`; taps in the padding are worth `outside`. */
function overWindow(
  context: OpContext,
  monoid: Monoid,
  { axes, spatial }: Pool,
  [n, c, ...o]: readonly Dim[],
  element: (x: Expr) => Expr,
  outside: (like: Expr) => Expr,
): Expr {
  return reduceOver(
    monoid,
    axes.map((axis) => axis.kernel),
    (...k) => {
      const at = axes.map((axis, a) => tap(axis, o[a] as Dim, k[a] as Dim));
      return guarded(at, spatial, () => element(context.load(0, [n as Dim, c as Dim, ...at])), outside);
    },
  );
}

/** Taps of one axis that count in an average: those on the input, or on the padded input. */
function tapCount(axis: WindowAxis, o: Dim, includePads: boolean): Dim {
  const start = sub(mul(o, axis.stride), axis.padBegin);
  const end = includePads ? add(axis.input, axis.padEnd) : axis.input;
  const first = includePads ? 0 : max(ceildiv(sub(0, start), axis.dilation), 0);
  return sub(min(ceildiv(sub(end, start), axis.dilation), axis.kernel), first);
}

/** An op on all spatial positions of X[N, C, …]; the result keeps them as axes of size 1. */
const globalPool = (
  name: string,
  monoid: Monoid,
  element: (x: Expr, context: OpContext) => Expr,
  finish: (total: Expr, count: Dim, context: OpContext) => Expr,
  attributes = {},
): Op =>
  loopOp(name, { inputs: [typed("X", float)], attributes }, (context) => {
    const [batch, channels, ...spatial] = context.shape(0) as [Dim, Dim, ...Dim[]];
    const dtype = context.dtype(0);
    return context.over([batch, channels, ...spatial.map(() => 1)], (n, c) => {
      const total = reduceOver(monoid, spatial, (...at) =>
        element(cast(computeType(dtype), context.load(0, [n as Dim, c as Dim, ...at])), context),
      );
      return cast(dtype, finish(total, productOf(spatial), context));
    });
  });

const power = (x: Expr, p: number): Expr =>
  p === 1 ? call("abs", x) : p === 2 ? call("mul", x, x) : call("pow", call("abs", x), constant(x.dtype, p));
const root = (x: Expr, p: number): Expr =>
  p === 1 ? x : p === 2 ? call("sqrt", x) : call("pow", x, constant(x.dtype, 1 / p));
const num = (like: Expr, value: number) => constant(like.dtype, value);

export const pool: readonly Op[] = [
  loopOp(
    "MaxPool",
    { inputs: [typed("X", poolable)], attributes: { ...windowAttributes, storage_order: 0 } },
    (context) => {
      const window = windows(context);
      const { axes, spatial, channels, shape } = window;
      const outside = (like: Expr) => lowest(like.dtype);
      const values = context.over(shape, (...at) => overWindow(context, "max", window, at, (x) => x, outside));
      if (context.outputCount < 2) return values;
      // Position in the whole tensor; storage_order 1 counts the spatial axes column-major.
      const indices = context.over(shape, (...at) => {
        const [n, c, ...o] = at as [Dim, Dim, ...Dim[]];
        // One flat axis: the position of the largest counts the window's taps row-major.
        const kernel = axes.map((axis) => axis.kernel);
        const tapAt = (position: Dim) =>
          axes.map((axis, a) =>
            tap(axis, o[a] as Dim, mod(floordiv(position, productOf(kernel.slice(a + 1))), axis.kernel)),
          );
        const largest = reduceOver("argmax", [productOf(kernel)], (position) => {
          const taps = tapAt(position);
          return guarded(taps, spatial, () => context.load(0, [n, c, ...taps]), outside);
        });
        const where = tapAt(indexBy(largest, productOf(kernel))).map((position, a) =>
          min(max(position, 0), sub(spatial[a] as Dim, 1)),
        );
        const order = context.int("storage_order") === 1 ? [...spatial.keys()].reverse() : [...spatial.keys()];
        const plane = linearize(
          order.map((a) => spatial[a] as Dim),
          order.map((a) => where[a] as Dim),
        );
        return index(add(mul(add(mul(n, channels), c), productOf(spatial)), plane));
      });
      return [values, indices];
    },
  ),

  loopOp(
    "AveragePool",
    { inputs: [typed("X", float)], attributes: { ...windowAttributes, count_include_pad: 0 } },
    (context) => {
      const window = windows(context);
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      const includePads = context.int("count_include_pad") !== 0;
      return context.over(window.shape, (...at) => {
        const sum = overWindow(
          context,
          "sum",
          window,
          at,
          (x) => cast(wide, x),
          (like) => num(like, 0),
        );
        const count = productOf(window.axes.map((axis, a) => tapCount(axis, at[a + 2] as Dim, includePads)));
        return cast(dtype, call("div", sum, cast(wide, index(count))));
      });
    },
  ),

  loopOp("LpPool", { inputs: [typed("X", float)], attributes: { ...windowAttributes, p: 2 } }, (context) => {
    const window = windows(context);
    const dtype = context.dtype(0);
    const p = context.int("p");
    return context.over(window.shape, (...at) =>
      cast(
        dtype,
        root(
          overWindow(
            context,
            "sum",
            window,
            at,
            (x) => power(cast(computeType(dtype), x), p),
            (like) => num(like, 0),
          ),
          p,
        ),
      ),
    );
  }),

  globalPool(
    "GlobalAveragePool",
    "sum",
    (x) => x,
    (sum, count) => call("div", sum, cast(sum.dtype, index(count))),
  ),
  globalPool(
    "GlobalMaxPool",
    "max",
    (x) => x,
    (most) => most,
  ),
  globalPool(
    "GlobalLpPool",
    "sum",
    (x, context) => power(x, context.int("p")),
    (sum, _, context) => root(sum, context.int("p")),
    { p: 2 },
  ),

  ...regions,

  // Zeros with X's elements at the flat positions I; output_shape larger than what the window gives is filled with zeros at the end of each axis.
  compositeOp(
    "MaxUnpool",
    {
      inputs: [typed("X", poolable), typed("I", ["int64"]), typed("output_shape", ["int64"], true)],
      attributes: { kernel_shape: { type: "ints", required: true }, pads: attributeOf.ints, strides: attributeOf.ints },
    },
    (context, x, i) => {
      const [batch, channels, ...spatial] = context.shape(0) as [Dim, Dim, ...Dim[]];
      const kernel = perAxis(context, "kernel_shape", spatial.length, 1);
      const strides = perAxis(context, "strides", spatial.length, 1);
      const pads = explicitPads(context, spatial.length);
      const natural: Dim[] = [
        batch,
        channels,
        ...spatial.map((size, k) => {
          const { begin, end } = pads[k] as { begin: number; end: number };
          return sub(add(mul(sub(size, 1), strides[k] as number), kernel[k] as number), begin + end);
        }),
      ];
      const count = productOf(natural);
      const flat = context.int64s([-1]);
      const zeros = context.apply("Expand", [context.scalar(context.dtype(0), 0), context.int64s([count])]);
      const scattered = context.apply(
        "ScatterElements",
        [zeros, context.apply("Reshape", [i, flat]), context.apply("Reshape", [x, flat])],
        { axis: 0 },
      );
      const result = context.apply("Reshape", [scattered, context.int64s(natural)]);
      if (!context.has(2)) return result;
      const grow = context.needDims(2).map((size, k) => sub(size, natural[k] as Dim));
      return context.apply("Pad", [result, context.int64s([...grow.map(() => 0), ...grow])]);
    },
  ),
];
