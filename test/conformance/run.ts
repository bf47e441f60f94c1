/** A run of the suite on targets, its sum in JSON, and the committed list of what passes. */
import { readFileSync } from "node:fs";
import type { Outcome } from "./outcome.js";
import { runPool } from "./pool.js";
import { repositoryRoot } from "./root.js";
import { type Case, readIndex } from "./suite.js";
import type { Job } from "./worker.js";

/** Outcomes by target, then by case. */
export type Outcomes = ReadonlyMap<string, ReadonlyMap<string, Outcome>>;

export interface RunOptions {
  readonly targets: readonly string[];
  readonly cases?: readonly Case[];
  readonly jobs?: number;
  readonly onResult?: (target: string, name: string, outcome: Outcome) => void;
}

/** Cases of one job: for a compiled target they share an engine, for the interpreter only a message. */
const casesPerJob = (target: string) => (target === "interpreter" ? 32 : 96);

export async function runSuite({ targets, cases = readIndex(), jobs = 2, onResult }: RunOptions): Promise<Outcomes> {
  const outcomes = new Map(targets.map((target) => [target, new Map<string, Outcome>()]));
  const queue: Job[] = [];
  for (const target of targets) {
    const names = cases.map(({ name }) => name);
    const size = casesPerJob(target);
    for (let k = 0; k < names.length; k += size) queue.push({ target, cases: names.slice(k, k + size) });
  }
  await runPool(queue, {
    jobs,
    onResult: (target, name, outcome) => {
      outcomes.get(target)?.set(name, outcome);
      onResult?.(target, name, outcome);
    },
  });
  return outcomes;
}

export interface Summary {
  total: number;
  pass: number;
  passOnDevice: number;
  passOnHost: number;
  fail: number;
  unsupported: number;
  /** Cases that ended in an exception other than "unsupported", in a crash or in a time-out; not part of `fail`. */
  error: number;
}

export function summarize(outcomes: Iterable<Outcome>): Summary {
  const sum: Summary = { total: 0, pass: 0, passOnDevice: 0, passOnHost: 0, fail: 0, unsupported: 0, error: 0 };
  for (const { status, onHost } of outcomes) {
    sum.total++;
    sum[status]++;
    if (status === "pass") sum[onHost ? "passOnHost" : "passOnDevice"]++;
  }
  return sum;
}

/** The value that `npm run -s conformance -- --json` prints. */
export function toJson(outcomes: Outcomes) {
  return {
    schemaVersion: 1,
    suite: "onnx 1.23.1",
    targets: Object.fromEntries([...outcomes].map(([target, byCase]) => [target, summarize(byCase.values())])),
    failures: [...outcomes].flatMap(([target, byCase]) =>
      [...byCase]
        .filter(([, { status }]) => status !== "pass")
        .map(([name, { status, op, reason, maxError }]) => ({ target, case: name, status, op, reason, maxError })),
    ),
  };
}

/** Names of the cases that pass, by target. */
export type Expected = Record<string, string[]>;
export const expectedFile = new URL("test/conformance/expected.json", repositoryRoot);
export const readExpected = (): Expected => JSON.parse(readFileSync(expectedFile, "utf8")) as Expected;

/** Cases that are committed as passing and did not pass in this run. */
export function regressions(
  outcomes: Outcomes,
  expected: Expected,
): { target: string; case: string; reason: string }[] {
  return [...outcomes].flatMap(([target, byCase]) => {
    const passing = new Set(expected[target]);
    return [...byCase]
      .filter(([name, { status }]) => status !== "pass" && passing.has(name))
      .map(([name, { status, reason }]) => ({ target, case: name, reason: `${status}: ${reason}` }));
  });
}
