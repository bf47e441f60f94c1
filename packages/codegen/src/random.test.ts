import { evaluate, Graph, inputOp, type Value } from "@nimforge/ir";
import { optimize } from "@nimforge/passes";
import type { Tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { emulatedTargets } from "./index.js";
import { randomProgram } from "./random-graph.test.helper.js";
import { differs, mismatches, runnableTargets } from "./run.test.helper.js";

const programs = Array.from({ length: 48 }, (_, k) => randomProgram(k));

test("the programs are worth running", () => {
  const nodes = programs.flatMap(({ graph }) => graph.nodes());
  expect(new Set(nodes.map((node) => node.op.name)).size).toBeGreaterThan(35);
  expect(new Set(nodes.flatMap((node) => node.outputs.map((value) => value.dtype))).size).toBeGreaterThan(15);
  expect(programs.filter(({ exact }) => exact.includes(true)).length).toBeGreaterThan(programs.length / 3);
  expect(programs.some(({ inputs }) => inputs.some((set) => set.some((x) => x.data.length === 0)))).toBe(true);
});

test.each([...runnableTargets, ...emulatedTargets.filter(({ name }) => name === "emulated-sm_80")])(
  "$name gives what the interpreter gives",
  { timeout: 120_000 },
  async (target) => {
    expect(await mismatches(programs, target)).toEqual([]);
  },
);

/** The same operators with the inputs known: everything can be folded. */
function onConstants(graph: Graph, inputs: readonly Tensor[]): Graph {
  const { context } = graph;
  const known = new Map<Value, Value>(
    graph.inputs.map(({ value }, k) => [value, context.constant(inputs[k] as Tensor)]),
  );
  for (const node of graph.nodes()) {
    if (node.op === inputOp) continue;
    const operands = node.inputs.map((value) => value && known.get(value));
    const results = context.applyOp(node.op, operands, node.attributes, { outputs: node.outputs.length });
    node.outputs.forEach((value, k) => known.set(value, results[k] as Value));
  }
  return new Graph(
    context,
    [],
    graph.outputs.map(({ name, value }) => ({ name, value: known.get(value) as Value })),
  );
}

test("the optimizer keeps every bit, with inputs open and with inputs known", () => {
  let folded = 0;
  for (let seed = 0; seed < 250; seed++) {
    const { name, graph, inputs } = randomProgram(seed);
    const [first] = inputs as readonly [readonly Tensor[]];
    const expected = evaluate(graph, first) as Tensor[];
    const open = evaluate(optimize(graph), first) as Tensor[];
    expected.forEach((want, k) => expect(differs(open[k] as Tensor, want, true), `${name}, open`).toBeUndefined());
    if (inputs.length > 1) continue; // sizes are symbols: inputs of other shapes than the nodes'
    const closed = optimize(onConstants(graph, first));
    const found = evaluate(closed, []) as Tensor[];
    expected.forEach((want, k) => expect(differs(found[k] as Tensor, want, true), `${name}, known`).toBeUndefined());
    folded += closed.outputs.filter(({ value }) => value.constant).length;
  }
  expect(folded).toBeGreaterThan(100);
});

test("a seed is a program", () => {
  expect(String(randomProgram(7).graph)).toBe(String(randomProgram(7).graph));
});
