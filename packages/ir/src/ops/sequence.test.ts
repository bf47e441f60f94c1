import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { Context, Graph, type Value } from "../graph.js";
import { evaluate } from "../interpreter/index.js";
import { tensorType } from "../types.js";
import { findOp } from "./index.js";

const x = tensor("float32", [5], [0, 1, 2, 3, 4]);

function run(build: (context: Context, x: Value) => Value, data: Tensor = x) {
  const context = new Context(findOp);
  const input = context.input("x", tensorType(data.dtype, data.shape));
  const graph = new Graph(context, [{ name: "x", value: input }], [{ name: "y", value: build(context, input) }]);
  return evaluate(graph, [data])[0];
}

const apply = (context: Context, name: string, inputs: readonly Value[], attributes = {}): Value =>
  context.apply(name, inputs, attributes)[0] as Value;

test("SplitToSequence by a scalar leaves a smaller last part, and ConcatFromSequence joins them", () => {
  const split = (context: Context, input: Value) =>
    apply(context, "SplitToSequence", [input, context.scalar("int64", 2)]);
  expect(run(split)).toMatchObject([{ shape: [2] }, { shape: [2] }, { shape: [1], data: Float32Array.of(4) }]);
  expect(run((context, input) => apply(context, "ConcatFromSequence", [split(context, input)], { axis: 0 }))).toEqual(
    x,
  );
});

test("SplitToSequence without keepdims drops the axis", () => {
  expect(run((context, input) => apply(context, "SplitToSequence", [input], { keepdims: 0 }))).toMatchObject([
    { shape: [] },
    { shape: [] },
    { shape: [] },
    { shape: [] },
    { shape: [] },
  ]);
});

test("sequences grow, shrink and are read by position", () => {
  expect(
    run((context, input) => {
      const empty = apply(context, "SequenceEmpty", []);
      const one = apply(context, "SequenceInsert", [empty, input]);
      const two = apply(context, "SequenceInsert", [one, apply(context, "Neg", [input]), context.scalar("int64", 0)]);
      const rest = apply(context, "SequenceErase", [two, context.scalar("int64", -1)]);
      return apply(context, "SequenceAt", [rest, context.scalar("int64", 0)]);
    }),
  ).toMatchObject({ data: Float32Array.of(-0, -1, -2, -3, -4) });
  expect(
    run((context, input) => apply(context, "SequenceLength", [apply(context, "SequenceConstruct", [input, input])])),
  ).toMatchObject({ data: BigInt64Array.of(2n) });
});

test("a position outside the sequence is refused", () => {
  expect(() =>
    run((context, input) =>
      apply(context, "SequenceAt", [apply(context, "SequenceConstruct", [input]), context.scalar("int64", 1)]),
    ),
  ).toThrow(/out of range/);
});

test("SequenceMap runs its body on each element", () => {
  const inner = new Context(findOp);
  const element = inner.input("e", tensorType("float32", [5]));
  const body = new Graph(
    inner,
    [{ name: "e", value: element }],
    [{ name: "y", value: apply(inner, "Neg", [element]) }],
  );
  const mapped = run((context, input) =>
    apply(context, "SequenceMap", [apply(context, "SequenceConstruct", [input, input])], { body }),
  );
  expect(mapped).toMatchObject([{ data: Float32Array.of(-0, -1, -2, -3, -4) }, { shape: [5] }]);
});

test("a full optional is its element", () => {
  expect(run((context, input) => apply(context, "OptionalGetElement", [apply(context, "Optional", [input])]))).toEqual(
    x,
  );
  expect(run((context, input) => apply(context, "OptionalHasElement", [input]))).toMatchObject({
    data: Uint8Array.of(1),
  });
  expect(run((context) => apply(context, "OptionalHasElement", []))).toMatchObject({ data: Uint8Array.of(0) });
});
