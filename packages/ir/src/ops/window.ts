/** Geometry of sliding windows, shared by convolution and pooling; sizes may be symbolic. */
import { type DType, dtypes, isFloat } from "@nimforge/tensor";
import { add, ceildiv, compareDims, type Dim, floordiv, max, min, mod, mul, sub } from "../dim.js";
import type { OpContext } from "../op.js";
import { call, constant, type Expr, index } from "../scalar.js";

/** The smallest value of a dtype: what padding is worth to a maximum. */
export const lowest = (dtype: DType): Expr =>
  constant(dtype, isFloat(dtype) ? Number.NEGATIVE_INFINITY : dtypes[dtype].min);

/** One spatial axis: output position o sees input positions o·stride − padBegin + k·dilation, k in [0, kernel). */
export interface WindowAxis {
  readonly input: Dim;
  readonly output: Dim;
  readonly kernel: Dim;
  readonly stride: number;
  readonly dilation: number;
  readonly padBegin: Dim;
  readonly padEnd: Dim;
}

/** An attribute with one positive number for each spatial axis. */
export function perAxis(context: OpContext, name: string, count: number, fallback: number): number[] {
  const values = context.ints(name) ?? new Array<number>(count).fill(fallback);
  if (values.length !== count)
    context.fail(`${name} must have one value for each spatial axis`, {
      expected: String(count),
      found: String(values.length),
    });
  if (values.some((value) => value < 1)) context.fail(`${name} must be positive`, { found: `[${values.join(", ")}]` });
  return values;
}

/** Begin and end pads of each spatial axis, from `pads`. */
export function explicitPads(context: OpContext, count: number): { begin: number; end: number }[] {
  const pads = context.ints("pads") ?? new Array<number>(2 * count).fill(0);
  if (pads.length !== 2 * count)
    context.fail("pads must have two values for each spatial axis", {
      expected: String(2 * count),
      found: String(pads.length),
    });
  return Array.from({ length: count }, (_, k) => ({ begin: pads[k] as number, end: pads[k + count] as number }));
}

export const autoPad = (context: OpContext): string => {
  const value = context.string("auto_pad");
  if (!["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"].includes(value))
    context.fail("auto_pad has an unknown value", { found: value });
  return value;
};

/** Extent of a kernel with its holes. */
export const reach = (kernel: Dim, dilation: number): Dim => add(mul(dilation, sub(kernel, 1)), 1);

/** A padding total split in two; the odd element goes to the end for SAME_UPPER, to the beginning otherwise. */
export function splitPad(total: Dim, upper: boolean): { begin: Dim; end: Dim } {
  const half = floordiv(total, 2);
  return upper ? { begin: half, end: sub(total, half) } : { begin: sub(total, half), end: half };
}

/** The spatial axes of a convolution or pooling; `kernel` is the window's shape. */
export function windowAxes(
  context: OpContext,
  spatial: readonly Dim[],
  kernel: readonly Dim[],
  ceilMode = false,
): WindowAxis[] {
  const strides = perAxis(context, "strides", spatial.length, 1);
  const dilations = perAxis(context, "dilations", spatial.length, 1);
  const mode = autoPad(context);
  const pads = mode === "NOTSET" ? explicitPads(context, spatial.length) : [];
  return spatial.map((input, k) => {
    const stride = strides[k] as number;
    const dilation = dilations[k] as number;
    const window = reach(kernel[k] as Dim, dilation);
    const shared = { input, kernel: kernel[k] as Dim, stride, dilation };
    if (mode === "SAME_UPPER" || mode === "SAME_LOWER") {
      const output = ceildiv(input, stride);
      const total = max(sub(add(mul(sub(output, 1), stride), window), input), 0);
      const { begin, end } = splitPad(total, mode === "SAME_UPPER");
      return { ...shared, output, padBegin: begin, padEnd: end };
    }
    const { begin: padBegin, end: padEnd } = pads[k] ?? { begin: 0, end: 0 };
    const room = sub(add(input, padBegin, padEnd), window);
    if (!ceilMode) return { ...shared, output: add(floordiv(room, stride), 1), padBegin, padEnd };
    // A last window that would start in the end padding is dropped: at most ⌈(input + padBegin)/stride⌉ windows start before it.
    const rounded = add(ceildiv(room, stride), 1);
    const starting = ceildiv(add(input, padBegin), stride);
    const output = min(rounded, starting);
    return { ...shared, output, padBegin, padEnd };
  });
}

/** Input position that output position `o` sees through tap `k`. */
export const tap = (axis: WindowAxis, o: Dim, k: Dim): Dim =>
  sub(add(mul(o, axis.stride), mul(k, axis.dilation)), axis.padBegin);

/** Which positions of an axis exist: only the comparisons that the sizes leave open. */
export function within(position: Dim, size: Dim): Expr[] {
  const low = compareDims(position, -1) === "greater" ? [] : [call("ge", index(position), constant("int64", 0n))];
  const high = compareDims(position, size) === "less" ? [] : [call("lt", index(position), index(size))];
  return [...low, ...high];
}

/** `inside` where all positions exist, else `outside`, which is also what an unread tap is worth. */
export function guarded(
  positions: readonly Dim[],
  sizes: readonly Dim[],
  inside: () => Expr,
  outside: (like: Expr) => Expr,
): Expr {
  const conditions = positions.flatMap((position, k) => within(position, sizes[k] as Dim));
  const value = inside();
  return conditions.length === 0
    ? value
    : call(
        "select",
        conditions.reduce((a, b) => call("and", a, b)),
        value,
        outside(value),
      );
}

/**
 * The taps of a transposed window: output position o receives input i through kernel element k where o + pad = i·stride + k·dilation.
 * With g = gcd(stride, dilation) these are k = k₀ + (stride/g)·j for consecutive j, where k₀ ≡ ((o + pad)/g)·(dilation/g)⁻¹ mod stride/g, if g
 * divides o + pad: no tap is tried in vain, and i falls by dilation/g from one j to the next.
 */
export interface TransposedTaps {
  /** How many j there are to try. */
  readonly count: Dim;
  readonly at: (o: Dim, j: Dim) => { k: Dim; i: Dim; conditions: Expr[] };
}
export function transposedTaps(axis: {
  input: Dim;
  kernel: Dim;
  stride: number;
  dilation: number;
  padBegin: Dim;
}): TransposedTaps {
  const { stride, dilation, kernel } = axis;
  const g = gcd(stride, dilation);
  const [s, d] = [stride / g, dilation / g];
  let inverse = 1;
  while ((inverse * d) % s !== 1 % s) inverse++;
  return {
    count: ceildiv(kernel, s),
    at: (o, j) => {
      const position = add(o, axis.padBegin);
      const step = floordiv(position, g);
      const first = mod(mul(step, inverse), s);
      const k = add(first, mul(s, j));
      // exact: s divides step − k₀·d
      const i = sub(floordiv(sub(step, mul(first, d)), s), mul(d, j));
      const divisible = g === 1 ? [] : [call("eq", index(mod(position, g)), constant("int64", 0n))];
      return { k, i, conditions: [...divisible, ...within(k, kernel), ...within(i, axis.input)] };
    },
  };
}

function gcd(a: number, b: number): number {
  while (b > 0) [a, b] = [b, a % b];
  return a;
}
