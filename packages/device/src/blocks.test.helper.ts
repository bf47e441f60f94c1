/**
 * Builds engines whose kernels are made of blocks and threads, for tests: for emulated targets and, with the fake CUDA
 * driver (native/test/fake_cuda.cpp), which takes the same images, for GPUs.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { BufferSpec, EngineSpec, ProgramSpec, StepSpec, TensorInfoSpec } from "@nimforge/engine";
import { compileImage, Exprs } from "./kit.test.helper.js";

/** Threads of every kernel's blocks, and elements that a block computes. */
export const threads = 64;

const source = `
#include "emulator.h"
#define KERNEL(name)                                                        \\
  static void name##_body(const NfLaunch* L);                               \\
  extern "C" __attribute__((visibility("default"))) int name(const NfLaunch* L) { \\
    return L->emulator->run(L, ${threads}, name##_body);                    \\
  }                                                                         \\
  static void name##_body(const NfLaunch* L)
static inline __attribute__((always_inline)) NfThread* self() { return nf_thread_of(__builtin_frame_address(0)); }
static inline __attribute__((always_inline)) NfInt index() { return self()->block * ${threads} + self()->thread; }

KERNEL(add) {
  const float *a = (const float*)L->buffers[0], *b = (const float*)L->buffers[1];
  if (index() < L->dims[0]) ((float*)L->buffers[2])[index()] = a[index()] + b[index()];
}
/* out = a * dims[1], through shared memory: each thread writes its neighbour's element. */
KERNEL(scale) {
  const float* a = (const float*)L->buffers[0];
  float* shared = (float*)self()->shared;
  const int t = self()->thread;
  if (index() < L->dims[0]) shared[t] = a[index()] * L->dims[1];
  L->emulator->barrier(0, ${threads}, 1, "scale", 1);
  const int other = t ^ 1;
  const NfInt place = self()->block * ${threads} + other;
  if (place < L->dims[0]) ((float*)L->buffers[1])[place] = shared[other];
}
KERNEL(take) {
  const float* table = (const float*)L->buffers[0];
  if (index() >= L->dims[1]) return;
  NfInt k = ((const NfInt*)L->buffers[1])[index()];
  if (k < 0 || k >= L->dims[0]) {
    if (__atomic_exchange_n(&L->error->code, 1, __ATOMIC_RELAXED) == 0) { L->error->operand = 0; L->error->value = k; }
    k = 0;
  }
  ((float*)L->buffers[2])[index()] = table[k];
}
KERNEL(wrong) {
  if (self()->block == 2 && self()->thread == 5) L->emulator->fault("a misaligned access", L->buffers[0], 0, "wrong", 12);
}
`;

export const names = ["add", "scale", "take", "wrong"] as const;

export function compileBlocks(): Uint8Array {
  return compileImage(source, ["-O2", "-std=c++20"]);
}

/** What the fake driver takes for PTX of a capability: a text that carries the image. */
export function fakePtx(target: string, code: Uint8Array): Uint8Array {
  return Buffer.from(`.version 9.0\n.target ${target}\n//image:${Buffer.from(code).toString("hex")}`);
}

/** Engine with one image for each target; its programs are each given once for each target. */
export function blocksEngine(
  code: Uint8Array,
  targets: string[],
  programs: (kernel: (name: (typeof names)[number]) => number) => ProgramSpec[],
  ptx: Record<string, Uint8Array> = {},
): EngineSpec {
  return {
    name: "blocks",
    targets,
    precision: "fp32",
    kernels: targets.flatMap((_, image) => names.map((name) => ({ name, image, threads }))),
    images: targets.map((target) => ({
      target,
      abi: 2,
      features: [],
      code,
      ...(ptx[target] === undefined ? {} : { ptx: ptx[target] }),
    })),
    programs: targets.flatMap((target, i) =>
      programs((name) => i * names.length + names.indexOf(name)).map((program) => ({ ...program, target })),
    ),
    assets: [],
    provenance: "{}",
    report: "{}",
  };
}

/** x[N], y[N] → out[N] = (x + y) * 3 + weights[0..N], and sum[N] = x + y. */
export function sumProgram(
  kernel: (name: (typeof names)[number]) => number,
  weights: Float32Array,
  sharedBytes = threads * 4,
): ProgramSpec {
  const e = new Exprs();
  const n = e.symbol(0);
  const bytes = e.mul(n, e.constant(4));
  const blocks = e.add({ op: "ceildiv", a: n, b: e.constant(threads) });
  const float = (name: string, rest: Partial<BufferSpec> & { kind: BufferSpec["kind"] }): BufferSpec => ({
    name,
    dtype: "float32",
    bytes,
    ...rest,
  });
  const info = (name: string, buffer: number): TensorInfoSpec => ({ name, dtype: "float32", shape: [n], buffer });
  const launch = (name: "add" | "scale", step: string, buffers: number[], dims: number[] = []): StepSpec => ({
    name: step,
    origin: [`/${step}`],
    launch: {
      variants: [
        { kernel: kernel(name), items: blocks, ...(name === "scale" ? { scratch: e.constant(sharedBytes) } : {}) },
      ],
      buffers,
      dims: [n, ...dims],
    },
  });
  return {
    name: "main",
    symbols: [{ name: "N", min: 0, max: 1 << 20, input: 0, axis: 0 }],
    inputs: [info("x", 0), info("y", 1)],
    outputs: [info("out", 4), info("sum", 2)],
    buffers: [
      float("x", { kind: "input" }),
      float("y", { kind: "input" }),
      float("sum", { kind: "arena", first: 0, last: 2 }),
      float("tripled", { kind: "arena", first: 1, last: 2 }),
      float("out", { kind: "output" }),
      {
        ...float("c", { kind: "constant", data: new Uint8Array(weights.buffer) }),
        bytes: e.constant(weights.byteLength),
      },
    ],
    steps: [
      launch("add", "first", [0, 1, 2]),
      launch("scale", "triple", [2, 3], [e.constant(3)]),
      launch("add", "last", [3, 5, 4]),
    ],
    assertions: [{ expr: e.add({ op: "le", a: n, b: e.constant(weights.length) }), message: "N is too large" }],
    exprs: e.list,
  };
}

