/** What the templates of all targets ask of an anchor: a convolution's window, strides of operands. */
import {
  add,
  affineIn,
  asSymbol,
  ceildiv,
  type Dim,
  floordiv,
  max,
  mul,
  type Node,
  neg,
  type OpContext,
  sub,
  type Value,
} from "@nimforge/ir";
import { type AnchorOperand, type Kernel, offsetOf } from "@nimforge/passes";
import type { LayoutOf } from "./operands.js";

/** Where a streamed operand's elements lie. */
export interface Access {
  readonly value: Value;
  readonly strides: readonly Dim[];
  readonly offset: Dim;
}

const known = (dims: readonly Dim[]) => dims.every((dim) => typeof dim === "number");

/** Attributes of a convolution over one or two spatial axes, the missing one padded with 1 and 0. */
export function window(context: OpContext, kernel: readonly number[]) {
  const rank = kernel.length;
  const list = (name: string, fallback: number) => context.ints(name) ?? kernel.map(() => fallback);
  const strides = list("strides", 1);
  const dilations = list("dilations", 1);
  const begin = kernel.map((size, k) => beginPad(context, k, size, strides[k]!, dilations[k]!));
  const pair = <T extends Dim>(values: readonly T[], fill: number): [T | number, T | number] =>
    rank === 2 ? [values[0]!, values[1]!] : [fill, values[0]!];
  return {
    kernel: pair(kernel, 1) as [number, number],
    strides: pair(strides, 1),
    dilations: pair(dilations, 1),
    begin: pair(begin, 0),
    rank,
  };
}

/** Padding before axis k; SAME_UPPER and SAME_LOWER keep ⌈size/stride⌉ outputs and put the odd element behind or before. */
function beginPad(context: OpContext, axis: number, kernel: number, stride: number, dilation: number): Dim {
  const auto = String(context.attribute("auto_pad") ?? "NOTSET");
  if (auto === "VALID") return 0;
  if (!auto.startsWith("SAME")) return context.ints("pads")?.[axis] ?? 0;
  const size = context.shape(0)[axis + 2] as Dim;
  const total = max(0, add(mul(sub(ceildiv(size, stride), 1), stride), (kernel - 1) * dilation + 1, neg(size)));
  return auto === "SAME_UPPER" ? floordiv(total, 2) : ceildiv(total, 2);
}

/** A convolution with constant weights over one or two axes; undefined for any other node. */
export function convolution(
  node: Node,
  name: string,
): { context: OpContext; groups: number; weights: readonly number[] } | undefined {
  if (node.op.domain !== "" || node.op.name !== name) return undefined;
  const weights = node.inputs[1];
  if (!weights?.constant || weights.shape.length < 3 || weights.shape.length > 4 || !known(weights.shape))
    return undefined;
  const context = node.view();
  return { context, groups: context.int("group"), weights: weights.shape as readonly number[] };
}

/** (n, h, w, c) strides of an NC… tensor. */
export const pixelStrides = (strides: readonly Dim[]): [Dim, Dim, Dim, Dim] =>
  strides.length === 4
    ? [strides[0]!, strides[2]!, strides[3]!, strides[1]!]
    : [strides[0]!, 0, strides[2]!, strides[1]!];

/** Sizes as N, C, H, W. */
export const sizes = (value: Value): [Dim, Dim, Dim, Dim] =>
  value.shape.length === 4
    ? ([...value.shape] as [Dim, Dim, Dim, Dim])
    : [value.shape[0]!, value.shape[1]!, 1, value.shape[2]!];

/** A streamed operand that is a plain element of one buffer, affine in its own axes. */
export function affineAccess(kernel: Kernel, operand: AnchorOperand, layoutOf: LayoutOf): Access | undefined {
  const { element } = operand;
  if (element.kind !== "load") return undefined;
  const value = kernel.inputs[element.operand] as Value;
  let offset = offsetOf(value.shape, layoutOf(value), element.index);
  const strides: Dim[] = [];
  for (const { variable } of operand.axes) {
    const key = asSymbol(variable)?.key;
    if (key === undefined) {
      strides.push(0);
      continue;
    }
    const affine = affineIn(offset, key);
    if (!affine || /@|data\(/.test(typeof affine.stride === "number" ? "" : affine.stride.key)) return undefined;
    strides.push(affine.stride);
    offset = affine.offset;
  }
  return /@|data\(/.test(typeof offset === "number" ? "" : offset.key) ? undefined : { value, strides, offset };
}
