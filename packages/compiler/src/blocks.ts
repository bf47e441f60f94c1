/** What a block of each launch takes on a GPU, for the sizes that an engine is tuned for. */
import type { Generated, KernelReport } from "@nimforge/codegen";
import { evaluateExprs } from "./buffers.js";

export interface ReportedKernel extends KernelReport {
  /** Threads of a block; left out on targets without blocks. */
  readonly threads?: number;
  /** Bytes of shared memory of a block, static and dynamic; null: known only during a run. */
  readonly shared?: number | null;
}

/** @param shapes of the inputs, by name; the reports are of the first program's launches, in order */
export function reportBlocks({ kernels, spec }: Generated, shapes: Record<string, number[]>): ReportedKernel[] {
  const program = spec.programs[0]!;
  const values = evaluateExprs(program, shapes);
  const launches = program.steps.flatMap(({ launch }) => (launch ? [launch] : []));
  return kernels.map((report, k) => {
    const variant = launches[k]?.variants.find(({ kernel }) => spec.kernels[kernel]?.name === report.name);
    const threads = variant && spec.kernels[variant.kernel]?.threads;
    if (variant === undefined || threads === undefined) return report;
    const dynamic = variant.scratch === undefined ? 0 : (values[variant.scratch] ?? null);
    return { ...report, threads, shared: dynamic === null ? null : dynamic + (report.resources?.sharedStatic ?? 0) };
  });
}
