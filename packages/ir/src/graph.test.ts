import { tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { Context, evaluate, findOp, Graph, symbol, tensorType } from "./index.js";

test("equal nodes are one node", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [2]));
  const [a] = context.apply("Relu", [x]);
  const [b] = context.apply("Relu", [x]);
  expect(a).toBe(b);
});

test("a pointwise graph runs on symbolic sizes", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [symbol("N"), 3]));
  const y = context.input("y", tensorType("float32", [3]));
  const [sum] = context.apply("Add", [x, y]);
  const [out] = context.apply("HardSwish", [sum!]);
  const graph = new Graph(context, [{ name: "x", value: x }, { name: "y", value: y }], [{ name: "out", value: out! }]);
  const [result] = evaluate(graph, [tensor("float32", [2, 3], [0, 1, 2, -4, 5, 1]), tensor("float32", [3], [0, 0, 1])]);
  const expected = [0, 1, 3, -4, 5, 2].map((v) => v * Math.min(1, Math.max(0, v / 6 + 0.5)));
  expect(result).toMatchObject({ shape: [2, 3] });
  expect([...(result as { data: Float32Array }).data]).toEqual(expected.map((v) => expect.closeTo(v, 5)));
});

test("an input of the wrong shape is refused by name", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [2]));
  const graph = new Graph(context, [{ name: "x", value: x }], [{ name: "y", value: context.apply("Exp", [x])[0]! }]);
  expect(() => evaluate(graph, [tensor("float32", [3])])).toThrow(/input "x" has the wrong size at axis 0/);
});
