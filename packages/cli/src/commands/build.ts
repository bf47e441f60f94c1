/** nim-build <model>: compiles a model into engine files. */
import { existsSync } from "node:fs";
import { type BuiltEngine, build } from "@nimforge/compiler";
import { NimforgeError } from "@nimforge/tensor";
import type { CommandSpec } from "../command.js";
import { nearestCommand } from "../program.js";
import { megabytes } from "../text.js";
import { buildOptions, type ModelOptionValues, modelOptions } from "./model-options.js";

export const buildCommand: CommandSpec = {
  name: "",
  arguments: "<model>",
  summary: "Compiles an ONNX model ahead of time into an engine for each target.",
  examples: [
    "nim-build model.onnx",
    "nim-build model.onnx --shape x=1,3,48,W --range W=32..960 --opt W=320",
    "nim-build model.onnx --target sm_80,sm_90,cpu-x86-64-v3 --precision fp16 --fat --json",
  ],
  options: [
    ...modelOptions,
    { flags: "--fat", description: "one file for all targets", group: "Files" },
    { flags: "-o, --out <path>", description: "folder (default engines), or one .engine file", group: "Files" },
    { flags: "--trace <file>", description: "Chrome trace of the build", group: "Files" },
  ],
  async run([model], values: ModelOptionValues & { fat?: boolean; out?: string; trace?: string }, context) {
    requireModel(model as string);
    const { fat, out, trace } = values;
    const result = await build({ ...buildOptions(model as string, values, context), fat, out, trace });
    for (const warning of result.warnings) context.console.warn(warning);
    return context.console.result(result, result.engines.map(describe).join("\n"));
  },
};

function describe(engine: BuiltEngine): string {
  const { arena, ratio } = engine.memory;
  const figures = [
    ...(engine.targets ? [engine.targets.map(({ target }) => target).join(", ")] : []),
    `${engine.nodes}→${engine.kernels} kernels`,
    megabytes(engine.bytes),
    `arena ${megabytes(arena)} (${ratio.toFixed(2)} of bound)`,
    `${engine.seconds.total.toFixed(1)} s`,
  ];
  return `${engine.path}  ${figures.join(" · ")}`;
}

/** A word that is no file may be a misspelt command. */
export function requireModel(model: string): void {
  if (existsSync(model)) return;
  const command = nearestCommand(model);
  throw new NimforgeError("usage", "model-not-found", "there is no such model", {
    file: model,
    expected: "the path of an .onnx file",
    fix: command ? `did you mean the command nim-build ${command}?` : "check the path",
  });
}
