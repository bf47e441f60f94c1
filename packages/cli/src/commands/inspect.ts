/** nim-build inspect: what is in a model or an engine, and why its kernels are what they are. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import {
  type Explanation,
  explainModel,
  htmlReport,
  inspectEngine,
  inspectModel,
  type ReportData,
  type ReportedKernel,
  resolveTargets,
  type TensorSummary,
} from "@nimforge/compiler";
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
  html?: string;
}

export const inspectCommand: CommandSpec = {
  name: "inspect",
  arguments: "<file>",
  summary: "Shows a model's or an engine's inputs and outputs, its kernels with their reasons, or its memory.",
  examples: [
    "nim-build inspect model.onnx",
    "nim-build inspect model.engine --kernels",
    "nim-build inspect model.engine --html report.html",
  ],
  options: [
    { flags: "--kernels", description: "every kernel: its source nodes and why it is one", group: "What" },
    { flags: "--memory", description: "arena, lower bound and every buffer", group: "What" },
    { flags: "--source <kernel>", description: "the generated code of one kernel", group: "What" },
    { flags: "--html <file>", description: "all of it as one page, to be read in a browser", group: "What" },
    ...modelOptions,
  ],
  async run([path], values: InspectValues, context) {
    const file = path as string;
    requireModel(file);
    if (values.html !== undefined) checkPage(values.html, file);
    const detailed = values.kernels || values.memory || values.source !== undefined || values.html !== undefined;
    if (isEngine(file)) {
      const { explain, ...summary } = inspectEngine(file, engineTarget(values.target));
      if (detailed) {
        const explanation = explain();
        writePage(values.html, { ...summary, bytes: sizeOf(file), explanation });
        return explainTo(context, explanation, values);
      }
      const figures: [string, string][] = [
        ["targets", summary.targets.join(", ")],
        ["nodes→kernels", `${summary.nodes}→${summary.kernels}`],
      ];
      return context.console.result(summary, describe(summary, figures));
    }
    const options = buildOptions(file, values, context);
    const explanation = detailed ? await explainModel(options) : undefined;
    if (explanation && values.html === undefined) return explainTo(context, explanation, values);
    const summary = inspectModel(options);
    for (const warning of summary.warnings) context.console.warn(warning);
    if (explanation) {
      const name = basename(file);
      const [target] = resolveTargets(options.targets ?? ["cpu"]);
      const precision = options.precision ?? "fp32";
      writePage(values.html, {
        ...summary,
        name,
        targets: [target!.name],
        precision,
        bytes: sizeOf(file),
        explanation,
      });
      return explainTo(context, explanation, values);
    }
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

/** Which of an engine's targets is meant. */
function engineTarget(target: string[] = []): string | undefined {
  if (target.length > 1)
    throw new NimforgeError("usage", "bad-option", "--target: an engine is described for one target at a time", {
      found: target.join(","),
      fix: "name one",
    });
  return target[0];
}

/** What a block of a kernel takes on a GPU; nothing on other targets. */
function blockText({ threads, shared, resources }: ReportedKernel): string[] {
  if (threads === undefined) return [];
  const text = [`${threads} threads`, shared == null ? "shared memory by size" : `${shared} bytes shared`];
  if (!resources) return text;
  const { registers, spillStores, spillLoads } = resources;
  const spills = spillStores + spillLoads === 0 ? "no spills" : `spills ${spillStores} bytes, reads ${spillLoads}`;
  return [...text, `${registers} registers`, spills];
}

function describe(
  file: { inputs: readonly TensorSummary[]; outputs: readonly TensorSummary[] },
  more: readonly [string, string][],
): string {
  const line =
    (kind: string) =>
    ({ name, dtype, shape }: TensorSummary) => [kind, `${name}  ${dtype}[${shape.join(", ")}]`];
  return table([...file.inputs.map(line("input")), ...file.outputs.map(line("output")), ...more]);
}

const sizeOf = (file: string): number => statSync(file).size;

/** Before minutes of work: can the page be written there? */
function checkPage(page: string, input: string): void {
  const refuse = (fault: string): never => {
    throw new NimforgeError("usage", "bad-option", `--html: ${fault}`, { file: page, fix: "write --html report.html" });
  };
  if (page === "") refuse("no file is named");
  if (resolve(page) === resolve(input)) refuse("the page would replace the file that it describes");
  if (existsSync(page) && statSync(page).isDirectory()) refuse("this is a folder");
}

/** Written beside `page`, then renamed: it is complete or as it was. */
function writePage(page: string | undefined, data: ReportData): void {
  if (page === undefined) return;
  const partial = `${page}.${randomBytes(6).toString("hex")}.partial`;
  try {
    mkdirSync(dirname(page), { recursive: true });
    try {
      writeFileSync(partial, htmlReport(data), { flag: "wx" });
      renameSync(partial, page);
    } finally {
      rmSync(partial, { force: true }); // gone once renamed
    }
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    throw new NimforgeError("io", "write-failed", `cannot write the page: ${cause.message}`, { file: page, cause });
  }
}

function explainTo({ console }: CommandContext, { kernels, memory }: Explanation, values: InspectValues): number {
  const page = values.html === undefined ? {} : { html: values.html };
  if (values.source !== undefined) {
    const kernel = kernels.find(({ name }) => name === values.source);
    if (!kernel)
      throw new NimforgeError("usage", "unknown-kernel", `there is no kernel ${JSON.stringify(values.source)}`, {
        fix: "list kernels with nim-build inspect --kernels",
      });
    return console.result({ kernel: kernel.name, source: kernel.source, ...page }, kernel.source);
  }
  const value = {
    ...(values.kernels ? { kernels: kernels.map(({ source: _, ...kernel }) => kernel) } : {}),
    ...(values.memory ? memory : {}),
    ...page,
  };
  const kernelRows = kernels.map((kernel) => [
    kernel.name,
    kernel.kind,
    `${kernel.flops} flops`,
    `${kernel.bytes} bytes`,
    ...blockText(kernel),
    `${kernel.from.join(", ")} (${kernel.reason})`,
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
    [
      ...(values.kernels ? [table(kernelRows)] : []),
      ...(values.memory ? [memoryText, table(bufferRows)] : []),
      ...Object.values(page),
    ].join("\n"),
  );
}
