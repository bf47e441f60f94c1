/** The interpreter as a target: import, then run node by node. */
import { evaluate, importOnnx } from "@nimforge/ir";
import { compareOutputs } from "./compare.js";
import { type Outcome, outcomeOf } from "./outcome.js";
import type { Case, Suite } from "./suite.js";
import type { Reporter } from "./worker.js";

/** The full-size networks take the interpreter minutes: billions of multiply-adds. */
const secondsFor = (entry: Case) => (entry.kind === "light" ? 570 : 10);

export async function runOnInterpreter(
  suite: Suite,
  cases: readonly Case[],
  { begin, result }: Reporter,
): Promise<void> {
  for (const entry of cases) {
    begin([entry.name], secondsFor(entry));
    result(entry.name, runCase(suite, entry));
  }
}

function runCase(suite: Suite, entry: Case): Outcome {
  try {
    const { graph } = importOnnx(suite.model(entry), { file: entry.name });
    for (let k = 0; k < entry.dataSets; k++) {
      const data = suite.dataSet(entry, k);
      const mismatch = compareOutputs(entry, data, evaluate(graph, data.inputs));
      if (mismatch) return { status: "fail", ...mismatch };
    }
    return { status: "pass", onHost: true };
  } catch (error) {
    return outcomeOf(error);
  }
}
