/** Nothing damaged or hostile gets as far as running. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EngineSpec, engineBytes, type ProgramSpec } from "@nimforge/engine";
import { NimforgeError } from "@nimforge/tensor";
import { beforeAll, describe, expect, it } from "vitest";
import { openEngine } from "./index.js";
import { addProgram, compileImage, engineOf, kernelSource, nonZeroProgram } from "./kit.test.helper.js";

let code: Uint8Array;
beforeAll(() => {
  code = compileImage(kernelSource);
});

function refusal(source: string | Uint8Array, options = {}): NimforgeError | undefined {
  try {
    openEngine(source, options).close();
  } catch (error) {
    if (error instanceof NimforgeError) return error;
    throw error;
  }
  return undefined;
}

describe("an engine file", () => {
  it("is refused with any byte flipped", { timeout: 300_000 }, () => {
    const weights = Float32Array.from({ length: 6000 }, (_, i) => Math.fround(Math.sin(i)));
    const bytes = engineBytes(engineOf([addProgram(weights), nonZeroProgram()], code));
    expect(bytes.length).toBeLessThanOrEqual(65536);
    expect(bytes.length).toBeGreaterThan(40000);
    expect(refusal(bytes, { verifyWeights: true })).toBeUndefined();
    const accepted: number[] = [];
    for (let i = 0; i < bytes.length; i++) {
      bytes[i]! ^= 1 << (i % 8);
      const error = refusal(bytes, { verifyWeights: true });
      if (error?.exitCode !== 4) accepted.push(i);
      bytes[i]! ^= 1 << (i % 8);
    }
    expect(accepted).toEqual([]);
  });

  it("is refused when cut or extended", () => {
    const bytes = engineBytes(engineOf([addProgram(new Float32Array(100))], code));
    for (let length = 0; length < bytes.length; length += 64)
      expect(refusal(bytes.subarray(0, length))?.exitCode).toBe(4);
    expect(refusal(bytes.subarray(0, bytes.length - 1))?.exitCode).toBe(4);
    expect(refusal(Buffer.concat([bytes, Buffer.alloc(1)]))?.exitCode).toBe(4);
  });

  it("of another format names both versions", async () => {
    const { createHash } = await import("node:crypto");
    const bytes = engineBytes(engineOf([], code));
    bytes[10] = 9;
    bytes.set(createHash("sha256").update(bytes.subarray(0, 96)).digest(), 96);
    expect(refusal(bytes)).toMatchObject({
      exitCode: 6,
      code: "engine-format",
      expected: "format 1.0 to 1.0",
      found: "format 1.9",
    });
  });

  it("is named in the error", () => {
    const folder = mkdtempSync(join(tmpdir(), "nimforge-test-"));
    try {
      const file = join(folder, "a.engine");
      writeFileSync(file, "no engine");
      expect(refusal(file)).toMatchObject({ exitCode: 4, code: "not-an-engine", file });
      expect(refusal(join(folder, "none"))).toMatchObject({ exitCode: 2, code: "not-found" });
      expect(refusal(folder)).toMatchObject({ exitCode: 2, code: "not-a-file" });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("a table with good hashes and wrong contents is refused:", () => {
  const program = () => structuredClone(addProgram(new Float32Array(8)));
  const cases: [string, (p: ProgramSpec, e: EngineSpec) => void][] = [
    ["an operand that is not earlier", (p) => (p.exprs[2]!.a = 2)],
    ["a symbol out of range", (p) => (p.exprs[0]!.a = 5)],
    ["a buffer index out of range", (p) => (p.steps[0]!.launch!.buffers[0] = 99)],
    ["a negative buffer index", (p) => (p.steps[0]!.launch!.buffers[0] = -1)],
    ["a kernel out of range", (p) => (p.steps[0]!.launch!.variants[0]!.kernel = 99)],
    ["an image out of range", (_, e) => (e.kernels[0]!.image = 1)],
    ["no variants", (p) => (p.steps[0]!.launch!.variants = [])],
    ["a size that is no expression", (p) => (p.buffers[2]!.bytes = 99)],
    ["a lifetime that ends before it begins", (p) => Object.assign(p.buffers[2]!, { first: 1, last: 0 })],
    ["a lifetime past the last step", (p) => (p.buffers[3]!.last = 3)],
    ["a use outside the lifetime", (p) => (p.buffers[3]!.last = 1)],
    ["views in a circle", (p) => Object.assign(p.buffers[2]!, { alias: 2 })],
    ["a view of nothing", (p) => Object.assign(p.buffers[2]!, { alias: 99 })],
    ["an input that is another's buffer", (p) => (p.inputs[1]!.buffer = 0)],
    ["an input of another dtype", (p) => (p.inputs[0]!.dtype = "float64")],
    ["two inputs of a name", (p) => (p.inputs[1]!.name = "x")],
    [
      "a constant longer than its segment",
      (p) => (p.buffers[5]!.bytes = p.exprs.push({ op: "constant", value: 1 << 20 }) - 1),
    ],
    ["a constant of unknown size", (p) => (p.buffers[5]!.bytes = p.buffers[0]!.bytes)],
    ["a symbol whose axis is not it", (p) => (p.inputs[0]!.shape[0] = 1)],
    ["a symbol that nothing binds", (p) => delete p.symbols[0]!.input],
    ["an assertion out of range", (p) => (p.assertions[0]!.expr = 99)],
    ["a symbol of no step", (p) => p.symbols.push({ name: "K", min: 0, max: 1, step: 0 })],
  ];
  it.each(cases)("%s", (_, spoil) => {
    const p = program();
    const engine = engineOf([p], code);
    expect(refusal(engineBytes(engine))).toBeUndefined();
    spoil(p, engine);
    expect(refusal(engineBytes(engine))).toMatchObject({ exitCode: 4, code: "engine-semantics" });
  });

  it("a size that is needed before it is known", () => {
    const p = nonZeroProgram();
    (p.steps[0]!.host as { shapes: number[][] }).shapes[1] = [1];
    expect(refusal(engineBytes(engineOf([p], code)))).toMatchObject({ code: "engine-semantics" });
  });
});

describe("a code image is refused with", () => {
  const plain = 'extern "C" __attribute__((visibility("default"))) int add() { return 0; }\n';
  const free = ["-nostdlib", "-ffreestanding"];
  const cases: [string, string, () => Uint8Array][] = [
    [
      "other libraries",
      "image-needs-library",
      () => compileImage(plain, ["-Wl,--no-as-needed", "-lc", "-nostartfiles"], true),
    ],
    [
      "a constructor",
      "image-constructor",
      () => compileImage(`${plain}int x; __attribute__((constructor)) void f() { x = 1; }`),
    ],
    [
      "a destructor",
      "image-constructor",
      () => compileImage(`${plain}int x; __attribute__((destructor)) void f() { x = 1; }`),
    ],
    [
      "DT_INIT",
      "image-constructor",
      () => compileImage(`${plain}extern "C" __attribute__((visibility("default"))) void go() {}`, ["-Wl,-init,go"]),
    ],
    ["writable code", "image-writable-code", () => compileImage(`${plain}int x = 1;`, ["-Wl,--omagic"])],
    [
      "undefined symbols",
      "image-undefined-symbol",
      () =>
        compileImage(
          'extern "C" void* malloc(unsigned long); extern "C" __attribute__((visibility("default"))) void* add() { return malloc(1); }',
        ),
    ],
    [
      "weak undefined symbols",
      "image-undefined-symbol",
      () =>
        compileImage(
          'extern "C" __attribute__((weak, visibility("default"))) void later(); extern "C" __attribute__((visibility("default"))) void* add() { return (void*)later; }',
        ),
    ],
    [
      "thread-local storage",
      "image-tls",
      () =>
        compileImage(
          'extern "C" __attribute__((visibility("default"))) int add() { static thread_local int x; return ++x; }',
        ),
    ],
    ["an executable stack", "image-executable-stack", () => compileImage(plain, [...free, "-Wl,-z,execstack"], true)],
    [
      "an ifunc",
      "image-",
      () =>
        compileImage(
          `static int one() { return 1; } extern "C" { static void* pick() { return (void*)one; } } extern "C" __attribute__((visibility("default"), ifunc("_ZL4pickv"))) int add();`
            .replace('extern "C" { static void* pick', "static void* pick")
            .replace("(void*)one; } }", "(void*)one; }"),
        ),
    ],
    [
      "text relocations",
      "image-text-relocations",
      () =>
        compileImage(
          'extern "C" __attribute__((visibility("default"))) int data = 1; asm(".text\\n.globl add\\n.type add,@function\\nadd: ret\\n.quad data\\n");',
          ["-Wl,-z,notext"],
        ),
    ],
    ["a program in its place", "image-malformed", () => Buffer.from("#!/bin/sh\\nexit 0\\n".repeat(100))],
  ];
  it.each(cases)("%s", (_, expected, build) => {
    const error = refusal(engineBytes(engineOf([addProgram(new Float32Array(4))], build())));
    expect(error?.exitCode).toBe(4);
    expect(error?.code).toContain(expected);
  });

  it("another machine's code", () => {
    const arm = code.slice();
    arm[18] = 183; // EM_AARCH64
    expect(refusal(engineBytes(engineOf([], arm)))).toMatchObject({ exitCode: 4, code: "image-machine" });
  });

  it("any byte of its headers flipped, without a crash", () => {
    for (let i = 0; i < 1024; i++) {
      const image = code.slice();
      image[i]! ^= 1 << ((i * 5) % 8);
      const error = refusal(engineBytes(engineOf([], image)));
      expect(error === undefined || error.exitCode === 4).toBe(true);
    }
  });
});
