/**
 * Lowering: an optimized graph becomes a program: kernels in order, buffers with lifetimes, sizes as expressions.
 *
 * A launch that would only rename memory (a reshape of a buffer in the same order) is no launch: both values share a buffer.
 */

import type { BufferSpec, ProgramSpec, StepSpec, SymbolSpec } from "@nimforge/engine";
import {
  add as addDims,
  asSymbol,
  type Dim,
  equalDims,
  evaluateDim,
  formatDim,
  type Graph,
  load,
  loopVariable,
  mul,
  type Node,
  type Value,
  visitExpr,
  visitSymbols,
} from "@nimforge/ir";
import {
  buildKernel,
  chooseLayouts,
  type GroupRules,
  group,
  isMaterializedSource,
  type Kernel,
  type Layout,
  offsetOf,
} from "@nimforge/passes";
import { bytesOf, elementBytes, NimforgeError } from "@nimforge/tensor";
import { type Argument, isPacked, type PackedConstant } from "./cpp/arguments.js";
import { Expressions } from "./expressions.js";
import { orderLaunches } from "./order.js";
import type { Choices, KernelResources, PrintedVariant, Target } from "./target.js";

export interface KernelReport {
  readonly name: string;
  readonly kind: string;
  /** Names of the source nodes it computes. */
  readonly from: readonly string[];
  readonly reason: string;
  /** Bytes read and written, and arithmetic operations, as expressions of the sizes. */
  readonly bytes: string;
  readonly flops: string;
  readonly source: string;
  /** What the target's compiler says about its usual variant. */
  readonly resources?: KernelResources;
}

export interface LoweredProgram {
  readonly spec: ProgramSpec;
  readonly reports: readonly KernelReport[];
}

/** Gives the index of a printed kernel in the engine, sharing equal code. */
export type KernelTable = (stem: string, variant: PrintedVariant) => { index: number; name: string };

/** @throws NimforgeError unsupported naming every node that the target has no code for */
export function lowerProgram(
  name: string,
  graph: Graph,
  target: Target,
  kernelOf: KernelTable,
  choices: Choices,
): LoweredProgram {
  const { sizeHint } = choices;
  const layoutOf = chooseLayouts(graph);
  const rules = target.rules(layoutOf, sizeHint);
  refuseUnsupported(graph, target, rules);
  const grouping = group(graph, rules);
  const kernels: Kernel[] = orderLaunches([...grouping.kernels], graph, (dim) =>
    Math.max(1, evaluateDim(dim, sizeHint)),
  );
  return new Lowering(name, graph, target, kernelOf, layoutOf, kernels, choices).run();
}

function refuseUnsupported(graph: Graph, target: Target, { matchAnchor }: GroupRules): void {
  const refused: { node: Node; why: string }[] = [];
  for (const node of graph.nodes()) {
    if (
      node.outputs.some(isMaterializedSource) &&
      node.outputs[0]!.type.kind === "tensor" &&
      node.outputs[0]!.dtype !== "string"
    )
      continue;
    const odd = node.outputs.find(
      (value) => value.type.kind !== "tensor" || ["string", "complex64", "complex128"].includes(value.type.dtype),
    );
    if (!node.computes && !matchAnchor(node)) refused.push({ node, why: "has no kernel" });
    else if (odd) refused.push({ node, why: "works on strings, sequences or complex numbers" });
  }
  if (refused.length === 0) return;
  const [first] = refused as [{ node: Node; why: string }];
  const list = refused
    .slice(0, 10)
    .map(
      ({ node, why }) =>
        `${node.op.domain ? `${node.op.domain}:` : ""}${node.op.name} "${node.context.nameOf(node) ?? ""}" ${why}`,
    );
  throw new NimforgeError(
    "unsupported",
    "unsupported-on-target",
    `${refused.length} node(s) cannot run on ${target.name}: ${list.join("; ")}`,
    {
      node: first.node.context.nameOf(first.node),
      op: first.node.op.name,
      domain: first.node.op.domain,
      fix: "cut the graph before these nodes with --outputs, or fix their inputs with --bind",
    },
  );
}

class Lowering {
  readonly #symbols: SymbolSpec[] = [];
  readonly #symbolIndex = new Map<string, number>();
  readonly #exprs = new Expressions((key) => this.#symbolIndex.get(key) ?? this.#unbound(key));
  readonly #buffers: BufferSpec[] = [];
  readonly #bufferOf = new Map<Value, number>();
  readonly #packed = new Map<string, number>();
  readonly #steps: StepSpec[] = [];
  readonly #reports: KernelReport[] = [];

  constructor(
    readonly name: string,
    readonly graph: Graph,
    readonly target: Target,
    readonly kernelOf: KernelTable,
    readonly layoutOf: (value: Value) => Layout,
    readonly kernels: readonly Kernel[],
    readonly choices: Choices,
  ) {}

