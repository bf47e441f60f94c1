/**
 * What each compute capability is to the compiler: limits of an SM, instructions, and which code runs where. Only what the capability
 * fixes; the number of SMs, the bandwidth and the cache sizes belong to a product and are read from the device at load.
 *
 * Sources: CUDA Programming Guide 13, "Compute Capabilities" (device and SM information, memory information, feature support) and its
 * notes on binary and PTX compatibility; PTX ISA 9.0, target notes of mma, cp.async, cp.async.bulk, wgmma and tcgen05; nvcc 13.0 for what it accepts.
 */
import { NimforgeError } from "@nimforge/tensor";

/** Operand types of mma.sync: fp8 is e4m3 and e5m2, fp4 is e2m1 with block scales. */
export type MmaType = "f16" | "s8" | "bf16" | "tf32" | "fp8" | "fp4";

export interface Capability {
  /** The target's name: `sm_80`, `sm_90a`. */
  readonly name: string;
  readonly major: number;
  readonly minor: number;
  /** An `a` target: its code may use instructions that no other capability has, and runs on no other. */
  readonly exact: boolean;
  /** An embedded chip: code compiled for another capability never runs on it, PTX does. */
  readonly embedded: boolean;
  /** NF_ARCH in its code: the compute capability × 10. */
  readonly arch: number;
  /** Its PTX architecture: `compute_80`, `compute_90a`. */
  readonly ptx: string;

  /** Bytes of shared memory: of an SM, of a block without and with the opt-in attribute, and what the system takes from each block. */
  readonly sharedPerSm: number;
  readonly sharedPerBlock: number;
  readonly sharedPerBlockOptIn: number;
  readonly sharedReserved: number;
  /** 32-bit registers. */
  readonly registersPerSm: number;
  readonly registersPerThread: number;
  readonly threadsPerBlock: number;
  readonly threadsPerSm: number;
  readonly warpsPerSm: number;
  readonly blocksPerSm: number;

