/**
 * C++ files to one image: compiled in parallel, linked without libraries, the same bytes wherever and however often it is done.
 * Names inside the temporary folder are relative and include paths are mapped, so no path of this machine reaches the image.
 */
import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { internalError, NimforgeError } from "@nimforge/tensor";
import { FileCache } from "./cache.js";
import { runChild } from "./child.js";
import { type Compiler, detectCompiler, installHint } from "./compiler.js";
import { linkFlags } from "./levels.js";

export interface SourceFile {
  /** Plain file name, `[A-Za-z0-9._-]`. */
  name: string;
  text: string;
}

export interface ImageOptions {
  /** Translation units; how the code is shared out among them is the caller's, so that it never depends on the machine. */
  files: readonly SourceFile[];
  /** Folders for `#include "…"`; every file in them is part of the cache key. */
  includeDirs?: readonly string[];
  /** Flags of each compilation (compileFlags). */
  flags: readonly string[];
  signal?: AbortSignal | undefined;
  /** Where results are kept; see cachePlace. */
  cacheDir?: string | undefined;
  /** Defaults to detectCompiler(). */
  compiler?: Compiler;
}

/** memcpy and its like: GCC may call them in freestanding code too. Dropped from the image when nothing does. */
const supportFile = fileURLToPath(new URL("../../src/toolchain/freestanding.c", import.meta.url));

/** Changes when this file changes what it makes of the same input. */
const cacheVersion = 1;

/**
 * Compiles and links one image.
 * @returns the ELF shared object's bytes
 * @throws NimforgeError toolchain without a compiler; internal when generated code does not compile, naming the kernel; limit when the
 * compiler is killed; io when a cache folder that the user named cannot be written; the signal's reason when it fires
 */
export async function compileImage(options: ImageOptions): Promise<Uint8Array> {
  const { signal } = options;
  const compiler = options.compiler ?? (await detectCompiler());
  const support = { name: "freestanding.c", text: await readFile(supportFile, "utf8") };
  const files = [...options.files, support];
  checkNames(files);
  const includeDirs = options.includeDirs ?? [];
  const cache = new FileCache("images", options.cacheDir);
  const key = await imageKey(compiler, files, includeDirs, options.flags);
  const cached = await cache.read(key);
  if (cached) return cached;

  signal?.throwIfAborted();
  const folder = await mkdtemp(join(tmpdir(), "nimforge-"));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", removeFolder);
  try {
    await Promise.all(files.map(({ name, text }) => writeFile(join(folder, name), text)));
    const includes = includeDirs.flatMap((dir, k) => [`-I${dir}`, `-ffile-prefix-map=${dir}=include${k}`]);
    const objects = files.map(({ name }) => `${name}.o`);
    await forEachParallel(files, signal, async (file, both) => {
      const language = file === support ? ["-x", "c", "-std=c11"] : ["-x", "c++"];
      const flags = file === support ? options.flags.filter((flag) => !cxxOnly.test(flag)) : options.flags;
      const result = await run(
        compiler,
        [...flags, ...includes, ...language, "-c", file.name, "-o", `${file.name}.o`],
        folder,
        both,
      );
      if (result !== undefined) throw compileError(file, result);
    });
    const result = await run(compiler, [...linkFlags, ...objects, "-o", "image.so"], folder, signal);
    if (result !== undefined) throw internalError(`the generated code does not link: ${firstLines(result)}`);
    const image = new Uint8Array(await readFile(join(folder, "image.so")));
    await cache.write(key, image);
    return image;
  } finally {
    process.off("exit", removeFolder);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Flags that a C file does not take. */
const cxxOnly = /^-(std=c\+\+|fno-rtti|fno-threadsafe-statics)/;

function checkNames(files: readonly SourceFile[]): void {
  const seen = new Set<string>();
  for (const { name } of files) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) || seen.has(name))
      throw internalError(`bad source file name ${JSON.stringify(name)}`);
    seen.add(name);
  }
}

async function imageKey(
  compiler: Compiler,
  files: readonly SourceFile[],
  includeDirs: readonly string[],
  flags: readonly string[],
): Promise<string> {
  const hash = createHash("sha256");
  const part = (text: string) => hash.update(`${Buffer.byteLength(text)}:`).update(text);
  for (const text of [
    String(cacheVersion),
    compiler.kind,
    compiler.version,
    String(flags.length),
    ...flags,
    ...linkFlags,
  ])
    part(text);
  for (const { name, text } of files) {
    part(name);
    part(text);
  }
  for (const dir of includeDirs) part(await folderDigest(dir));
  return hash.digest("hex");
}

/** Digest of every file below a folder, by relative name. */
async function folderDigest(dir: string): Promise<string> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const hash = createHash("sha256");
  for (const path of paths) {
    const bytes = await readFile(path);
    hash.update(`${path.slice(dir.length)}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest("hex");
}

/** Runs up to one compiler per core; the first failure stops the others. */
async function forEachParallel<T>(
  items: readonly T[],
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failure = new AbortController();
  const both = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++] as T, both);
  };
  const workers = Array.from({ length: Math.min(items.length, availableParallelism()) }, worker);
  try {
    await Promise.all(workers);
  } catch (error) {
    failure.abort(error);
    await Promise.allSettled(workers);
    throw signal?.aborted ? signal.reason : error;
  }
}

/** @returns the diagnostics of a failed run, or undefined */
async function run(
  compiler: Compiler,
  args: readonly string[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const [program, ...leading] = compiler.command as [string, ...string[]];
  const result = await runChild(program, [...leading, ...args], { cwd: folder, signal }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.syscall === undefined) throw error;
      throw new NimforgeError("toolchain", "no-compiler", `cannot start the C++ compiler: ${error.message}`, {
        fix: installHint(),
        cause: error,
      });
    },
  );
  if (result.status === 0) return undefined;
  if (result.signal === "SIGKILL" || /Killed signal terminated program/.test(result.stderr))
    throw new NimforgeError("limit", "compiler-killed", "the C++ compiler was killed, most likely for lack of memory", {
      fix: "use a machine with more memory, or fewer cores at once (taskset)",
    });
  return result.stderr || `exit status ${result.status ?? result.signal}`;
}

const firstLines = (text: string): string => text.trim().split("\n").slice(0, 12).join("\n").slice(0, 2000);

function compileError(file: SourceFile, diagnostics: string): NimforgeError {
  const escaped = file.name.replace(/[.]/g, "\\.");
  const line = new RegExp(`^${escaped}:(\\d+):`, "m").exec(diagnostics)?.[1];
  const kernel = line === undefined ? undefined : kernelAt(file.text, Number(line));
  return internalError(
    `generated code does not compile${kernel ? ` (kernel ${kernel})` : ""}: ${firstLines(diagnostics)}`,
    { found: file.name },
  );
}

/** The kernel whose definition begins last at or before a line. */
function kernelAt(text: string, line: number): string | undefined {
  const before = text.split("\n").slice(0, line).join("\n");
  return [...before.matchAll(/\bint\s+(\w+)\s*\(const NfLaunch\b/g)].pop()?.[1];
}
