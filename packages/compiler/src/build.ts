/** From a model's file to engine files: import, passes, code for each target, write. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, extname, join, resolve } from "node:path";
import { generate, type Target } from "@nimforge/codegen";
import { type EngineSpec, type ProgramSpec, writeEngineFile } from "@nimforge/engine";
import { type Graph, type ImportMeta, importOnnx, type RuntimeValue } from "@nimforge/ir";
import { optimize, pipeline } from "@nimforge/passes";
import { internalError, NimforgeError, type Tensor } from "@nimforge/tensor";
import { type ReportedKernel, reportBlocks } from "./blocks.js";
import { type MemoryReport, memoryOf, sizesFit } from "./buffers.js";
import { compareTensors } from "./compare.js";
import { type EngineReport, joinEngines } from "./fat.js";
import { type BuildOptions, checkOptions, halfTypes } from "./options.js";
import { inParallel } from "./parallel.js";
import { BuildClock } from "./progress.js";
import { randomTensor } from "./random.js";
import { doubleOpenSizes, inputShapes, nominalSizes, smallSizes } from "./sizes.js";
import { newestPlain, requireToolchains, resolveTargets, type Toolchains, toolchainOf } from "./targets.js";
import { version } from "./version.js";

export interface BuiltEngine {
  path: string;
  /** `fat` for a file with several. */
  target: string;
  precision: string;
  bytes: number;
  sha256: string;
  /** Source nodes without Constants. */
  nodes: number;
  /** Launches, host steps and reorders of one run; of a fat file, of its first target. */
  kernels: number;
  memory: MemoryReport;
  /** What a fat file holds. */
  targets?: { target: string; kernels: number; memory: MemoryReport }[];
  seconds: { total: number; [phase: string]: number };
}

export interface BuildResult {
  engines: BuiltEngine[];
  warnings: string[];
}

/**
 * Compiles a model into one engine file for each target, or into one for all of them.
 * @returns what was written, and warnings about the model and its kernels
 * @throws NimforgeError usage, unsupported, malformed, toolchain, limit, io, or internal; the signal's reason when it fires. A build that
 * fails leaves no partial file.
 */
export async function build(options: BuildOptions): Promise<BuildResult> {
  const clock = new BuildClock(options.signal, options.onProgress);
  const prepared = await prepare(options, clock);
  const { targets } = prepared;
  const precision = options.precision ?? "fp32";
  const engines: BuiltEngine[] = [];
  const warnings = [...prepared.warnings];
  const finish = async (target: string, compiled: Compiled, path: string) => {
    const { bytes, sha256 } = await clock.phase("write", target, () => write(path, compiled.spec, options.signal));
    const { nodes, kernels, memory } = compiled;
    return {
      path,
      target,
      precision,
      bytes,
      sha256,
      nodes,
      kernels,
      memory,
      seconds: clock.seconds(options.fat ? undefined : target),
    };
  };
  // Compilers of all targets share the cores among themselves; a target more than cores keeps them busy while another is printed.
  const limit = availableParallelism() + 1;
  const results = await inParallel(targets, limit, options.signal, async (target, signal) => {
    const compiled = await compile(prepared, target, { ...options, signal }, clock);
    const built = options.fat
      ? undefined
      : await finish(target.name, compiled, enginePath(options, target.name, targets.length));
    return { compiled, built };
  });
  for (const { compiled } of results) warnings.push(...compiled.warnings);
  if (options.fat) {
    const all = results.map(({ compiled }) => compiled);
    const fat = { ...(all[0] as Compiled), spec: joinEngines(all.map(({ spec }) => spec)) };
    const parts = all.map(({ kernels, memory }, k) => ({ target: (targets[k] as Target).name, kernels, memory }));
    engines.push({ ...(await finish("fat", fat, enginePath(options, "fat", 1))), targets: parts });
  } else for (const { built } of results) engines.push(built as BuiltEngine);
  if (options.trace !== undefined) await writeTrace(options.trace, clock);
  return { engines, warnings };
}

