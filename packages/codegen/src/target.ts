/** What a target is to the rest of the compiler: rules for grouping, a printer, a toolchain. One folder of `targets/` each. */
import type { Dim, SymbolAtom } from "@nimforge/ir";
import type { GroupRules, Kernel } from "@nimforge/passes";
import type { Arguments } from "./cpp/arguments.js";
import type { LayoutOf } from "./targets/cpu/loops.js";

export interface PrintedSource {
  /** Contains the kernel's name as `name`. */
  readonly source: string;
  readonly args: Arguments;
  readonly items: Dim;
  readonly grain: Dim;
  readonly scratch: Dim;
  readonly kind: string;
  readonly headers: readonly string[];
}

export interface Target {
  readonly name: string;
  readonly family: "cpu";
  rules(layoutOf: LayoutOf, sizeHint: (symbol: SymbolAtom) => number): GroupRules;
  print(kernel: Kernel, name: string, layoutOf: LayoutOf): PrintedSource;
  /** Compiles the kernels' sources to one image. */
  compile(
    sources: readonly { source: string; headers: readonly string[] }[],
    options: { signal?: AbortSignal | undefined; cacheDir?: string | undefined },
  ): Promise<Uint8Array>;
}
