/**
 * Tensor core instructions: their fragments against CUTLASS's layouts, their emulation against plain products, and, where nvcc is
 * installed, that the device's versions assemble without spills. The checks themselves are C++ (native/emulator/mma_test).
 */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const kernels = fileURLToPath(new URL("./kernels", import.meta.url));
const root = fileURLToPath(new URL("../../../../../", import.meta.url));
const emulator = join(root, "native/emulator");
const includes = [`-I${kernels}`, `-I${join(root, "packages/engine/schema")}`];
const cxx = process.env.CXX ?? "g++";

let folder: string;
let objects: string[];

/** Compiles `file` with the emulator, runs it and returns the last line that it printed; fails with all that it printed. */
async function check(file: string, ...flags: string[]): Promise<string> {
  const program = join(folder, `${file}${flags.join("")}`);
  const source = join(emulator, "mma_test", `${file}.cpp`);
  await run(cxx, ["-std=c++20", "-O1", "-march=x86-64-v3", ...flags, ...includes, source, ...objects, "-o", program]);
  const { stdout } = await run(program).catch((error: { stdout: string; message: string }) => {
    throw new Error(`${error.message}\n${error.stdout}`);
  });
  return stdout.trim().split("\n").at(-1) ?? "";
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nimforge-mma-"));
  const sources = (await readdir(emulator)).filter((name) => name.endsWith(".cpp"));
  objects = [];
  for (const name of sources) {
    const object = join(folder, name.replace(".cpp", ".o"));
    await run(cxx, ["-std=c++20", "-O2", ...includes, "-c", join(emulator, name), "-o", object]);
    objects.push(object);
  }
}, 300_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

describe("fragments", () => {
  it("are those of CUTLASS's mma and copy traits", { timeout: 120_000 }, async () => {
    expect(await check("fragments_test")).toBe("31168 elements, 0 differ");
  });
});

describe("emulated instructions", () => {
  it.each([800, 750])("mma and ldmatrix at NF_ARCH=%i", { timeout: 300_000 }, async (arch) => {
    expect(await check("mma_test", "-DNF_EMULATE", `-DNF_ARCH=${arch}`)).toBe("0 failures");
  });

  it("wgmma: descriptors, the matrix products, misuse", { timeout: 600_000 }, async () => {
    expect(await check("wgmma_test", "-DNF_EMULATE", "-DNF_ARCH=900")).toMatch(/ 0 failures$/);
  });
});

const instructions = `
#include "mma.cuh"
NF_KERNEL(all, 32, 1, 1, 1) {
  unsigned a[4], b[2], one[1];
  float d[4] = {};
  int e[4] = {};
  const char* row = nf::shared<char>() + nf::lane() * 16;
  nf::ldmatrix_x4(a, row), nf::ldmatrix_x2_trans(b, row), nf::ldmatrix_x1(one, row);
  nf::mma_f16(d, a, b);
#if NF_ARCH >= 800
  nf::mma_bf16(d, a, b);
  a[0] = nf::to_tf32(nf::bits<float>(one[0]));
  nf::mma_tf32(d, a, b);
#endif
  nf::mma_s8(e, a, b), nf::mma_u8s8(e, a, b), nf::mma_s8u8(e, a, b), nf::mma_u8(e, a, b);
  for (int i = 0; i < 4; ++i) ((float*)L->buffers[0])[nf::tid() * 4 + i] = d[i] + (float)e[i];
}
`;

