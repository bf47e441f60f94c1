/**
 * A child process that runs jobs. Before anything that could hang or crash it says which cases are at stake and for how long, so that the
 * parent can name the culprit whatever happens.
 */
import { runCompiled } from "./compiled.js";
import { runOnInterpreter } from "./interpreter.js";
import { type Outcome, outcomeOf } from "./outcome.js";
import { type Case, Suite } from "./suite.js";

export interface Job {
  readonly target: string;
  readonly cases: readonly string[];
}

export type Message =
  | { readonly kind: "begin"; readonly cases: readonly string[]; readonly seconds: number }
  | { readonly kind: "result"; readonly name: string; readonly outcome: Outcome }
  | { readonly kind: "done" };

/** How a target tells of its progress. */
export interface Reporter {
  begin(cases: readonly string[], seconds: number): void;
  result(name: string, outcome: Outcome): void;
}

export type Runner = (suite: Suite, cases: readonly Case[], reporter: Reporter, target: string) => Promise<void>;

const runnerOf = (target: string): Runner => (target === "interpreter" ? runOnInterpreter : runCompiled);

const send = (message: Message) => process.send?.(message);
let suite: Suite | undefined;

async function run({ target, cases }: Job): Promise<void> {
  suite ??= new Suite();
  const left = new Set(cases);
  const reporter: Reporter = {
    begin: (names, seconds) => send({ kind: "begin", cases: names, seconds }),
    result: (name, outcome) => {
      left.delete(name);
      send({ kind: "result", name, outcome });
    },
  };
  try {
    const opened = suite;
    await runnerOf(target)(
      opened,
      cases.map((name) => opened.case(name)),
      reporter,
      target,
    );
  } catch (error) {
    for (const name of left) send({ kind: "result", name, outcome: outcomeOf(error) });
  }
  send({ kind: "done" });
}

process.on("message", (job: Job) => void run(job));
