import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileCubins, detectCompiler, detectCuda, type Nvrtc } from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "nvrtc-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A machine where toolkits are only in the folder. */
const places = { toolkits: [], libraries: [] };
const path = join(folder, "bin");
const environment = (root: string, extra = {}) => ({ CUDA_HOME: join(folder, root), PATH: path, ...extra });

/**
 * A library with NVRTC's interface. Its "binary code" is what it was given: options, name and source; the log is ptxas's for the kernels.
 */
const stub = `
#include <cstdlib>
#include <cstring>
#include <string>
namespace {
struct Program { std::string name, source, log, output; };
}
#define API extern "C" __attribute__((visibility("default")))
API int nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 1; return 0; }
API const char* nvrtcGetErrorString(int code) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "other"; }
API int nvrtcCreateProgram(void** p, const char* source, const char* name, int, const char* const*, const char* const*) {
  *p = new Program{name, source, {}, {}};
  return 0;
}
API int nvrtcCompileProgram(void* program, int count, const char* const* options) {
  auto& p = *static_cast<Program*>(program);
  for (int i = 0; i < count; ++i) p.output += std::string(options[i]) + "\\n";
  p.output += p.name + "\\n" + p.source;
  if (p.source.find("missing") != std::string::npos) {
    p.log = p.name + "(2): error: identifier \\"missing\\" is undefined\\n";
    return 6;
  }
  p.log = "ptxas info    : 0 bytes gmem\\nptxas info    : Compiling entry function 'k' for 'sm_80'\\nptxas info    : Function properties for k\\n"
          "    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\\nptxas info    : Used 42 registers, used 1 barriers, 1024 bytes smem, 360 bytes cmem[0]\\n";
  return 0;
}
API int nvrtcGetProgramLogSize(void* p, size_t* n) { *n = static_cast<Program*>(p)->log.size() + 1; return 0; }
API int nvrtcGetProgramLog(void* p, char* to) { std::strcpy(to, static_cast<Program*>(p)->log.c_str()); return 0; }
API int nvrtcGetPTXSize(void* p, size_t* n) { *n = static_cast<Program*>(p)->output.size() + 5; return 0; }
API int nvrtcGetPTX(void* p, char* to) { std::strcpy(to, ("PTX\\n" + static_cast<Program*>(p)->output).c_str()); return 0; }
API int nvrtcGetCUBINSize(void* p, size_t* n) { *n = static_cast<Program*>(p)->output.size() + 6; return 0; }
API int nvrtcGetCUBIN(void* p, char* to) { std::memcpy(to, ("CUBIN\\n" + static_cast<Program*>(p)->output).c_str(), static_cast<Program*>(p)->output.size() + 6); return 0; }
`;

beforeAll(async () => {
  mkdirSync(path);
  const { command } = await detectCompiler();
  const [program, ...leading] = command as [string, ...string[]];
  for (const root of ["toolkit", "broken", "old"]) mkdirSync(join(folder, root, "lib64"), { recursive: true });
  const build = (name: string, source: string) => {
    writeFileSync(join(folder, "stub.cpp"), source);
    execFileSync(program, [...leading, "-shared", "-fPIC", join(folder, "stub.cpp"), "-o", join(folder, name)]);
  };
  build("toolkit/lib64/libnvrtc.so.13", stub);
  build("old/lib64/libnvrtc.so", stub.replace("*major = 13", "*major = 11"));
  build("broken/lib64/libnvrtc.so", "int nothing;");
}, 60_000);

