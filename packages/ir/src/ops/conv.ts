/** Convolutions of one to three (or more) spatial axes: plain, transposed, quantized, deformable; and Col2Im. */
import type { DType } from "@nimforge/tensor";
import { add, type Dim, floordiv, mod, mul, productOf, sub } from "../dim.js";
import { type InputSpec, loopOp, type Op, type OpContext, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, index } from "../scalar.js";
import { attributeOf } from "./expansion.js";
import { bilinear } from "./interpolate.js";
import { requantize } from "./quantize.js";
import { autoPad, explicitPads, guarded, perAxis, reach, splitPad, tap, transposedTaps, windowAxes } from "./window.js";

const { float, integer } = typeSets;
const bytes: readonly DType[] = ["int8", "uint8"];
const typed = (name: string, types: readonly DType[], optional = false): InputSpec => ({ name, types, optional });
const zero = (like: Expr) => constant(like.dtype, 0);

const windowAttributes = {
  auto_pad: "NOTSET",
  group: 1,
  dilations: attributeOf.ints,
  kernel_shape: attributeOf.ints,
  pads: attributeOf.ints,
  strides: attributeOf.ints,
};

/** The kernel's spatial shape: the weight's, which kernel_shape may only repeat. */
function kernelOf(context: OpContext, weight: number): Dim[] {
  const own = context.shape(weight).slice(2);
  const stated = context.ints("kernel_shape") ?? own;
  if (stated.length !== own.length)
    context.fail("kernel_shape must be the weight's spatial shape", { found: `[${stated.join(", ")}]` });
  return own.map((size, k) => context.same(stated[k] as Dim, size, "kernel_shape and the weight's spatial shape"));
}

/** Sizes that group divides; exact where the size is known. */
function perGroup(context: OpContext, size: Dim, group: number, what: string): Dim {
  if (group < 1 || (typeof size === "number" && size % group !== 0))
    context.fail(`group must divide ${what}`, { expected: `a divisor of ${size}`, found: String(group) });
  return floordiv(size, group);
}

/**
 * out[n, m, o…] = finish(Σ x·w) for X[N, C, …] and W[M, C/group, …]. `product` is one tap's worth; a tap in the padding adds nothing.
 */
function convolution(
  context: OpContext,
  x: number,
  w: number,
  product: (x: Expr, w: Expr, m: Dim) => Expr,
  finish: (sum: Expr, m: Dim) => Expr,
) {
  const [batch, channels, ...spatial] = context.shape(x);
  const [maps, depth] = context.shape(w);
  if (
    batch === undefined ||
    channels === undefined ||
    spatial.length === 0 ||
    maps === undefined ||
    depth === undefined
  )
    context.fail("X and W must have a batch, a channel and at least one spatial axis", {
      found: `ranks ${context.rank(x)} and ${context.rank(w)}`,
    });
  if (context.rank(x) !== context.rank(w))
    context.fail("X and W must have the same rank", {
      expected: String(context.rank(x)),
      found: String(context.rank(w)),
    });
  const group = context.int("group");
  const mapsPerGroup = perGroup(context, maps, group, "the output channels");
  context.same(mul(depth, group), channels, "the channels of X and of W times group");
  const axes = windowAxes(context, spatial, kernelOf(context, w));
  return context.over([batch, maps, ...axes.map((axis) => axis.output)], (n, m, ...o) => {
    const first = group === 1 ? 0 : mul(floordiv(m as Dim, mapsPerGroup), depth);
    const sum = reduceOver("sum", [depth, ...axes.map((axis) => axis.kernel)], (c, ...k) => {
      const at = axes.map((axis, a) => tap(axis, o[a] as Dim, k[a] as Dim));
      return guarded(
        at,
        spatial,
        () =>
          product(
            context.load(x, [n as Dim, add(first, c as Dim), ...at]),
            context.load(w, [m as Dim, c as Dim, ...k]),
            m as Dim,
          ),
        zero,
      );
    });
    return finish(sum, m as Dim);
  });
}

/** A scalar parameter, or one value for each output channel. */
const perChannel = (context: OpContext, input: number, m: Dim) =>
  context.at(input, context.rank(input) === 0 ? [] : [m]);

