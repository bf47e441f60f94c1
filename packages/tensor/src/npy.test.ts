import { expect, test } from "vitest";
import { bytesOf, type DType, dtypeNames, NimforgeError, readNpy, tensor, tensorFromBytes, writeNpy } from "./index.js";

const header = (bytes: Uint8Array) => String.fromCharCode(...bytes.subarray(0, bytes.indexOf(10) + 1));

/** A file as numpy lays it out, with any header. */
function file(text: string, data: number[] = [], version = 1): Uint8Array {
  const length = text.length;
  const size = version === 1 ? [length & 255, length >> 8] : [length & 255, length >> 8, 0, 0];
  return Uint8Array.from([
    0x93,
    ..."NUMPY".split("").map((c) => c.charCodeAt(0)),
    version,
    0,
    ...size,
    ...text.split("").map((c) => c.charCodeAt(0)),
    ...data,
  ]);
}

const named = dtypeNames.filter((name) => !/^bfloat|^float8|^float4|int4|int2|string/.test(name));

test.each(named)("%s survives a round trip for every rank", (dtype) => {
  for (const shape of [[], [0], [1], [5], [2, 3], [2, 0, 3], [1, 2, 1, 2]]) {
    const empty = tensor(dtype, shape);
    const bytes = Uint8Array.from({ length: bytesOf(empty).length }, (_, i) =>
      dtype === "bool" ? i % 2 : (i * 37) & 0x3f,
    );
    const source = tensorFromBytes(dtype, shape, bytes);
    const written = writeNpy(source);
    expect(header(written).length % 64).toBe(0);
    expect(readNpy(written)).toEqual(source);
    // A view into a larger buffer, at an odd offset.
    const shifted = new Uint8Array(written.length + 1);
    shifted.set(written, 1);
    expect(readNpy(shifted.subarray(1))).toEqual(source);
    expect(readNpy(Buffer.from(shifted).subarray(1))).toEqual(source);
  }
});

test("the header is numpy's", () => {
  const written = writeNpy(tensor("float32", [3], [1, 2, 3]));
  expect(header(written).slice(10)).toMatch(/^\{'descr': '<f4', 'fortran_order': False, 'shape': \(3,\), \} *\n$/);
  expect(header(writeNpy(tensor("bool", []))).slice(10)).toContain("'shape': ()");
});

test("format 2 has a wider header length", () => {
  expect(readNpy(file("{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }\n", [1, 0, 255, 255], 2))).toEqual(
    tensor("int16", [2], [1, -1]),
  );
});

test.each(dtypeNames.filter((name) => !named.includes(name)))("%s has no name in numpy", (dtype: DType) => {
  expect(() => writeNpy(tensor(dtype, [1]))).toThrow(
    expect.objectContaining({ kind: "unsupported", code: "npy-dtype" }),
  );
});

const good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
test.each<[string, Uint8Array, RegExp]>([
  ["nothing", new Uint8Array(0), /no NUMPY magic/],
  ["another file", Uint8Array.from(Buffer.from("PK\x03\x04 this is a zip")), /no NUMPY magic/],
  ["a header longer than the file", file(good).subarray(0, 40), /truncated header/],
  ["a wide header cut in its length", Uint8Array.from([...file("", [], 2).subarray(0, 10), 0]), /truncated header/],
  ["a header without a shape", file("{'descr': '<f4', 'fortran_order': False}\n", [0, 0, 0, 0]), /unreadable header/],
  [
    "a record type",
    file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", [0, 0, 0, 0]),
    /unreadable header/,
  ],
  ["Fortran order", file("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }\n", [0, 0, 0, 0]), /Fortran order/],
  [
    "big endian",
    file("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }\n", [0, 0, 0, 0]),
    /unsupported element type/,
  ],
  [
    "text elements",
    file("{'descr': '<U3', 'fortran_order': False, 'shape': (1,), }\n", [0, 0, 0, 0]),
    /unsupported element type/,
  ],
  ["a negative size", file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n", [0, 0, 0, 0]), /bad shape/],
  [
    "a size that is no number",
    file("{'descr': '<f4', 'fortran_order': False, 'shape': (x,), }\n", [0, 0, 0, 0]),
    /bad shape/,
  ],
  ["too little data", file(good, [0, 0, 0]), /wrong number of bytes/],
  ["too much data", file(good, [0, 0, 0, 0, 0]), /wrong number of bytes/],
  [
    "a size that no file has",
    file("{'descr': '<f4', 'fortran_order': False, 'shape': (9007199254740991, 4096), }\n", [0]),
    /wrong number of bytes/,
  ],
])("malformed: %s", (_, bytes, message) => {
  const attempt = () => readNpy(bytes, "x.npy");
  expect(attempt).toThrow(message);
  expect(attempt).toThrow(NimforgeError);
  expect(attempt).toThrow(expect.objectContaining({ kind: "malformed", exitCode: 4, file: "x.npy" }));
});
