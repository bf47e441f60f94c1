/** Options of every command that compiles a model. */
import type { BuildOptions } from "@nimforge/compiler";
import { precisions } from "@nimforge/compiler";
import type { CommandContext, OptionSpec } from "../command.js";
import { bind, list, opt, range, shape } from "../values.js";

export const modelOptions: readonly OptionSpec[] = [
  {
    flags: "--target <list>",
    description: "cpu (default), native, all, or names such as sm_90; see nim-build targets",
    group: "Target",
    parse: list,
  },
  { flags: "--precision <p>", description: `arithmetic: ${precisions.join(", ")} (default fp32)`, group: "Target" },
  {
    flags: "--shape <x=sizes>",
    description: "sizes of an input: 1,3,48,W or 1x3x48xW (repeat per input)",
    group: "Shapes",
    parse: shape,
  },
  {
    flags: "--range <W=low..high>",
    description: "bounds of a symbol (repeat per symbol)",
    group: "Shapes",
    parse: range,
  },
  { flags: "--opt <W=size>", description: "size to tune for; memory is reported for it", group: "Shapes", parse: opt },
  { flags: "--bind <name=value>", description: "fix an input: number, list or @file.npy", group: "Graph", parse: bind },
  { flags: "--outputs <names>", description: "cut the graph at these values or nodes", group: "Graph", parse: list },
  { flags: "--check-passes", description: "compare every pass with the interpreter (slow)", group: "Graph" },
  { flags: "--cache-dir <path>", description: "cache of compiled code (default $NIM_CACHE_PATH)", group: "Files" },
];

/** What commander makes of modelOptions. */
export interface ModelOptionValues {
  target?: string[];
  precision?: BuildOptions["precision"];
  shape?: BuildOptions["shapes"];
  range?: BuildOptions["ranges"];
  opt?: BuildOptions["opt"];
  bind?: BuildOptions["bind"];
  outputs?: string[];
  checkPasses?: boolean;
  cacheDir?: string;
}

export function buildOptions(
  model: string,
  values: ModelOptionValues,
  { console, signal }: CommandContext,
): BuildOptions {
  const { target, precision, shape, range, opt, bind, outputs, checkPasses, cacheDir } = values;
  return {
    model,
    targets: target,
    precision,
    shapes: shape,
    ranges: range,
    opt,
    bind,
    outputs,
    checkPasses,
    cacheDir,
    signal,
    onProgress: console.progress,
  };
}
