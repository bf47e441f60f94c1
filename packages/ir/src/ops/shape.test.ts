import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { formatShape, symbol } from "../dim.js";
import { Context } from "../graph.js";
import { tensorType } from "../types.js";
import { applied, result } from "./applied.js";
import { findOp } from "./index.js";

const x = tensor("float32", [2, 3], [1.5, -2.5, 3, 0, 300, -1]);
const scalar = (dtype: "int64" | "float32", value: number): Tensor =>
  tensor(dtype, [], [dtype === "int64" ? BigInt(value) : value]);

test("shape arithmetic reaches a Reshape", () => {
  const context = new Context(findOp);
  const input = context.input("x", tensorType("float32", [symbol("N", 1), 3, 4]));
  const [sizes] = context.apply("Shape", [input], { end: 1 });
  const [whole] = context.apply("Concat", [sizes!, context.shapeVector([-1])], { axis: 0 });
  const [flat] = context.apply("Reshape", [input, whole]);
  expect(formatShape(flat!.shape)).toBe("[N, 12]");
});

test("Shape clamps its ends and Size multiplies", () => {
  expect(result("Shape", [x], [], { start: -1, end: 9 }).values).toEqual([3]);
  expect(result("Shape", [x], [], { start: 2, end: 1 }).shape).toEqual([0]);
  expect(result("Size", [x])).toEqual({ shape: [], values: [6] });
});

test("Range counts down, and by fractions", () => {
  expect(
    result(
      "Range",
      [],
      [10, 4, -2].map((v) => scalar("int64", v)),
    ).values,
  ).toEqual([10, 8, 6]);
  expect(
    result(
      "Range",
      [],
      [0, 1, 0.25].map((v) => scalar("float32", v)),
    ).values,
  ).toEqual([0, 0.25, 0.5, 0.75]);
  expect(
    result(
      "Range",
      [],
      [3, 3, 1].map((v) => scalar("int64", v)),
    ).shape,
  ).toEqual([0]);
});

test("Range of run-time bounds has a new size", () => {
  const range = applied("Range", [scalar("int64", 1), scalar("int64", 7), scalar("int64", 2)]);
  expect(typeof range.outputs[0]!.shape[0]).toBe("object");
  expect(range.run()[0]).toMatchObject({ shape: [3], data: BigInt64Array.of(1n, 3n, 5n) });
});

test("ConstantOfShape takes the value's type", () => {
  const made = applied("ConstantOfShape", [], [tensor("int64", [2], [1n, 2n])], { value: tensor("int8", [1], [7]) });
  expect(made.run()[0]).toMatchObject({ dtype: "int8", shape: [1, 2], data: Int8Array.of(7, 7) });
});

test("EyeLike places ones on a diagonal", () => {
  expect(result("EyeLike", [x], [], { k: 1 }).values).toEqual([0, 1, 0, 0, 0, 1]);
});

test("OneHot counts negative indices from the end and ignores others", () => {
  const indices = tensor("int64", [3], [1n, -1n, 5n]);
  expect(result("OneHot", [indices], [scalar("int64", 3), tensor("float32", [2], [-1, 1])]).values).toEqual([
    -1, 1, -1, -1, -1, 1, -1, -1, -1,
  ]);
});

test("Cast truncates towards zero and CastLike takes the target's type", () => {
  expect(result("Cast", [x], [], { to: 6 }).values).toEqual([1, -2, 3, 0, 300, -1]);
  expect(result("CastLike", [x], [tensor("bool", [1], [true])]).values).toEqual([1, 1, 1, 0, 1, 1]);
});

test("Cast to float8e8m0 rounds up, down or to the nearest power of two", () => {
  const values = tensor("float32", [3], [1, 1.25, 3]);
  const rounded = (round_mode: string) => result("Cast", [values], [], { to: 24, round_mode }).values;
  expect(rounded("up")).toEqual([1, 2, 4]);
  expect(rounded("down")).toEqual([1, 1, 2]);
  expect(rounded("nearest")).toEqual([1, 1, 4]);
});

test("BitCast keeps the bits and refuses another width", () => {
  expect(result("BitCast", [tensor("float32", [1], [1])], [], { to: 6 }).values).toEqual([0x3f800000]);
  expect(result("BitCast", [tensor("uint4", [2], [15, 7])], [], { to: 22 }).values).toEqual([-1, 7]);
  expect(() => result("BitCast", [x], [], { to: 7 })).toThrow(/width/);
});
