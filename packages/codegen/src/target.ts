/** What a target is to the rest of the compiler: rules for grouping, a printer, a toolchain. One folder of `targets/` each. */
import type { Dim, Node, SymbolAtom } from "@nimforge/ir";
import type { GroupRules, Kernel } from "@nimforge/passes";
import type { Arguments } from "./cpp/arguments.js";
import type { LayoutOf } from "./cpp/operands.js";

/** One way to run a launch; all variants of it take the same arguments. */
export interface PrintedVariant {
  /** Taken when not 0; left out: always. */
  readonly guard?: Dim;
  /** Contains the kernel's name as `name`. */
  readonly source: string;
  readonly headers: readonly string[];
  /** Work items; on targets with blocks: blocks. */
  readonly items: Dim;
  readonly grain: Dim;
  /** Bytes for each worker; on targets with blocks: dynamic shared memory of a block. */
  readonly scratch: Dim;
  /** Threads of a block, on targets that have blocks. */
  readonly threads?: number;
  /** What was chosen where there was a choice, such as a tile; the compiler's verdict may rule it out. */
  readonly tactic?: string;
}

/** What a target goes by when it chooses. */
export interface Choices {
  /** A typical value of a size. */
  sizeHint(symbol: SymbolAtom): number;
  /** Tactics that the compiler made spill. */
  readonly avoid: ReadonlySet<string>;
}

export interface PrintedKernel {
  readonly kind: string;
  readonly args: Arguments;
  /** In the order in which they are tried; the last has no guard. */
  readonly variants: readonly PrintedVariant[];
}

export interface KernelSource {
  readonly name: string;
  readonly source: string;
  readonly headers: readonly string[];
}

/** What the compiler says about a kernel; bytes for each thread, shared memory for each block. */
export interface KernelResources {
  readonly registers: number;
  readonly sharedStatic: number;
  readonly spillStores: number;
  readonly spillLoads: number;
  readonly stack: number;
}

export interface CompiledImage {
  readonly code: Uint8Array;
  readonly ptx?: Uint8Array | undefined;
  /** Names of the kernels in it. */
  readonly kernels: readonly string[];
  readonly resources?: ReadonlyMap<string, KernelResources> | undefined;
}

export interface CompileOptions {
  readonly signal?: AbortSignal | undefined;
  readonly cacheDir?: string | undefined;
  /** Also keep the code in the form that newer devices can compile. */
  readonly ptx?: boolean | undefined;
}

export interface Target {
  readonly name: string;
  readonly family: "cpu" | "cuda";
  /** Version of the launch ABI (abi.h) that its kernels are written for. */
  readonly abi: number;
  /** Composites that it has a template for: the optimizer leaves them whole. */
  keeps?(node: Node): boolean;
  rules(layoutOf: LayoutOf, sizeHint: (symbol: SymbolAtom) => number): GroupRules;
  print(kernel: Kernel, name: string, layoutOf: LayoutOf, choices: Choices): PrintedKernel;
  /** Compiles kernels to as many images as suit the target. */
  compile(sources: readonly KernelSource[], options: CompileOptions): Promise<readonly CompiledImage[]>;
}
