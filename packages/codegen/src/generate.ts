/** Code generation: graphs in, everything of an engine but its name and provenance out. */
import { createHash } from "node:crypto";
import type { EngineSpec, KernelSpec } from "@nimforge/engine";
import type { Graph, SymbolAtom } from "@nimforge/ir";
import { internalError } from "@nimforge/tensor";
import { type KernelReport, type KernelTable, lowerProgram } from "./program.js";
import type { CompileOptions, KernelResources, KernelSource, PrintedVariant, Target } from "./target.js";

export interface GenerateOptions extends CompileOptions {
  /** Typical sizes by symbol name: what the choices are made for. */
  shapeHints?: Readonly<Record<string, number>> | undefined;
}

export interface Generated {
  readonly spec: Pick<EngineSpec, "kernels" | "images" | "programs" | "targets">;
  /** One for each launch, in order, by program. */
  readonly kernels: readonly KernelReport[];
}

/** The kernel's name before it has one. */
const placeholder = /\bKERNEL/g;

/**
 * Compiles programs for a target.
 * @throws NimforgeError unsupported for nodes without code on the target; toolchain without a compiler
 */
export async function generate(
  programs: readonly { name: string; graph: Graph }[],
  target: Target,
  options: GenerateOptions = {},
): Promise<Generated> {
  const avoid = new Set<string>();
  for (;;) {
    const { generated, spilling } = await attempt(programs, target, options, avoid);
    const news = spilling.filter((tactic) => !avoid.has(tactic));
    if (news.length === 0) return generated;
    for (const tactic of news) avoid.add(tactic);
  }
}

/** One round; `spilling` names the tactics whose registers do not suffice, so that the next one does without. */
async function attempt(
  programs: readonly { name: string; graph: Graph }[],
  target: Target,
  options: GenerateOptions,
  avoid: ReadonlySet<string>,
): Promise<{ generated: Generated; spilling: readonly string[] }> {
  const table = new Map<string, { index: number; name: string }>();
  const kernels: KernelSpec[] = [];
  const sources: KernelSource[] = [];
  const tactics = new Map<string, string>();
  const kernelOf: KernelTable = (stem, { source, headers, threads, tactic }: PrintedVariant) => {
    const digest = createHash("sha256")
      .update(`${threads ?? ""}:${headers.join()}:${source}`)
      .digest("hex")
      .slice(0, 16);
    let known = table.get(digest);
    if (!known) {
      const name = `nf_${stem}_${digest}`;
      known = { index: kernels.push({ name, image: -1, ...(threads === undefined ? {} : { threads }) }) - 1, name };
      table.set(digest, known);
      if (tactic !== undefined) tactics.set(name, tactic);
      sources.push({ name, source: source.replaceAll(placeholder, name), headers });
    }
    return known;
  };
  const hints = options.shapeHints ?? {};
  const sizeHint = ({ name, low, high }: SymbolAtom): number =>
    (Object.hasOwn(hints, name) ? hints[name] : undefined) ??
    Math.max(low, Math.min(typeof high === "number" ? high : 64, 64), 1);
  const lowered = programs.map(({ name, graph }) => lowerProgram(name, graph, target, kernelOf, { sizeHint, avoid }));
  const images = sources.length === 0 ? [] : await target.compile(sources, options);
  const resources = new Map<string, KernelResources>();
  const imageOf = new Map(images.flatMap(({ kernels: names }, index) => names.map((name) => [name, index])));
  for (const image of images) for (const [name, used] of image.resources ?? []) resources.set(name, used);
  for (const kernel of kernels) {
    const image = imageOf.get(kernel.name);
    if (image === undefined) throw internalError(`no image holds kernel ${kernel.name}`);
    kernel.image = image;
  }
  const spilling = [...resources].flatMap(([name, { spillStores, spillLoads }]) => {
    const tactic = tactics.get(name);
    return spillStores + spillLoads > 0 && tactic !== undefined ? [tactic] : [];
  });
  const generated: Generated = {
    spec: {
      kernels,
      images: images.map(({ code, ptx }) => ({
        target: target.name,
        abi: target.abi,
        features: [],
        code,
        ...(ptx ? { ptx } : {}),
      })),
      programs: lowered.map(({ spec }) => ({ ...spec, target: target.name })),
      targets: [target.name],
    },
    kernels: lowered
      .flatMap(({ reports }) => reports)
      .map((report) => {
        const used = resources.get(report.name);
        return used ? { ...report, resources: used } : report;
      }),
  };
  return { generated, spilling };
}