  run(): LoweredProgram {
    const { graph } = this;
    this.#bindSymbols();
    const inputs = graph.inputs.map(({ name, value }) => ({
      name,
      dtype: value.dtype,
      shape: value.shape.map((dim) => this.#exprs.of(dim)),
      buffer: this.#buffer(value, "input", name),
    }));
    const outputs = graph.outputs.map(({ name, value }) => {
      const direct = !isMaterializedSource(value) && !this.#bufferOf.has(value);
      const buffer = direct ? this.#buffer(value, "output", name) : this.#newBuffer(value, "output", name);
      return {
        name,
        value,
        direct,
        info: { name, dtype: value.dtype, shape: value.shape.map((dim) => this.#exprs.of(dim)), buffer },
      };
    });
    this.#renames();
    for (const kernel of this.kernels) if (!this.#isRename(kernel)) this.#launch(kernel);
    for (const { value, direct, info } of outputs) if (!direct) this.#copy(value, info.buffer);
    const spec: ProgramSpec = {
      name: this.name,
      symbols: this.#symbols,
      exprs: this.#exprs.list,
      inputs,
      outputs: outputs.map(({ info }) => info),
      buffers: this.#buffers,
      steps: this.#steps,
      assertions: this.#assertions(),
    };
    return { spec, reports: this.#reports };
  }

  #unbound(key: string): never {
    throw new NimforgeError("unsupported", "size-from-data", `a size of the graph comes from data (${key.slice(1)})`, {
      fix: "fix the input that decides it with --bind, or cut the graph before it with --outputs",
    });
  }

  #bindSymbols(): void {
    this.graph.inputs.forEach(({ value }, input) => {
      value.shape.forEach((dim, axis) => {
        const atom = asSymbol(dim);
        if (!atom || this.#symbolIndex.has(atom.key)) return;
        const high = typeof atom.high === "number" && Number.isFinite(atom.high) ? atom.high : 2 ** 53 - 1;
        this.#symbolIndex.set(
          atom.key,
          this.#symbols.push({ name: atom.name, min: atom.low, max: high, input, axis }) - 1,
        );
      });
    });
  }

  #assertions() {
    return this.graph.context.assertions.flatMap(({ left, right, message }) => {
      const known = [left, right].every((dim) => [...symbolKeys(dim)].every((key) => this.#symbolIndex.has(key)));
      return known
        ? [{ expr: this.#exprs.equal(left, right), message: `${message}: ${formatDim(left)} = ${formatDim(right)}` }]
        : [];
    });
  }

  #bytes(value: Value): number {
    return this.#exprs.of(mul(elementBytes(value.dtype), ...value.shape));
  }

  #newBuffer(value: Value, kind: BufferSpec["kind"], name: string): number {
    const buffer: BufferSpec = { name, kind, dtype: value.dtype, bytes: this.#bytes(value) };
    const constant = kind === "constant" ? value.constant : undefined;
    if (constant && constant.data.length > 0) buffer.data = bytesOf(constant);
    return this.#buffers.push(buffer) - 1;
  }

  #buffer(value: Value, kind: BufferSpec["kind"], name: string): number {
    let index = this.#bufferOf.get(value);
    if (index === undefined) {
      index = this.#newBuffer(value, kind, name);
      this.#bufferOf.set(value, index);
    }
    return index;
  }

  #argument(argument: Argument): number {
    if (isPacked(argument)) return this.#packedBuffer(argument);
    const known = this.#bufferOf.get(argument);
    if (known !== undefined) return known;
    const name = argument.node.context.nameOf(argument.node) ?? `${argument.node.op.name}.${argument.node.id}`;
    return this.#buffer(argument, argument.constant ? "constant" : "arena", name);
  }

  #packedBuffer(packed: PackedConstant): number {
    const key = `${packed.packed}:${packed.source.node.id}`;
    let index = this.#packed.get(key);
    if (index === undefined) {
      const data = packed.bytes();
      index =
        this.#buffers.push({
          name: `${packed.packed}`,
          kind: "constant",
          dtype: packed.source.dtype,
          bytes: this.#exprs.of(data.length),
          data,
        }) - 1;
      this.#packed.set(key, index);
    }
    return index;
  }

  readonly #renamed = new Map<Value, Value>();

