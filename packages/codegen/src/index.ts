export { type Generated, type GenerateOptions, generate } from "./generate.js";
export { type KernelReport, lowerProgram } from "./program.js";
export type { PrintedSource, Target } from "./target.js";
export { cpuTargets } from "./targets/cpu/index.js";
export * from "./toolchain/index.js";
