/**
 * Order of launches: of several orders that respect data flow, the one with the lowest peak of live bytes at typical sizes.
 * Candidates: the source's order, and depth-first from the outputs with the larger or the smaller operand first.
 */
import { type Dim, type Graph, mul, type Value } from "@nimforge/ir";
import type { Kernel } from "@nimforge/passes";
import { elementBytes } from "@nimforge/tensor";

export function orderLaunches(kernels: readonly Kernel[], graph: Graph, sizeOf: (dim: Dim) => number): Kernel[] {
  const producer = new Map(kernels.map((kernel) => [kernel.output, kernel]));
  const bytes = (value: Value) => sizeOf(mul(elementBytes(value.dtype), ...value.shape));
  const depthFirst = (compare: (a: Value, b: Value) => number): Kernel[] => {
    const order: Kernel[] = [];
    const placed = new Set<Kernel>();
    const stack: { kernel: Kernel; operands: Value[] }[] = [];
    const push = (value: Value) => {
      const kernel = producer.get(value);
      if (!kernel || placed.has(kernel)) return;
      placed.add(kernel);
      stack.push({
        kernel,
        operands: kernel.inputs.filter((input) => producer.has(input)).sort((a, b) => compare(b, a)),
      });
    };
    for (const root of [...graph.outputs.map(({ value }) => value), ...kernels.map((kernel) => kernel.output)]) {
      push(root);
      while (stack.length > 0) {
        const top = stack[stack.length - 1]!;
        const next = top.operands.pop();
        if (next) push(next);
        else order.push(stack.pop()!.kernel);
      }
    }
    return order;
  };
  const candidates = [
    [...kernels],
    depthFirst((a, b) => bytes(b) - bytes(a)),
    depthFirst((a, b) => bytes(a) - bytes(b)),
  ];
  const outputs = new Set(graph.outputs.map(({ value }) => value));
  let best = candidates[0]!;
  let lowest = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const peak = peakBytes(candidate, outputs, bytes);
    if (peak < lowest) [best, lowest] = [candidate, peak];
  }
  return best;
}

function peakBytes(kernels: readonly Kernel[], outputs: ReadonlySet<Value>, bytes: (value: Value) => number): number {
  const own = new Set(kernels.map((kernel) => kernel.output));
  const last = new Map<Value, number>();
  kernels.forEach((kernel, step) => {
    for (const value of [...kernel.inputs, kernel.output]) if (own.has(value)) last.set(value, step);
  });
  let live = 0;
  let peak = 0;
  kernels.forEach((kernel, step) => {
    live += bytes(kernel.output);
    peak = Math.max(peak, live);
    for (const value of new Set([...kernel.inputs, kernel.output]))
      if (last.get(value) === step && !outputs.has(value)) live -= bytes(value);
  });
  return peak;
}
