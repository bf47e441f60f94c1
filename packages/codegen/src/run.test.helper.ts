/** Test support: graphs compiled for every level that this machine runs, many in one image, against the interpreter. */
import { cpuLevels, openEngine } from "@nimforge/device";
import { engineBytes } from "@nimforge/engine";
import { evaluate, type Graph } from "@nimforge/ir";
import { optimize } from "@nimforge/passes";
import { isFloat, type Tensor, toNumbers } from "@nimforge/tensor";
import { cpuTargets, generate, type Target } from "./index.js";

export interface TestProgram {
  readonly name: string;
  readonly graph: Graph;
  /** Each set is one run. */
  readonly inputs: readonly (readonly Tensor[])[];
  /** For each output: every operation is correctly rounded, so the bits must be the interpreter's. */
  readonly exact: readonly boolean[];
}

export const runnableTargets: readonly Target[] = cpuTargets.filter((target) =>
  cpuLevels().some((level) => level.name === target.name && level.runs),
);

/** What the compiled programs give that the interpreter, on the graphs as they were built, does not. */
export async function mismatches(programs: readonly TestProgram[], target: Target): Promise<string[]> {
  const generated = await generate(
    programs.map(({ name, graph }) => ({ name, graph: optimize(graph, { keep: target.keeps }) })),
    target,
  );
  const engine = openEngine(
    engineBytes({ name: "test", precision: "fp32", assets: [], provenance: "{}", report: "{}", ...generated.spec }),
  );
  const found: string[] = [];
  try {
    for (const program of programs) {
      const session = engine.createSession({ program: program.name, threads: 2 });
      for (const inputs of program.inputs) {
        const expected = evaluate(program.graph, inputs) as Tensor[];
        const actual = await session.run(inputs);
        expected.forEach((want, k) => {
          const difference = differs(actual[k] as Tensor, want, program.exact[k] as boolean);
          if (difference !== undefined)
            found.push(
              `${program.name} output ${k} on [${inputs.map((x) => x.shape.join("×")).join(", ")}]: ${difference}\n${program.graph}`,
            );
        });
      }
      await session.close();
    }
  } finally {
    engine.close();
  }
  return found;
}

/** Relative and absolute tolerance of a chain of a few inexact operations. */
const tolerances: Partial<Record<Tensor["dtype"], number>> = {
  float64: 1e-9,
  float32: 2e-5,
  float16: 1e-2,
  bfloat16: 8e-2,
};

export function differs(actual: Tensor, expected: Tensor, exact: boolean): string | undefined {
  if (actual.dtype !== expected.dtype || actual.shape.join() !== expected.shape.join())
    return `${actual.dtype}[${actual.shape}] instead of ${expected.dtype}[${expected.shape}]`;
  if (!isFloat(expected.dtype)) {
    for (let i = 0; i < expected.data.length; i++)
      if (actual.data[i] !== expected.data[i]) return `[${i}] is ${actual.data[i]}, not ${expected.data[i]}`;
    return undefined;
  }
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  const tolerance = exact ? 0 : (tolerances[expected.dtype] ?? 0.3);
  let scale = 1;
  for (const x of b) if (Number.isFinite(x)) scale = Math.max(scale, Math.abs(x));
  for (let i = 0; i < b.length; i++) {
    const [x, y] = [a[i] as number, b[i] as number];
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    if (!(Math.abs(x - y) <= tolerance * (exact ? 1 : Math.abs(y) + 0.1 * scale))) return `[${i}] is ${x}, not ${y}`;
  }
  return undefined;
}
