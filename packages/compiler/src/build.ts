/** From a model's file to engine files: import, passes, code for each target, write. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { detectCompiler, type Generated, generate, type Target } from "@nimforge/codegen";
import { type EngineSpec, type ProgramSpec, writeEngineFile } from "@nimforge/engine";
import { type Graph, type ImportMeta, importOnnx, type RuntimeValue } from "@nimforge/ir";
import { optimize, pipeline } from "@nimforge/passes";
import { internalError, NimforgeError, type Tensor } from "@nimforge/tensor";
import { type MemoryReport, memoryOf, sizesFit } from "./buffers.js";
import { compareTensors } from "./compare.js";
import { type BuildOptions, checkOptions } from "./options.js";
import { BuildClock } from "./progress.js";
import { randomTensor } from "./random.js";
import { doubleOpenSizes, inputShapes, nominalSizes, smallSizes } from "./sizes.js";
import { resolveTargets } from "./targets.js";
import { version } from "./version.js";

export interface BuiltEngine {
  path: string;
  target: string;
  precision: string;
  bytes: number;
  sha256: string;
  /** Source nodes without Constants. */
  nodes: number;
  /** Launches, host steps and reorders of one run. */
  kernels: number;
  memory: MemoryReport;
  seconds: { total: number; [phase: string]: number };
}

export interface BuildResult {
  engines: BuiltEngine[];
  warnings: string[];
}

/**
 * Compiles a model into one engine file for each target.
 * @returns what was written, and warnings about the model
 * @throws NimforgeError usage, unsupported, malformed, toolchain, limit, io, or internal; the signal's reason when it fires. A build that
 * fails leaves no partial file.
 */
export async function build(options: BuildOptions): Promise<BuildResult> {
  const clock = new BuildClock(options.signal, options.onProgress);
  const { graph, meta, targets } = await prepare(options, clock);
  const engines: BuiltEngine[] = [];
  for (const target of targets) {
    const compiled = await compile(graph, meta, target, options, clock);
    const path = enginePath(options, target.name, targets.length);
    const { bytes, sha256 } = await clock.phase("write", target.name, () => write(path, compiled.spec, options.signal));
    const { nodes, kernels, memory } = compiled;
    const precision = options.precision ?? "fp32";
    engines.push({
      path,
      target: target.name,
      precision,
      bytes,
      sha256,
      nodes,
      kernels,
      memory,
      seconds: clock.seconds(target.name),
    });
  }
  if (options.trace !== undefined) await writeTrace(options.trace, clock);
  return { engines, warnings: [...meta.warnings] };
}

export interface Prepared {
  /** As imported, for comparison. */
  source: Graph;
  /** After the passes. */
  graph: Graph;
  meta: ImportMeta;
  targets: Target[];
}

/** What all targets share. */
export async function prepare(options: BuildOptions, clock: BuildClock): Promise<Prepared> {
  checkOptions(options);
  const targets = resolveTargets(options.targets ?? ["cpu"]);
  for (const target of targets) enginePath(options, target.name, targets.length);
  const { model, shapes, ranges, bind, outputs, opt } = options;
  const { graph: source, meta } = await clock.phase("import", undefined, () =>
    importOnnx(model, { shapes, ranges, bind, outputs }),
  );
  nominalSizes(source, opt);
  // Before minutes of work: is there a compiler at all?
  await detectCompiler();
  const graph = await clock.phase("optimize", undefined, () =>
    optimize(source, options.checkPasses ? passChecks(source, opt) : {}),
  );
  return { source, graph, meta, targets };
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
  generated: Generated;
  nodes: number;
  kernels: number;
  memory: MemoryReport;
}

/** Code for one target, as an engine that is not written yet. */
export async function compile(
  graph: Graph,
  meta: ImportMeta,
  target: Target,
  options: BuildOptions,
  clock: BuildClock,
): Promise<Compiled> {
  const sizes = nominalSizes(graph, options.opt);
  const generated = await clock.phase("compile", target.name, () =>
    generate([{ name: "main", graph }], target, {
      signal: options.signal,
      cacheDir: options.cacheDir,
      shapeHints: sizes,
    }),
  );
  const memory = memoryAt(graph, generated.spec.programs[0]!, sizes, options.opt);
  const kernels = generated.spec.programs.reduce((count, program) => count + program.steps.length, 0);
  const nodes = meta.nodeCount;
  const spec: EngineSpec = {
    ...generated.spec,
    assets: [],
    name: modelName(options.model),
    precision: options.precision ?? "fp32",
    provenance: JSON.stringify(await provenance(meta, options)),
    report: JSON.stringify({ schemaVersion: 1, nodes, kernels: generated.kernels, memory }),
  };
  return { spec, generated, nodes, kernels, memory };
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
async function provenance(meta: ImportMeta, options: BuildOptions) {
  const { kind, version: compilerVersion } = await detectCompiler();
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
    compiler: { name: "nimforge", version, cxx: `${kind} ${compilerVersion}` },
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
