import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { dtypeNames } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { formatVersion, hashChunkBytes, sha256 } from "./format.js";
import { BufferKind, DType, ExprOp } from "./generated/nimforge/engine.js";
import {
  asStream,
  bufferKinds,
  type EngineSpec,
  engineBytes,
  exprOps,
  readEngineTable,
  writeEngine,
  writeEngineFile,
} from "./index.js";

/** Without a matcher's element-by-element report. */
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
const weights = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * seed + (i >> 8)) & 255);

function example(): EngineSpec {
  const constant = (name: string, data: Uint8Array) => ({
    name,
    kind: "constant" as const,
    dtype: "uint8" as const,
    bytes: 0,
    data,
  });
  return {
    name: "det \u{1F600}",
    targets: ["cpu-x86-64-v3"],
    precision: "fp32",
    kernels: [{ name: "k0", image: 0 }],
    images: [{ target: "cpu-x86-64-v3", abi: 1, features: ["avx2"], code: weights(5000, 3) }],
    programs: [
      {
        name: "main",
        symbols: [
          { name: "W", min: 32, max: 960, input: 0, axis: 3 },
          { name: "K", min: 0, max: 2n ** 62n, step: 1 },
        ],
        exprs: [
          { op: "constant", value: 100 },
          { op: "symbol", a: 0 },
          { op: "floordiv", a: 1, b: 0 },
          { op: "select", a: 2, b: 1, c: 0 },
          { op: "constant", value: -(2n ** 63n) },
        ],
        inputs: [{ name: "x", dtype: "float32", shape: [0, 0, 0, 1], buffer: 0 }],
        outputs: [{ name: "y", dtype: "bool", shape: [], buffer: 1 }],
        buffers: [
          { name: "x", kind: "input", dtype: "float32", bytes: 3 },
          { name: "y", kind: "output", dtype: "bool", bytes: 0 },
          { name: "a", kind: "arena", dtype: "int4", bytes: 3, first: 0, last: 1 },
          { name: "view", kind: "arena", dtype: "int4", bytes: 3, alias: 2, offset: 0 },
          constant("w0", weights(100, 5)),
          constant("w1", weights(1000, 7)),
          constant("w0 again", weights(100, 5)),
          constant("big", weights(70000, 11)),
          constant("big again", weights(70000, 11)),
          constant("empty", new Uint8Array()),
        ],
        steps: [
          {
            name: "conv+relu",
            origin: ["/conv", "/relu"],
            launch: {
              variants: [
                { guard: 2, kernel: 0, items: 1, grain: 0 },
                { kernel: 0, scratch: 3 },
              ],
              buffers: [0, 2],
              dims: [1, 3],
              faults: ["f"],
            },
          },
          {
            name: "nz",
            origin: [],
            host: {
              op: "NonZero@1",
              attributes: '{"a":1}',
              inputs: [2, -1],
              outputs: [1],
              defines: [1],
              shapes: [[1], [], [0]],
            },
          },
        ],
        assertions: [{ expr: 2, message: "W is too small" }],
      },
    ],
    assets: [{ name: "licence", mediaType: "text/plain", data: weights(30, 1) }],
    provenance: '{"compiler":"0.1.0"}',
    report: "{}",
  };
}