  /** The value a kernel only renames: same memory order, same elements. */
  #isRename(kernel: Kernel): boolean {
    return this.#renamed.has(kernel.output);
  }

  #renames(): void {
    for (const kernel of this.kernels) {
      const { body, output } = kernel;
      if (body.kind !== "load" || body.operand !== 0 || kernel.anchor) continue;
      const source = kernel.inputs[0] as Value;
      if (source.dtype !== output.dtype || isMaterializedSource(source)) continue;
      const from = offsetOf(source.shape, this.layoutOf(source), body.index);
      const to = offsetOf(
        output.shape,
        this.layoutOf(output),
        kernel.axes.map((axis) => axis.variable),
      );
      if (!equalDims(from, to) || !equalDims(mul(...source.shape), mul(...output.shape))) continue;
      const own = this.#bufferOf.get(output);
      const other = this.#bufferOf.get(source);
      if (own !== undefined && other !== undefined) continue; // two graph outputs: a copy
      this.#renamed.set(output, source);
      if (own !== undefined) this.#bufferOf.set(source, own);
      else this.#bufferOf.set(output, this.#argument(source));
    }
  }

  #launch(kernel: Kernel): void {
    const printed = this.target.print(kernel, "KERNEL", this.layoutOf, this.choices);
    const stem = printed.kind.replace(/\W.*$/, "");
    const kernels = printed.variants.map((variant) => this.kernelOf(stem, variant));
    // The one that the typical sizes take is the one to report.
    const usual = printed.variants.findIndex(
      ({ guard }) => guard === undefined || evaluateDim(guard, this.choices.sizeHint) !== 0,
    );
    const { name } = kernels[usual]!;
    const step = this.#steps.length;
    const buffers = printed.args.buffers.map((argument) => this.#argument(argument));
    for (const buffer of new Set(buffers)) {
      const spec = this.#buffers[buffer] as BufferSpec;
      if (spec.kind !== "arena") continue;
      spec.first ??= step;
      spec.last = step;
    }
    const { context } = this.graph;
    const from = [...new Set(kernel.nodes.flatMap((node) => context.originOf(node)))];
    this.#steps.push({
      name: from[from.length - 1] ?? name,
      origin: from,
      launch: {
        variants: printed.variants.map(({ guard, items, grain, scratch }, k) => ({
          ...(guard === undefined ? {} : { guard: this.#exprs.of(guard) }),
          kernel: kernels[k]!.index,
          items: this.#exprs.of(items),
          grain: this.#exprs.of(grain),
          scratch: this.#exprs.of(scratch),
        })),
        buffers,
        dims: printed.args.dims.map((dim) => this.#exprs.of(dim)),
        faults: printed.args.faults.map((fault) => `${from[0] ?? name}: ${fault}`),
      },
    });
    const moved = [...kernel.inputs, kernel.output].map((value) => mul(elementBytes(value.dtype), ...value.shape));
    this.#reports.push({
      name,
      kind: printed.kind,
      from,
      reason: kernel.reason,
      bytes: formatDim(moved.reduce<Dim>((a, b) => addDims(a, b), 0)),
      flops: formatDim(flopsOf(kernel)),
      source: printed.variants[usual]!.source.replaceAll(/\bKERNEL/g, name),
    });
  }

  /** A graph output that is an input, a constant, or another output too. */
  #copy(value: Value, buffer: number): void {
    const built = isMaterializedSource(value)
      ? buildKernel(
          value,
          () => false,
          () => undefined,
          "graph output",
        )
      : undefined;
    const axes =
      built && !("refused" in built)
        ? built.axes
        : value.shape.map((extent) => ({ variable: extent === 1 ? 0 : loopVariable(extent), extent }));
    const kernel: Kernel = {
      output: value,
      axes,
      body: load(
        0,
        value.dtype,
        axes.map((axis) => axis.variable),
      ),
      inputs: [value],
      nodes: [],
      reason: "graph output",
    };
    this.#launch(kernel);
    const step = this.#steps[this.#steps.length - 1]!.launch!;
    step.buffers[step.buffers.length - 1] = buffer;
  }
}

function symbolKeys(dim: Dim): Set<string> {
  const keys = new Set<string>();
  visitSymbols(dim, (atom) => keys.add(atom.key));
  return keys;
}

/** Scalar operations of a launch; multiply and add of a template count as two. */
function flopsOf(kernel: Kernel): Dim {
  let perElement = 0;
  let reduced: Dim = 0;
  visitExpr(kernel.body, (part) => {
    if (part.kind === "call") perElement++;
    if (part.kind === "reduce")
      reduced = addDims(
        reduced,
        mul(
          ...part.axes.map((axis) =>
            symbolKeys(axis.extent).size === 0 || ![...symbolKeys(axis.extent)].some((key) => key.startsWith("@"))
              ? axis.extent
              : 1,
          ),
        ),
      );
  });
  const size = mul(...kernel.output.shape);
  if (kernel.anchor) {
    const compute = kernel.anchor.node.computes?.[0];
    let depth: Dim = 0;
    if (compute)
      visitExpr(compute.body, (part) => {
        if (part.kind === "reduce") depth = mul(2, ...part.axes.map((axis) => axis.extent));
      });
    return mul(size, addDims(depth, perElement));
  }
  return mul(size, addDims(perElement, reduced));
}
