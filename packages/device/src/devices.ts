/** The devices of this machine: what programs can run on, and which targets each runs. */
import { cpus, totalmem } from "node:os";
import type { NimforgeError } from "@nimforge/tensor";
import { addon, type CudaFacts, fromNative } from "./native.js";

/** Capabilities whose kernels the emulator runs. */
const emulatedTargets = ["emulated-sm_75", "emulated-sm_80", "emulated-sm_90", "emulated-sm_90a"];

export interface CpuInfo {
  kind: "cpu";
  name: "cpu";
  /** The processor's name. */
  product: string;
  /** Targets that it runs, best first; emulated ones last. */
  targets: string[];
  /** Features, as Linux names them. */
  features: string[];
  /** Physical cores that this process may use. */
  cores: number;
  memoryBytes: number;
}

export interface CudaInfo extends CudaFacts {
  kind: "cuda";
  /** The one that is built for this device; engines of lower minor capabilities, and PTX, run as well. */
  targets: string[];
}

export type DeviceInfo = CpuInfo | CudaInfo;

/** The CPU, then the GPUs in the driver's order. Starts the CUDA driver where there is one, but makes no context. */
export function listDevices(): DeviceInfo[] {
  return [cpu(), ...addon().cudaDevices().devices.map(cuda)];
}

/** The CUDA version that the driver supports, such as `13.0`, or why no GPU can be used. */
export function cudaStatus(): { driver: string } | { refusal: NimforgeError } {
  const { driver, refusal } = addon().cudaDevices();
  return driver === undefined ? { refusal: fromNative(refusal) as NimforgeError } : { driver };
}

function cpu(): CpuInfo {
  const levels = addon().cpuLevels();
  const targets = levels.filter(({ runs }) => runs).map(({ name }) => name);
  // Emulated kernels are compiled for this level.
  const emulates = targets.includes("cpu-x86-64-v3");
  const { cpuFeatures, cores } = addon().addonInfo();
  return {
    kind: "cpu",
    name: "cpu",
    product: cpus()[0]?.model.trim() || process.arch,
    targets: [...targets.reverse(), ...(emulates ? emulatedTargets : [])],
    features: cpuFeatures,
    cores,
    memoryBytes: totalmem(),
  };
}

function cuda(facts: CudaFacts): CudaInfo {
  // Architecture-specific code runs on exactly this capability.
  const specific = Number(facts.target.slice("sm_".length)) >= 90 ? [`${facts.target}a`] : [];
  return { kind: "cuda", ...facts, targets: [...specific, facts.target] };
}
