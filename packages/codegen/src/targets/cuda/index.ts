/** The CUDA target: a compute capability each, real or emulated on the CPU; grouping rules, printing, compilation. */
import { fileURLToPath } from "node:url";
import type { SymbolAtom } from "@nimforge/ir";
import type { GroupRules } from "@nimforge/passes";
import { repeatsReductions } from "../../cpp/loop-nest.js";
import type { LayoutOf } from "../../cpp/operands.js";
import type { KernelSource, Target } from "../../target.js";
import { compileCubins, compileEmulated, type SourceFile } from "../../toolchain/index.js";
import { type Capability, capabilities } from "./capabilities.js";
import { printLoops } from "./loops.js";
import { keepsWhole, matchAnchor, printTemplate, refusesAnchor } from "./templates.js";

const kernels = fileURLToPath(new URL("../../../src/targets/cuda/kernels", import.meta.url));
const cpuKernels = fileURLToPath(new URL("../../../src/targets/cpu/kernels", import.meta.url));
const abi = fileURLToPath(new URL("../../../../engine/schema", import.meta.url));
const includeDirs = [kernels, cpuKernels, abi];

/** Kernels in one translation unit: few enough to share out among cores, enough to pay for the headers once. */
const kernelsPerFile = 16;

/** Translation units; kernels with 64-bit indices have units of their own. */
function unitsOf(sources: readonly KernelSource[]): (SourceFile & { kernels: readonly string[] })[] {
  const units = [];
  for (const wide of [false, true]) {
    const ones = sources.filter(({ headers }) => headers.includes("wide") === wide);
    for (let start = 0; start < ones.length; start += kernelsPerFile) {
      const part = ones.slice(start, start + kernelsPerFile);
      const headers = [...new Set(part.flatMap((kernel) => kernel.headers))].filter((name) => name !== "wide").sort();
      const text = [
        ...(wide ? ["#define NF_WIDE_INDEX"] : []),
        ...headers.map((header) => `#include "${header}"`),
        ...part.map(({ source }) => source),
        "",
      ].join("\n");
      units.push({ name: `kernels${units.length}.cu`, text, kernels: part.map(({ name }) => name) });
    }
  }
  return units;
}

function rulesFor(capability: Capability) {
  return (layoutOf: LayoutOf, sizeHint: (symbol: SymbolAtom) => number): GroupRules => ({
    matchAnchor: matchAnchor(capability),
    sizeHint,
    layoutOf,
    refuses(kernel) {
      if (kernel.anchor) return refusesAnchor(kernel, layoutOf);
      return repeatsReductions(kernel, layoutOf, sizeHint) ? "a reduction would be repeated" : undefined;
    },
  });
}

function cudaTarget(capability: Capability): Target {
  return {
    name: capability.name,
    family: "cuda",
    abi: 2,
    keeps: keepsWhole(capability),
    rules: rulesFor(capability),
    print: (kernel, name, layoutOf, choices) =>
      kernel.anchor
        ? printTemplate(kernel, name, layoutOf, choices, capability)
        : printLoops(kernel, name, layoutOf, choices.sizeHint),
    async compile(sources, { signal, cacheDir, ptx = false }) {
      const units = unitsOf(sources);
      const images = await compileCubins({
        files: units.map(({ name, text }) => ({ name, text })),
        includeDirs,
        target: capability.name,
        ptx,
        signal,
        cacheDir,
      });
      return images.map((image, k) => ({
        code: image.cubin,
        ptx: image.ptx,
        kernels: units[k]!.kernels,
        resources: image.resources,
      }));
    },
  };
}

/** The same kernels, run by the CPU. */
function emulatedTarget(capability: Capability): Target {
  const name = `emulated-${capability.name}`;
  return {
    ...cudaTarget(capability),
    name,
    async compile(sources, { signal, cacheDir }) {
      const units = unitsOf(sources);
      const files = units.map(({ name: file, text }) => ({ name: file, text }));
      const code = await compileEmulated({ files, includeDirs, target: name, signal, cacheDir });
      return [{ code, kernels: sources.map((source) => source.name) }];
    },
  };
}

/** A target for each compute capability, oldest first. */
export const cudaTargets: readonly Target[] = capabilities.map(cudaTarget);

/** Capabilities whose kernels the CPU can run, for tests. */
export const emulatedTargets: readonly Target[] = capabilities
  .filter(({ name }) => ["sm_75", "sm_80", "sm_90", "sm_90a"].includes(name))
  .map(emulatedTarget);
