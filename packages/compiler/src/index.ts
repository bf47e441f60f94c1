export { type CacheGcOptions, type CacheInfo, cacheGc, cacheInfo, type KernelReport } from "@nimforge/codegen";
export { type DeviceInfo, listDevices } from "@nimforge/device";
export type { ReportedKernel } from "./blocks.js";
export type { BufferPlace, MemoryReport } from "./buffers.js";
export { type BuildResult, type BuiltEngine, build } from "./build.js";
export { compareTensors, type Difference, type Tolerance } from "./compare.js";
export {
  type EngineSummary,
  type Explanation,
  explainModel,
  inspectEngine,
  inspectModel,
  type ModelSummary,
  type TensorSummary,
} from "./inspect.js";
export { type BuildOptions, type Precision, precisions } from "./options.js";
export type { BuildProgress } from "./progress.js";
export { randomTensor } from "./random.js";
export { htmlReport, type ReportData } from "./report-html.js";
export {
  checkTargets,
  listTargets,
  resolveTargets,
  type TargetInfo,
  type TargetStatus,
  targetAliases,
} from "./targets.js";
export { type IntegrityResult, type VerifyOptions, type VerifyResult, verifyEngine, verifyModel } from "./verify.js";
export { version } from "./version.js";
