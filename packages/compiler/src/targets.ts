/** Names of targets to targets, and what of them this machine can build and run. */
import {
  capabilityOf,
  cpuTargets,
  cudaTargets,
  detectCompiler,
  detectCuda,
  emulatedTargets,
  runsOn,
  type Target,
} from "@nimforge/codegen";
import { cudaStatus, type DeviceInfo, listDevices } from "@nimforge/device";
import { NimforgeError } from "@nimforge/tensor";

/** Names that stand for others. */
export const targetAliases = {
  cpu: "the highest level of this machine",
  native: "this machine's devices",
  all: "every CPU level and every compute capability",
} as const;

export interface TargetInfo {
  name: string;
  family: "cpu" | "cuda";
  /** Runs CUDA kernels on the CPU: for tests, not for use. */
  emulated: boolean;
  /** Whether this machine can run its engines. */
  runs: boolean;
  /** The device that runs them, as `cpu` or `cuda:0`; left out where none does. */
  device?: string;
  /** Names that mean this target here. */
  aliases: string[];
}

export interface TargetStatus extends TargetInfo {
  /** Whether this machine can build engines for it. */
  builds: boolean;
  /** What to install where it cannot. */
  missing?: string;
  /** Why no device here runs its engines. */
  reason?: string;
}

const allTargets: readonly Target[] = [...cpuTargets, ...cudaTargets, ...emulatedTargets];

export const isEmulated = (name: string): boolean => name.startsWith("emulated-");
/** `sm_90a`: its code runs on no other capability. */
const isExact = (name: string): boolean => /^sm_\d+a$/.test(name);

/** The last target of a list whose PTX other devices can compile: plain capabilities only. */
export const newestPlain = (targets: readonly Target[]): Target | undefined =>
  allTargets.filter((target) => targets.includes(target) && needsCuda(target) && !isExact(target.name)).at(-1);

/** Every target that can be built for: CPU levels, compute capabilities, emulated ones; the lowest first. */
export function listTargets(devices: readonly DeviceInfo[] = listDevices()): TargetInfo[] {
  const aliases = aliasesOn(devices);
  return allTargets.map(({ name, family }) => {
    const device = devices.find((candidate) => runsTarget(candidate, name))?.name;
    const info = {
      name,
      family,
      emulated: isEmulated(name),
      runs: device !== undefined,
      aliases: aliases.get(name) ?? [],
    };
    return device === undefined ? info : { ...info, device };
  });
}

function runsTarget(device: DeviceInfo, target: string): boolean {
  if (device.kind === "cpu") return device.targets.includes(isEmulated(target) ? emulatorLevel : target);
  return /^sm_/.test(target) && runsOn(target, capabilityOf(device.target));
}

/** What emulated code is compiled for. */
const emulatorLevel = "cpu-x86-64-v3";

/** The targets that `cpu` and `native` stand for: of each device the best. */
function aliasesOn(devices: readonly DeviceInfo[]): Map<string, string[]> {
  const aliases = new Map<string, string[]>();
  for (const { kind, targets } of devices) {
    const best = targets.find((name) => allTargets.some((target) => target.name === name));
    if (best !== undefined && !isEmulated(best)) aliases.set(best, kind === "cpu" ? ["cpu", "native"] : ["native"]);
  }
  return aliases;
}

/** As listTargets, with what this machine can build. */
export async function checkTargets(): Promise<TargetStatus[]> {
  const missing = async (detect: () => Promise<unknown>): Promise<string | undefined> => {
    try {
      await detect();
      return undefined;
    } catch (error) {
      if (error instanceof NimforgeError && error.kind === "toolchain") return error.fix;
      throw error;
    }
  };
  const [cxx, cuda] = [await missing(detectCompiler), await missing(detectCuda)];
  const devices = listDevices();
  const status = cudaStatus();
  const noDriver = "refusal" in status ? status.refusal.message : undefined;
  return listTargets(devices).map((info) => {
    const real = needsCuda(info);
    const lacks = real ? cuda : cxx;
    const have = devices.map((device) => (device.kind === "cpu" ? device.targets[0] : device.target)).join(", ");
    const reason = info.runs ? undefined : ((real ? noDriver : undefined) ?? `this machine has ${have}`);
    return {
      ...info,
      builds: lacks === undefined,
      ...(lacks === undefined ? {} : { missing: lacks }),
      ...(reason === undefined ? {} : { reason }),
    };
  });
}

const needsCuda = ({ name, family }: { name: string; family: string }): boolean =>
  family === "cuda" && !isEmulated(name);

/**
 * Before minutes of work: are the compilers there that the targets need, and no others?
 * @returns what they are, for the provenance: `{ cxx, cuda }`
 * @throws NimforgeError toolchain (exit 9), saying what to install
 */
export async function requireToolchains(targets: readonly Target[]): Promise<Toolchains> {
  const found: Toolchains = {};
  if (targets.some((target) => !needsCuda(target))) {
    const { kind, version } = await detectCompiler();
    found.cxx = `${kind} ${version}`;
  }
  if (targets.some(needsCuda)) {
    const { kind, version } = await detectCuda();
    found.cuda = `${kind} ${version}`;
  }
  return found;
}

/** Names and versions: `gcc 12.2.0`, `nvcc 13.0.88`. */
export interface Toolchains {
  cxx?: string;
  cuda?: string;
}

/** The one that compiles for a target. */
export const toolchainOf = (target: Target, { cxx, cuda }: Toolchains): Toolchains =>
  needsCuda(target) ? { cuda } : { cxx };

/**
 * The targets that names stand for, each once, in the order given. `all` is every CPU level and every plain capability: `sm_90a` and its
 * like run where the plain ones do, and emulated targets are for tests.
 * @throws NimforgeError usage for an unknown name; incompatible when `cpu` or `native` means nothing on this machine
 */
export function resolveTargets(names: readonly string[]): Target[] {
  const infos = listTargets();
  const resolved = new Set<string>();
  for (const name of names) {
    if (name === "all") {
      for (const info of infos) if (!info.emulated && !isExact(info.name)) resolved.add(info.name);
    } else if (name === "cpu" || name === "native") {
      const meant = infos.filter(({ aliases }) => aliases.includes(name));
      if (meant.length === 0)
        throw new NimforgeError("incompatible", "no-native-target", "there is no target for this machine's CPU", {
          expected: infos.map((info) => info.name).join(", "),
          found: process.arch,
          fix: "name the target of the machine that will run the engine, such as --target cpu-x86-64-v3",
        });
      for (const info of meant) resolved.add(info.name);
    } else if (infos.some((info) => info.name === name)) resolved.add(name);
    else
      throw new NimforgeError("usage", "unknown-target", `unknown target ${JSON.stringify(name)}`, {
        expected: [...Object.keys(targetAliases), ...infos.map((info) => info.name)].join(", "),
        fix: "list targets with nim-build targets",
      });
  }
  if (resolved.size === 0)
    throw new NimforgeError("usage", "no-target", "no target is given", { expected: "at least one target" });
  return [...resolved].map((name) => allTargets.find((target) => target.name === name) as Target);
}
