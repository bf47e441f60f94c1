export { type Generated, type GenerateOptions, generate } from "./generate.js";
export { type KernelReport, lowerProgram } from "./program.js";
export type {
  Choices,
  CompiledImage,
  CompileOptions,
  KernelResources,
  KernelSource,
  PrintedKernel,
  PrintedVariant,
  Target,
} from "./target.js";
export { cpuTargets } from "./targets/cpu/index.js";
export { type Capability, capabilities, capabilityOf, runsOn } from "./targets/cuda/capabilities.js";
export { cudaTargets, emulatedTargets } from "./targets/cuda/index.js";
export * from "./toolchain/index.js";
