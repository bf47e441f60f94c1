/**
 * Compiled targets, the CPU's levels and emulated capabilities: a job's cases become one engine with a program for each, compiled without their input values, opened from memory and run by
 * program name. Compiled kernels are cached by content.
 */
import { cpuTargets, cudaTargets, emulatedTargets, generate, type KernelSource, type Target } from "@nimforge/codegen";
import { cpuLevels, type DeviceEngine, listDevices, openEngine } from "@nimforge/device";
import { type EngineSpec, engineBytes } from "@nimforge/engine";
import { type Graph, importOnnx } from "@nimforge/ir";
import { optimize } from "@nimforge/passes";
import type { Tensor } from "@nimforge/tensor";
import { compareOutputs } from "./compare.js";
import { type Outcome, outcomeOf } from "./outcome.js";
import type { Case, Suite } from "./suite.js";
import type { Reporter } from "./worker.js";

/** The full-size networks take longer. */
const secondsFor = (entry: Case) => (entry.kind === "light" ? 570 : 10);
const secondsPerCompilation = 570;

interface Program {
  readonly name: string;
  readonly graph: Graph;
}

export async function runCompiled(
  suite: Suite,
  cases: readonly Case[],
  reporter: Reporter,
  targetName: string,
): Promise<void> {
  const { begin, result } = reporter;
  const target = targetOf(targetName);
  const programs: Program[] = [];
  for (const entry of cases) {
    begin([entry.name], secondsFor(entry));
    try {
      programs.push(await lower(suite, entry, target));
    } catch (error) {
      result(entry.name, outcomeOf(error));
    }
  }
  for await (const batch of compile(programs, target, reporter)) {
    const engine = openEngine(engineBytes(batch.spec));
    for (const program of batch.spec.programs) {
      const entry = suite.case(program.name);
      begin([entry.name], secondsFor(entry));
      result(
        entry.name,
        await runCase(
          suite,
          entry,
          engine,
          program.steps.some(({ host }) => host !== undefined),
        ),
      );
    }
    engine.close();
  }
}

/** A GPU's own capability where there is one; `cpu` is the highest level that this machine runs. */
function targetOf(name: string): Target {
  const runs = cpuTargets.filter((target) => cpuLevels().some((level) => level.name === target.name && level.runs));
  const devices = listDevices().flatMap(({ targets }) => targets);
  const gpus = cudaTargets.filter((target) => devices.includes(target.name));
  const target =
    name === "cpu" ? runs.at(-1) : [...runs, ...emulatedTargets, ...gpus].find((candidate) => candidate.name === name);
  if (!target) throw new Error(`this machine does not run ${name}`);
  return target;
}

/** Everything up to printed kernels, so that a case without code on the target is refused alone. */
async function lower(suite: Suite, entry: Case, target: Target): Promise<Program> {
  const { graph } = importOnnx(suite.model(entry), { file: entry.name });
  const program = { name: entry.name, graph: optimize(graph, { keep: target.keeps }) };
  const printOnly: Target = Object.assign(Object.create(target) as Target, {
    compile: async (sources: readonly KernelSource[]) => [
      { code: new Uint8Array(), kernels: sources.map((source) => source.name) },
    ],
  });
  await generate([program], printOnly);
  return program;
}

/** Engines that hold the programs: one, unless some do not compile, which halves of the list find out. */
async function* compile(
  programs: readonly Program[],
  target: Target,
  { begin, result }: Reporter,
): AsyncGenerator<{ spec: EngineSpec }> {
  if (programs.length === 0) return;
  begin(
    programs.map(({ name }) => name),
    secondsPerCompilation,
  );
  let spec: EngineSpec;
  try {
    const generated = await generate(programs, target);
    spec = { name: "conformance", precision: "fp32", assets: [], provenance: "{}", report: "{}", ...generated.spec };
  } catch (error) {
    const [only] = programs;
    if (programs.length === 1) result(only!.name, outcomeOf(error));
    else {
      const middle = Math.ceil(programs.length / 2);
      yield* compile(programs.slice(0, middle), target, { begin, result });
      yield* compile(programs.slice(middle), target, { begin, result });
    }
    return;
  }
  yield { spec };
}

async function runCase(suite: Suite, entry: Case, engine: DeviceEngine, onHost: boolean): Promise<Outcome> {
  try {
    const session = engine.createSession({ program: entry.name, threads: 2 });
    try {
      for (let k = 0; k < entry.dataSets; k++) {
        const data = suite.dataSet(entry, k);
        const mismatch = compareOutputs(entry, data, await session.run(data.inputs as Tensor[]));
        if (mismatch) return { status: "fail", ...mismatch };
      }
      return { status: "pass", onHost };
    } finally {
      await session.close();
    }
  } catch (error) {
    return outcomeOf(error);
  }
}