/** x[N] → indices of its elements that are not 0 (by a host operator), and those elements doubled. */
export function nonZeroProgram(kernel: (name: (typeof names)[number]) => number): ProgramSpec {
  const e = new Exprs();
  const [n, k] = [e.symbol(0), e.symbol(1)];
  const [one, four, eight] = [e.constant(1), e.constant(4), e.constant(8)];
  const blocks = (size: number) => e.add({ op: "ceildiv", a: size, b: e.constant(threads) });
  const step = (name: "take" | "scale", items: number, buffers: number[], dims: number[]): StepSpec => ({
    name,
    origin: [`/${name}`],
    launch: {
      variants: [{ kernel: kernel(name), items: blocks(items), scratch: e.constant(threads * 4) }],
      buffers,
      dims,
      faults: ['Gather "/take": index'],
    },
  });
  return {
    name: "nonzero",
    symbols: [
      { name: "N", min: 0, max: 1 << 20, input: 0, axis: 0 },
      { name: "K", min: 0, max: 1 << 20, step: 1 },
    ],
    inputs: [{ name: "x", dtype: "float32", shape: [n], buffer: 0 }],
    outputs: [
      { name: "doubled", dtype: "float32", shape: [k], buffer: 4 },
      { name: "indices", dtype: "int64", shape: [one, k], buffer: 2 },
    ],
    buffers: [
      { name: "x", kind: "input", dtype: "float32", bytes: e.mul(n, four) },
      // Live across the step that defines K, in an arena that grows there.
      { name: "held", kind: "arena", dtype: "float32", bytes: e.mul(n, four), first: 0, last: 2 },
      { name: "indices", kind: "arena", dtype: "int64", bytes: e.mul(k, eight), first: 1, last: 3 },
      { name: "values", kind: "arena", dtype: "float32", bytes: e.mul(k, four), first: 2, last: 3 },
      { name: "doubled", kind: "output", dtype: "float32", bytes: e.mul(k, four) },
      { name: "flat", kind: "arena", dtype: "int64", bytes: e.mul(k, eight), alias: 2 },
    ],
    steps: [
      step("scale", n, [0, 1], [n, one]),
      {
        name: "find",
        origin: ["/NonZero"],
        host: { op: "NonZero@1", inputs: [1], outputs: [2], defines: [1], shapes: [[n], [one, k]] },
      },
      step("take", k, [1, 5, 3], [n, k]),
      step("scale", k, [3, 4], [k, e.constant(2)]),
    ],
    assertions: [],
    exprs: e.list,
  };
}

/** table[4], index[N] → out[N] = table[index]; and a kernel that faults on the emulator. */
export function takeProgram(kernel: (name: (typeof names)[number]) => number, name: "take" | "wrong"): ProgramSpec {
  const e = new Exprs();
  const n = e.symbol(0);
  const [four, eight] = [e.constant(4), e.constant(8)];
  const blocks = name === "wrong" ? four : e.add({ op: "ceildiv", a: n, b: e.constant(threads) });
  return {
    name,
    symbols: [{ name: "N", min: 0, max: 1000, input: 1, axis: 0 }],
    inputs: [
      { name: "table", dtype: "float32", shape: [four], buffer: 0 },
      { name: "index", dtype: "int64", shape: [n], buffer: 1 },
    ],
    outputs: [{ name: "out", dtype: "float32", shape: [n], buffer: 2 }],
    buffers: [
      { name: "table", kind: "input", dtype: "float32", bytes: e.constant(16) },
      { name: "index", kind: "input", dtype: "int64", bytes: e.mul(n, eight) },
      { name: "out", kind: "output", dtype: "float32", bytes: e.mul(n, four) },
    ],
    steps: [
      {
        name: "take",
        origin: ["/emb"],
        launch: {
          variants: [{ kernel: kernel(name), items: blocks }],
          buffers: [0, 1, 2],
          dims: [four, n],
          faults: ['Gather "/emb": index'],
        },
      },
    ],
    assertions: [],
    exprs: e.list,
  };
}

const build = fileURLToPath(new URL("../../../native/build", import.meta.url));

/** The path of the fake driver, which the addon's build folder can make. */
export function fakeCuda(): string {
  execFileSync("cmake", ["--build", build, "--target", "fake_cuda"], { stdio: "pipe" });
  return `${build}/Release/libfake_cuda.so`;
}
