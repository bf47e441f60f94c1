/** The CPU target: levels, grouping rules, printing, compilation. */
import { fileURLToPath } from "node:url";
import type { SymbolAtom } from "@nimforge/ir";
import type { GroupRules } from "@nimforge/passes";
import { repeatsReductions } from "../../cpp/loop-nest.js";
import type { LayoutOf } from "../../cpp/operands.js";
import type { Target } from "../../target.js";
import { compileFlags, compileImage, cpuLevels, detectCompiler } from "../../toolchain/index.js";
import { printLoops } from "./loops.js";
import { matchAnchor, printTemplate, refusesAnchor } from "./templates.js";

const kernels = fileURLToPath(new URL("../../../src/targets/cpu/kernels", import.meta.url));
const abi = fileURLToPath(new URL("../../../../engine/schema", import.meta.url));

/** Kernels in one translation unit: few enough to share out among cores, enough to pay for the headers once. */
const kernelsPerFile = 16;

/** The rarer functions have a header of their own: it costs compile time. */
const wide = /nf::(pow|sin|cos|tan|asin|acos|atan|sinh|cosh|asinh|acosh|atanh|exp2|log2)</;
const mathHeaders = (source: string): string[] => ["scalars.hpp", ...(wide.test(source) ? ["vmath_wide.hpp"] : [])];

function rules(layoutOf: LayoutOf, sizeHint: (symbol: SymbolAtom) => number): GroupRules {
  return {
    matchAnchor,
    sizeHint,
    layoutOf,
    refuses(kernel) {
      if (kernel.anchor) return refusesAnchor(kernel, layoutOf);
      return repeatsReductions(kernel, layoutOf, sizeHint) ? "a reduction would be repeated" : undefined;
    },
  };
}

export const cpuTargets: readonly Target[] = cpuLevels.map((level) => ({
  name: level.name,
  family: "cpu",
  abi: 1,
  rules,
  print(kernel, name, layoutOf) {
    const { source, args, kind, items, scratch, headers, grain } = kernel.anchor
      ? { ...printTemplate(kernel, name, layoutOf), grain: 1 }
      : printLoops(kernel, name, layoutOf);
    return { args, kind, variants: [{ source, items, scratch, grain, headers: [...mathHeaders(source), ...headers] }] };
  },
  async compile(sources, { signal, cacheDir }) {
    const compiler = await detectCompiler();
    const files = [];
    for (let start = 0; start < sources.length; start += kernelsPerFile) {
      const part = sources.slice(start, start + kernelsPerFile);
      const headers = [...new Set(part.flatMap((kernel) => kernel.headers))].sort();
      const text = [...headers.map((header) => `#include "${header}"`), ...part.map((kernel) => kernel.source)].join(
        "\n",
      );
      files.push({ name: `kernels${start / kernelsPerFile}.cpp`, text: `${text}\n` });
    }
    const flags = [...compileFlags(level, compiler.kind), "-std=c++20", "-fwrapv"];
    const code = await compileImage({ files, includeDirs: [kernels, abi], flags, signal, cacheDir, compiler });
    return [{ code, kernels: sources.map(({ name }) => name) }];
  },
}));
