/** Child processes that never outlive their purpose: each is a process group, killed when the signal fires or this process exits. */
import { spawn } from "node:child_process";

/** Environment variables; the declarations that users see need no types of Node.js. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface ChildResult {
  /** Exit status; null when a signal ended it. */
  status: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface ChildOptions {
  /** Working folder, and the place of the program's own temporary files: a killed compiler leaves them. */
  cwd?: string;
  signal?: AbortSignal | undefined;
  /** Text for its standard input. */
  input?: string;
}

/** Output beyond this is dropped: a compiler that repeats itself must not fill the memory. */
const outputLimit = 4 * 1024 * 1024;

const running = new Set<number>();
let watching = false;

/** Kills a child with everything it started. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has already ended.
  }
}

/**
 * Runs a program to its end.
 * @throws the signal's reason when it fires; the spawn error (ENOENT…) when the program cannot be started.
 */
export function runChild(command: string, args: readonly string[], options: ChildOptions = {}): Promise<ChildResult> {
  const { signal } = options;
  signal?.throwIfAborted();
  if (!watching) {
    watching = true;
    process.on("exit", () => running.forEach(killGroup));
  }
  return new Promise((resolve, reject) => {
    // LC_ALL: diagnostics are matched and shown, so they must not depend on the user's language.
    const env = { ...process.env, LC_ALL: "C", ...(options.cwd === undefined ? {} : { TMPDIR: options.cwd }) };
    const child = spawn(command, args, { cwd: options.cwd, detached: true, env, stdio: ["pipe", "pipe", "pipe"] });
    const { pid } = child;
    if (pid !== undefined) running.add(pid);
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const)
      child[stream].setEncoding("utf8").on("data", (text: string) => {
        if (output[stream].length < outputLimit) output[stream] += text;
      });
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
    const abort = () => pid !== undefined && killGroup(pid);
    signal?.addEventListener("abort", abort, { once: true });
    const settle = () => {
      signal?.removeEventListener("abort", abort);
      if (pid !== undefined) running.delete(pid);
    };
    child.on("error", (error) => {
      settle();
      reject(error);
    });
    child.on("close", (status, killedBy) => {
      settle();
      if (signal?.aborted) reject(signal.reason);
      else resolve({ status, signal: killedBy, ...output });
    });
  });
}
