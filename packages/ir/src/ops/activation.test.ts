import { tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { result } from "./applied.js";

test("Shrink moves values towards zero by the bias and drops those within lambd", () => {
  expect(result("Shrink", [tensor("float32", [4], [-2, -1, 0.5, 3])], [], { lambd: 1, bias: 0.5 }).values).toEqual([
    -1.5, 0, 0, 2.5,
  ]);
  expect(result("Shrink", [tensor("int32", [3], [-2, 1, 2])], [], { lambd: 1.5 }).values).toEqual([-2, 0, 2]);
});

test("SwiGLU gates without broadcasting", () => {
  const vector = (...values: number[]) => tensor("float32", [values.length], values);
  expect(result("SwiGLU", [vector(0, 1), vector(5, 2)]).values).toEqual([0, expect.closeTo(2 / (1 + Math.exp(-1)), 6)]);
  expect(() => result("SwiGLU", [vector(0, 1), vector(5)])).toThrow(/A and B/);
});
