/** Every storage field and packed type of TensorProto. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { readModel } from "./index.js";
import { encodeMessage } from "./proto.js";
import { readOptionalProto, readSequenceProto, readTensorProto } from "./tensor.js";

const fixture = (name: string) => fileURLToPath(new URL(`../../../../../fixtures/onnx/${name}`, import.meta.url));
const { source } = readModel(fixture("storage.onnx"));
const read = (name: string): Tensor => source.graph.constants.get(name)!.read();

describe("storage", () => {
  it.each([
    ["float_data", "float32", [1.5, -2]],
    ["double_data", "float64", [1.5, -2]],
    ["int64_data", "int64", [2n ** 63n - 1n, -(2n ** 63n)]],
    ["uint64_data", "uint64", [2n ** 64n - 1n]],
    ["uint32_data", "uint32", [2 ** 32 - 1]],
    ["int32_data", "int32", [-5, 7]],
    ["int8_data", "int8", [-128, 127]],
    ["bool_data", "bool", [0, 1, 1]],
    ["bool_raw", "bool", [0, 1, 1]],
    ["float16_data", "float16", [0x3c00, 0xc000]],
    ["bfloat16_raw", "bfloat16", [0x3f80, 0xc000]],
    ["float8_data", "float8e4m3fn", [0x38, 0xff]],
    ["int4_raw", "int4", [-1, -8, 7]],
    ["int4_data", "int4", [-1, -8, 7]],
    ["uint4_raw", "uint4", [15, 8, 7]],
    ["float4_raw", "float4e2m1", [15, 8]],
    ["int2_raw", "int2", [0, 1, -2, -1, -2]],
    ["uint2_raw", "uint2", [0, 1, 2, 3, 2]],
    ["string_data", "string", ["a", "é"]],
    ["complex64_data", "complex64", [1, -2]],
    ["scalar", "float32", [3]],
    ["nothing", "float32", []],
    ["sparse_linear", "float32", [0, 5, 0, 0, 0, 6]],
    ["sparse_pairs", "float32", [0, 5, 0, 0, 0, 6]],
  ])("%s", (name, dtype, values) => {
    const tensor = read(name);
    expect(tensor.dtype).toBe(dtype);
    expect(Array.from(tensor.data as ArrayLike<unknown>)).toEqual(values);
  });

  it("raw data is a view into the file, located in it", () => {
    const path = fixture("add.onnx");
    const bytes = readFileSync(path);
    const constant = readModel(path).source.graph.constants.get("b")!;
    const { offset, length, file } = constant.location!;
    expect(file).toBe(path);
    expect(Array.from(new Float32Array(Uint8Array.from(bytes.subarray(offset, offset + length)).buffer))).toEqual([
      1, 2, 3, 4,
    ]);

    const raw = new Uint8Array(8);
    const message = encodeMessage("TensorProto", { dims: [2], dataType: 1, rawData: raw });
    const aligned = new Uint8Array(new ArrayBuffer(message.length + 8), 8 - ((message.length - 8) % 4), message.length);
    aligned.set(message);
    expect((readTensorProto(aligned).data as Float32Array).buffer).toBe(aligned.buffer);
  });

  it("external data is read from its offset", () => {
    const model = readModel(fixture("external.onnx"));
    const constant = model.source.graph.constants.get("b")!;
    expect(constant.location).toMatchObject({ offset: 8, length: 16 });
    expect(Array.from(constant.read().data as Float32Array)).toEqual([1, 2, 3, 4]);
  });
});

describe("values in files of their own", () => {
  const one = { dims: [1], dataType: 1, floatData: [1] };
  it("sequences and optionals", () => {
    const expected = { dtype: "float32", shape: [1], data: Float32Array.of(1) };
    expect(readTensorProto(encodeMessage("TensorProto", one))).toEqual(expected);
    expect(readSequenceProto(encodeMessage("SequenceProto", { elemType: 1, tensorValues: [one, one] }))).toEqual([
      expected,
      expected,
    ]);
    expect(
      readSequenceProto(
        encodeMessage("SequenceProto", { elemType: 3, sequenceValues: [{ elemType: 1, tensorValues: [one] }] }),
      ),
    ).toEqual([[expected]]);
    expect(readOptionalProto(encodeMessage("OptionalProto", { elemType: 1 }))).toBeNull();
    expect(readOptionalProto(encodeMessage("OptionalProto", { elemType: 1, tensorValue: one }))).toEqual(expected);
    expect(
      readOptionalProto(
        encodeMessage("OptionalProto", { elemType: 3, sequenceValue: { elemType: 1, tensorValues: [one] } }),
      ),
    ).toEqual([expected]);
  });
});
