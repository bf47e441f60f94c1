/** Code generation: graphs in, everything of an engine but its name and provenance out. */
import { createHash } from "node:crypto";
import type { EngineSpec, KernelSpec } from "@nimforge/engine";
import type { Graph, SymbolAtom } from "@nimforge/ir";
import { type KernelReport, type KernelTable, lowerProgram } from "./program.js";
import type { PrintedSource, Target } from "./target.js";

export interface GenerateOptions {
  signal?: AbortSignal | undefined;
  cacheDir?: string | undefined;
  /** Typical sizes by symbol name: what the choices are made for. */
  shapeHints?: Readonly<Record<string, number>> | undefined;
}

export interface Generated {
  readonly spec: Pick<EngineSpec, "kernels" | "images" | "programs" | "targets">;
  /** One for each launch, in order, by program. */
  readonly kernels: readonly KernelReport[];
}

/** The version of the launch ABI that printed kernels are written for (abi.h). */
const abiVersion = 1;

/**
 * Compiles programs for a target into one image.
 * @throws NimforgeError unsupported for nodes without code on the target; toolchain without a compiler
 */
export async function generate(
  programs: readonly { name: string; graph: Graph }[],
  target: Target,
  options: GenerateOptions = {},
): Promise<Generated> {
  const table = new Map<string, { index: number; name: string }>();
  const kernels: KernelSpec[] = [];
  const sources: { source: string; headers: readonly string[] }[] = [];
  const kernelOf: KernelTable = (print) => {
    const placeholder = print("KERNEL");
    const digest = createHash("sha256").update(placeholder.source).digest("hex").slice(0, 16);
    const stem = placeholder.kind.replace(/\W.*$/, "");
    let known = table.get(digest);
    const name = known?.name ?? `nf_${stem}_${digest}`;
    const printed: PrintedSource = { ...placeholder, source: placeholder.source.replaceAll("KERNEL", name) };
    if (!known) {
      known = { index: kernels.push({ name, image: 0 }) - 1, name };
      table.set(digest, known);
      sources.push({ source: printed.source, headers: printed.headers });
    }
    return { index: known.index, name, printed };
  };
  const hints = options.shapeHints ?? {};
  const sizeHint = ({ name, low, high }: SymbolAtom): number =>
    (Object.hasOwn(hints, name) ? hints[name] : undefined) ??
    Math.max(low, Math.min(typeof high === "number" ? high : 64, 64), 1);
  const lowered = programs.map(({ name, graph }) => lowerProgram(name, graph, target, kernelOf, sizeHint));
  const images =
    sources.length === 0
      ? []
      : [{ target: target.name, abi: abiVersion, features: [], code: await target.compile(sources, options) }];
  return {
    spec: { kernels, images, programs: lowered.map(({ spec }) => spec), targets: [target.name] },
    kernels: lowered.flatMap(({ reports }) => reports),
  };
}
