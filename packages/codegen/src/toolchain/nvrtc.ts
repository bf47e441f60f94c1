/**
 * NVRTC where there is no nvcc: libnvrtc is a library, so a small program (nvrtc.cpp) calls it. It is compiled with the C++ compiler
 * once and kept in the cache; as a process of its own it can be killed, and it does not load a large library into this one.
 */
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { internalError } from "@nimforge/tensor";
import { FileCache } from "./cache.js";
import { type Environment, runChild } from "./child.js";
import { detectCompiler, installHint } from "./compiler.js";
import { digestOf, firstLines } from "./sources.js";
import { runTool, withFolder } from "./tool.js";

export interface Nvrtc {
  readonly kind: "nvrtc";
  /** Path of libnvrtc. */
  readonly library: string;
  /** As `13.0`; part of a cache key. */
  readonly version: string;
  /** Size of the library, which tells patch releases apart; part of a cache key. */
  readonly bytes: number;
}

/** A tool, or what was wrong with each candidate. */
export type Found<T> = { found: T } | { faults: string[] };

const helperFile = fileURLToPath(new URL("../../src/toolchain/nvrtc.cpp", import.meta.url));
const preludeFile = fileURLToPath(new URL("../../src/toolchain/nvrtc_prelude.cuh", import.meta.url));
const helperFlags = ["-std=c++20", "-O1", "-ldl"];

/** What is included before each file. */
export const nvrtcPrelude = (): Promise<string> => readFile(preludeFile, "utf8");

/** Puts the helper program into a folder. @throws NimforgeError toolchain without a C++ compiler */
export async function placeHelper(folder: string, signal?: AbortSignal, cacheDir?: string): Promise<string> {
  const compiler = await detectCompiler();
  const source = await readFile(helperFile, "utf8");
  const cache = new FileCache("images", cacheDir);
  const key = digestOf(["nvrtc-helper", compiler.kind, compiler.version, ...helperFlags, source]);
  const path = join(folder, "nvrtc");
  let program = await cache.read(key);
  if (!program) {
    await writeFile(join(folder, "nvrtc.cpp"), source);
    const tool = { command: compiler.command, name: "the C++ compiler", hint: installHint() };
    const result = await runTool(tool, ["nvrtc.cpp", "-o", "nvrtc", ...helperFlags], folder, signal);
    if (result.status !== 0)
      throw internalError(`the program that calls NVRTC does not compile: ${firstLines(result.stderr)}`);
    program = await readFile(path);
    await cache.write(key, program);
  }
  await writeFile(path, program, { mode: 0o700 });
  return path;
}

/** Where the system keeps toolkits and libraries. */
export const systemPlaces = {
  toolkits: ["/usr/local/cuda"],
  libraries: ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"],
};
export type Places = typeof systemPlaces;

/** Toolkits that the user named. */
export const namedToolkits = (env: Environment): string[] =>
  [env.CUDA_HOME, env.CUDA_PATH].filter((root) => root !== undefined && root !== "") as string[];

const searches = new Map<string, Promise<Found<Nvrtc>>>();

/** libnvrtc; looked for once for each environment in a process. */
export function findNvrtc(env: Environment = process.env, places: Places = systemPlaces): Promise<Found<Nvrtc>> {
  const inToolkit = (root: string) => [join(root, "lib64"), join(root, "lib")];
  const folders = [
    ...namedToolkits(env).flatMap(inToolkit),
    ...(env.LD_LIBRARY_PATH ?? "").split(delimiter).filter((dir) => dir !== ""),
    ...places.toolkits.flatMap(inToolkit),
    ...places.libraries,
  ];
  const key = folders.join("\0");
  let search = searches.get(key);
  if (!search) searches.set(key, (search = searchNvrtc([...new Set(folders)])));
  return search;
}

async function searchNvrtc(dirs: readonly string[]): Promise<Found<Nvrtc>> {
  const faults: string[] = [];
  for (const dir of dirs) {
    const names = (await readdir(dir).catch(() => [])).filter((name) => /^libnvrtc\.so(\.\d+)*$/.test(name));
    // The newest major version first; then the name that the loader itself would take.
    names.sort(
      (a, b) => Number(/so\.(\d+)/.exec(b)?.[1] ?? 0) - Number(/so\.(\d+)/.exec(a)?.[1] ?? 0) || a.length - b.length,
    );
    for (const name of names) {
      const library = join(dir, name);
      const probe = await probeNvrtc(library);
      if (typeof probe !== "string") return { found: probe };
      faults.push(`${library}: ${probe}`);
    }
  }
  return { faults: faults.length > 0 ? faults : ["libnvrtc.so: not found"] };
}

async function probeNvrtc(library: string): Promise<Nvrtc | string> {
  try {
    return await withFolder(async (folder) => {
      const { status, stdout, stderr } = await runChild(await placeHelper(folder), ["--version", library]);
      const version = stdout.trim();
      if (status !== 0 || version === "") return stderr.trim().split("\n")[0] || `exit status ${status}`;
      if (Number.parseInt(version, 10) < 12) return `version ${version} is too old`;
      return { kind: "nvrtc", library, version, bytes: (await stat(library)).size };
    });
  } catch (error) {
    return (error as Error).message;
  }
}