describe("detectCuda", () => {
  it("takes NVRTC where there is no nvcc", async () => {
    const toolkit = await detectCuda(environment("toolkit"), places);
    expect(toolkit).toMatchObject({
      kind: "nvrtc",
      library: join(folder, "toolkit/lib64/libnvrtc.so.13"),
      version: "13.1",
    });
    expect(
      await detectCuda({ PATH: path, LD_LIBRARY_PATH: `:${join(folder, "toolkit/lib64")}` }, places),
    ).toMatchObject({ kind: "nvrtc" });
  });

  it("says what it tried and what to install where there is neither", async () => {
    await expect(detectCuda({ PATH: path }, places)).rejects.toMatchObject({
      code: "no-cuda-toolkit",
      exitCode: 9,
      found: expect.stringMatching(/nvcc: not found.*libnvrtc\.so: not found/),
      fix: expect.stringContaining("CUDA_HOME"),
    });
    await expect(detectCuda(environment("old"), places)).rejects.toMatchObject({
      found: expect.stringContaining("version 11.1 is too old"),
    });
    await expect(detectCuda(environment("broken"), places)).rejects.toMatchObject({
      found: expect.stringContaining("has no nvrtcVersion"),
    });
  });

  it("prefers $CUDA_HOME's nvcc, passes over an old one, and names what is wrong with one", async () => {
    const fake = (root: string, body: string) => {
      mkdirSync(join(folder, root, "bin"), { recursive: true });
      for (const [name, text] of [
        ["nvcc", body],
        ["ptxas", "exit 1"],
      ] as const) {
        const file = join(folder, root, "bin", name);
        writeFileSync(file, `#!/bin/sh\n${text}\n`);
        chmodSync(file, 0o755);
      }
    };
    const version = (number: string, dry: string) =>
      `case "$1" in --version) echo "Cuda compilation tools, release ${number}, V${number}.7";; *) ${dry} ;; esac`;
    fake("eleven", version("11.8", "exit 1"));
    fake("thirteen", version("13.2", `echo "#$ _HERE_=${join(folder, "thirteen/bin")}" >&2`));
    fake(
      "alone",
      version(
        "12.9",
        "echo 'gcc: No such file or directory' >&2; echo 'nvcc fatal   : Failed to preprocess host compiler properties.' >&2; exit 1",
      ),
    );
    expect(await detectCuda(environment("thirteen"), places)).toEqual({
      kind: "nvcc",
      command: join(folder, "thirteen/bin/nvcc"),
      ptxas: join(folder, "thirteen/bin/ptxas"),
      version: "13.2.7",
    });
    expect(await detectCuda({ ...environment("eleven"), CUDA_PATH: join(folder, "thirteen") }, places)).toMatchObject({
      version: "13.2.7",
    });
    await expect(detectCuda(environment("eleven"), places)).rejects.toMatchObject({
      found: expect.stringContaining("version 11.8.7 is too old"),
    });
    await expect(detectCuda(environment("alone"), places)).rejects.toMatchObject({
      found: expect.stringContaining("no host C++ compiler"),
    });
  });
});

describe("compileCubins with NVRTC", () => {
  const compile = async (text: string, options: { cacheDir?: string; target?: string } = {}) => {
    const toolkit = (await detectCuda(environment("toolkit"), places)) as Nvrtc;
    const include = join(folder, "include");
    mkdirSync(include, { recursive: true });
    writeFileSync(join(include, "h.cuh"), "#if NF_ARCH >= 800\n#endif\n");
    const files = [{ name: "a.cu", text }];
    return compileCubins({
      files,
      includeDirs: [include],
      target: "sm_86",
      ptx: true,
      cacheDir: mkdtempSync(join(folder, "cache-")),
      toolkit,
      ...options,
    });
  };

  it("passes the flags, the file and its headers, and gives cubin, PTX and resources", async () => {
    const [image] = await compile('#include "h.cuh"\nint k;\n');
    const cubin = Buffer.from(image!.cubin).toString();
    expect(cubin).toMatch(/^CUBIN\n--gpu-architecture=sm_86\n/);
    for (const flag of ["--fmad=false", "--std=c++20", "--ptxas-options=-v", "-DNF_ARCH=800", "-Iinclude0"])
      expect(cubin).toContain(`\n${flag}\n`);
    expect(cubin).toMatch(/\na\.cu\n#include "h\.cuh"\nint k;\n$/);
    const ptx = Buffer.from(image!.ptx!).toString();
    expect(ptx).toMatch(/^PTX\n--gpu-architecture=compute_80\n/);
    expect(image!.ptxTarget).toBe("compute_80");
    expect(ptx.endsWith("int k;\n")).toBe(true);
    expect([...image!.resources]).toEqual([
      ["k", { registers: 42, sharedStatic: 1024, stack: 8, spillStores: 12, spillLoads: 16 }],
    ]);
  });

  it("keeps results", async () => {
    const cacheDir = join(folder, "kept");
    const first = await compile("int k;", { cacheDir });
    const library = join(folder, "toolkit/lib64/libnvrtc.so.13");
    const bytes = readFileSync(library);
    rmSync(library);
    try {
      expect(await compile("int k;", { cacheDir })).toEqual(first);
      await expect(compile("int other;", { cacheDir })).rejects.toThrow(/libnvrtc/);
    } finally {
      writeFileSync(library, bytes);
    }
  });

  it("names the kernel of a fault", async () => {
    await expect(compile("NF_KERNEL(bad, 128, 1, 2, 1) {\n  missing;\n}\n")).rejects.toMatchObject({
      kind: "internal",
      message: expect.stringMatching(/kernel bad\).*missing.*NVRTC_ERROR_COMPILATION/s),
    });
  });
});
