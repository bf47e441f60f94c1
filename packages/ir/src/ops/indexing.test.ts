import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { Context } from "../graph.js";
import { tensorType } from "../types.js";
import { applied, result } from "./applied.js";
import { findOp } from "./index.js";

const ints = (shape: number[], ...values: number[]): Tensor => tensor("int64", shape, values.map(BigInt));
const counting = (...shape: number[]): Tensor =>
  tensor(
    "float32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, k) => k),
  );

test("Gather takes slices, negative indices from the end", () => {
  expect(result("Gather", [counting(3, 2), ints([2], -1, 0)])).toEqual({ shape: [2, 2], values: [4, 5, 0, 1] });
  expect(result("Gather", [counting(3, 2)], [ints([], 1)], { axis: 1 })).toEqual({ shape: [3], values: [1, 3, 5] });
});

test("an index that is out of range ends the run or the build", () => {
  expect(() => result("Gather", [counting(3), ints([1], 3)])).toThrow(/out of range/);
  expect(() => result("Gather", [counting(3)], [ints([], -4)])).toThrow(/out of range/);
});

test("a constant index is an index map", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [3, 2]));
  const [y] = context.apply("Gather", [x, context.constant(ints([], -1))]);
  expect(y!.node.computes![0]!.body.key).toMatch(/^ld0:float32\[2,/);
});

test("GatherElements and GatherND index by element and by tuple", () => {
  expect(result("GatherElements", [counting(2, 2), ints([2, 2], 0, 0, 1, 0)], [], { axis: 1 }).values).toEqual([
    0, 0, 3, 2,
  ]);
  expect(result("GatherND", [counting(2, 2, 2), ints([2, 1], 1, 0)], [], { batch_dims: 1 })).toEqual({
    shape: [2, 2],
    values: [2, 3, 4, 5],
  });
});

test("ScatterElements applies updates in order", () => {
  const operands = [counting(3), ints([3], 1, 1, -1), tensor("float32", [3], [10, 20, 30])];
  expect(result("ScatterElements", operands).values).toEqual([0, 20, 30]);
  expect(result("ScatterElements", operands, [], { reduction: "add" }).values).toEqual([0, 31, 32]);
  expect(result("ScatterElements", operands, [], { reduction: "max" }).values).toEqual([0, 20, 30]);
});

test("ScatterND reduces small floats in their own precision", () => {
  const data = tensor("float16", [2], [1, 2048]);
  expect(
    result("ScatterND", [data, ints([2, 1], 1, 1), tensor("float16", [2], [1, 1])], [], { reduction: "add" }).values,
  ).toEqual([1, 2048]);
  expect(result("ScatterND", [counting(2, 2), ints([1, 1], 1), tensor("float32", [1, 2], [8, 9])]).values).toEqual([
    0, 1, 8, 9,
  ]);
});

test("TensorScatter writes a window, wrapping where it is circular", () => {
  const cache = tensor("float32", [2, 3, 1], [0, 0, 0, 0, 0, 0]);
  const update = tensor("float32", [2, 2, 1], [1, 2, 3, 4]);
  expect(result("TensorScatter", [cache, update, ints([2], 0, 1)]).values).toEqual([1, 2, 0, 0, 3, 4]);
  expect(result("TensorScatter", [cache, update, ints([2], 2, 1)], [], { mode: "circular" }).values).toEqual([
    2, 0, 1, 0, 3, 4,
  ]);
});

test("NonZero and Compress have sizes of their own", () => {
  const x = tensor("float32", [2, 2], [0, 5, 6, 0]);
  expect(result("NonZero", [x])).toEqual({ shape: [2, 2], values: [0, 1, 1, 0] });
  expect(result("Compress", [x, tensor("bool", [2], [false, true])], [], { axis: 1 })).toEqual({
    shape: [2, 1],
    values: [5, 0],
  });
  expect(result("Compress", [x, tensor("bool", [3], [true, false, true])]).values).toEqual([0, 6]);
});

test("Unique gives values, first positions, inverse and counts", () => {
  const x = tensor("float32", [6], [2, 1, 1, 3, 4, 3]);
  const values = (sorted: number) =>
    applied("Unique", [x], [], { sorted }, 4)
      .run()
      .map((t) => Array.from((t as Tensor).data as ArrayLike<number>, Number));
  expect(values(0)).toEqual([
    [2, 1, 3, 4],
    [0, 1, 3, 4],
    [0, 1, 1, 2, 3, 2],
    [1, 2, 2, 1],
  ]);
  expect(values(1)).toEqual([
    [1, 2, 3, 4],
    [1, 0, 3, 4],
    [1, 0, 0, 2, 3, 2],
    [2, 1, 2, 1],
  ]);
});

test("TopK gives the lower index first among equals", () => {
  const [values, positions] = applied(
    "TopK",
    [tensor("float32", [4], [1, 3, 3, 2])],
    [ints([1], 3)],
    {},
    2,
  ).run() as Tensor[];
  expect([...values!.data]).toEqual([3, 3, 2]);
  expect([...positions!.data]).toEqual([1n, 2n, 3n]);
});

test("NonMaxSuppression drops boxes that overlap a better one", () => {
  const boxes = tensor("float32", [1, 3, 4], [0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 10, 1, 11]);
  const scores = tensor("float32", [1, 1, 3], [0.9, 0.75, 0.6]);
  expect(result("NonMaxSuppression", [boxes, scores], [ints([1], 3), tensor("float32", [1], [0.5])])).toEqual({
    shape: [2, 3],
    values: [0, 0, 0, 0, 0, 2],
  });
});

test("ArrayFeatureExtractor picks columns", () => {
  expect(result("ai.onnx.ml:ArrayFeatureExtractor", [counting(2, 3), ints([1, 2], 2, 0)])).toEqual({
    shape: [2, 2],
    values: [2, 0, 5, 3],
  });
});
