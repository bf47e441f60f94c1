/**
 * CUDA files to binary code for one compute capability, on a machine without a GPU.
 *
 * Two steps: nvcc makes PTX, which several capabilities may share (architecture.ts), ptxas makes the cubin of one. Each file becomes a cubin
 * of its own: linking them would cost nvlink's time and the optimizations across functions, and an engine holds any number of images.
 * Every step is kept by what made it. The same input gives the same bytes anywhere: names are relative to a temporary folder, and the
 * one mark that nvcc derives from the folder (in names of anonymous namespaces and static variables) is overwritten.
 */
import { readFile, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { NimforgeError } from "@nimforge/tensor";
import { type Capability, capabilityOf } from "../targets/cuda/capabilities.js";
import { ptxArchitecture } from "./architecture.js";
import { FileCache } from "./cache.js";
import { detectCompiler } from "./compiler.js";
import { type Defines, defineFlags } from "./defines.js";
import { type CudaToolkit, cudaInstallHint, detectCuda, hostCompilerFault, type Nvcc } from "./nvcc.js";
import { type Nvrtc, nvrtcPrelude, placeHelper } from "./nvrtc.js";
import { type KernelResources, parseResources } from "./resources.js";
import { checkNames, compileError, digestOf, type SourceFile, withHeaders } from "./sources.js";
import { runTool, together, withFolder } from "./tool.js";

export interface CubinOptions {
  /** Translation units, `*.cu`; how kernels are shared out among them is the caller's, so that it never depends on the machine. */
  files: readonly SourceFile[];
  /** Folders for `#include "…"`; the headers that the files reach are part of the cache key. */
  includeDirs?: readonly string[];
  /** `sm_80`, `sm_90a`, … */
  target: string;
  /** Macros beyond NF_ARCH and NF_SM90A and its like. */
  defines?: Defines;
  /** Whether the PTX is wanted too. It costs nothing: the cubin is made of it. */
  ptx?: boolean;
  signal?: AbortSignal | undefined;
  /** Where results are kept; see cachePlace. */
  cacheDir?: string | undefined;
  /** Defaults to detectCuda(). */
  toolkit?: CudaToolkit;
}

/** The binary code of one file. */
export interface CubinImage {
  readonly cubin: Uint8Array;
  /** The same kernels as PTX text for the architecture `ptxTarget` (`compute_80`): for any device as new as it or newer. */
  readonly ptx?: Uint8Array;
  readonly ptxTarget?: string;
  /** By kernel, in the order of their names. */
  readonly resources: ReadonlyMap<string, KernelResources>;
}

/** Changes when this file changes what it makes of the same input. */
const cacheVersion = 1;

/** Numbers must match the interpreter: no contraction to fma, no flush to zero, exact division and square roots. */
const common = ["--std=c++20", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"];

/** Flags of each compilation for a target, the same for nvcc and NVRTC. */
export const cubinFlags = (target: Capability, defines: Defines = {}): string[] => [
  ...common,
  ...defineFlags(target, defines),
];

/** What is the same for all files of a call. */
interface Build {
  readonly toolkit: CudaToolkit;
  readonly target: Capability;
  readonly defines: Defines;
  readonly includeDirs: readonly string[];
  /** NVRTC's only. */
  readonly prelude: string;
  readonly cache: FileCache;
  readonly cacheDir: string | undefined;
}

/**
 * Compiles each file to a cubin; files are compiled at once, as many as there are cores over all calls of this process, so callers start
 * one call per capability and need no limit of their own.
 * @returns one image per file, in the order of the files
 * @throws NimforgeError toolchain without a compiler, or one too old for the target; internal when generated code does not compile, naming
 * the kernel; limit when the compiler is killed; io when a cache folder that the user named cannot be written; the signal's reason when it fires
 */
export async function compileCubins(options: CubinOptions): Promise<CubinImage[]> {
  const { files, includeDirs = [], signal, cacheDir } = options;
  signal?.throwIfAborted();
  checkNames(files);
  const target = capabilityOf(options.target);
  const toolkit = options.toolkit ?? (await detectCuda());
  const build: Build = {
    toolkit,
    target,
    defines: options.defines ?? {},
    includeDirs,
    prelude: toolkit.kind === "nvrtc" ? await nvrtcPrelude() : "",
    cache: new FileCache("images", cacheDir),
    cacheDir,
  };
  return together(files, signal, async (file, both) => {
    const unit = await unitOf(build, file);
    const image = await cubinOf(build, unit, both);
    if (!options.ptx) return image;
    return { ...image, ptx: new TextEncoder().encode(await ptxOf(build, unit, both)), ptxTarget: unit.through.ptx };
  });
}

/** A file and everything that decides its PTX. */
interface Unit {
  readonly file: SourceFile;
  /** The capability that its PTX is made for. */
  readonly through: Capability;
  readonly flags: readonly string[];
  readonly key: string;
}

async function unitOf(build: Build, file: SourceFile): Promise<Unit> {
  const { toolkit, target, defines, prelude } = build;
  const texts = await withHeaders(file.text, build.includeDirs);
  const through = ptxArchitecture(
    target,
    texts.map(([, text]) => text),
  );
  const flags = cubinFlags(through, defines);
  const key = digestOf([
    String(cacheVersion),
    toolkit.kind,
    toolkit.version,
    toolkit.kind === "nvrtc" ? String(toolkit.bytes) : "",
    through.ptx,
    String(flags.length),
    ...flags,
    prelude,
    file.name,
    ...texts.flat(),
  ]);
  return { file, through, flags, key };
}

async function cubinOf(build: Build, unit: Unit, signal: AbortSignal): Promise<CubinImage> {
  const { toolkit, target, cache } = build;
  const key = digestOf([unit.key, "cubin", target.name]);
  const cached = await cache.read(key);
  if (cached) return unpack(cached);
  const image = await (toolkit.kind === "nvcc"
    ? assemble(build, toolkit, unit, await ptxOf(build, unit, signal), signal)
    : runNvrtc(build, toolkit, unit, target.name, signal).then(({ output, log }) => ({
        cubin: output,
        resources: parseResources(log),
      })));
  await cache.write(key, pack(image));
  return image;
}

/** PTX in the making: capabilities that share it and are compiled at the same time wait for one compiler. */
const making = new Map<string, Promise<string>>();

async function ptxOf(build: Build, unit: Unit, signal: AbortSignal): Promise<string> {
  const key = digestOf([unit.key, "ptx"]);
  const place = `${build.cacheDir ?? ""}\0${key}`;
  for (;;) {
    const other = making.get(place);
    if (!other) break;
    const text = await other.catch(() => undefined);
    if (text !== undefined) return text;
    // The other one failed or was cancelled; this one finds out for itself.
    signal.throwIfAborted();
  }
  const made = makePtx(build, unit, key, signal);
  making.set(place, made);
  try {
    return await made;
  } finally {
    making.delete(place);
  }
}

async function makePtx(build: Build, unit: Unit, key: string, signal: AbortSignal): Promise<string> {
  const { toolkit, cache } = build;
  const cached = await cache.read(key);
  if (cached) return new TextDecoder().decode(cached);
  const text = withoutFolderMark(
    toolkit.kind === "nvcc"
      ? await runNvcc(build, toolkit, unit, signal)
      : new TextDecoder().decode((await runNvrtc(build, toolkit, unit, unit.through.ptx, signal)).output),
  );
  await cache.write(key, new TextEncoder().encode(text));
  return text;
}

/** `_GLOBAL__N__8a487d3a_4_b_cu`: the digits come from the file's absolute path. There is one such number in a file, so names stay apart. */
const withoutFolderMark = (ptx: string): string =>
  ptx.replace(/(_GLOBAL__N__|_INTERNAL_)[0-9a-f]{8}(?=_\d+_)/g, "$100000000");

/** Writes a file with its headers in reach of relative names; gives the include flags. */
async function placeFile(folder: string, file: SourceFile, includeDirs: readonly string[]): Promise<string[]> {
  await writeFile(join(folder, file.name), file.text);
  await Promise.all(includeDirs.map((dir, k) => symlink(resolve(dir), join(folder, `include${k}`), "dir")));
  return includeDirs.map((_, k) => `-Iinclude${k}`);
}

function runNvcc(build: Build, nvcc: Nvcc, { file, flags, through }: Unit, signal: AbortSignal): Promise<string> {
  return withFolder(async (folder) => {
    const includes = await placeFile(folder, file, build.includeDirs);
    const args = ["-ptx", `-arch=${through.ptx}`, ...(await hostCompiler()), ...flags, "-O3", ...includes];
    const tool = { command: [nvcc.command], name: "nvcc", hint: cudaInstallHint() };
    const result = await runTool(tool, [...args, "-x", "cu", file.name, "-o", "kernels.ptx"], folder, signal);
    if (result.status !== 0) throw fault(build, file, `${result.stderr}${result.stdout}`);
    return readFile(join(folder, "kernels.ptx"), "utf8");
  });
}

/** nvcc looks for `gcc`; where $CXX names one program, or only `c++` or `clang++` exists, that one preprocesses. */
async function hostCompiler(): Promise<string[]> {
  if (process.env.NVCC_CCBIN) return [];
  const { command } = await detectCompiler();
  return command.length === 1 ? ["-ccbin", command[0] as string, "-allow-unsupported-compiler"] : [];
}

function assemble(build: Build, nvcc: Nvcc, { file }: Unit, ptx: string, signal: AbortSignal): Promise<CubinImage> {
  return withFolder(async (folder) => {
    await writeFile(join(folder, "kernels.ptx"), ptx);
    const args = [`-arch=${build.target.name}`, "-O3", "--fmad=false", "-v", "kernels.ptx", "-o", "kernels.cubin"];
    const tool = { command: [nvcc.ptxas], name: "ptxas", hint: cudaInstallHint() };
    const result = await runTool(tool, args, folder, signal);
    if (result.status !== 0) throw fault(build, file, result.stderr);
    const cubin = new Uint8Array(await readFile(join(folder, "kernels.cubin")));
    return { cubin, resources: parseResources(result.stderr) };
  });
}

const preludeName = "nvrtc_prelude.cuh";

function runNvrtc(
  build: Build,
  nvrtc: Nvrtc,
  { file, flags }: Unit,
  architecture: string,
  signal: AbortSignal,
): Promise<{ output: Uint8Array; log: string }> {
  return withFolder(async (folder) => {
    const helper = await placeHelper(folder, signal, build.cacheDir);
    const includes = await placeFile(folder, file, build.includeDirs);
    await writeFile(join(folder, preludeName), build.prelude);
    const own = ["-default-device", "--device-int128", `--pre-include=${preludeName}`];
    const real = architecture.startsWith("sm_") ? ["--ptxas-options=-v"] : [];
    const args = ["kernels.out", nvrtc.library, file.name, `--gpu-architecture=${architecture}`, ...own, ...real];
    const tool = { command: [helper], name: "the program that calls NVRTC", hint: cudaInstallHint() };
    const result = await runTool(tool, [...args, ...flags, ...includes], folder, signal);
    if (result.status !== 0) throw fault(build, file, result.stderr);
    return { output: new Uint8Array(await readFile(join(folder, "kernels.out"))), log: result.stderr };
  });
}

/** Says whether the code or the toolkit is at fault. */
function fault({ toolkit, target }: Build, file: SourceFile, diagnostics: string): NimforgeError {
  const host = hostCompilerFault(diagnostics);
  if (host)
    return new NimforgeError("toolchain", "no-host-compiler", host, {
      fix: "install g++, or name another compiler in CXX",
    });
  if (
    /Unsupported gpu architecture|is not defined for option 'gpu-name'|invalid value for --gpu-architecture/.test(
      diagnostics,
    )
  )
    return new NimforgeError("toolchain", "cuda-toolkit-too-old", `the CUDA compiler does not know ${target.name}`, {
      expected: `a toolkit that compiles for ${target.name}`,
      found: `${toolkit.kind} ${toolkit.version}`,
      fix: cudaInstallHint(),
    });
  return compileError(file, diagnostics);
}

/** One cached file: a line of JSON with the resources, then the cubin. */
function pack({ cubin, resources }: CubinImage): Uint8Array {
  return Buffer.concat([Buffer.from(`${JSON.stringify([...resources])}\n`), cubin]);
}

function unpack(bytes: Uint8Array): CubinImage {
  const end = bytes.indexOf(10);
  const resources = JSON.parse(Buffer.from(bytes.subarray(0, end)).toString()) as [string, KernelResources][];
  return { cubin: new Uint8Array(bytes.subarray(end + 1)), resources: new Map(resources) };
}
