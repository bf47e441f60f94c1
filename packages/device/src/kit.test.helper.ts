/** Builds small engines for tests: kernels are compiled by g++, programs are a few steps over one symbolic size. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BufferSpec, EngineSpec, ExprSpec, ProgramSpec, StepSpec, TensorInfoSpec } from "@nimforge/engine";

const imageFlags = [
  "-shared",
  "-fPIC",
  "-O1",
  "-nostdlib",
  "-ffreestanding",
  "-fvisibility=hidden",
  "-Wl,-z,noexecstack",
];
const include = fileURLToPath(new URL("../../engine/schema", import.meta.url));

/** The bytes of a shared object; `flags` are added to (or, with `only`, replace) those of CPU images. */
export function compileImage(source: string, flags: string[] = [], only = false): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), "nimforge-test-"));
  try {
    const [input, output] = [join(folder, "image.cpp"), join(folder, "image.so")];
    writeFileSync(input, source);
    execFileSync(
      "g++",
      [...(only ? ["-shared", "-fPIC"] : imageFlags), ...flags, `-I${include}`, input, "-o", output],
      { stdio: "pipe" },
    );
    return readFileSync(output);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const kernelSource = `
#include "abi.h"
#define KERNEL extern "C" __attribute__((visibility("default"))) int
KERNEL add(const NfLaunch* l) {
  const float *a = (const float*)l->buffers[0], *b = (const float*)l->buffers[1];
  float* out = (float*)l->buffers[2];
  for (NfInt i = l->begin; i < l->end; ++i) out[i] = a[i] + b[i];
  return 0;
}
/* Checks its scratch: every part writes its own thread's and reads it back. */
KERNEL twice(const NfLaunch* l) {
  const float* a = (const float*)l->buffers[0];
  float *out = (float*)l->buffers[1], *scratch = (float*)l->scratch;
  if (l->thread >= l->threads || (unsigned long)scratch % 64 != 0) return 7;
  for (NfInt i = l->begin; i < l->end; ++i) {
    scratch[i % 16] = a[i] * l->dims[0];
    out[i] = scratch[i % 16];
  }
  return 0;
}
/* out[i] = table[index[i]], clamped; faults name operand 0. */
KERNEL take(const NfLaunch* l) {
  const float* table = (const float*)l->buffers[0];
  const NfInt* index = (const NfInt*)l->buffers[1];
  float* out = (float*)l->buffers[2];
  for (NfInt i = l->begin; i < l->end; ++i) {
    NfInt k = index[i];
    if (k < 0 || k >= l->dims[0]) {
      if (l->error->code == 0) { l->error->value = k; l->error->operand = 0; l->error->code = 1; }
      k = 0;
    }
    out[i] = table[k];
  }
  return 0;
}
/* Busy for about dims[0] million steps. */
KERNEL busy(const NfLaunch* l) {
  volatile NfInt x = 0;
  for (NfInt i = 0; i < l->dims[0] * 1000000; ++i) x = x + 1;
  ((float*)l->buffers[0])[0] = 1;
  return 0;
}
KERNEL nothing(const NfLaunch*) { return 0; }
KERNEL broken(const NfLaunch*) { return 3; }
`;

export const kernelNames = ["add", "twice", "take", "busy", "nothing", "broken"] as const;

/** An engine of one image with `kernelSource`'s kernels, for this machine's plain level. */
export function engineOf(programs: ProgramSpec[], code: Uint8Array, changes: Partial<EngineSpec> = {}): EngineSpec {
  return {
    name: "test",
    targets: ["cpu-x86-64"],
    precision: "fp32",
    kernels: kernelNames.map((name) => ({ name, image: 0 })),
    images: [{ target: "cpu-x86-64", abi: 1, features: [], code }],
    programs,
    assets: [],
    provenance: "{}",
    report: "{}",
    ...changes,
  };
}

export const kernel = (name: (typeof kernelNames)[number]): number => kernelNames.indexOf(name);

/** Collects a program's expressions, each once. */
export class Exprs {
  readonly list: ExprSpec[] = [];

  add(expr: ExprSpec): number {
    const known = this.list.findIndex((other) => JSON.stringify(other) === JSON.stringify(expr));
    return known >= 0 ? known : this.list.push(expr) - 1;
  }
  constant(value: number): number {
    return this.add({ op: "constant", value });
  }
  symbol(index: number): number {
    return this.add({ op: "symbol", a: index });
  }
  mul(a: number, b: number): number {
    return this.add({ op: "mul", a, b });
  }
}

/** x[N], y[N] → out[N] = (x + y) * 3 + weights[0..N]. */
export function addProgram(weights: Float32Array, range = { min: 0, max: 1 << 20 }): ProgramSpec {
  const e = new Exprs();
  const n = e.symbol(0);
  const bytes = e.mul(n, e.constant(4));
  const weightBytes = e.constant(weights.byteLength);
  const float = (name: string, rest: Partial<BufferSpec> & { kind: BufferSpec["kind"] }): BufferSpec => ({
    name,
    dtype: "float32",
    bytes,
    ...rest,
  });
  const info = (name: string, buffer: number): TensorInfoSpec => ({ name, dtype: "float32", shape: [n], buffer });
  const launch = (name: "add" | "twice", buffers: number[], dims: number[] = []): StepSpec => ({
    name,
    origin: [`/${name}`],
    launch: {
      variants: [
        {
          kernel: kernel(name),
          items: n,
          grain: e.constant(64),
          ...(name === "twice" ? { scratch: e.constant(64) } : {}),
        },
      ],
      buffers,
      dims,
    },
  });
  const buffers = [
    float("x", { kind: "input" }),
    float("y", { kind: "input" }),
    float("sum", { kind: "arena", first: 0, last: 1 }),
    float("tripled", { kind: "arena", first: 1, last: 2 }),
    float("out", { kind: "output" }),
    {
      ...float("c", { kind: "constant", data: new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength) }),
      bytes: weightBytes,
    },
  ];
  return {
    name: "main",
    symbols: [{ name: "N", ...range, input: 0, axis: 0 }],
    inputs: [info("x", 0), info("y", 1)],
    outputs: [info("out", 4)],
    buffers,
    steps: [launch("add", [0, 1, 2]), launch("twice", [2, 3], [e.constant(3)]), launch("add", [3, 5, 4])],
    assertions: [
      { expr: e.add({ op: "le", a: n, b: e.constant(weights.length) }), message: "N is larger than the constant" },
    ],
    exprs: e.list,
  };
}

