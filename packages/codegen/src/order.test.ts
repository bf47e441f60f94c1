import { Context, findOp, Graph, tensorType, type Value } from "@nimforge/ir";
import { group, type Kernel, rowMajor } from "@nimforge/passes";
import { expect, test } from "vitest";
import { orderLaunches } from "./order.js";

/** Two wide branches, each reduced to one row: finishing one before the other begins halves the peak. */
function branches() {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [1, 1000]));
  const apply = (name: string, inputs: Value[], attributes = {}) => context.apply(name, inputs, attributes)[0]!;
  const wide = ["Exp", "Sin", "Cos", "Tanh"].map((name) => apply("Concat", [apply(name, [x]), x], { axis: 0 }));
  const narrow = wide.map((value) => apply("ArgMax", [value], { axis: 1 }));
  const joined = apply("Concat", narrow, { axis: 0 });
  return new Graph(context, [{ name: "x", value: x }], [{ name: "y", value: joined }]);
}

test("an order respects data flow and keeps the peak low", () => {
  const graph = branches();
  // Every value in memory, the wide ones first.
  const { kernels } = group(graph, {
    matchAnchor: () => undefined,
    refuses: () => "kept apart",
    layoutOf: (value) => rowMajor(value.shape.length),
    sizeHint: () => 8,
  });
  const wideFirst = [...kernels].sort(
    (a, b) => Number(a.output.dtype === "int64") - Number(b.output.dtype === "int64"),
  );
  const ordered = orderLaunches(wideFirst, graph, Number);
  expect(new Set(ordered)).toEqual(new Set(kernels));
  const made = new Set<Value>(graph.inputs.map(({ value }) => value));
  for (const kernel of ordered) {
    for (const input of kernel.inputs) expect(made.has(input) || input.constant !== undefined).toBe(true);
    made.add(kernel.output);
  }
  expect(peak(ordered)).toBeLessThan(peak(wideFirst));
});

/** Largest number of elements alive at once. */
function peak(kernels: readonly Kernel[]): number {
  const own = new Set(kernels.map(({ output }) => output));
  const size = (value: Value) => value.shape.reduce<number>((n, dim) => n * Number(dim), 1);
  return Math.max(
    ...kernels.map((_, step) => {
      const live = [...own].filter((value) => {
        const born = kernels.findIndex(({ output }) => output === value);
        const last = kernels.findLastIndex(({ inputs, output }) => output === value || inputs.includes(value));
        return born <= step && step <= last;
      });
      return live.reduce((n, value) => n + size(value), 0);
    }),
  );
}
