/**
 * Jobs on a few child processes. A child that dies or overruns its time is replaced; the case it was at becomes an "error", the others of
 * its job run again, so a crash is a counted result and never the end of the run.
 */
import { type ChildProcess, fork } from "node:child_process";
import type { Outcome } from "./outcome.js";
import { repositoryRoot } from "./root.js";
import type { Job, Message } from "./worker.js";

export interface PoolOptions {
  /** Child processes (default 2). */
  readonly jobs?: number;
  readonly onResult: (target: string, name: string, outcome: Outcome) => void;
}

/** Time for a child to start and open the suite. */
const startSeconds = 60;

export async function runPool(jobs: readonly Job[], { jobs: width = 2, onResult }: PoolOptions): Promise<void> {
  const queue = [...jobs];
  const workers = Array.from({ length: Math.min(width, queue.length) }, async () => {
    let child: ChildProcess | undefined;
    for (let job = queue.shift(); job; job = queue.shift()) {
      child ??= start();
      const rest = await runJob(child, job, onResult);
      if (rest) {
        child = undefined;
        queue.unshift(...rest);
      }
    }
    child?.kill();
  });
  await Promise.all(workers);
}

const start = () =>
  fork(new URL("test/conformance/dist/worker.js", repositoryRoot), {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: ["--stack-size=2000"],
  });

/** Resolves when the job is done, or, when the child was lost, to the jobs that remain. */
function runJob(
  child: ChildProcess,
  { target, cases }: Job,
  onResult: PoolOptions["onResult"],
): Promise<Job[] | undefined> {
  const left = new Set(cases);
  let atStake: readonly string[] = cases;
  let fate: string | undefined;
  let stderr = "";
  const collect = (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-2000));
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    const allow = (seconds: number) => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        fate = `timed out after ${seconds} s`;
        child.kill("SIGKILL");
      }, seconds * 1000);
    };
    const settle = (rest?: Job[]) => {
      clearTimeout(timer);
      child.off("message", receive).off("exit", lost);
      child.stderr?.off("data", collect);
      resolve(rest);
    };
    const receive = (message: Message) => {
      if (message.kind === "begin") {
        atStake = message.cases;
        allow(message.seconds);
      } else if (message.kind === "result") {
        left.delete(message.name);
        onResult(target, message.name, message.outcome);
      } else settle();
    };
    const lost = (code: number | null, signal: string | null) => {
      const reason =
        fate ?? `the process ended with ${signal ?? `exit code ${code}`}${stderr ? `: ${lastLine(stderr)}` : ""}`;
      const suspects = atStake.filter((name) => left.has(name));
      if (suspects.length <= 1) {
        for (const name of suspects) {
          left.delete(name);
          onResult(target, name, { status: "error", reason });
        }
        settle(left.size > 0 ? [{ target, cases: [...left] }] : []);
      } else {
        // Several cases were compiled together: halves of them find the one.
        const middle = Math.ceil(suspects.length / 2);
        const others = [...left].filter((name) => !suspects.includes(name));
        settle(
          [suspects.slice(0, middle), suspects.slice(middle), others]
            .filter((names) => names.length > 0)
            .map((names) => ({ target, cases: names })),
        );
      }
    };
    child.on("message", receive).on("exit", lost);
    child.stderr?.on("data", collect);
    allow(startSeconds);
    child.send({ target, cases } satisfies Job);
  });
}

const lastLine = (text: string) => text.trim().split("\n").at(-1)?.slice(0, 200);