/** x[N] → indices[1, K] of its elements that are not 0, and doubled[K] = 2 * value of each; K is known only then. */
export function nonZeroProgram(): ProgramSpec {
  const e = new Exprs();
  const [n, k] = [e.symbol(0), e.symbol(1)];
  const [one, four, eight] = [e.constant(1), e.constant(4), e.constant(8)];
  return {
    name: "nonzero",
    symbols: [
      { name: "N", min: 0, max: 1 << 20, input: 0, axis: 0 },
      { name: "K", min: 0, max: 1000, step: 1 },
    ],
    inputs: [{ name: "x", dtype: "float32", shape: [n], buffer: 0 }],
    outputs: [
      { name: "doubled", dtype: "float32", shape: [k], buffer: 4 },
      { name: "indices", dtype: "int64", shape: [one, k], buffer: 2 },
      { name: "same", dtype: "int64", shape: [one, k], buffer: 2 },
    ],
    buffers: [
      { name: "x", kind: "input", dtype: "float32", bytes: e.mul(n, four) },
      // A copy that is live across the step that defines K, in an arena that grows there.
      { name: "held", kind: "arena", dtype: "float32", bytes: e.mul(n, four), first: 0, last: 2 },
      { name: "indices", kind: "arena", dtype: "int64", bytes: e.mul(k, eight), first: 1, last: 3 },
      { name: "values", kind: "arena", dtype: "float32", bytes: e.mul(k, four), first: 2, last: 3 },
      { name: "doubled", kind: "output", dtype: "float32", bytes: e.mul(k, four) },
      { name: "flat", kind: "arena", dtype: "int64", bytes: e.mul(k, eight), alias: 2 },
    ],
    steps: [
      { name: "hold", origin: [], host: { op: "copy@1", inputs: [0], outputs: [1], shapes: [[n], [n]] } },
      {
        name: "find",
        origin: ["/NonZero"],
        host: { op: "NonZero@1", inputs: [1], outputs: [2], defines: [1], shapes: [[n], [one, k]] },
      },
      {
        name: "take",
        origin: ["/Gather"],
        launch: {
          variants: [{ kernel: kernel("take"), items: k }],
          buffers: [1, 5, 3],
          dims: [n],
          faults: ['Gather "/Gather": index'],
        },
      },
      {
        name: "double",
        origin: [],
        launch: {
          variants: [{ kernel: kernel("twice"), items: k, scratch: e.constant(64) }],
          buffers: [3, 4],
          dims: [e.constant(2)],
        },
      },
    ],
    assertions: [],
    exprs: e.list,
  };
}

/** `count` launches of one kernel on a one-element output; `work` is its dims[0]. */
export function repeatProgram(
  name: "busy" | "nothing" | "broken",
  count: number,
  items: number,
  work = 0,
): ProgramSpec {
  const e = new Exprs();
  const one = e.constant(1);
  return {
    name,
    symbols: [],
    inputs: [],
    outputs: [{ name: "out", dtype: "float32", shape: [one], buffer: 0 }],
    buffers: [{ name: "out", kind: "output", dtype: "float32", bytes: e.constant(4) }],
    steps: Array.from({ length: count }, (_, i) => ({
      name: `${name}${i}`,
      origin: [`/${name}`],
      launch: {
        variants: [{ kernel: kernel(name), items: e.constant(items) }],
        buffers: [0],
        dims: [e.constant(work)],
      },
    })),
    assertions: [],
    exprs: e.list,
  };
}

/** table[4], index[N] → out[N] = table[index]. */
export function takeProgram(): ProgramSpec {
  const e = new Exprs();
  const n = e.symbol(0);
  const [four, eight] = [e.constant(4), e.constant(8)];
  return {
    name: "take",
    symbols: [{ name: "N", min: 0, max: 100, input: 1, axis: 0 }],
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
          variants: [{ kernel: kernel("take"), items: n }],
          buffers: [0, 1, 2],
          dims: [four],
          faults: ['Gather "/emb": index'],
        },
      },
    ],
    assertions: [],
    exprs: e.list,
  };
}
