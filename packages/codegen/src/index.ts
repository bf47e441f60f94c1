export { type Generated, type GenerateOptions, generate } from "./generate.js";
export { type KernelReport, lowerProgram } from "./program.js";
export type {
  CompiledImage,
  CompileOptions,
  KernelResources,
  KernelSource,
  PrintedKernel,
  PrintedVariant,
  Target,
} from "./target.js";
export { cpuTargets } from "./targets/cpu/index.js";
export * from "./toolchain/index.js";