const shifted = (context: OpContext, x: Expr, zeroPoint: number, at: (input: number) => Expr): Expr =>
  context.has(zeroPoint) ? call("sub", cast("int32", x), cast("int32", at(zeroPoint))) : cast("int32", x);

const withBias = (context: OpContext, bias: number, sum: Expr, m: Dim): Expr =>
  context.has(bias) ? call("add", sum, cast(sum.dtype, context.load(bias, [m]))) : sum;

/** Pads and output sizes of a transposed convolution, from pads, auto_pad or output_shape. */
function transposedAxes(context: OpContext, spatial: readonly Dim[], kernel: readonly Dim[]) {
  const strides = perAxis(context, "strides", spatial.length, 1);
  const dilations = perAxis(context, "dilations", spatial.length, 1);
  const extra = context.ints("output_padding") ?? [];
  const given = context.ints("output_shape")?.slice(-spatial.length);
  const mode = autoPad(context);
  const pads = explicitPads(context, spatial.length);
  return spatial.map((input, k) => {
    const stride = strides[k] as number;
    const dilation = dilations[k] as number;
    const full = add(mul(stride, sub(input, 1)), extra[k] ?? 0, reach(kernel[k] as Dim, dilation));
    const shared = { input, kernel: kernel[k] as Dim, stride, dilation };
    const wanted: Dim | undefined = given?.[k] ?? (mode.startsWith("SAME") ? mul(input, stride) : undefined);
    if (wanted !== undefined)
      return { ...shared, output: wanted, padBegin: splitPad(sub(full, wanted), mode === "SAME_UPPER").begin };
    const { begin, end } = mode === "VALID" ? { begin: 0, end: 0 } : (pads[k] as { begin: number; end: number });
    return { ...shared, output: sub(full, add(begin, end)), padBegin: begin };
  });
}

