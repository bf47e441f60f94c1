import { type AddonInfo, type ArenaItem, type ArenaPlan, addon, type CpuLevel, native } from "./native.js";

export { type CpuInfo, type CudaInfo, cudaStatus, type DeviceInfo, listDevices } from "./devices.js";
export {
  createSession,
  DeviceEngine,
  DeviceSession,
  isEmulated,
  type OpenOptions,
  openEngine,
  type SessionOptions,
} from "./engine.js";
export type {
  AddonInfo,
  ArenaItem,
  ArenaPlan,
  CpuLevel,
  CudaFacts,
  CudaMetrics,
  MemoryFigures,
  ProgramSignature,
  StepTime,
  TensorSignature,
} from "./native.js";

/** Offsets for buffers with lifetimes: what sessions use. */
export function planArena(items: readonly ArenaItem[], alignment = 64): ArenaPlan {
  return native(() => addon().planArena(items, alignment));
}

/** CPU targets of this architecture, lowest first. */
export function cpuLevels(): CpuLevel[] {
  return addon().cpuLevels();
}

export function addonInfo(): AddonInfo {
  return addon().addonInfo();
}