export interface Prepared {
  /** As imported, for comparison. */
  source: Graph;
  /** After the passes. */
  graph: Graph;
  meta: ImportMeta;
  targets: Target[];
  toolchains: Toolchains;
  warnings: string[];
}

/** What all targets share. */
export async function prepare(options: BuildOptions, clock: BuildClock): Promise<Prepared> {
  checkOptions(options);
  const targets = resolveTargets(options.targets ?? ["cpu"]);
  if (options.fat) enginePath(options, "fat", 1);
  else for (const target of targets) enginePath(options, target.name, targets.length);
  const { model, shapes, ranges, bind, outputs, opt } = options;
  const { graph: source, meta } = await clock.phase("import", undefined, () =>
    importOnnx(model, { shapes, ranges, bind, outputs }),
  );
  nominalSizes(source, opt);
  // Before minutes of work: are there compilers at all?
  const toolchains = await requireToolchains(targets);
  const warnings = [...meta.warnings];
  const half = halfTypes[options.precision ?? "fp32"];
  const graph = await clock.phase("optimize", undefined, () =>
    optimize(source, {
      half,
      keep: half === undefined ? (node) => targets.some((target) => target.keeps?.(node)) : undefined,
      onOutOfRange: (names) =>
        warnings.push(`${names.length} node(s) stay float32: ${half} cannot hold a constant of ${names.join(", ")}`),
      ...(options.checkPasses ? passChecks(source, opt) : {}),
    }),
  );
  return { source, graph, meta, targets, toolchains, warnings };
}

/** Every pass against the interpreter, on seeded inputs of the smallest sizes. */
function passChecks(graph: Graph, opt: BuildOptions["opt"]) {
  const shapes = inputShapes(graph, smallSizes(graph, opt));
  const checkInputs = graph.inputs.map(({ name, value }, k) => randomTensor(value.dtype, shapes[name] as number[], k));
  return {
    checkInputs,
    compare(pass: string, before: readonly RuntimeValue[], after: readonly RuntimeValue[]): void {
      graph.outputs.forEach(({ name }, k) => {
        const found = compareTensors(after[k] as Tensor, before[k] as Tensor, { rtol: 1e-4, atol: 1e-5 });
        if (!found.ok)
          throw internalError(`pass "${pass}" changes output "${name}"`, {
            found: `max |d| ${found.maxAbs ?? "undefined"}`,
          });
      });
    },
  };
}

export interface Compiled {
  spec: EngineSpec;
  reports: readonly ReportedKernel[];
  nodes: number;
  kernels: number;
  memory: MemoryReport;
  warnings: string[];
}

/** Code for one target, as an engine that is not written yet. */
export async function compile(
  { graph: shared, meta, targets, toolchains }: Prepared,
  target: Target,
  options: BuildOptions,
  clock: BuildClock,
): Promise<Compiled> {
  // What another target keeps whole is opened for this one.
  const graph = optimize(shared, { keep: target.keeps });
  const sizes = nominalSizes(graph, options.opt);
  const generated = await clock.phase("compile", target.name, () =>
    generate([{ name: "main", graph }], target, {
      signal: options.signal,
      cacheDir: options.cacheDir,
      shapeHints: sizes,
      // For devices that are newer than every target of the file.
      ptx: target === newestPlain(options.fat ? targets : [target]),
    }),
  );
  const memory = memoryAt(graph, generated.spec.programs[0]!, sizes, options.opt);
  const kernels = generated.spec.programs.reduce((count, program) => count + program.steps.length, 0);
  const nodes = meta.nodeCount;
  const reports = reportBlocks(generated, memory.shapes);
  const report: EngineReport = { schemaVersion: 1, nodes, kernels: reports, memory };
  const spec: EngineSpec = {
    ...generated.spec,
    assets: [],
    name: modelName(options.model),
    precision: options.precision ?? "fp32",
    provenance: JSON.stringify(await provenance(meta, toolchainOf(target, toolchains), options)),
    report: JSON.stringify(report),
  };
  return { spec, reports, nodes, kernels, memory, warnings: spillWarnings(reports, target) };
}

