/** nim-build inspect: what is in a model or an engine, and why its kernels are what they are. */
import { type Explanation, explainModel, inspectEngine, inspectModel, type TensorSummary } from "@nimforge/compiler";
import { NimforgeError } from "@nimforge/tensor";
import type { CommandContext, CommandSpec } from "../command.js";
import { isEngine } from "../files.js";
import { megabytes, table } from "../text.js";
import { requireModel } from "./build.js";
import { buildOptions, type ModelOptionValues, modelOptions } from "./model-options.js";

interface InspectValues extends ModelOptionValues {
  kernels?: boolean;
  memory?: boolean;
  source?: string;
}

export const inspectCommand: CommandSpec = {
  name: "inspect",
  arguments: "<file>",
  summary: "Shows a model's or an engine's inputs and outputs, its kernels with their reasons, or its memory.",
  examples: [
    "nim-build inspect model.onnx",
    "nim-build inspect model.engine --kernels",
    "nim-build inspect model.engine --memory --json",
  ],
  options: [
    { flags: "--kernels", description: "every kernel: its source nodes and why it is one", group: "What" },
    { flags: "--memory", description: "arena, lower bound and every buffer", group: "What" },
    { flags: "--source <kernel>", description: "the generated code of one kernel", group: "What" },
    ...modelOptions,
  ],
  async run([file], values: InspectValues, context) {
    requireModel(file as string);
    const detailed = values.kernels || values.memory || values.source !== undefined;
    if (isEngine(file as string)) {
      const { explain, ...summary } = inspectEngine(file as string);
      if (detailed) return explainTo(context, explain(), values);
      const figures: [string, string][] = [
        ["targets", summary.targets.join(", ")],
        ["nodes→kernels", `${summary.nodes}→${summary.kernels}`],
      ];
      return context.console.result(summary, describe(summary, figures));
    }
    const options = buildOptions(file as string, values, context);
    if (detailed) return explainTo(context, await explainModel(options), values);
    const summary = inspectModel(options);
    for (const warning of summary.warnings) context.console.warn(warning);
    const opsets = Object.entries(summary.opsets).map(([domain, version]) => `${domain || "ai.onnx"} ${version}`);
    const operators = summary.operators.map(({ op, count }) => `${op} ${count}`);
    return context.console.result(
      summary,
      describe(summary, [
        ["opsets", opsets.join(", ")],
        ["nodes", String(summary.nodes)],
        ["operators", operators.join(", ")],
      ]),
    );
  },
};

function describe(
  file: { inputs: readonly TensorSummary[]; outputs: readonly TensorSummary[] },
  more: readonly [string, string][],
): string {
  const line =
    (kind: string) =>
    ({ name, dtype, shape }: TensorSummary) => [kind, `${name}  ${dtype}[${shape.join(", ")}]`];
  return table([...file.inputs.map(line("input")), ...file.outputs.map(line("output")), ...more]);
}

function explainTo({ console }: CommandContext, { kernels, memory }: Explanation, values: InspectValues): number {
  if (values.source !== undefined) {
    const kernel = kernels.find(({ name }) => name === values.source);
    if (!kernel)
      throw new NimforgeError("usage", "unknown-kernel", `there is no kernel ${JSON.stringify(values.source)}`, {
        fix: "list kernels with nim-build inspect --kernels",
      });
    return console.result({ kernel: kernel.name, source: kernel.source }, kernel.source);
  }
  const value = {
    ...(values.kernels ? { kernels: kernels.map(({ source: _, ...kernel }) => kernel) } : {}),
    ...(values.memory ? memory : {}),
  };
  const kernelRows = kernels.map(({ name, kind, from, reason, bytes, flops }) => [
    name,
    kind,
    `${flops} flops`,
    `${bytes} bytes`,
    `${from.join(", ")} (${reason})`,
  ]);
  const bufferRows = memory.buffers.map(({ name, kind, bytes, offset, first, last }) => [
    name,
    kind,
    bytes === null ? "known at run time" : `${bytes} bytes`,
    offset === undefined ? "" : `at ${offset ?? "?"}`,
    first === undefined ? "" : `steps ${first}-${last}`,
  ]);
  const shapes = Object.entries(memory.shapes)
    .map(([name, shape]) => `${name}=${shape.join("x")}`)
    .join(" ");
  const memoryText = `arena ${megabytes(memory.arena)}, lower bound ${megabytes(memory.arenaLowerBound)}, ratio ${memory.ratio.toFixed(3)}, weights ${megabytes(memory.weights)} for ${shapes}`;
  return console.result(
    value,
    [...(values.kernels ? [table(kernelRows)] : []), ...(values.memory ? [memoryText, table(bufferRows)] : [])].join(
      "\n",
    ),
  );
}
