/** Names of targets to targets. */
import { cpuTargets, type Target } from "@nimforge/codegen";
import { cpuLevels } from "@nimforge/device";
import { NimforgeError } from "@nimforge/tensor";

/** Names that stand for others. */
export const targetAliases = {
  cpu: "the highest level of this machine",
  native: "this machine's devices",
  all: "every target",
} as const;

export interface TargetInfo {
  name: string;
  family: "cpu";
  /** Whether this machine can run its engines. */
  runs: boolean;
  /** Names that mean this target here. */
  aliases: string[];
}

/** Every target that can be built for, lowest level first. */
export function listTargets(): TargetInfo[] {
  const runs = new Set(
    cpuLevels()
      .filter((level) => level.runs)
      .map((level) => level.name),
  );
  const best = cpuTargets.filter(({ name }) => runs.has(name)).at(-1)?.name;
  return cpuTargets.map(({ name, family }) => ({
    name,
    family,
    runs: runs.has(name),
    aliases: name === best ? ["cpu", "native"] : [],
  }));
}

/**
 * The targets that names stand for, each once, in the order given.
 * @throws NimforgeError usage for an unknown name; incompatible when `cpu` or `native` means nothing on this machine
 */
export function resolveTargets(names: readonly string[]): Target[] {
  const infos = listTargets();
  const resolved = new Set<string>();
  for (const name of names) {
    if (name === "all") for (const info of infos) resolved.add(info.name);
    else if (name === "cpu" || name === "native") {
      const best = infos.find(({ aliases }) => aliases.includes(name));
      if (!best)
        throw new NimforgeError("incompatible", "no-native-target", "there is no target for this machine's CPU", {
          expected: infos.map((info) => info.name).join(", "),
          found: process.arch,
          fix: "name the target of the machine that will run the engine, such as --target cpu-x86-64-v3",
        });
      resolved.add(best.name);
    } else if (infos.some((info) => info.name === name)) resolved.add(name);
    else
      throw new NimforgeError("usage", "unknown-target", `unknown target ${JSON.stringify(name)}`, {
        expected: [...Object.keys(targetAliases), ...infos.map((info) => info.name)].join(", "),
        fix: "list targets with nim-build targets",
      });
  }
  if (resolved.size === 0)
    throw new NimforgeError("usage", "no-target", "no target is given", { expected: "at least one target" });
  return [...resolved].map((name) => cpuTargets.find((target) => target.name === name) as Target);
}