const product = (config: string, a: string, b: string) => `
NF_KERNEL(${config}_${a}_${b}, nf::${config}::threads, 1, 3, 25) {
  const Epilogue epilogue{(unsigned short*)L->buffers[2], (nf::Index)L->dims[11]};
  nf::gemm<nf::${config}, nf::Major::${a}, nf::Major::${b}>(nf::gemm_args(L->dims, L->buffers[0], L->buffers[1]), nf::NoPro{}, epilogue);
}
`;
const copied = (config: string, a: string, b: string) => `
NF_KERNEL(${config}_${a}_${b}, nf::${config}::threads, 1, 3, 25) {
  const Epilogue epilogue{(unsigned short*)L->buffers[2], (nf::Index)L->dims[11]};
  nf::gemm_tma<nf::${config}, nf::Major::${a}, nf::Major::${b}>(nf::gemm_args(L->dims, nullptr, nullptr), L->buffers[0], L->buffers[1], epilogue);
}
`;
const convolution = (config: string) => `
NF_KERNEL(conv_${config}, nf::${config}::threads, 1, 3, 27) {
  const NfInt* d = L->dims;
  const Pixels epilogue{(unsigned short*)L->buffers[2], (nf::Index)d[20], (nf::Index)d[21], (nf::Index)d[22]};
  nf::conv<nf::${config}, nf::Major::MN>(nf::conv_args(d, L->buffers[0], L->buffers[1]), nf::NoPro{}, epilogue);
}
`;
const products = `
#include "conv.cuh"
#include "gemm_tma.cuh"
struct Epilogue {
  unsigned short* c;
  nf::Index pitch;
  typedef unsigned short* Row;
  NF_DEVICE Row row(nf::Index, nf::Index m) const { return c + (long long)m * pitch; }
  template <int V> NF_DEVICE void store(const float (&acc)[V], Row r, nf::Index n) const {
    nf::Vec<unsigned short, V> out;
    NF_UNROLL for (int i = 0; i < V; ++i) out[i] = nf::encode_float16(acc[i]);
    nf::st<unsigned short, V>(r + n, out);
  }
};
struct Pixels : Epilogue {
  nf::Index n, h, w;
  NF_DEVICE Pixels(unsigned short* y, nf::Index n, nf::Index h, nf::Index w) : Epilogue{y, w}, n(n), h(h), w(w) {}
  NF_DEVICE Row row(nf::Index image, nf::Index oh, nf::Index ow) const { return c + image * n + oh * h + ow * w; }
};
${["64x64", "64x128", "128x128", "128x256"].map((tile) => product(`wgmma_f16_${tile}`, "K", "MN") + product(`wgmma_bf16_${tile}`, "MN", "K")).join("")}
${["64x64", "128x128", "128x256"].map((tile) => convolution(`wgmma_f16_${tile}`)).join("")}
${["64x128", "128x128", "128x256"].map((tile) => copied(`tma_f16_${tile}`, "K", "MN") + copied(`tma_bf16_${tile}`, "MN", "K")).join("")}
`;

const nvcc = await run("nvcc", ["--version"]).then(
  () => true,
  () => false,
);

describe.skipIf(!nvcc)("with nvcc", () => {
  async function resources(name: string, source: string, arch: string, ...flags: string[]): Promise<string> {
    const file = join(folder, `${name}.cu`);
    await writeFile(file, source);
    const common = ["-std=c++20", "-O3", "--fmad=false", "-cubin", "-Xptxas", "-v", ...includes];
    const { stderr } = await run("nvcc", [...common, `-arch=${arch}`, ...flags, "-o", join(folder, "out.cubin"), file]);
    return stderr;
  }
  const spills = (report: string) => [...report.matchAll(/(\d+) bytes spill stores/g)].map((match) => Number(match[1]));

  it.each(["75", "80", "89", "90", "100", "120"])("mma assembles for sm_%s", { timeout: 120_000 }, async (sm) => {
    const report = await resources("mma", instructions, `sm_${sm}`, `-DNF_ARCH=${sm}0`);
    expect(spills(report)).toEqual([0]);
  });

  it("wgmma assembles for sm_90a, without spills and without being serialized", { timeout: 300_000 }, async () => {
    const report = await resources("wgmma", products, "sm_90a", "-DNF_ARCH=900", "-DNF_SM90A");
    expect(spills(report)).toEqual(Array(17).fill(0));
    expect(report).not.toMatch(/serializ/i);
  });
});
