/** What a build is asked to do: the command line's options as fields, checked before any work begins. */
import type { BindValue, DimSpec } from "@nimforge/ir";
import { NimforgeError } from "@nimforge/tensor";
import type { BuildProgress } from "./progress.js";

/** Types that a model's float32 values are kept in, by the name of the precision; fp32 leaves the model as it is. */
export const halfTypes = { fp32: undefined, fp16: "float16", bf16: "bfloat16" } as const;
export type Precision = keyof typeof halfTypes;
export const precisions = Object.keys(halfTypes) as readonly Precision[];

export interface BuildOptions {
  /** Path of an ONNX model. */
  model: string;
  /** Folder for engines (default `engines`), or, for one target, a file whose name ends in `.engine`. */
  out?: string | undefined;
  /** Target names; `cpu` is this machine's highest level, `native` its devices, `all` every level and capability (default `["cpu"]`). */
  targets?: readonly string[] | undefined;
  /** What the engine keeps float32 values in (default `fp32`); inputs and outputs stay float32. */
  precision?: Precision | undefined;
  /** One file for all targets, in which equal weights are stored once. */
  fat?: boolean | undefined;
  /** Sizes of inputs: numbers, or names of symbols. */
  shapes?: Readonly<Record<string, readonly DimSpec[]>> | undefined;
  /** Inclusive bounds of symbols. */
  ranges?: Readonly<Record<string, readonly [low: number, high: number]>> | undefined;
  /** Sizes of symbols to tune for; memory figures are given for them. */
  opt?: Readonly<Record<string, number>> | undefined;
  /** Inputs that become constants. */
  bind?: Readonly<Record<string, BindValue>> | undefined;
  /** Cuts the graph at these values or nodes. */
  outputs?: readonly string[] | undefined;
  /** Compares every pass with the interpreter; slow. */
  checkPasses?: boolean | undefined;
  /** Writes a Chrome trace of the build to this file. */
  trace?: string | undefined;
  /** Where compiled code is cached; default $NIM_CACHE_PATH, else XDG's place. */
  cacheDir?: string | undefined;
  /** Stops the build; nothing is left behind. */
  signal?: AbortSignal | undefined;
  onProgress?: ((event: BuildProgress) => void) | undefined;
}

const usage = (code: string, fault: string, details: { expected?: string; found?: string; fix?: string } = {}) =>
  new NimforgeError("usage", code, fault, details);

/** @throws NimforgeError usage */
export function checkOptions(options: BuildOptions): void {
  if (typeof options.model !== "string" || options.model === "")
    throw usage("no-model", "no model is given", { expected: "the path of an .onnx file" });
  if (options.precision !== undefined && !precisions.includes(options.precision))
    throw usage("unknown-precision", `unknown precision ${JSON.stringify(options.precision)}`, {
      expected: precisions.join(", "),
    });
  for (const [name, size] of Object.entries(options.opt ?? {}))
    if (!Number.isSafeInteger(size) || size < 0)
      throw usage("bad-opt", `opt: the size of ${name} must be a non-negative integer`, { found: String(size) });
}
