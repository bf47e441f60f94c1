import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { formatShape, symbol } from "../dim.js";
import { Context, Graph, type Value } from "../graph.js";
import { evaluate } from "../interpreter/index.js";
import { tensorType, type ValueType } from "../types.js";
import { findOp } from "./index.js";

function graphOf(inputs: readonly ValueType[], build: (context: Context, ...values: Value[]) => Value[]): Graph {
  const context = new Context(findOp);
  const named = inputs.map((type, k) => ({ name: `x${k}`, value: context.input(`x${k}`, type) }));
  const outputs = build(context, ...named.map(({ value }) => value));
  return new Graph(
    context,
    named,
    outputs.map((value, k) => ({ name: `y${k}`, value })),
  );
}

const scalar = tensorType("float32", []);
const vector = tensorType("float32", [2]);
const float = (value: number): Tensor => tensor("float32", [], [value]);
const flag = (value: boolean): Tensor => tensor("bool", [], [value]);

test("If runs one branch on the captures; sizes that differ become new ones", () => {
  const wide = tensorType("float32", [symbol("N", 1)]);
  const yes = graphOf([wide], (_context, x) => [x!]);
  const no = graphOf([wide], (context, x) => [context.apply("Concat", [x!, x!], { axis: 0 })[0]!]);
  const graph = graphOf([tensorType("bool", []), wide], (context, condition, x) => [
    context.apply("If", [condition!, x!], { then_branch: yes, else_branch: no, captures: 1 })[0]!,
  ]);
  expect(formatShape(graph.outputs[0]!.value.shape)).toMatch(/^\[branch/);
  const x = tensor("float32", [2], [1, 2]);
  expect(evaluate(graph, [flag(true), x])[0]).toMatchObject({ shape: [2] });
  expect(evaluate(graph, [flag(false), x])[0]).toMatchObject({ shape: [4], data: Float32Array.of(1, 2, 1, 2) });
});

const doubling = graphOf(
  [tensorType("int64", []), tensorType("bool", []), scalar, scalar],
  (context, _k, _go, total, step) => {
    const [next] = context.apply("Add", [total!, step!]);
    const [going] = context.apply("Less", [next!, context.scalar("float32", 6)]);
    return [going!, next!, next!];
  },
);

test("Loop carries a value, collects another and stops at its condition", () => {
  const graph = graphOf(
    [tensorType("int64", []), tensorType("bool", []), scalar, scalar],
    (context, trips, going, start, step) => [
      ...context.apply("Loop", [trips!, going!, start!, step!], { body: doubling, captures: 1 }, { outputs: 2 }),
    ],
  );
  const run = (trips: number, going: boolean) =>
    evaluate(graph, [tensor("int64", [], [BigInt(trips)]), flag(going), float(0), float(2)]) as Tensor[];
  expect(run(10, true).map(({ data }) => [...data])).toEqual([[6], [2, 4, 6]]);
  expect(run(2, true).map(({ data }) => [...data])).toEqual([[4], [2, 4]]);
  expect(run(10, false)).toMatchObject([{ data: Float32Array.of(0) }, { shape: [0] }]);
});

test("Loop without a condition ignores what the body says", () => {
  const graph = graphOf([scalar, scalar], (context, start, step) => [
    ...context.apply(
      "Loop",
      [context.scalar("int64", 5), undefined, start!, step!],
      { body: doubling, captures: 1 },
      { outputs: 2 },
    ),
  ]);
  expect(graph.outputs[1]!.value.shape).toEqual([5]);
  expect(evaluate(graph, [float(0), float(2)])[0]).toMatchObject({ data: Float32Array.of(10) });
});

test("Loop without an end is refused", () => {
  expect(() =>
    graphOf([scalar, scalar], (context, a, b) => [
      context.apply("Loop", [undefined, undefined, a!, b!], { body: doubling, captures: 1 })[0]!,
    ]),
  ).toThrow(/never ends/);
});

test("Scan walks an axis in either direction", () => {
  const body = graphOf([vector, vector, scalar], (context, sum, row, factor) => {
    const [next] = context.apply("Add", [sum!, context.apply("Mul", [row!, factor!])[0]!]);
    return [next!, next!];
  });
  const scanned = (attributes: Record<string, readonly number[]>) => {
    const graph = graphOf([vector, tensorType("float32", [2, 3]), scalar], (context, start, rows, factor) => [
      ...context.apply(
        "Scan",
        [start!, rows!, factor!],
        { body, num_scan_inputs: 1, scan_input_axes: [1], captures: 1, ...attributes },
        { outputs: 2 },
      ),
    ]);
    return evaluate(graph, [
      tensor("float32", [2], [0, 0]),
      tensor("float32", [2, 3], [1, 2, 3, 4, 5, 6]),
      float(10),
    ]) as Tensor[];
  };
  expect(scanned({})).toMatchObject([
    { data: Float32Array.of(60, 150) },
    { shape: [3, 2], data: Float32Array.of(10, 40, 30, 90, 60, 150) },
  ]);
  expect(scanned({ scan_input_directions: [1], scan_output_axes: [1] })[1]).toMatchObject({
    shape: [2, 3],
    data: Float32Array.of(30, 50, 60, 60, 110, 150),
  });
});
