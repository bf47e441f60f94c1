import { tensor } from "@nimforge/tensor";
import { describe, expect, test } from "vitest";
import { Context, evaluate, findOp, Graph, symbol, tensorType, type Value } from "./index.js";

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
  const graph = new Graph(
    context,
    [
      { name: "x", value: x },
      { name: "y", value: y },
    ],
    [{ name: "out", value: out! }],
  );
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

describe("hash-consing", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [3]));
  test("attributes, constants and the sign of zero make a difference", () => {
    const leaky = (alpha: number) => context.apply("LeakyRelu", [x], { alpha })[0];
    expect(leaky(0.1)).toBe(leaky(0.1));
    expect(leaky(0.1)).not.toBe(leaky(0.2));
    expect(leaky(0)).not.toBe(leaky(-0));
    const vector = (...values: number[]) => context.constant(tensor("float32", [values.length], values));
    expect(vector(1, 2)).toBe(vector(1, 2));
    expect(vector(0)).not.toBe(vector(-0));
    const large = () =>
      context.constant(
        tensor(
          "float32",
          [1000],
          Array.from({ length: 1000 }, (_, k) => k),
        ),
      );
    expect(large()).toBe(large());
    expect(context.constant(tensor("float32", [4], [1, 2, 3, 4]))).not.toBe(
      context.constant(tensor("float32", [2, 2], [1, 2, 3, 4])),
    );
  });
  test("inputs and random numbers are new each time", () => {
    expect(context.input("x", tensorType("float32", [3]))).not.toBe(x);
    const noise = () => context.apply("RandomNormalLike", [x])[0];
    expect(noise()).not.toBe(noise());
  });
  test("a merged node has the names of both", () => {
    const [a] = context.apply("Exp", [x], {}, { name: "first" });
    context.apply("Exp", [x], {}, { name: "second" });
    expect(context.originOf(a!.node)).toEqual(["first", "second"]);
  });
});

test("rewriting keeps names and merges what became equal", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [3]));
  const [a] = context.apply("Abs", [x], {}, { name: "abs" });
  const [b] = context.apply("Relu", [x], {}, { name: "relu" });
  const [sum] = context.apply("Add", [a!, b!], {}, { name: "sum" });
  const graph = new Graph(context, [{ name: "x", value: x }], [{ name: "y", value: sum! }]);
  const rewritten = graph.rewrite((node, inputs) =>
    node.op.name === "Abs" ? context.apply("Relu", inputs as Value[]) : undefined,
  );
  const { value } = rewritten.outputs[0]!;
  expect(value.node.inputs[0]).toBe(value.node.inputs[1]);
  expect(context.originOf(value.node.inputs[0]!.node).toSorted()).toEqual(["abs", "relu"]);
  expect(context.originOf(value.node)).toEqual(["sum"]);
  expect([...rewritten.useCounts().values()]).toEqual([1, 2, 1]);
  expect([...graph.useCounts().values()].reduce((p, c) => p + c)).toBe(5);
});

test("a graph as text", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [symbol("N"), 1, 4, 4]));
  const w = context.constant(tensor("float32", [1, 1, 2, 2], [1, 2, 3, 4]));
  const [conv] = context.apply("Conv", [x, w], { strides: [2, 2] });
  const halves = context.apply("Split", [conv!], { axis: 3, num_outputs: 2 }, { outputs: 2 });
  const graph = new Graph(
    context,
    [{ name: "x", value: x }],
    [
      { name: "left", value: halves[0]! },
      { name: "right", value: halves[1]! },
    ],
  );
  expect(String(graph)).toBe(
    [
      '%"x" : float32[N, 1, 4, 4]',
      "%0 = Constant() {value=float32[1,1,2,2](1 2 3 4)} : float32[1, 1, 2, 2]",
      '%1 = Conv(%"x", %0) {strides=[2, 2]} : float32[N, 1, 2, 2]',
      "%2, %3 = Split(%1) {axis=3, num_outputs=2} : float32[N, 1, 2, 1], float32[N, 1, 2, 1]",
      'return "left"=%2, "right"=%3',
    ].join("\n"),
  );
});

describe("the verifier names node and rule", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [2, 3]));
  const i = context.input("i", tensorType("int64", [2]));
  test.each<[string, () => unknown, RegExp, string]>([
    [
      "unknown operator",
      () => context.apply("NoSuchOp", [x], {}, { name: "n" }),
      /NoSuchOp is not supported/,
      "unsupported",
    ],
    [
      "unknown domain",
      () => context.apply("com.acme:Relu", [x], {}, { name: "n" }),
      /com.acme:Relu is not supported/,
      "unsupported",
    ],
    ["too many inputs", () => context.apply("Relu", [x, x], {}, { name: "n" }), /too many inputs/, "malformed"],
    ["missing input", () => context.apply("Add", [x], {}, { name: "n" }), /input B is missing/, "malformed"],
    [
      "wrong element type",
      () => context.apply("Exp", [i], {}, { name: "n" }),
      /has a type that the operator does not take/,
      "malformed",
    ],
    [
      "missing attribute",
      () => context.apply("Concat", [x, x], {}, { name: "n" }),
      /attribute axis is missing/,
      "malformed",
    ],
    [
      "axis out of range",
      () => context.apply("Concat", [x, x], { axis: 2 }, { name: "n" }),
      /axis is out of range/,
      "malformed",
    ],
    [
      "shapes that do not broadcast",
      () => context.apply("Add", [x, context.input("y", tensorType("float32", [2, 4]))], {}, { name: "n" }),
      /do not broadcast/,
      "malformed",
    ],
    [
      "reshape to another size",
      () => context.apply("Reshape", [x, context.shapeVector([4, 2])], {}, { name: "n" }),
      /Reshape/,
      "malformed",
    ],
  ])("%s", (_, build, message, kind) => {
    expect(build).toThrow(message);
    expect(build).toThrow(expect.objectContaining({ kind, node: "n" }));
  });
});
