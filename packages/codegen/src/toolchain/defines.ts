/** Macros of a CUDA compilation, real or emulated. */
import type { Capability } from "../targets/cuda/capabilities.js";

export type Defines = Readonly<Record<string, string | number>>;

/** NF_ARCH, NF_SM90A and its like for `a` targets, then the caller's own in the order of their names. */
export const defineFlags = (target: Capability, defines: Defines): string[] => [
  `-DNF_ARCH=${target.arch}`,
  ...(target.exact ? [`-DNF_SM${target.major * 10 + target.minor}A=1`] : []),
  ...Object.entries(defines)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `-D${name}=${value}`),
];
