/**
 * The instruction-set levels of the CPU target, lowest first, and the compiler flags of each. A level includes those before it.
 *
 * Code is freestanding: an image must have no undefined symbols, constructors or thread-local storage, so that one image
 * loads on glibc and musl. No flag lets the compiler change a result: no contraction to fma, no reassociation.
 */

export interface CpuLevel {
  /** The target's name. */
  readonly name: string;
  readonly flags: readonly string[];
}

/** The CPU features that a level needs are the runtime's knowledge: native/src/cpu_features. */
export const cpuLevels: readonly CpuLevel[] = [
  { name: "cpu-x86-64", flags: ["-march=x86-64"] },
  { name: "cpu-x86-64-v3", flags: ["-march=x86-64-v3"] },
  { name: "cpu-x86-64-v4", flags: ["-march=x86-64-v4", "-mprefer-vector-width=512"] },
];

export type OptimizationLevel = "-O2" | "-O3";

const gccOnly = ["-fno-tree-loop-distribute-patterns"];
const common = [
  "-std=c++20",
  "-fPIC",
  "-ffreestanding",
  // Exact results: what is written is what is computed; only the side effects of errno and floating-point traps are given up.
  "-ffp-contract=off",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-fwrapv",
  // Nothing that would need a library, a constructor or an unwinder.
  "-fno-exceptions",
  "-fno-rtti",
  "-fno-threadsafe-statics",
  "-fno-asynchronous-unwind-tables",
  "-fno-unwind-tables",
  "-fno-stack-protector",
  "-fcf-protection=none",
  "-fno-plt",
  "-U_FORTIFY_SOURCE",
  // Only kernels are exported; what they do not reach is dropped.
  "-fvisibility=hidden",
  "-ffunction-sections",
  "-fdata-sections",
  "-fno-ident",
];

/** All flags for compiling one file of an image. */
export function compileFlags(
  level: CpuLevel,
  kind: "gcc" | "clang",
  optimization: OptimizationLevel = "-O2",
): string[] {
  return [...common, ...(kind === "gcc" ? gccOnly : []), optimization, ...level.flags];
}

/** Flags of the link: the same bytes for the same objects, every symbol resolved, no writable code. */
export const linkFlags: readonly string[] = [
  "-shared",
  "-nostdlib",
  "-s",
  "-Wl,--build-id=none",
  "-Wl,--gc-sections",
  "-Wl,--hash-style=gnu",
  "-Wl,-z,defs",
  "-Wl,-z,noexecstack",
  "-Wl,-z,relro",
];
