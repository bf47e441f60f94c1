/** The CPU target: levels, grouping rules, printing, compilation. */
import { fileURLToPath } from "node:url";
import { evaluateDim, floordiv, max, type SymbolAtom } from "@nimforge/ir";
import type { GroupRules } from "@nimforge/passes";
import type { Target } from "../../target.js";
import { compileFlags, compileImage, cpuLevels, detectCompiler } from "../../toolchain/index.js";
import { type LayoutOf, printLoops, repeatedReductions } from "./loops.js";
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
      let repeats = 1;
      for (const { axis } of repeatedReductions(kernel, layoutOf))
        repeats *= Math.max(1, evaluateDim(axis.extent, sizeHint));
      return repeats > 1.5 ? "a reduction would be repeated" : undefined;
    },
  };
}

export const cpuTargets: readonly Target[] = cpuLevels.map((level) => ({
  name: level.name,
  family: "cpu",
  rules,
  print(kernel, name, layoutOf) {
    if (kernel.anchor) {
      const printed = printTemplate(kernel, name, layoutOf);
      return { ...printed, grain: 1, headers: [...mathHeaders(printed.source), ...printed.headers] };
    }
    const printed = printLoops(kernel, name, layoutOf);
    return {
      ...printed,
      headers: mathHeaders(printed.source),
      grain: max(1, floordiv(8192, max(1, printed.workPerItem))),
    };
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
    return compileImage({ files, includeDirs: [kernels, abi], flags, signal, cacheDir, compiler });
  },
}));
