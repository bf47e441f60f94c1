/** Running compilers: in a temporary folder of their own, no more at once than there are cores, all stopped by the first failure. */
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { NimforgeError } from "@nimforge/tensor";
import { type ChildResult, runChild } from "./child.js";

export interface Tool {
  /** Program and leading arguments. */
  readonly command: readonly string[];
  /** As errors call it: `the C++ compiler`. */
  readonly name: string;
  /** What to install when it cannot be started. */
  readonly hint: string;
}

let free = availableParallelism();
const waiting: (() => void)[] = [];

/** Does work when a core is free, in the order of the calls, over everything that this process builds. */
async function withCore<T>(work: () => Promise<T>): Promise<T> {
  if (free > 0) free--;
  // Who ends hands its core over, so `free` stays as it is.
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
}

/**
 * Runs a tool when a core is free.
 * @throws NimforgeError toolchain when it cannot be started, limit when it was killed; the signal's reason when it fires
 */
export async function runTool(
  tool: Tool,
  args: readonly string[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<ChildResult> {
  const [program, ...leading] = tool.command as [string, ...string[]];
  const result = await withCore(() => runChild(program, [...leading, ...args], { cwd: folder, signal })).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.syscall === undefined) throw error;
      throw new NimforgeError("toolchain", "no-compiler", `cannot start ${tool.name}: ${error.message}`, {
        fix: tool.hint,
        cause: error,
      });
    },
  );
  if (result.signal === "SIGKILL" || /Killed signal terminated program|died due to signal 9/.test(result.stderr))
    throw new NimforgeError("limit", "compiler-killed", `${tool.name} was killed, most likely for lack of memory`, {
      fix: "use a machine with more memory, or fewer cores at once (taskset)",
    });
  return result;
}

/** Does all work at once; the first failure stops the others and is thrown when they have ended. */
export async function together<T, R>(
  items: readonly T[],
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const failure = new AbortController();
  const both = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  const all = items.map((item) => work(item, both));
  try {
    return await Promise.all(all);
  } catch (error) {
    failure.abort(error);
    await Promise.allSettled(all);
    throw signal?.aborted ? signal.reason : error;
  }
}

const folders = new Set<string>();
let watching = false;

/** Gives work a temporary folder that is gone afterwards, also when this process exits in between. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  if (!watching) {
    watching = true;
    process.on("exit", () => {
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    });
  }
  const folder = await mkdtemp(join(tmpdir(), "nimforge-"));
  folders.add(folder);
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
    folders.delete(folder);
  }
}