  readonly mma: readonly MmaType[];
  /** mma.sync m16n8k16 for 16-bit and m16n8k32 for 8-bit operands; without it m16n8k8 and m8n8k16. */
  readonly wideMma: boolean;
  readonly cpAsync: boolean;
  /** cp.async.bulk with tensor maps and mbarrier transactions. */
  readonly tma: boolean;
  readonly clusters: boolean;
  readonly wgmma: boolean;
  readonly tcgen05: boolean;
  /** L2 of its largest product in bytes where NVIDIA's tuning guides give it: a hint for tile orders. */
  readonly typicalL2?: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

interface Row {
  readonly cc: readonly [major: number, minor: number];
  /** KiB of shared memory of an SM. */
  readonly shared: number;
  readonly threads: number;
  readonly blocks: number;
  /** MiB. */
  readonly l2?: number;
  readonly embedded?: boolean;
  /** There is an `a` target too. */
  readonly exact?: boolean;
}

/** As published. The guide has no column for 8.8: it gets the limits of 8.6, the smallest of its generation. */
const rows: readonly Row[] = [
  { cc: [7, 5], shared: 64, threads: 1024, blocks: 16 },
  { cc: [8, 0], shared: 164, threads: 2048, blocks: 32, l2: 40 },
  { cc: [8, 6], shared: 100, threads: 1536, blocks: 16, l2: 6 },
  { cc: [8, 7], shared: 164, threads: 1536, blocks: 16, embedded: true },
  { cc: [8, 8], shared: 100, threads: 1536, blocks: 16, embedded: true },
  { cc: [8, 9], shared: 100, threads: 1536, blocks: 24, l2: 96 },
  { cc: [9, 0], shared: 228, threads: 2048, blocks: 32, l2: 50, exact: true },
  { cc: [10, 0], shared: 228, threads: 2048, blocks: 32, l2: 126, exact: true },
  { cc: [10, 3], shared: 228, threads: 2048, blocks: 32, l2: 126, exact: true },
  { cc: [11, 0], shared: 228, threads: 1536, blocks: 24, embedded: true, exact: true },
  { cc: [12, 0], shared: 100, threads: 1536, blocks: 24, exact: true },
  { cc: [12, 1], shared: 100, threads: 1536, blocks: 24, exact: true },
];

function capability(row: Row, exact: boolean): Capability {
  const [major, minor] = row.cc;
  const number = major * 10 + minor;
  const suffix = exact ? "a" : "";
  // A block may have all of an SM's shared memory but 1 KiB; Turing reserves nothing.
  const sharedReserved = major === 7 ? 0 : KiB;
  const mma: MmaType[] = ["f16", "s8"];
  if (major >= 8) mma.push("bf16", "tf32");
  if (number >= 89) mma.push("fp8");
  if (major === 12 && exact) mma.push("fp4");
  return {
    name: `sm_${number}${suffix}`,
    major,
    minor,
    exact,
    embedded: row.embedded ?? false,
    arch: number * 10,
    ptx: `compute_${number}${suffix}`,
    sharedPerSm: row.shared * KiB,
    sharedPerBlock: 48 * KiB,
    sharedPerBlockOptIn: row.shared * KiB - sharedReserved,
    sharedReserved,
    registersPerSm: 65536,
    registersPerThread: 255,
    threadsPerBlock: 1024,
    threadsPerSm: row.threads,
    warpsPerSm: row.threads / 32,
    blocksPerSm: row.blocks,
    mma,
    wideMma: major >= 8,
    cpAsync: major >= 8,
    tma: major >= 9,
    clusters: major >= 9,
    wgmma: major === 9 && exact,
    tcgen05: (major === 10 || major === 11) && exact,
    ...(row.l2 === undefined ? {} : { typicalL2: row.l2 * MiB }),
  };
}

/** Every target, oldest first; an `a` target comes after the plain one. */
export const capabilities: readonly Capability[] = rows.flatMap((row) => [
  capability(row, false),
  ...(row.exact ? [capability(row, true)] : []),
]);

const byName = new Map(capabilities.map((each) => [each.name, each]));

/**
 * The row of a target such as `sm_86` or `sm_90a`.
 * @throws NimforgeError usage when there is none of that name, naming all
 */
export function capabilityOf(target: string): Capability {
  const found = byName.get(target);
  if (found) return found;
  throw new NimforgeError("usage", "unknown-target", `no CUDA target is named ${JSON.stringify(target)}`, {
    expected: capabilities.map(({ name }) => name).join(", "),
    found: target,
    fix: "name one of the targets that `nim-build targets` lists",
  });
}

export interface DeviceCapability {
  readonly major: number;
  readonly minor: number;
}

/**
 * Whether a device runs the binary code of a target: the same major version and a minor version no older than the target's; `a` code
 * and the code of and for embedded chips only where both versions are equal.
 */
export function runsOn(target: string, device: DeviceCapability): boolean {
  const { major, minor, exact, embedded } = capabilityOf(target);
  if (major !== device.major) return false;
  const strict = exact || embedded || isEmbedded(device);
  return strict ? minor === device.minor : minor <= device.minor;
}

const isEmbedded = (device: DeviceCapability): boolean =>
  rows.some((row) => row.embedded === true && row.cc[0] === device.major && row.cc[1] === device.minor);

/** Whether the driver of a device can compile PTX of an architecture (`compute_80`): any as old as the device or older; `a` PTX only where equal. */
export function ptxRunsOn(ptx: string, device: DeviceCapability): boolean {
  const match = /^compute_(\d+)(a?)$/.exec(ptx);
  if (!match) return false;
  const [own, wanted] = [device.major * 10 + device.minor, Number(match[1])];
  return match[2] === "a" ? own === wanted : own >= wanted;
}

export interface KernelUse {
  /** Threads of a block. */
  readonly threads: number;
  /** Registers of a thread. */
  readonly registers: number;
  /** Bytes of shared memory of a block, static and dynamic. */
  readonly shared: number;
}

/**
 * Blocks of a kernel that an SM holds at once; 0 when not even one fits.
 * Registers are given out to warps in units of 256, to each of an SM's four partitions (the guide's occupancy calculator).
 */
export function blocksPerSm(target: Capability, { threads, registers, shared }: KernelUse): number {
  if (threads > target.threadsPerBlock || shared > target.sharedPerBlockOptIn || registers > target.registersPerThread)
    return 0;
  const warps = Math.ceil(threads / 32);
  const warpRegisters = Math.ceil((Math.max(registers, 1) * 32) / 256) * 256;
  const warpsByRegisters = Math.floor(target.registersPerSm / 4 / warpRegisters) * 4;
  const blockShared = Math.ceil(shared / 128) * 128 + target.sharedReserved;
  return Math.min(
    target.blocksPerSm,
    Math.floor(target.warpsPerSm / warps),
    Math.floor(warpsByRegisters / warps),
    blockShared === 0 ? target.blocksPerSm : Math.floor(target.sharedPerSm / blockShared),
  );
}
