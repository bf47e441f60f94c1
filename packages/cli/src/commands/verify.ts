/** nim-build verify: a model's engine against the interpreter, or an engine file against its own hashes. */
import { verifyEngine, verifyModel } from "@nimforge/compiler";
import { exitCodes, NimforgeError } from "@nimforge/tensor";
import type { CommandSpec } from "../command.js";
import { isEngine } from "../files.js";
import { table } from "../text.js";
import { count, positive } from "../values.js";
import { requireModel } from "./build.js";
import { buildOptions, type ModelOptionValues, modelOptions } from "./model-options.js";

interface VerifyValues extends ModelOptionValues {
  engine?: string;
  against?: string;
  rtol?: number;
  atol?: number;
  seed?: number;
  threads?: number;
}

export const verifyCommand: CommandSpec = {
  name: "verify",
  arguments: "<file>",
  summary: "Compares a model's engine with the reference interpreter, or checks an engine file's integrity.",
  examples: [
    "nim-build verify model.onnx",
    "nim-build verify model.onnx --shape x=1,3,48,320 --seed 7 --rtol 1e-4",
    "nim-build verify model.engine",
  ],
  options: [
    { flags: "--engine <file>", description: "an engine of the model (default: build one)", group: "Comparison" },
    { flags: "--against <what>", description: "reference (the interpreter)", group: "Comparison" },
    {
      flags: "--rtol <r>",
      description: "relative tolerance (default 1e-3)",
      group: "Comparison",
      parse: positive("--rtol"),
    },
    {
      flags: "--atol <a>",
      description: "absolute tolerance (default 1e-4)",
      group: "Comparison",
      parse: positive("--atol"),
    },
    {
      flags: "--seed <n>",
      description: "of the random inputs (default 0)",
      group: "Comparison",
      parse: count("--seed", 0),
    },
    {
      flags: "--threads <n>",
      description: "workers (default: one for each core)",
      group: "Comparison",
      parse: count("--threads", 1),
    },
    ...modelOptions,
  ],
  async run([file], values: VerifyValues, context) {
    requireModel(file as string);
    if (isEngine(file as string)) {
      const result = verifyEngine(file as string);
      return context.console.result({ ...result, outputs: [] }, `ok: ${file} is intact (${result.segments} segments)`);
    }
    const { engine, against, rtol, atol, seed, threads } = values;
    if (against !== undefined && against !== "reference")
      throw new NimforgeError("usage", "bad-option", `--against: unknown value ${JSON.stringify(against)}`, {
        expected: "reference",
        fix: "leave the option out",
      });
    const result = await verifyModel({
      ...buildOptions(file as string, values, context),
      engine,
      against,
      rtol,
      atol,
      seed,
      threads,
    });
    const rows = result.outputs.map(({ name, maxAbs, maxRel, ok }) => [
      ok ? "ok" : "FAIL",
      name,
      `max abs ${figure(maxAbs)}`,
      `max rel ${figure(maxRel)}`,
    ]);
    context.console.result(result, table(rows));
    return result.ok ? 0 : exitCodes.accuracy;
  },
};

const figure = (value: number | null): string => (value === null ? "undefined" : value.toExponential(1));
