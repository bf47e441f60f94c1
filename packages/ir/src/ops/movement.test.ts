import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { formatShape, symbol } from "../dim.js";
import { Context } from "../graph.js";
import { tensorType } from "../types.js";
import { result } from "./applied.js";
import { findOp } from "./index.js";

const ints = (...values: number[]): Tensor => tensor("int64", [values.length], values.map(BigInt));
const counting = (...shape: number[]): Tensor => {
  const count = shape.reduce((a, b) => a * b, 1);
  return tensor(
    "float32",
    shape,
    Array.from({ length: count }, (_, k) => k),
  );
};

/** The shape of an op on a tensor of symbolic sizes. */
function symbolicShape(
  name: string,
  shape: readonly (number | string)[],
  vectors: readonly (readonly (number | string)[])[],
  attributes = {},
): string {
  const context = new Context(findOp);
  const dim = (size: number | string) => (typeof size === "string" ? symbol(size, 1) : size);
  const x = context.input("x", tensorType("float32", shape.map(dim)));
  const [y] = context.apply(name, [x, ...vectors.map((vector) => context.shapeVector(vector.map(dim)))], attributes);
  return formatShape(y!.shape);
}

test("Reshape copies sizes for 0 and infers -1", () => {
  expect(result("Reshape", [counting(2, 3, 4)], [ints(0, -1, 2)])).toEqual({
    shape: [2, 6, 2],
    values: [...counting(24).data],
  });
  expect(symbolicShape("Reshape", ["N", "T", 768], [[0, 0, 12, -1]])).toBe("[N, T, 12, 64]");
  expect(symbolicShape("Reshape", ["N", "T", 768], [[-1, 768]])).toBe("[N*T, 768]");
  expect(symbolicShape("Reshape", ["N", 768], [["N", -1, 64]])).toBe("[N, 12, 64]");
});

test("Reshape with allowzero keeps a size of 0", () => {
  expect(result("Reshape", [counting(0, 3)], [ints(3, 0)], { allowzero: 1 })).toEqual({ shape: [3, 0], values: [] });
});

test("Reshape refuses a shape that the elements do not fill", () => {
  expect(() => result("Reshape", [counting(2, 3)], [ints(4, -1)])).toThrow(/do not fill/);
  expect(() => result("Reshape", [counting(2, 3)], [ints(4, 2)])).toThrow(/element counts/);
});

test("Transpose reverses the axes when perm is absent", () => {
  expect(result("Transpose", [counting(2, 3)])).toEqual({ shape: [3, 2], values: [0, 3, 1, 4, 2, 5] });
});

test("Slice clamps, counts from the end and steps backwards", () => {
  const x = counting(10);
  expect(result("Slice", [x], [ints(-3), ints(2 ** 40)]).values).toEqual([7, 8, 9]);
  expect(result("Slice", [x], [ints(20), ints(-20), ints(0), ints(-4)]).values).toEqual([9, 5, 1]);
  expect(result("Slice", [x], [ints(1), ints(-1), ints(0), ints(3)]).values).toEqual([1, 4, 7]);
  expect(result("Slice", [x], [ints(5), ints(2)])).toEqual({ shape: [0], values: [] });
});

test("Slice to INT64_MAX of a run-time size leaves no clamp", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [symbol("N", 1), 4]));
  const end = context.constant(tensor("int64", [1], [9223372036854775807n]));
  const [y] = context.apply("Slice", [x, context.shapeVector([0]), end, context.shapeVector([0])]);
  expect(formatShape(y!.shape)).toBe("[N, 4]");
});

test("Concat and Split are inverse", () => {
  expect(result("Concat", [counting(2, 2), counting(2, 1)], [], { axis: 1 })).toEqual({
    shape: [2, 3],
    values: [0, 1, 0, 2, 3, 1],
  });
  expect(result("Split", [counting(5)], [ints(2, 3)], {}, 2)).toEqual({ shape: [2], values: [0, 1] });
});

test("Split by num_outputs gives a smaller last part", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float32", [7]));
  const parts = context.apply("Split", [x], { num_outputs: 4 }, { outputs: 4 });
  expect(parts.map(({ shape }) => shape[0])).toEqual([2, 2, 2, 1]);
});

test("Pad fills, reflects, repeats the edge and wraps", () => {
  const x = counting(3);
  const pads = ints(2, 1);
  expect(result("Pad", [x], [pads, tensor("float32", [], [9])]).values).toEqual([9, 9, 0, 1, 2, 9]);
  expect(result("Pad", [x], [pads], { mode: "reflect" }).values).toEqual([2, 1, 0, 1, 2, 1]);
  expect(result("Pad", [x], [pads], { mode: "edge" }).values).toEqual([0, 0, 0, 1, 2, 2]);
  expect(result("Pad", [x], [pads], { mode: "wrap" }).values).toEqual([1, 2, 0, 1, 2, 0]);
  expect(result("Pad", [x], [ints(-1, 1)]).values).toEqual([1, 2, 0]);
});

test("Pad takes axes", () => {
  expect(result("Pad", [counting(2, 1)], [ints(1, 0), undefined, ints(-1)])).toEqual({
    shape: [2, 2],
    values: [0, 0, 0, 1],
  });
});

test("Tile repeats and Expand broadcasts", () => {
  expect(result("Tile", [counting(1, 2)], [ints(2, 2)]).values).toEqual([0, 1, 0, 1, 0, 1, 0, 1]);
  expect(result("Expand", [counting(2, 1)], [ints(3, 1, 2)])).toEqual({
    shape: [3, 2, 2],
    values: [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1],
  });
});

test("Squeeze, Unsqueeze and Flatten change axes only", () => {
  expect(result("Squeeze", [counting(1, 3, 1)])).toEqual({ shape: [3], values: [0, 1, 2] });
  expect(result("Unsqueeze", [counting(3)], [ints(-1, 0)])).toEqual({ shape: [1, 3, 1], values: [0, 1, 2] });
  expect(symbolicShape("Flatten", ["N", 3, 4], [])).toBe("[N, 12]");
});

test("SpaceToDepth undoes DepthToSpace", () => {
  const x = counting(1, 4, 1, 2);
  const shuffled = result("DepthToSpace", [x], [], { blocksize: 2 });
  expect(shuffled).toEqual({ shape: [1, 1, 2, 4], values: [0, 2, 1, 3, 4, 6, 5, 7] });
  expect(
    result("SpaceToDepth", [tensor("float32", [1, 1, 2, 4], shuffled.values)], [], { blocksize: 2 }).values,
  ).toEqual([...x.data]);
});

test("Trilu keeps a triangle", () => {
  expect(result("Trilu", [counting(2, 3)], [tensor("int64", [], [1n])]).values).toEqual([0, 1, 2, 0, 0, 5]);
  expect(result("Trilu", [counting(2, 3)], [], { upper: 0 }).values).toEqual([0, 0, 0, 3, 4, 0]);
});

test("ReverseSequence reverses each batch's prefix", () => {
  expect(result("ReverseSequence", [counting(2, 3), ints(2, 3)], [], { batch_axis: 0, time_axis: 1 }).values).toEqual([
    1, 0, 2, 5, 4, 3,
  ]);
});

test("CenterCropPad crops one axis and pads the other", () => {
  expect(result("CenterCropPad", [counting(3, 1)], [ints(2, 2)])).toEqual({ shape: [2, 2], values: [0, 0, 1, 0] });
});
