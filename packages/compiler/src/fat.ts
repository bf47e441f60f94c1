/** One engine file for several targets: the programs of each, over images, kernels and weights in common tables. */
import type { EngineSpec, ProgramSpec } from "@nimforge/engine";
import type { Explanation } from "./inspect.js";

/** One target's part of the build report that an engine carries. */
export type TargetReport = Pick<Explanation, "kernels"> & { memory: Omit<Explanation["memory"], "buffers"> };

/** The JSON of an engine's `report`. */
export interface EngineReport extends TargetReport {
  schemaVersion: 1;
  /** Source nodes without Constants. */
  nodes: number;
  /** Of a file with several targets, each target's; the fields above are the first one's. */
  targets?: Record<string, TargetReport>;
}

/**
 * Joins engines that differ in their target only. Equal weights become one segment when the file is written: segments go by content.
 * @param engines with one target each, in the order of the result's targets
 */
export function joinEngines(engines: readonly EngineSpec[]): EngineSpec {
  const [first] = engines as readonly [EngineSpec];
  const joined: EngineSpec = { ...first, targets: [], kernels: [], images: [], programs: [] };
  const reports: Record<string, TargetReport> = {};
  for (const { targets, kernels, images, programs, report } of engines) {
    const target = targets[0] as string;
    const [firstKernel, firstImage] = [joined.kernels.length, joined.images.length];
    joined.targets.push(target);
    joined.images.push(...images);
    joined.kernels.push(...kernels.map((kernel) => ({ ...kernel, image: kernel.image + firstImage })));
    joined.programs.push(...programs.map((program) => ({ ...shiftKernels(program, firstKernel), target })));
    const { kernels: reported, memory } = JSON.parse(report) as EngineReport;
    reports[target] = { kernels: reported, memory };
  }
  const report = { ...(JSON.parse(first.report) as EngineReport), targets: reports };
  return { ...joined, report: JSON.stringify(report) };
}

function shiftKernels(program: ProgramSpec, by: number): ProgramSpec {
  const steps = program.steps.map((step) =>
    step.launch
      ? {
          ...step,
          launch: {
            ...step.launch,
            variants: step.launch.variants.map((variant) => ({ ...variant, kernel: variant.kernel + by })),
          },
        }
      : step,
  );
  return { ...program, steps };
}
