import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { formatShape } from "../dim.js";
import { applied } from "./applied.js";

const x = tensor("float32", [2, 3], [0, 1, 2, 3, 4, 5]);
const ints = (...values: number[]): Tensor => tensor("int64", [values.length], values.map(BigInt));

test("a Reshape to a run-time shape has new sizes and the op's own values", () => {
  const reshape = applied("nim:ReshapeOfData", [x, ints(3, -1)]);
  expect(formatShape(reshape.outputs[0]!.shape)).toMatch(/^\[reshape\.\d+, reshape\.\d+\]$/);
  expect(reshape.run()[0]).toMatchObject({ shape: [3, 2], data: x.data });
});

test("a Slice at run-time positions keeps the axes that it does not name", () => {
  const slice = applied("nim:SliceOfData", [x, ints(1), ints(3)], [ints(1)]);
  expect(formatShape(slice.outputs[0]!.shape)).toMatch(/^\[2, slice/);
  expect(slice.run()[0]).toMatchObject({ shape: [2, 2], data: Float32Array.of(1, 2, 4, 5) });
});

test("ConstantOfShape of a run-time shape takes the value's type", () => {
  const made = applied("nim:ConstantOfShapeOfData", [ints(2, 0, 1)], [], { value: tensor("int32", [1], [4]) });
  expect(made.outputs[0]!.dtype).toBe("int32");
  expect(made.run()[0]).toMatchObject({ shape: [2, 0, 1] });
});

test("Split by run-time sizes gives each part", () => {
  expect(applied("nim:SplitOfData", [x, ints(1, 2)], [], { axis: 1 }, 2).run()).toMatchObject([{ shape: [2, 1] }, { shape: [2, 2], data: Float32Array.of(1, 2, 4, 5) }]);
});
