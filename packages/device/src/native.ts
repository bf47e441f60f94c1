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
  close(): void;
}

export interface NativeEngine {
  table(): Uint8Array;
  programs(): ProgramSignature[];
  segment(index: number, offset: number, length: number): Uint8Array;
  createSession(options: { program: number; threads: number; profile: boolean }): NativeSession;
  close(): void;
}

interface Addon {
  openEngine(source: string | Uint8Array, options: { verifyWeights: boolean }): NativeEngine;
  planArena(items: readonly ArenaItem[], alignment: number): ArenaPlan;
  cpuLevels(): CpuLevel[];
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
