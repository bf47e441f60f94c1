import { type DType, tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, numbersOf, runOp } from "./testing.js";

const onnx = {
  uint8: 2,
  int8: 3,
  float16: 10,
  float8e4m3fn: 17,
  uint4: 21,
  int4: 22,
  float4e2m1: 23,
  uint2: 25,
  int2: 26,
};

describe("QuantizeLinear", () => {
  it("rounds to even, shifts and saturates", () => {
    const x = float32([6], [-1000, 1, 3, 5, 1000, 2.9]);
    expect(numbersOf(runOp("QuantizeLinear", [x, float32([], [2]), tensor("uint8", [], [128])])[0])).toEqual([
      0, 128, 130, 130, 255, 129,
    ]);
    expect(numbersOf(runOp("QuantizeLinear", [x, float32([], [2]), tensor("int16", [], [-1])])[0])).toEqual([
      -501, -1, 1, 1, 499, 0,
    ]);
  });
  it("huge quotients saturate", () => {
    expect(
      numbersOf(
        runOp("QuantizeLinear", [float32([2], [1e30, -1e30]), float32([], [1e-5]), tensor("int8", [], [5])])[0],
      ),
    ).toEqual([127, -128]);
  });
  it("reaches every small integer type", () => {
    for (const [dtype, low, high] of [
      ["int4", -8, 7],
      ["uint4", 0, 15],
      ["int2", -2, 1],
      ["uint2", 0, 3],
    ] as [DType & keyof typeof onnx, number, number][]) {
      const [y] = runOp("QuantizeLinear", [float32([3], [-100, 1, 100]), float32([], [1])], {
        output_dtype: onnx[dtype],
      });
      expect(y!.dtype).toBe(dtype);
      expect(numbersOf(y)).toEqual([low, 1, high]);
    }
  });
  it("to float8 saturates, or overflows when saturate is 0", () => {
    const inputs = [float32([2], [1e4, 1.06]), float32([], [1])];
    expect(numbersOf(runOp("QuantizeLinear", inputs, { output_dtype: onnx.float8e4m3fn })[0])).toEqual([448, 1]);
    expect(
      numbersOf(runOp("QuantizeLinear", inputs, { output_dtype: onnx.float8e4m3fn, saturate: 0 })[0])[0],
    ).toBeNaN();
    expect(numbersOf(runOp("QuantizeLinear", inputs, { output_dtype: onnx.float4e2m1 })[0])).toEqual([6, 1]);
  });
  it("has a scale for each element of an axis, or for each block", () => {
    const x = float32([2, 3], [4, 4, 4, 8, 8, 8]);
    expect(
      numbersOf(runOp("QuantizeLinear", [x, float32([2], [1, 4]), tensor("uint8", [2], [0, 1])], { axis: 0 })[0]),
    ).toEqual([4, 4, 4, 3, 3, 3]);
    expect(
      numbersOf(
        runOp(
          "QuantizeLinear",
          [x, float32([2, 2], [1, 2, 4, 8])],
          { axis: 1, block_size: 2 },
          { open: { 0: [0] } },
        )[0],
      ),
    ).toEqual([4, 4, 2, 2, 2, 1]);
    expect(() => runOp("QuantizeLinear", [x, float32([2, 1], [1, 1])], { axis: 1, block_size: 2 })).toThrow(
      /blocked scale/,
    );
  });
});

describe("DequantizeLinear", () => {
  it("undoes quantization, per tensor, axis and block", () => {
    const x = tensor("uint8", [2, 2], [0, 10, 20, 255]);
    expect(numbersOf(runOp("DequantizeLinear", [x, float32([], [0.5]), tensor("uint8", [], [10])])[0])).toEqual([
      -5, 0, 5, 122.5,
    ]);
    expect(numbersOf(runOp("DequantizeLinear", [x, float32([2], [1, 2])], { axis: -1 })[0])).toEqual([0, 20, 20, 510]);
    expect(
      numbersOf(
        runOp("DequantizeLinear", [x, float32([1, 2], [1, 2]), tensor("uint8", [1, 2], [0, 5])], {
          axis: 0,
          block_size: 2,
        })[0],
      ),
    ).toEqual([0, 10, 20, 500]);
  });
  it("gives the scale's type unless another is named", () => {
    const x = tensor("int4", [2], [-8, 7]);
    expect(runOp("DequantizeLinear", [x, tensor("float16", [], [0.5])])[0]!.dtype).toBe("float16");
    expect(runOp("DequantizeLinear", [x, float32([], [0.5])], { output_dtype: onnx.float16 })[0]!.dtype).toBe(
      "float16",
    );
  });
});

describe("DynamicQuantizeLinear", () => {
  it("covers the data and 0 with 255 steps", () => {
    const [y, scale, zero] = runOp("DynamicQuantizeLinear", [float32([4], [-1, 0, 0.5, 2])], {}, { outputs: 3 });
    expect(distance(scale, [3 / 255])).toBeLessThan(1e-7);
    expect(numbersOf(zero)).toEqual([85]);
    expect(numbersOf(y)).toEqual([0, 85, 127, 255]);
  });
  it("of positive data starts at 0", () => {
    expect(numbersOf(runOp("DynamicQuantizeLinear", [float32([2], [1, 255])], {}, { outputs: 3 })[2])).toEqual([0]);
  });
});
