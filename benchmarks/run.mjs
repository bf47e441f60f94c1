/** `npm run bench -- <set> [--json] [--threads N] [--only TEXT]`: runs the benchmark set of that name. */
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";

const sets = ["onnx"];
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    threads: { type: "string", default: "2" },
    only: { type: "string" },
    rounds: { type: "string", default: "15" },
    help: { type: "boolean", default: false },
  },
});
const [set] = positionals;
if (values.help || set === undefined || !sets.includes(set)) {
  console.error(
    `usage: npm run bench -- SET [--json] [--threads N] [--only TEXT] [--rounds N]\nsets: ${sets.join(", ")}`,
  );
  process.exitCode = values.help ? 0 : 2;
} else {
  if (!existsSync(new URL("peers/node_modules/onnxruntime-node", import.meta.url))) {
    console.error("The peers are not installed: npm ci --prefix benchmarks/peers");
    process.exit(2);
  }
  const { run, table } = await import(`./${set}.mjs`);
  const report = await run({ threads: Number(values.threads), only: values.only, rounds: Number(values.rounds) });
  console.log(values.json ? JSON.stringify(report) : table(report));
}
