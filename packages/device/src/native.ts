/** The addon's functions as native/src/addon gives them, where the addon is found, and how its errors become ours. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { type ErrorKind, exitCodes, NimforgeError } from "@nimforge/tensor";

export interface NativeTensor {
  dtype: string;
  shape: readonly number[];
  data: ArrayBufferView;
}

export interface NativeOutput {
  dtype: string;
  shape: number[];
  data: ArrayBuffer;
}

/** Bytes; for the sizes of the last run. */
export interface MemoryFigures {
  /** What the runtime allocates for intermediate values. */
  arena: number;
  /** Largest sum, over steps, of live unpadded intermediate bytes. */
  arenaLowerBound: number;
  /** The same with inputs and outputs. */
  lowerBound: number;
  inputs: number;
  outputs: number;
  /** For each worker. */
  scratch: number;
}

export interface StepTime {
  name: string;
  /** Names of the source nodes. */
  origin: string[];
  nanoseconds: number;
}

export interface TensorSignature {
  name: string;
  dtype: string;
  /** Sizes as expressions over the program's symbols. */
  shape: string[];
}

export interface ProgramSignature {
  name: string;
  /** What it was compiled for; programs of several targets share their names. Empty: it has no launches and runs anywhere. */
  target: string;
  inputs: TensorSignature[];
  outputs: TensorSignature[];
  symbols: { name: string; min: number; max: number }[];
  /** How many steps a run has. */
  steps: number;
}

export interface CpuLevel {
  /** A target, such as `cpu-x86-64-v3`. */
  name: string;
  /** All CPU features that it needs, as Linux names them. */
  features: string[];
  /** Whether this CPU has them. */
  runs: boolean;
}

/** As the driver tells them; 0 or empty for what it does not. */
export interface CudaFacts {
  /** `cuda:0`: what the option `device` takes. */
  name: string;
  /** `NVIDIA H100 80GB HBM3`. */
  product: string;
  /** The compute capability as a target: `sm_90`. */
  target: string;
  memoryBytes: number;
  multiprocessors: number;
  /** Shared memory of a block, at most. */
  sharedBytesPerBlock: number;
  l2Bytes: number;
  clockHz: number;
  /** Peak, from the memory's clock and width. */
  memoryBytesPerSecond: number;
  pciBusId: string;
  /** Now, where the driver's management library is there. */
  metrics?: CudaMetrics | undefined;
}

export interface CudaMetrics {
  memoryUsedBytes?: number | undefined;
  memoryFreeBytes?: number | undefined;
  /** Share of the time in which a kernel ran. */
  utilizationPercent?: number | undefined;
  temperatureCelsius?: number | undefined;
  powerMilliwatts?: number | undefined;
  clockHz?: number | undefined;
}

export interface AddonInfo {
  version: string;
  formatMajor: number;
  formatMinor: number;
  /** Version of the kernel ABI. */
  abi: number;
  /** Registered host operators, `name@version`. */
  hostOps: string[];
  cpuFeatures: string[];
  /** Physical cores that this process may use. */
  cores: number;
}

export interface ArenaItem {
  bytes: number;
  /** Steps, both included. */
  first: number;
  last: number;
  /** Offset that it already has. */
  fixed?: number;
}

export interface ArenaPlan {
  offsets: number[];
  bytes: number;
  /** Largest sum, over steps, of live unpadded bytes. */
  lowerBound: number;
}

export interface NativeSession {
  run(inputs: NativeTensor[], id: number): Promise<NativeOutput[]>;
  runSync(inputs: NativeTensor[]): NativeOutput[];
  cancel(id: number): void;
  memory(): MemoryFigures;
  profile(): StepTime[];
  threads(): number;
  /** The device that it runs on. */
  device(): string;
  /** Its program's index. */
  program(): number;
  close(): void;
}

export interface NativeSessionOptions {
  program: string | number | undefined;
  target: string | undefined;
  device: string | undefined;
  allowEmulated: boolean;
  threads: number;
  profile: boolean;
}

export interface NativeEngine {
  table(): Uint8Array;
  programs(): ProgramSignature[];
  segment(index: number, offset: number, length: number): Uint8Array;
  createSession(options: NativeSessionOptions): NativeSession;
  close(): void;
}

interface Addon {
  openEngine(source: string | Uint8Array, options: { verifyWeights: boolean }): NativeEngine;
  planArena(items: readonly ArenaItem[], alignment: number): ArenaPlan;
  cpuLevels(): CpuLevel[];
  cudaDevices(): { driver?: string; refusal?: Error; devices: CudaFacts[] };
  addonInfo(): AddonInfo;
}

let loaded: Addon | undefined;

/** @throws NimforgeError toolchain when the addon is neither installed nor built. */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

const addonFile = "nimforge.node";

/** Musl systems have packages of their own. */
function platformPackage(): string {
  const { platform, arch } = process;
  if (platform !== "linux") return `@nimforge/${platform}-${arch}`;
  const header = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header;
  return `@nimforge/linux-${arch}-${header?.glibcVersionRuntime === undefined ? "musl" : "gnu"}`;
}

function load(): Addon {
  const require = createRequire(import.meta.url);
  const built = fileURLToPath(new URL(`../../../native/build/Release/${addonFile}`, import.meta.url));
  const name = platformPackage();
  const candidates = [() => require.resolve(`${name}/${addonFile}`), () => built];
  for (const candidate of candidates) {
    let file: string;
    try {
      file = candidate();
    } catch {
      continue; // not installed
    }
    if (!existsSync(file)) continue;
    try {
      return require(file) as Addon;
    } catch (cause) {
      throw new NimforgeError("toolchain", "addon-broken", `the native addon does not load: ${String(cause)}`, {
        file,
        fix: "install it again (npm install), or in the clone build it again (npm run build -w @nimforge/native)",
        cause,
      });
    }
  }
  throw new NimforgeError("toolchain", "addon-missing", "the native addon is not there", {
    expected: `the package ${name}, or in the clone native/build/Release/${addonFile}`,
    fix: `npm install ${name}, or in the clone: npm run build -w @nimforge/native (needs g++ or clang++, and cmake)`,
  });
}

/** The addon's errors carry `kind` and `code`; anything else passes as it is. */
export function fromNative(error: unknown, file?: string): unknown {
  if (!(error instanceof Error) || !("kind" in error)) return error;
  const { kind, code, expected, found, fix, node } = error as Error & Record<string, string | undefined>;
  if (kind === undefined || !(kind in exitCodes)) return error;
  return new NimforgeError(kind as ErrorKind, code ?? kind, error.message, {
    file,
    node,
    expected,
    found,
    fix,
    cause: error,
  });
}

/** Runs `body`; the addon's errors leave it as NimforgeErrors. */
export function native<T>(body: () => T, file?: string): T {
  try {
    return body();
  } catch (error) {
    throw fromNative(error, file);
  }
}
