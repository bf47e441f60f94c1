import { alg } from "@dagrejs/graphlib";
import { expect, test } from "vitest";
import { Context, findOp, Graph, symbol, tensorType, toGraphlib } from "./index.js";

test("a graph as graphlib sees it", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [symbol("N"), 4]));
  const [y] = context.apply("Relu", [x], {}, { name: "relu" });
  const [square] = context.apply("Mul", [y!, y!], {}, { name: "square" });
  const [out] = context.apply("Add", [square!, x]);
  const graph = new Graph(
    context,
    [{ name: "x", value: x }],
    [
      { name: "y", value: out! },
      { name: "x", value: y! },
    ],
    "net",
  );
  const view = toGraphlib(graph);
  expect(view.graph()).toBe("net");
  expect(view.isDirected()).toBe(true);
  const add = `Add.${out!.node.id}`;
  expect(view.nodes()).toEqual(["x", "relu", "square", add, "y", "x.1"]);
  expect(view.node("relu")).toEqual({ op: "Relu", origin: ["relu"] });
  expect(view.node("x.1")).toEqual({ op: "Output", origin: [] });
  // Both operands of the product are the same value: two edges.
  expect(view.outEdges("relu", "square")?.map((edge) => view.edge(edge))).toEqual([
    { type: "float32[N, 4]", output: 0, input: 0 },
    { type: "float32[N, 4]", output: 0, input: 1 },
  ]);
  expect(view.predecessors(add)?.sort()).toEqual(["square", "x"]);
  expect(alg.isAcyclic(view)).toBe(true);
  expect(view.sources()).toEqual(["x"]);
  expect(view.sinks()?.sort()).toEqual(["x.1", "y"]);
});

test("several outputs of one node and inputs that nothing reads", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [6]));
  const unused = context.input("u", tensorType("int64", []));
  const [a, b] = context.apply("Split", [x], { num_outputs: 2 }, { name: "halves", outputs: 2 });
  const [out] = context.apply("Sub", [b!, a!], {}, { name: "halves" }); // the same name again
  const view = toGraphlib(
    new Graph(
      context,
      [
        { name: "x", value: x },
        { name: "u", value: unused },
      ],
      [{ name: "y", value: out! }],
    ),
  );
  expect(view.outEdges("halves", "halves.1")?.map((edge) => view.edge(edge))).toEqual([
    { type: "float32[3]", output: 1, input: 0 },
    { type: "float32[3]", output: 0, input: 1 },
  ]);
  expect(view.node("u")).toEqual({ op: "Input", origin: [] });
  expect(view.edgeCount()).toBe(4);
});