describe("the engine file", () => {
  it("gives back what was written, with data as places", () => {
    const spec = example();
    const bytes = engineBytes(spec);
    const { table, segments, fileLength } = writeEngine(spec);
    const read = readEngineTable(table);
    expect(bytes.length).toBe(fileLength);
    const at = (ref: { segment: number; offset: number }, length: number) => {
      const start = (read.segments[ref.segment]?.offset ?? Number.NaN) + ref.offset;
      return bytes.slice(start, start + length);
    };
    const program = read.programs[0];
    const original = spec.programs[0];
    program?.buffers.forEach((buffer, i) => {
      const { data, ...rest } = original?.buffers[i] ?? {};
      const { data: place, ...readRest } = buffer;
      expect(readRest).toEqual(rest);
      if (data instanceof Uint8Array && data.length > 0)
        expect(same(at(place ?? { segment: -1, offset: 0 }, data.length), data)).toBe(true);
      else expect(place).toBeUndefined();
    });
    expect({ ...program, buffers: [] }).toEqual({ ...original, buffers: [] });
    expect(program?.buffers[4]?.data).toEqual(program?.buffers[6]?.data);
    expect(program?.buffers[7]?.data).toEqual(program?.buffers[8]?.data);
    expect({ ...read, programs: [], segments: [], images: [], assets: [] }).toEqual({
      ...spec,
      programs: [],
      segments: [],
      images: [],
      assets: [],
    });
    expect(same(at(read.images[0]?.code ?? { segment: -1, offset: 0 }, 5000), weights(5000, 3))).toBe(true);
    expect(segments).toHaveLength(4); // code, licence, the large constant, the small ones together
    for (const segment of read.segments) expect(segment.offset % 4096).toBe(0);
  });

  it("has the same bytes each time and on disk, and leaves no partial file", () => {
    const folder = mkdtempSync(join(tmpdir(), "nimforge-test-"));
    try {
      const file = join(folder, "a.engine");
      expect(same(engineBytes(example()), engineBytes(example()))).toBe(true);
      writeFileSync(file, "old");
      const failing = example();
      failing.assets.push({ name: "bad", mediaType: "", data: failsWhenWritten() });
      expect(() => writeEngineFile(file, failing)).toThrow("gone");
      expect(readFileSync(file, "utf8")).toBe("old");
      expect(readdirSync(folder)).toEqual(["a.engine"]);
      expect(writeEngineFile(file, example())).toBe(readFileSync(file).length);
      expect(same(readFileSync(file), engineBytes(example()))).toBe(true);
      expect(readdirSync(folder)).toEqual(["a.engine"]);
      expect(() => writeEngineFile(join(folder, "none", "a.engine"), example())).toThrow(
        expect.objectContaining({ exitCode: 7 }),
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("hashes segments in pieces of 4 MiB without holding them", () => {
    let largest = 0;
    const length = hashChunkBytes * 2 + 10;
    const data = {
      length,
      read(offset: number, size: number) {
        largest = Math.max(largest, size);
        return new Uint8Array(size).fill(offset / hashChunkBytes + 1);
      },
    };
    const spec = { ...example(), assets: [{ name: "big", mediaType: "", data }] };
    const segment = writeEngine(spec).segments.find((candidate) => candidate.data.length === length);
    expect(largest).toBe(hashChunkBytes);
    expect(Buffer.from(segment?.sha256 ?? []).toString("hex")).toBe(
      [hashChunkBytes, hashChunkBytes, 10]
        .map((size, i) => Buffer.from(sha256(new Uint8Array(size).fill(i + 1))).toString("hex"))
        .join(""),
    );
  });

  it("has the header of its format", () => {
    const { header, table } = writeEngine(example());
    expect(Buffer.from(header.subarray(0, 8)).toString("latin1")).toBe("\x89NFE\r\n\x1a\n");
    expect([header[8], header[10]]).toEqual([formatVersion.major, formatVersion.minor]);
    expect(header.subarray(40, 72)).toEqual(new Uint8Array(sha256(table)));
  });
});

describe("the schema", () => {
  it("is what the generated code and the lists here were made from", () => {
    execFileSync(process.execPath, [fileURLToPath(new URL("../scripts/generate.mjs", import.meta.url)), "--check"], {
      stdio: "pipe",
    });
    const names = (values: object) => Object.keys(values).filter((key) => Number.isNaN(Number(key)));
    expect(names(ExprOp)).toEqual([...exprOps]);
    expect(names(BufferKind)).toEqual([...bufferKinds]);
    expect(names(DType).filter((name) => name !== "none")).toEqual(dtypeNames);
  });
});

/** Can be hashed, but not read a second time. */
function failsWhenWritten() {
  const source = asStream(new Uint8Array(10).fill(9));
  let reads = 0;
  return {
    length: source.length,
    read(offset: number, length: number) {
      if (reads++ > 0) throw new Error("gone");
      return source.read(offset, length);
    },
  };
}
