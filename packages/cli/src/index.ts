/** nimforge: compile models ahead of time, load engines, run them. */
export {
  type BuildOptions,
  type BuildProgress,
  type BuildResult,
  type BuiltEngine,
  build,
  cacheGc,
  cacheInfo,
  checkTargets,
  type DeviceInfo,
  explainModel,
  inspectEngine,
  inspectModel,
  listDevices,
  listTargets,
  type TargetInfo,
  type TargetStatus,
  type VerifyOptions,
  type VerifyResult,
  verifyEngine,
  verifyModel,
} from "@nimforge/compiler";
export { type LoadOptions, loadEngine, type RunOptions, type Session } from "@nimforge/runtime";
export { type DType, exitCodes, NimforgeError, readNpy, type Tensor, tensor, writeNpy } from "@nimforge/tensor";
