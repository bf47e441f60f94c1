import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EngineSpec, engineBytes, type ProgramSpec, writeEngineFile } from "@nimforge/engine";
import { tensor } from "@nimforge/tensor";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEngine, loadEngineBytes } from "./index.js";

/** a[N], b[2 * N] → copies, by host operators alone: it needs no compiler. */
function copyEngine(): EngineSpec {
  const program = (name: string): ProgramSpec => ({
    name,
    symbols: [{ name: "N", min: 1, max: 100, input: 0, axis: 0 }],
    exprs: [
      { op: "symbol", a: 0 },
      { op: "constant", value: 2 },
      { op: "mul", a: 1, b: 0 },
      { op: "constant", value: 4 },
      { op: "mul", a: 0, b: 3 },
      { op: "mul", a: 2, b: 3 },
    ],
    inputs: [
      { name: "a", dtype: "float32", shape: [0], buffer: 0 },
      { name: "b", dtype: "int32", shape: [2], buffer: 1 },
    ],
    outputs: [
      { name: "b copy", dtype: "int32", shape: [2], buffer: 3 },
      { name: "a copy", dtype: "float32", shape: [0], buffer: 2 },
    ],
    buffers: [
      { name: "a", kind: "input", dtype: "float32", bytes: 4 },
      { name: "b", kind: "input", dtype: "int32", bytes: 5 },
      { name: "a copy", kind: "output", dtype: "float32", bytes: 4 },
      { name: "b copy", kind: "output", dtype: "int32", bytes: 5 },
    ],
    steps: [
      { name: "a", origin: ["n0"], host: { op: "copy@1", inputs: [0], outputs: [2], shapes: [[0], [0]] } },
      { name: "b", origin: ["n1"], host: { op: "copy@1", inputs: [1], outputs: [3], shapes: [[2], [2]] } },
    ],
    assertions: [],
  });
  return {
    name: "copy",
    targets: [],
    precision: "fp32",
    kernels: [],
    images: [],
    programs: [program("main"), program("second")],
    assets: [],
    provenance: "{}",
    report: "{}",
  };
}

let folder: string;
let file: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "nimforge-test-"));
  file = join(folder, "copy.engine");
  writeEngineFile(file, copyEngine());
  chmodSync(file, 0o600);
});
afterAll(() => rmSync(folder, { recursive: true }));

const a = tensor("float32", [2], [1.5, 2.5]);
const b = tensor("int32", [4], [1, 2, 3, 4]);

describe("loadEngine", () => {
  it("runs by names and says what the engine takes", async () => {
    const session = await loadEngine(file, { threads: 1, profile: true });
    expect(session.name).toBe("main");
    expect(session.threads).toBe(1);
    expect(session).toMatchObject({ target: "", device: "cpu" }); // host operators alone: any machine
    expect(session.inputs).toEqual([
      { name: "a", dtype: "float32", shape: ["N"] },
      { name: "b", dtype: "int32", shape: ["2 * N"] },
    ]);
    expect(session.symbols).toEqual([{ name: "N", min: 1, max: 100 }]);
    const outputs = await session.run({ b, a });
    expect(outputs).toEqual({ "a copy": a, "b copy": b });
    expect(session.runSync({ a, b })).toEqual(outputs);
    expect(session.memory).toMatchObject({ arena: 0, inputs: 24, outputs: 24, lowerBound: 48 });
    expect(session.profile().map((step) => step.origin)).toEqual([["n0"], ["n1"]]);
    await session.close();
    await session.close();
    await expect(session.run({ a, b })).rejects.toMatchObject({ code: "closed" });
  });

  it("names inputs that are missing, unknown or of a wrong size", async () => {
    const session = await loadEngineBytes(engineBytes(copyEngine()), { program: "second" });
    await expect(session.run({ a, c: b })).rejects.toMatchObject({
      exitCode: 2,
      code: "missing-input",
      message: 'input "b" is missing; there is no input "c"',
      expected: "a: float32[N], b: int32[2 * N]",
      found: "a, c",
    });
    await expect(session.run({ a, b, toString: a })).rejects.toMatchObject({ code: "unknown-input" });
    expect(() => session.runSync({ a, b: tensor("int32", [3]) })).toThrow(
      expect.objectContaining({ code: "input-shape", expected: "2 * N = 4 of int32[2 * N]", found: "3 of [3]" }),
    );
    await session.close();
  });

  it("refuses what is not to be trusted, is not there, or has no such program", async () => {
    await expect(loadEngine(file, { trust: "signed" })).rejects.toMatchObject({
      exitCode: 8,
      code: "unsigned-engine",
      file,
    });
    chmodSync(file, 0o666);
    await expect(loadEngine(file)).rejects.toMatchObject({
      exitCode: 8,
      code: "untrusted-engine",
      found: "a file with mode 666",
    });
    chmodSync(file, 0o600);
    await expect(loadEngine(join(folder, "none"))).rejects.toMatchObject({ exitCode: 2, code: "not-found" });
    await expect(loadEngine(file, { program: "third" })).rejects.toMatchObject({
      exitCode: 2,
      code: "no-program",
      expected: "main, second",
    });
    await expect(loadEngine(file, { target: "sm_90" })).rejects.toMatchObject({
      exitCode: 6,
      code: "no-target-program",
      expected: "sm_90",
      found: "any machine",
    });
    await expect(loadEngine(file, { device: "gpu" })).rejects.toMatchObject({ exitCode: 2, code: "no-device" });
    await expect(loadEngine(file, { threads: 0 })).rejects.toMatchObject({ exitCode: 2, code: "threads" });
  });
});
