/**
 * C++ files to one image: compiled in parallel, linked without libraries, the same bytes wherever and however often it is done.
 * Names inside the temporary folder are relative and include paths are mapped, so no path of this machine reaches the image.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { internalError } from "@nimforge/tensor";
import { FileCache } from "./cache.js";
import { type Compiler, detectCompiler, installHint } from "./compiler.js";
import { linkFlags } from "./levels.js";
import { checkNames, compileError, digestOf, firstLines, type SourceFile, withHeaders } from "./sources.js";
import { runTool, together, withFolder } from "./tool.js";

export interface ImageOptions {
  /** Translation units; how the code is shared out among them is the caller's, so that it never depends on the machine. */
  files: readonly SourceFile[];
  /** Folders for `#include "…"`; the headers that the files reach are part of the cache key. */
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
const cacheVersion = 2;

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
  return withFolder(async (folder) => {
    await Promise.all(files.map(({ name, text }) => writeFile(join(folder, name), text)));
    const includes = includeDirs.flatMap((dir, k) => [`-I${dir}`, `-ffile-prefix-map=${dir}=include${k}`]);
    await together(files, signal, async (file, both) => {
      const language = file === support ? ["-x", "c", "-std=c11"] : ["-x", "c++"];
      const flags = file === support ? options.flags.filter((flag) => !cxxOnly.test(flag)) : options.flags;
      const args = [...flags, ...includes, ...language, "-c", file.name, "-o", `${file.name}.o`];
      const fault = await faultOf(compiler, args, folder, both);
      if (fault !== undefined) throw compileError(file, fault);
    });
    const objects = files.map(({ name }) => `${name}.o`);
    const fault = await faultOf(compiler, [...linkFlags, ...objects, "-o", "image.so"], folder, signal);
    if (fault !== undefined) throw internalError(`the generated code does not link: ${firstLines(fault)}`);
    const image = new Uint8Array(await readFile(join(folder, "image.so")));
    await cache.write(key, image);
    return image;
  });
}

/** Flags that a C file does not take. */
const cxxOnly = /^-(std=c\+\+|fno-rtti|fno-threadsafe-statics)/;

async function imageKey(
  compiler: Compiler,
  files: readonly SourceFile[],
  includeDirs: readonly string[],
  flags: readonly string[],
): Promise<string> {
  return digestOf([
    String(cacheVersion),
    compiler.kind,
    compiler.version,
    String(flags.length),
    ...flags,
    ...linkFlags,
    ...files.map(({ name }) => name),
    ...(await Promise.all(files.map(({ text }) => withHeaders(text, includeDirs)))).flat(2),
  ]);
}

/** @returns the diagnostics of a failed run, or undefined */
async function faultOf(
  compiler: Compiler,
  args: readonly string[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const tool = { command: compiler.command, name: "the C++ compiler", hint: installHint() };
  const result = await runTool(tool, args, folder, signal);
  return result.status === 0 ? undefined : result.stderr || `exit status ${result.status ?? result.signal}`;
}
