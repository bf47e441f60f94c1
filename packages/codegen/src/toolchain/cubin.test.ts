import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { capabilities } from "../targets/cuda/capabilities.js";
import { type CubinOptions, compileCubins } from "./index.js";
import { findNvcc } from "./nvcc.js";

const nvcc = await findNvcc();
if (!("found" in nvcc)) console.log(`CUDA compilation is not tested: ${nvcc.faults.join("; ")}`);

const folder = mkdtempSync(join(tmpdir(), "cubin-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let count = 0;
const freshCache = () => join(folder, `cache${count++}`);

/** A folder of headers with what could carry a path into the result. */
function headers(name: string): string {
  const include = join(folder, name);
  mkdirSync(include, { recursive: true });
  writeFileSync(
    join(include, "scale.cuh"),
    `#pragma once
static __device__ const float table[4] = {1, 2, 3, 4};
inline __device__ const char* where() { return __FILE__; }
namespace {
template <class T> struct Scale {
  static __device__ __noinline__ T of(T x) { return table[int(x) & 3] * x; }
};
}
`,
  );
  return include;
}

const kernel = (name: string, body: string) => `extern "C" __global__ void ${name}(float* x) { ${body} }\n`;
const text = `#include "scale.cuh"
${kernel("scale", "x[threadIdx.x] = Scale<float>::of(x[threadIdx.x]) + where()[int(x[0])];")}
${kernel("arch", "x[0] = NF_ARCH;")}`;

const compile = (options: Partial<CubinOptions> = {}) =>
  compileCubins({
    files: [{ name: "a.cu", text }],
    includeDirs: [headers("include")],
    target: "sm_80",
    cacheDir: freshCache(),
    ...options,
  });

describe.skipIf(!("found" in nvcc))("compileCubins with nvcc", () => {
  it("gives cubin, PTX and resources of every kernel", async () => {
    const [image] = await compile({ ptx: true });
    expect(Buffer.from(image!.cubin.subarray(0, 4)).toString("latin1")).toBe("\x7fELF");
    // e_machine: EM_CUDA.
    expect(Buffer.from(image!.cubin).readUInt16LE(18)).toBe(190);
    const ptx = Buffer.from(image!.ptx!).toString();
    expect(ptx).toMatch(/\.target sm_80\b[\s\S]*\.entry scale\([\s\S]*\.entry arch\(/);
    expect(image!.ptxTarget).toBe("compute_80");
    expect([...image!.resources.keys()].sort()).toEqual(["arch", "scale"]);
    expect(image!.resources.get("scale")).toMatchObject({ spillStores: 0, spillLoads: 0, sharedStatic: 0 });
    expect(image!.resources.get("scale")!.registers).toBeGreaterThan(4);
  });

  it("gives the same bytes from other folders, without paths of this machine", async () => {
    const first = await compile({ ptx: true });
    vi.stubEnv("TMPDIR", headers("another/and/longer"));
    const [again] = await compile({ ptx: true, includeDirs: [headers("elsewhere")] });
    vi.unstubAllEnvs();
    for (const part of ["cubin", "ptx"] as const) {
      const bytes = Buffer.from(again![part]!);
      expect(bytes.equals(first[0]![part]!)).toBe(true);
      expect(bytes.toString("latin1")).not.toMatch(/nimforge-|cubin-test/);
      expect(bytes.includes(tmpdir())).toBe(false);
    }
  });

  it("keeps results; PTX is made once for the capabilities that share it", async () => {
    const cacheDir = freshCache();
    const shared = text.replace("NF_ARCH", "1");
    const targets = ["sm_80", "sm_86", "sm_90a"];
    const files = [{ name: "a.cu", text: shared }];
    const cold = await Promise.all(targets.map((target) => compile({ cacheDir, files, target })));
    // One text and three cubins.
    expect(readdirSync(join(cacheDir, "images")).length).toBe(4);
    // A compiler that cannot run shows that nothing is compiled again.
    const toolkit = { ...(nvcc as { found: object }).found, command: "/nonexistent", ptxas: "/nonexistent" } as never;
    const warm = await Promise.all(targets.map((target) => compile({ cacheDir, files, target, toolkit, ptx: true })));
    expect(warm.map(([image]) => Buffer.from(image!.cubin))).toEqual(cold.map(([image]) => Buffer.from(image!.cubin)));
    expect(warm.map(([image]) => image!.resources)).toEqual(cold.map(([image]) => image!.resources));
    expect(new Set(warm.map(([image]) => image!.ptxTarget)).size).toBe(1);
    await expect(compile({ cacheDir, files, target: "sm_89", toolkit })).rejects.toMatchObject({ exitCode: 9 });
  });

  it("compiles again when a header that is reached changes, and not for others", async () => {
    const cacheDir = freshCache();
    const include = headers("changing");
    const build = () => compile({ cacheDir, includeDirs: [include] });
    const [first] = await build();
    writeFileSync(join(include, "other.cuh"), "#error not included\n");
    await build();
    expect(readdirSync(join(cacheDir, "images")).length).toBe(2);
    writeFileSync(
      join(include, "scale.cuh"),
      "template <class T> struct Scale { static __device__ T of(T x) { return x; } };\n__device__ const char* where() { return 0; }\n",
    );
    const [changed] = await build();
    expect(readdirSync(join(cacheDir, "images")).length).toBe(4);
    expect(Buffer.from(changed!.cubin).equals(first!.cubin)).toBe(false);
  });

  it("gives an image for each file", async () => {
    const files = ["one", "two"].map((name) => ({ name: `${name}.cu`, text: kernel(name, "x[0] = 1;") }));
    const images = await compile({ files });
    expect(images.map(({ resources }) => [...resources.keys()])).toEqual([["one"], ["two"]]);
  });

  it("contracts nothing, defines what was asked for, and knows `a` targets", async () => {
    const files = [
      {
        name: "a.cu",
        text: `#ifndef NF_SM90A
#error
#endif
static_assert(NF_ARCH == 900 && WIDTH == 3);
${kernel("mad", "x[0] = x[1] * x[2] + x[3]; x[4] = x[5] / x[6];")}`,
      },
    ];
    const [image] = await compile({ files, target: "sm_90a", defines: { WIDTH: 3 }, ptx: true });
    const ptx = Buffer.from(image!.ptx!).toString();
    expect(image!.ptxTarget).toBe("compute_90a");
    expect(ptx).toMatch(/mul\.(rn\.)?f32[\s\S]*add\.(rn\.)?f32[\s\S]*div\.rn\.f32/);
    expect(ptx).not.toMatch(/fma/);
  });

  it.each([
    [
      "in the file",
      kernel("good", "x[0] = 1;") + kernel("bad", "x[0] = missing;"),
      /kernel bad\).*a\.cu\(2\).*missing/s,
    ],
    [
      "in a header that a kernel instantiates",
      `#include "scale.cuh"\n${kernel("bad", "x[0] = *Scale<int*>::of((int*)x);")}`,
      /kernel bad\)/,
    ],
    [
      "in ptxas",
      kernel("good", "x[0] = 1;") +
        kernel("big", "__shared__ float s[20000]; s[threadIdx.x] = x[0]; __syncthreads(); x[1] = s[0];"),
      /kernel big\).*too much shared data/s,
    ],
  ])("names the kernel of a fault %s", async (_, source, message) => {
    await expect(compile({ files: [{ name: "a.cu", text: source }] })).rejects.toMatchObject({
      kind: "internal",
      message: expect.stringMatching(message),
    });
  });

  it("reports spills", async () => {
    // 64 values that are alive at once, and 32 registers.
    const source = `extern "C" __global__ void __launch_bounds__(1024, 2) tight(float* x) {
  float s[64];
  _Pragma("unroll") for (int i = 0; i < 64; i++) s[i] = x[i * 7 + threadIdx.x];
  __syncthreads();
  _Pragma("unroll") for (int i = 0; i < 64; i++) x[i * 5 + threadIdx.x] = s[i] * s[63 - i];
}
`;
    const [image] = await compile({ files: [{ name: "a.cu", text: source }] });
    const resources = image!.resources.get("tight")!;
    expect(resources.registers).toBeLessThanOrEqual(32);
    expect(resources.spillStores).toBeGreaterThan(0);
    expect(resources.spillLoads).toBeGreaterThan(0);
    expect(resources.stack).toBeGreaterThan(0);
  });

  it("stops nvcc and leaves nothing when the signal fires", async () => {
    const temporary = join(folder, "temporary");
    mkdirSync(temporary);
    vi.stubEnv("TMPDIR", temporary);
    const controller = new AbortController();
    const doubling = Array.from({ length: 30 }, (_, i) => `#define A${i + 1} A${i} A${i}`).join("\n");
    const building = compile({
      files: [{ name: "a.cu", text: `#define A0 x\n${doubling}\nA30` }],
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(), 500);
    const start = Date.now();
    await expect(building).rejects.toMatchObject({ name: "AbortError" });
    expect(Date.now() - start).toBeLessThan(8000);
    expect(readdirSync(temporary)).toEqual([]);
    vi.unstubAllEnvs();
  });

  it("a cancelled call does not take along another that waits for the same PTX", async () => {
    const controller = new AbortController();
    const options = { cacheDir: freshCache(), files: [{ name: "a.cu", text: kernel("k", "x[0] = 1;") }] };
    const cancelled = compile({ ...options, target: "sm_80", signal: controller.signal });
    const other = compile({ ...options, target: "sm_86" });
    setTimeout(() => controller.abort(), 100);
    await expect(cancelled).rejects.toMatchObject({ name: "AbortError" });
    expect([...(await other)[0]!.resources.keys()]).toEqual(["k"]);
  });

  it("compiles for every capability", async () => {
    const cacheDir = freshCache();
    const files = [{ name: "a.cu", text: kernel("k", "x[0] = 1;") }];
    const images = await Promise.all(capabilities.map(({ name }) => compile({ files, target: name, cacheDir })));
    for (const [image] of images) expect([...image!.resources.keys()]).toEqual(["k"]);
  });

  it("refuses an unknown target", async () => {
    await expect(compile({ target: "sm_70" })).rejects.toMatchObject({ code: "unknown-target", exitCode: 2 });
  });
});
