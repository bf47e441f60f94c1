/** Is an engine right? A model against the interpreter, an engine file against its own hashes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEngine } from "@nimforge/device";
import { writeEngineFile } from "@nimforge/engine";
import { evaluate, type Graph } from "@nimforge/ir";
import { loadEngine } from "@nimforge/runtime";
import { isFloat, NimforgeError, type Tensor, toNumbers } from "@nimforge/tensor";
import { compile, prepare } from "./build.js";
import { compareTensors, type Difference } from "./compare.js";
import type { BuildOptions } from "./options.js";
import { BuildClock } from "./progress.js";
import { randomTensor } from "./random.js";
import { inputShapes, smallSizes } from "./sizes.js";
import { listTargets, resolveTargets } from "./targets.js";

export interface VerifyOptions extends Omit<BuildOptions, "out" | "trace"> {
  /** An engine of this model; without it one is built for the first target. */
  engine?: string | undefined;
  /** What the outputs are compared with. */
  against?: "reference" | undefined;
  /**
   * Allowed |found - expected| is atol + rtol·|expected|. Defaults: 1e-3 and 1e-4; fp16 and bf16 have as `rtol` 2e-2 and 1e-1, and as `atol` these
   * fractions of the output's largest magnitude.
   */
  rtol?: number | undefined;
  atol?: number | undefined;
  /** Of the random inputs (default 0). */
  seed?: number | undefined;
  /** Workers of the engine's session. */
  threads?: number | undefined;
}

export interface VerifyResult {
  ok: boolean;
  against: string;
  /** The inputs' shapes: `opt`, else the smallest that are allowed. */
  shapes: Record<string, number[]>;
  outputs: ({ name: string } & Difference)[];
}

/**
 * Runs a model's engine and the interpreter on the same seeded inputs.
 * @throws NimforgeError as build and loadEngine do
 */
export async function verifyModel(options: VerifyOptions): Promise<VerifyResult> {
  const clock = new BuildClock(options.signal, options.onProgress);
  if (options.engine === undefined) requireRunnable(options.targets);
  const prepared = await prepare(options, clock);
  const { source } = prepared;
  const shapes = inputShapes(source, smallSizes(source, options.opt));
  const seed = options.seed ?? 0;
  const inputs = source.inputs.map(({ name, value }, k) =>
    randomTensor(value.dtype, shapes[name] as number[], seed + k),
  );
  const expected = await clock.phase("interpret", undefined, () => evaluate(source, inputs) as Tensor[]);

  const named = Object.fromEntries(source.inputs.map(({ name }, k) => [name, inputs[k] as Tensor]));
  const run = (path: string) =>
    clock.phase("run", undefined, async () => {
      const session = await loadEngine(path, { threads: options.threads });
      try {
        return await session.run(named, { signal: options.signal });
      } finally {
        await session.close();
      }
    });
  let found: Record<string, Tensor>;
  if (options.engine !== undefined) found = await run(options.engine);
  else {
    const { spec } = await compile(prepared, prepared.targets[0]!, options, clock);
    const folder = await mkdtemp(join(tmpdir(), "nimforge-"));
    try {
      const path = join(folder, "verify.engine");
      writeEngineFile(path, spec, options.signal ? { signal: options.signal } : {});
      found = await run(path);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  return { against: "reference", shapes, ...compareOutputs(source, found, expected, options) };
}

/** Before it is built: can the first target's engine run here at all? */
function requireRunnable(names: readonly string[] = ["cpu"]): void {
  const [target] = resolveTargets(names);
  const info = listTargets().find(({ name }) => name === target?.name);
  if (!info || info.runs) return;
  const emulated = listTargets().find((other) => other.name === "emulated-sm_80" && other.runs);
  throw new NimforgeError("incompatible", "cannot-run-here", `this machine cannot run engines for ${info.name}`, {
    expected: listTargets()
      .filter(({ runs }) => runs)
      .map(({ name }) => name)
      .join(", "),
    found: info.name,
    fix:
      info.family === "cuda" && emulated
        ? `verify on a machine with such a GPU, or the same kernels on the CPU: --target ${emulated.name}`
        : "verify on a machine that can, or for a target that runs here",
  });
}

/** Rounding to the half types, along a network: fractions of an output's largest magnitude. */
const halfTolerances = { fp16: 2e-2, bf16: 1e-1 } as const;

function toleranceFor(expected: Tensor, { precision = "fp32", rtol, atol }: VerifyOptions) {
  if (precision === "fp32") return { rtol: rtol ?? 1e-3, atol: atol ?? 1e-4 };
  const share = halfTolerances[precision];
  if (!isFloat(expected.dtype)) return { rtol: 0, atol: 0 };
  const largest = toNumbers(expected).reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 0);
  return { rtol: rtol ?? share, atol: atol ?? share * largest };
}

function compareOutputs(
  graph: Graph,
  found: Record<string, Tensor>,
  expected: readonly Tensor[],
  options: VerifyOptions,
) {
  const outputs = graph.outputs.map(({ name }, k) => {
    const tensor = Object.hasOwn(found, name) ? found[name] : undefined;
    if (!tensor)
      throw new NimforgeError(
        "usage",
        "other-model",
        `the engine has no output "${name}": it is not an engine of this model`,
        { file: options.engine },
      );
    return { name, ...compareTensors(tensor, expected[k] as Tensor, toleranceFor(expected[k] as Tensor, options)) };
  });
  return { ok: outputs.every(({ ok }) => ok), outputs };
}

export interface IntegrityResult {
  ok: true;
  against: "integrity";
  file: string;
  targets: string[];
  segments: number;
  bytes: number;
}

/**
 * Checks an engine file completely: header, table, padding, code and the hash of every segment.
 * @throws NimforgeError malformed (exit 4) for a damaged file, incompatible for another format version, usage when there is none
 */
export function verifyEngine(path: string): IntegrityResult {
  const engine = openEngine(path, { verifyWeights: true });
  try {
    const { targets, segments } = engine.table;
    return {
      ok: true,
      against: "integrity",
      file: path,
      targets,
      segments: segments.length,
      bytes: segments.reduce((sum, { length }) => sum + length, 0),
    };
  } finally {
    engine.close();
  }
}
