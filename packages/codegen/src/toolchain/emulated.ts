/** The same CUDA sources as a CPU image: every block of a launch is a work item, and the emulator behind NfLaunch runs its threads. */
import { NimforgeError } from "@nimforge/tensor";
import { capabilityOf } from "../targets/cuda/capabilities.js";
import { detectCompiler } from "./compiler.js";
import { type Defines, defineFlags } from "./defines.js";
import { compileImage, type ImageOptions } from "./image.js";
import { compileFlags, cpuLevels, type OptimizationLevel } from "./levels.js";

export interface EmulatedOptions
  extends Pick<ImageOptions, "files" | "includeDirs" | "signal" | "cacheDir" | "compiler"> {
  /** `emulated-sm_80`, `emulated-sm_90`, … */
  target: string;
  /** Macros beyond NF_EMULATE, NF_ARCH and NF_SM90A and its like. */
  defines?: Defines;
  optimization?: OptimizationLevel;
}

/** The instruction set of emulated images: fma and half conversion are in it. */
const level = "cpu-x86-64-v3";

/**
 * Compiles and links one image with the host's C++ compiler; no CUDA toolkit is needed.
 * @returns the ELF shared object's bytes
 * @throws NimforgeError as compileImage; usage for an unknown target
 */
export async function compileEmulated(options: EmulatedOptions): Promise<Uint8Array> {
  const { target, defines = {}, optimization, ...image } = options;
  const name = /^emulated-(sm_\w+)$/.exec(target)?.[1];
  if (name === undefined)
    throw new NimforgeError("usage", "unknown-target", `${JSON.stringify(target)} is not an emulated target`, {
      expected: "emulated-sm_80, emulated-sm_90, …",
      found: target,
    });
  const compiler = image.compiler ?? (await detectCompiler());
  const flags = [
    ...compileFlags(cpuLevels.find((each) => each.name === level)!, compiler.kind, optimization),
    "-DNF_EMULATE=1",
    ...defineFlags(capabilityOf(name), defines),
  ];
  return compileImage({ ...image, flags, compiler });
}