/** Kernels that keep registers in memory: slower than they should be. */
function spillWarnings(kernels: readonly ReportedKernel[], target: Target): string[] {
  const warnings = new Set<string>();
  for (const { name, from, resources } of kernels)
    if (resources && resources.spillStores + resources.spillLoads > 0)
      warnings.add(
        `kernel ${name} (${from.join(", ")}) spills on ${target.name}: ${resources.spillStores} bytes stored, ${resources.spillLoads} loaded, with ${resources.registers} registers`,
      );
  return [...warnings];
}

/** Memory for `sizes`, or, where they give a buffer a negative size, for the next larger ones that do not. */
function memoryAt(
  graph: Graph,
  program: ProgramSpec,
  sizes: Record<string, number>,
  opt: BuildOptions["opt"],
): MemoryReport {
  for (let round = 0; round < 24 && !sizesFit(program, inputShapes(graph, sizes)); round++)
    sizes = doubleOpenSizes(graph, sizes, opt);
  const shapes = inputShapes(graph, sizes);
  if (sizesFit(program, shapes)) return memoryOf(program, shapes);
  throw new NimforgeError("usage", "bad-sizes", "the model cannot run at the sizes that it is to be tuned for", {
    found: JSON.stringify(shapes),
    fix: "give sizes that it can run at: --opt NAME=SIZE",
  });
}

/** Where the engine came from; nothing of this machine, so that equal builds are equal files. */
async function provenance(meta: ImportMeta, toolchains: Toolchains, options: BuildOptions) {
  const { shapes, ranges, opt, bind, outputs } = options;
  return {
    schemaVersion: 1,
    source: {
      format: "onnx",
      sha256: meta.digest,
      externalData: await Promise.all(meta.externalFiles.map(fileDigest)),
      irVersion: meta.irVersion,
      opsets: meta.opsets,
      producer: meta.producer,
    },
    compiler: { name: "nimforge", version, ...toolchains },
    passes: pipeline.map((pass) => pass.name),
    options: JSON.parse(JSON.stringify({ shapes, ranges, opt, bind, outputs }, plain)) as object,
  };
}

/** BigInts have no JSON; typed arrays would become objects. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  return ArrayBuffer.isView(value) ? Array.from(value as Float32Array) : value;
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

async function write(
  path: string,
  spec: EngineSpec,
  signal: AbortSignal | undefined,
): Promise<{ bytes: number; sha256: string }> {
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (cause) {
    throw new NimforgeError("io", "write-failed", `cannot make the folder for engines: ${(cause as Error).message}`, {
      file: dirname(path),
      cause,
    });
  }
  const bytes = writeEngineFile(path, spec, signal ? { signal } : {});
  return { bytes, sha256: await fileDigest(path) };
}

async function writeTrace(path: string, clock: BuildClock): Promise<void> {
  try {
    await writeFile(path, clock.trace());
  } catch (cause) {
    throw new NimforgeError("io", "write-failed", `cannot write the trace: ${(cause as Error).message}`, {
      file: path,
      cause,
    });
  }
}

/** The model's file name without its extension, of characters that are safe in a path. */
export function modelName(model: string): string {
  const name = basename(resolve(model), extname(model))
    .replace(/[^A-Za-z0-9._-]/g, "_")
    .replace(/^[.-]+/, "_");
  return name || "model";
}

/** @throws NimforgeError usage when one file is named for several targets */
export function enginePath(options: BuildOptions, target: string, targets: number): string {
  const out = options.out ?? "engines";
  if (!out.endsWith(".engine"))
    return join(out, `${modelName(options.model)}-${target}-${options.precision ?? "fp32"}.engine`);
  if (targets > 1)
    throw new NimforgeError("usage", "one-file", "one engine file is named for several targets", {
      file: out,
      expected: "a folder, or one target",
      found: `${targets} targets`,
    });
  return out;
}
