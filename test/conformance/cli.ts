/** `npm run -s conformance -- [--json] [--target LIST] [--only TEXT] [--jobs N] [--check] [--write]` */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { markdown, problems } from "./report.js";
import { repositoryRoot } from "./root.js";
import { expectedFile, readExpected, regressions, runSuite, summarize, toJson } from "./run.js";
import { readIndex } from "./suite.js";

const help = `Runs the ONNX backend suite and counts what passes.

  npm run -s conformance                                   all cases on the interpreter and the CPU
  npm run -s conformance -- --target cpu --only conv       cases with "conv" in their name, on the CPU
  npm run -s conformance -- --json

  --target LIST   interpreter, cpu, cpu-x86-64, cpu-x86-64-v3, cpu-x86-64-v4,
                  emulated-sm_75, emulated-sm_80, emulated-sm_90 (default interpreter,cpu)
  --only TEXT     only cases whose name contains TEXT
  --without KIND  no cases of a kind: light (the full-size networks), node, simple, …
  --jobs N        child processes (default 2)
  --json          one JSON value on stdout
  --check         exit 1 if a case of test/conformance/expected.json no longer passes
  --write         write docs/conformance.md and expected.json (complete runs only)`;

const { values } = parseArgs({
  options: {
    target: { type: "string", default: "interpreter,cpu" },
    only: { type: "string" },
    without: { type: "string" },
    jobs: { type: "string", default: "2" },
    json: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) console.log(help);
else {
  const { only, without } = values;
  if (values.write && (only ?? without) !== undefined)
    throw new Error("--write needs a complete run, without --only and --without");
  const cases = readIndex().filter(({ name, kind }) => (only === undefined || name.includes(only)) && kind !== without);
  const targets = values.target.split(",");
  let done = 0;
  const onResult = () => {
    if (++done % 100 === 0) process.stderr.write(`${done} of ${cases.length * targets.length}\n`);
  };
  const outcomes = await runSuite({ targets, cases, jobs: Number(values.jobs), onResult });

  if (values.json) console.log(JSON.stringify(toJson(outcomes)));
  else
    for (const [target, byCase] of outcomes) {
      const { pass, total, fail, unsupported, error } = summarize(byCase.values());
      console.log(
        [
          ...problems(cases, target, byCase),
          `${target}: ${pass} of ${total} pass, ${fail} fail, ${unsupported} unsupported, ${error} error`,
        ].join("\n"),
      );
    }
  if (values.write) {
    const passing = [...outcomes].map(([target, byCase]) => [
      target,
      [...byCase]
        .filter(([, { status }]) => status === "pass")
        .map(([name]) => name)
        .sort(),
    ]);
    writeFileSync(expectedFile, `${JSON.stringify(Object.fromEntries(passing), undefined, 1)}\n`);
    writeFileSync(new URL("docs/conformance.md", repositoryRoot), markdown(cases, outcomes));
  }
  if (values.check) {
    const lost = regressions(outcomes, readExpected());
    for (const { target, case: name, reason } of lost) console.error(`${target}: ${name} passed before: ${reason}`);
    if (lost.length > 0) process.exitCode = 1;
  }
}
