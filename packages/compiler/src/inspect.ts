/** What is in a model or an engine: signature, kernels with their reasons, memory, source. */
import { openEngine } from "@nimforge/device";
import type { ProgramSpec } from "@nimforge/engine";
import { formatDim, type Graph, importOnnx, type Value } from "@nimforge/ir";
import { type DType, NimforgeError } from "@nimforge/tensor";
import type { ReportedKernel } from "./blocks.js";
import { type BufferPlace, type MemoryReport, placeBuffers, rootOf } from "./buffers.js";
import { compile, prepare } from "./build.js";
import type { EngineReport } from "./fat.js";
import type { BuildOptions } from "./options.js";
import { BuildClock } from "./progress.js";

export interface TensorSummary {
  name: string;
  dtype: DType | string;
  /** Numbers, or expressions over the symbols. */
  shape: string[];
}

export interface ModelSummary {
  kind: "model";
  file: string;
  irVersion: number;
  opsets: Record<string, number>;
  producer: string;
  inputs: TensorSummary[];
  outputs: TensorSummary[];
  /** Source nodes without Constants. */
  nodes: number;
  /** Operators of the imported graph, most frequent first. */
  operators: { op: string; count: number }[];
  warnings: string[];
}

export interface EngineSummary {
  kind: "engine";
  file: string;
  name: string;
  targets: string[];
  precision: string;
  inputs: TensorSummary[];
  outputs: TensorSummary[];
  symbols: { name: string; min: number; max: number }[];
  nodes: number;
  kernels: number;
  /** Inputs that no step and no size depends on. */
  unusedInputs: string[];
  /** The inputs' shapes that the engine was tuned for. */
  tunedShapes: Record<string, number[]>;
  provenance: unknown;
}

/** What a build explains: stored in the engine, or made from a model. */
export interface Explanation {
  kernels: readonly ReportedKernel[];
  memory: MemoryReport & { buffers: BufferPlace[] };
}

/** @throws NimforgeError as importing does */
export function inspectModel(options: BuildOptions): ModelSummary {
  const { model, shapes, ranges, bind, outputs } = options;
  const { graph, meta } = importOnnx(model, { shapes, ranges, bind, outputs });
  return {
    kind: "model",
    file: model,
    irVersion: meta.irVersion,
    opsets: meta.opsets,
    producer: meta.producer,
    inputs: graph.inputs.map(summary),
    outputs: graph.outputs.map(summary),
    nodes: meta.nodeCount,
    operators: countOperators(graph),
    warnings: [...meta.warnings],
  };
}

const summary = ({ name, value }: { name: string; value: Value }): TensorSummary =>
  value.type.kind === "tensor"
    ? { name, dtype: value.type.dtype, shape: value.type.shape.map(formatDim) }
    : { name, dtype: value.type.kind, shape: [] };

function countOperators(graph: Graph): ModelSummary["operators"] {
  const counts = new Map<string, number>();
  for (const { op } of graph.nodes()) {
    if (op.name === "Input" || op.name === "Constant") continue;
    const name = op.domain ? `${op.domain}:${op.name}` : op.name;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([op, count]) => ({ op, count })).sort((a, b) => b.count - a.count || (a.op < b.op ? -1 : 1));
}

/** Compiles a model for its first target and explains the result; nothing is written but the cache. */
export async function explainModel(options: BuildOptions): Promise<Explanation> {
  const clock = new BuildClock(options.signal, options.onProgress);
  const prepared = await prepare(options, clock);
  const { spec, reports, memory } = await compile(prepared, prepared.targets[0]!, options, clock);
  return { kernels: reports, memory: { ...memory, buffers: placeBuffers(spec.programs[0]!, memory.shapes) } };
}

/**
 * @param target of an engine for several, the one to describe; the first when left out
 * @throws NimforgeError malformed, incompatible, usage, as opening an engine does; usage for a target that it does not hold
 */
export function inspectEngine(path: string, target?: string): EngineSummary & { explain(): Explanation } {
  const engine = openEngine(path);
  try {
    const { table } = engine;
    if (target !== undefined && !table.targets.includes(target))
      throw new NimforgeError("usage", "no-such-target", `the engine is not for ${target}`, {
        file: path,
        expected: table.targets.join(", "),
        found: target,
        fix: `name a target that it holds, or build one: nim-build MODEL --target ${target}`,
      });
    const index = table.programs.findIndex(
      (each) => target === undefined || (each.target ?? table.targets[0]) === target,
    );
    const [program, spec] = [engine.programs()[index], table.programs[index]];
    if (!program || !spec)
      throw new NimforgeError("malformed", "no-program", "the engine has no program", { file: path });
    const parse = (name: string, text: string): unknown => {
      try {
        return JSON.parse(text);
      } catch (cause) {
        throw new NimforgeError("malformed", "bad-report", `the engine's ${name} is not JSON`, { file: path, cause });
      }
    };
    const report = parse("report", table.report) as EngineReport;
    const own = (spec.target === undefined ? undefined : report.targets?.[spec.target]) ?? report;
    return {
      kind: "engine",
      file: path,
      name: table.name,
      targets: table.targets,
      precision: table.precision,
      inputs: program.inputs,
      outputs: program.outputs,
      symbols: program.symbols,
      nodes: report.nodes,
      kernels: program.steps,
      unusedInputs: unusedInputs(spec),
      tunedShapes: own.memory.shapes,
      provenance: parse("provenance", table.provenance),
      explain: () => ({
        kernels: own.kernels,
        memory: { ...own.memory, buffers: placeBuffers(spec, own.memory.shapes) },
      }),
    };
  } finally {
    engine.close();
  }
}

function unusedInputs(program: ProgramSpec<unknown>): string[] {
  const read = new Set<number>();
  for (const { launch, host } of program.steps)
    for (const buffer of launch?.buffers ?? host?.inputs ?? []) read.add(rootOf(program, buffer));
  for (const { buffer } of program.outputs) read.add(rootOf(program, buffer));
  const sizes = new Set(program.symbols.map(({ input }) => input));
  return program.inputs.filter(({ buffer }, k) => !read.has(buffer) && !sizes.has(k)).map(({ name }) => name);
}