export const conv: readonly Op[] = [
  loopOp(
    "Conv",
    { inputs: [typed("X", float), typed("W", float), typed("B", float, true)], attributes: windowAttributes },
    (context) => {
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      return convolution(
        context,
        0,
        1,
        (x, w) => call("mul", cast(wide, x), cast(wide, w)),
        (sum, m) => cast(dtype, withBias(context, 2, sum, m)),
      );
    },
  ),

  loopOp(
    "ConvTranspose",
    {
      inputs: [typed("X", float), typed("W", float), typed("B", float, true)],
      attributes: { ...windowAttributes, output_padding: attributeOf.ints, output_shape: attributeOf.ints },
    },
    (context: OpContext) => {
      const [batch, channels, ...spatial] = context.shape(0);
      const [inner, mapsPerGroup] = context.shape(1);
      if (
        batch === undefined ||
        channels === undefined ||
        spatial.length === 0 ||
        inner === undefined ||
        mapsPerGroup === undefined
      )
        context.fail("X and W must have a batch, a channel and at least one spatial axis");
      context.same(inner, channels, "the channels of X and W");
      const group = context.int("group");
      const depth = perGroup(context, channels, group, "the input channels");
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      const axes = transposedAxes(context, spatial, kernelOf(context, 1));
      const taps = axes.map(transposedTaps);
      return context.over([batch, mul(mapsPerGroup, group), ...axes.map((axis) => axis.output)], (n, m, ...o) => {
        const first = group === 1 ? 0 : mul(floordiv(m as Dim, mapsPerGroup), depth);
        const map = group === 1 ? (m as Dim) : mod(m as Dim, mapsPerGroup);
        const sum = reduceOver("sum", [depth, ...taps.map(({ count }) => count)], (c, ...j) => {
          const hits = taps.map(({ at }, a) => at(o[a] as Dim, j[a] as Dim));
          const channel = add(first, c as Dim);
          const value = call(
            "mul",
            cast(wide, context.load(0, [n as Dim, channel, ...hits.map(({ i }) => i)])),
            cast(wide, context.load(1, [channel, map, ...hits.map(({ k }) => k)])),
          );
          return where(
            hits.flatMap(({ conditions }) => conditions),
            value,
          );
        });
        return cast(dtype, withBias(context, 2, sum, m as Dim));
      });
    },
  ),

  loopOp(
    "ConvInteger",
    {
      inputs: [
        typed("x", bytes),
        typed("w", bytes),
        typed("x_zero_point", bytes, true),
        typed("w_zero_point", bytes, true),
      ],
      attributes: windowAttributes,
    },
    (context) =>
      convolution(
        context,
        0,
        1,
        (x, w, m) =>
          call(
            "mul",
            shifted(context, x, 2, (zp) => context.at(zp, [0])),
            shifted(context, w, 3, (zp) => perChannel(context, zp, m)),
          ),
        (sum) => sum,
      ),
  ),

  loopOp(
    "QLinearConv",
    {
      inputs: [
        "x",
        "x_scale",
        "x_zero_point",
        "w",
        "w_scale",
        "w_zero_point",
        "y_scale",
        "y_zero_point",
        typed("B", ["int32"], true),
      ],
      attributes: windowAttributes,
    },
    (context) =>
      convolution(
        context,
        0,
        3,
        (x, w, m) =>
          call(
            "mul",
            shifted(context, x, 2, (zp) => context.at(zp, [0])),
            shifted(context, w, 5, (zp) => perChannel(context, zp, m)),
          ),
        (sum, m) => {
          const scales = call("mul", context.at(1, [0]), perChannel(context, 4, m));
          const factor = call("div", scales, context.at(6, [0]));
          return requantize(call("mul", cast("float32", withBias(context, 8, sum, m)), factor), context.at(7, [0]));
        },
      ),
  ),

  // Each tap reads X at a real position by bilinear interpolation; what lies outside is 0. Offsets are (Δh, Δw) for each tap of each offset group.
  loopOp(
    "DeformConv",
    {
      inputs: [
        typed("X", float),
        typed("W", float),
        typed("offset", float),
        typed("B", float, true),
        typed("mask", float, true),
      ],
      attributes: {
        group: 1,
        offset_group: 1,
        dilations: attributeOf.ints,
        kernel_shape: attributeOf.ints,
        pads: attributeOf.ints,
        strides: attributeOf.ints,
        auto_pad: "NOTSET",
      },
    },
    (context: OpContext) => {
      const [batch, channels, ...spatial] = context.shape(0) as [Dim, Dim, ...Dim[]];
      const [maps, depth] = context.shape(1) as [Dim, Dim];
      if (spatial.length !== 2) context.unsupported(`X has ${spatial.length} spatial axes; 2 are supported`);
      const kernel = kernelOf(context, 1);
      const [kernelHeight, kernelWidth] = kernel as [Dim, Dim];
      const axes = windowAxes(context, spatial, kernel);
      const group = context.int("group");
      const mapsPerGroup = perGroup(context, maps, group, "the output channels");
      const offsetGroups = context.int("offset_group");
      const channelsPerOffset = perGroup(context, channels, offsetGroups, "the input channels");
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      return context.over([batch, maps, ...axes.map((axis) => axis.output)], (n, m, ...o) => {
        const first = group === 1 ? 0 : mul(floordiv(m as Dim, mapsPerGroup), depth);
        const sum = reduceOver("sum", [depth, ...kernel], (c, ...k) => {
          const channel = add(first, c as Dim);
          const position = add(mul(k[0] as Dim, kernelWidth), k[1] as Dim);
          const tapOf = add(mul(floordiv(channel, channelsPerOffset), mul(kernelHeight, kernelWidth)), position);
          const where = axes.map((axis, a) =>
            call(
              "add",
              cast(wide, index(tap(axis, o[a] as Dim, k[a] as Dim))),
              cast(wide, context.load(2, [n as Dim, add(mul(2, tapOf), a), ...o])),
            ),
          );
          const value = bilinear(where, spatial, (at) => cast(wide, context.load(0, [n as Dim, channel, ...at])));
          const weighted = call("mul", value, cast(wide, context.load(1, [m as Dim, c as Dim, ...k])));
          return context.has(4)
            ? call("mul", weighted, cast(wide, context.load(4, [n as Dim, tapOf, ...o])))
            : weighted;
        });
        return cast(dtype, withBias(context, 3, sum, m as Dim));
      });
    },
  ),

  // The last k − 1 inputs are the state; position p of (state ++ input) is read as p ≥ k − 1 ? input[p − (k − 1)] : state[p].
  loopOp(
    "CausalConvWithState",
    {
      inputs: [
        typed("input", float),
        typed("weight", float),
        typed("bias", float, true),
        typed("past_state", float, true),
      ],
      attributes: { activation: "none" },
    },
    (context: OpContext) => {
      const [batch, channels, length] = context.shape(0);
      const kernel = context.shape(1)[2];
      if (batch === undefined || channels === undefined || length === undefined || kernel === undefined)
        context.fail("input and weight must have rank 3");
      const activation = context.string("activation");
      if (!["none", "silu", "swish"].includes(activation))
        context.fail("activation must be none, silu or swish", { found: activation });
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      const history = sub(kernel, 1);
      const padded = (n: Dim, c: Dim, p: Dim): Expr => {
        const past = context.has(3) ? context.load(3, [n, c, p]) : constant(dtype, 0);
        return call("select", call("ge", index(p), index(history)), context.load(0, [n, c, sub(p, history)]), past);
      };
      const output = context.over([batch, channels, length], (n, c, t) => {
        const sum = reduceOver("sum", [kernel], (k) =>
          call(
            "mul",
            cast(wide, padded(n as Dim, c as Dim, add(t as Dim, k))),
            cast(wide, context.load(1, [c as Dim, 0, k])),
          ),
        );
        const biased = withBias(context, 2, sum, c as Dim);
        return cast(dtype, activation === "none" ? biased : call("mul", biased, call("sigmoid", biased)));
      });
      const state = context.over([batch, channels, history], (n, c, t) =>
        padded(n as Dim, c as Dim, add(t as Dim, length)),
      );
      return [output, state].slice(0, context.outputCount);
    },
  ),

  // The sum of every block element that falls on a pixel, gathered as in ConvTranspose.
  loopOp(
    "Col2Im",
    {
      inputs: [
        typed("input", [...float, ...integer]),
        typed("image_shape", ["int64"]),
        typed("block_shape", ["int64"]),
      ],
      attributes: { dilations: attributeOf.ints, pads: attributeOf.ints, strides: attributeOf.ints },
    },
    (context: OpContext) => {
      const image = context.needDims(1);
      const block = context.needDims(2);
      const [batch, rows] = context.shape(0);
      if (batch === undefined || rows === undefined || context.rank(0) !== 3)
        context.fail("input must have rank 3", { found: `rank ${context.rank(0)}` });
      const strides = perAxis(context, "strides", image.length, 1);
      const dilations = perAxis(context, "dilations", image.length, 1);
      const pads = explicitPads(context, image.length);
      const axes = image.map((size, k) => {
        const { begin, end } = pads[k] as { begin: number; end: number };
        const stride = strides[k] as number;
        const dilation = dilations[k] as number;
        const kernel = block[k] as Dim;
        const input = add(floordiv(sub(add(size, begin, end), reach(kernel, dilation)), stride), 1);
        return { input, kernel, stride, dilation, padBegin: begin };
      });
      const taps = axes.map(transposedTaps);
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      const volume = productOf(block);
      return context.over([batch, floordiv(rows, volume), ...image], (n, c, ...o) =>
        cast(
          dtype,
          reduceOver(
            "sum",
            taps.map(({ count }) => count),
            (...j) => {
              const hits = taps.map(({ at }, a) => at(o[a] as Dim, j[a] as Dim));
              const kernel = hits.reduce<Dim>((position, { k }, a) => add(mul(position, block[a] as Dim), k), 0);
              const column = hits.reduce<Dim>(
                (position, { i }, a) => add(mul(position, (axes[a] as { input: Dim }).input), i),
                0,
              );
              const value = cast(wide, context.load(0, [n as Dim, add(mul(c as Dim, volume), kernel), column]));
              return where(
                hits.flatMap(({ conditions }) => conditions),
                value,
              );
            },
          ),
        ),
      );
    },
  ),
];

/** The value where all conditions hold, else 0. */
function where(conditions: readonly Expr[], value: Expr): Expr {
  return conditions.length === 0
    ? value
    : call(
        "select",
        conditions.reduce((a, b) => call("and", a, b)),
        value,
        zero(value),
      );
}
