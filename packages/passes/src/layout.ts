/**
 * Layout: in which order a value's axes lie in memory.
 *
 * Values in convolution regions are stored channels-last (N, spatial…, C), so that a vector holds neighbouring channels, per-channel operands are
 * contiguous and a 1x1 convolution is a matrix product. The layout belongs to the buffer: indices stay logical, kernels see strides, and no
 * launch exists only to reorder. Graph inputs and outputs are row-major.
 */
import { add, type Dim, type Graph, mul, type Value } from "@nimforge/ir";
import { isMaterializedSource } from "./kernel.js";

/** Logical axes from the outermost to the innermost in memory. */
export type Layout = readonly number[];

const spatial = new Set([
  "Conv",
  "ConvTranspose",
  "MaxPool",
  "AveragePool",
  "LpPool",
  "GlobalAveragePool",
  "GlobalMaxPool",
  "Resize",
  "DeformConv",
]);

export const rowMajor = (rank: number): Layout => Array.from({ length: rank }, (_, axis) => axis);
export const channelsLast = (rank: number): Layout => [0, ...Array.from({ length: rank - 2 }, (_, k) => k + 2), 1];

export function chooseLayouts(graph: Graph): (value: Value) => Layout {
  const outputs = new Set(graph.outputs.map(({ value }) => value));
  const inRegion = new Set<Value>();
  for (const node of graph.nodes()) {
    if (!node.computes) continue;
    for (const value of node.outputs) {
      const rank = value.shape.length;
      if (rank < 3 || rank > 5) continue;
      const convolves = node.op.domain === "" && spatial.has(node.op.name);
      const inherits = node.inputs.some(
        (input) => input && inRegion.has(input) && input.type.kind === "tensor" && input.shape.length === rank,
      );
      // A transposition leaves the region: its reader wants the order that it asks for.
      if (convolves || (inherits && node.op.name !== "Transpose" && node.op.name !== "MatMul")) inRegion.add(value);
    }
  }
  return (value) => {
    const rank = value.shape.length;
    return inRegion.has(value) && !outputs.has(value) && !isMaterializedSource(value)
      ? channelsLast(rank)
      : rowMajor(rank);
  };
}

/** Distance in elements between neighbours along each logical axis. */
export function stridesOf(shape: readonly Dim[], layout: Layout): Dim[] {
  const strides: Dim[] = new Array(shape.length).fill(1);
  let step: Dim = 1;
  for (const axis of [...layout].reverse()) {
    strides[axis] = step;
    step = mul(step, shape[axis] as Dim);
  }
  return strides;
}

/** Position of an element in memory. */
export function offsetOf(shape: readonly Dim[], layout: Layout, at: readonly Dim[]): Dim {
  const strides = stridesOf(shape, layout);
  return add(...at.map((dim, axis) => mul(dim, strides[axis] as Dim)));
}
