/** docs/conformance.md: the scoreboard and everything that does not pass, grouped by reason. */
import type { Outcome } from "./outcome.js";
import { type Outcomes, summarize } from "./run.js";
import type { Case } from "./suite.js";

export function markdown(cases: readonly Case[], outcomes: Outcomes): string {
  const targets = [...outcomes.keys()];
  const ort = cases.filter(({ ort }) => ort.result === "pass").length;
  const lines = [
    "# Conformance",
    "",
    `The ONNX backend suite, onnx 1.23.1 (opset 28): ${cases.length} cases, written by the ONNX project. A case is imported and compiled without its input`,
    "values; outputs are held to the suite's own tolerances. Written by `npm run conformance -- --write`.",
    "",
    "| target | pass | of them with host steps | fail | unsupported | error | pass, % |",
    "|---|---|---|---|---|---|---|",
    ...targets.map((target) => {
      const s = summarize(outcomes.get(target)!.values());
      return `| ${target} | ${s.pass} | ${target === "interpreter" ? "" : s.passOnHost} | ${s.fail} | ${s.unsupported} | ${s.error} | ${percent(s.pass, s.total)} |`;
    }),
    `| onnxruntime 1.30.0, CPU (recorded) | ${ort} | | ${count(cases, "mismatch")} | ${count(cases, "unsupported")} | ${count(cases, "error")} | ${percent(ort, cases.length)} |`,
    "",
    "*fail*: outputs differ. *unsupported*: refused with exit code 3, naming the operator or feature. *error*: any other exception, a crash or a time-out.",
    "",
    "## By kind and group",
    "",
    "Passed cases. `expanded` are node cases with the operator's function body inlined.",
    "",
    `| kind / group | cases | ${targets.join(" | ")} | onnxruntime 1.30 |`,
    `|---|---|${targets.map(() => "---|").join("")}---|`,
    ...[...groupBy(cases, rowOf)]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([row, members]) => {
        const passed = targets.map(
          (target) => members.filter(({ name }) => outcomes.get(target)?.get(name)?.status === "pass").length,
        );
        return `| ${row} | ${members.length} | ${passed.join(" | ")} | ${members.filter(({ ort }) => ort.result === "pass").length} |`;
      }),
    "",
  ];
  for (const target of targets) lines.push(...problems(cases, target, outcomes.get(target)!));
  return lines.join("\n");
}

/** One section per target: groups of cases with the same reason, largest first. */
export function problems(cases: readonly Case[], target: string, byCase: ReadonlyMap<string, Outcome>): string[] {
  const lines = [`## What does not pass: ${target}`, ""];
  const byName = new Map(cases.map((entry) => [entry.name, entry]));
  for (const status of ["error", "fail", "unsupported"] as const) {
    const entries = [...byCase].filter(([, outcome]) => outcome.status === status);
    if (entries.length === 0) continue;
    lines.push(`### ${status} (${entries.length})`, "");
    const groups = [...groupBy(entries, ([name, outcome]) => reasonOf(outcome, byName.get(name)))];
    groups.sort(([a, x], [b, y]) => y.length - x.length || (a < b ? -1 : 1));
    for (const [reason, members] of groups)
      lines.push(
        `- ${reason} (${members.length}): ${members
          .map(([name]) => name.replace(/^test_/, ""))
          .sort()
          .join(", ")}`,
      );
    lines.push("");
  }
  return lines;
}

/** What a group of cases has in common: of a mismatch the operator, of a missing operator its name, of anything else the message. */
function reasonOf({ status, op, reason = "" }: Outcome, entry: Case | undefined): string {
  const blamed =
    op ??
    Object.keys(entry?.ops ?? {})
      .slice(0, 4)
      .join("+");
  if (/^operators? not supported/.test(reason)) return `**${blamed}** operator not supported`;
  if (status === "fail" && reason.includes("elements differ")) return `**${blamed}** values differ`;
  return `**${blamed}** ${escapeCell(reason.replaceAll(/"[^"]*"/g, '"…"').replaceAll(/\b\d+(\.\d+)?\b/g, "N"))}`;
}

const escapeCell = (text: string) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
const rowOf = (entry: Case) => `${entry.kind}${entry.flags.includes("expanded") ? ", expanded" : ""} / ${entry.group}`;
const count = (cases: readonly Case[], result: string) => cases.filter(({ ort }) => ort.result === result).length;
const percent = (part: number, whole: number) => ((100 * part) / whole).toFixed(1);

function groupBy<T>(items: Iterable<T>, key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}
