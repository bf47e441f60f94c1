/**
 * Any kernel without a template, as threads over the output's elements in memory order.
 *
 * Two schedules. `elements`: a thread computes a run of neighbouring elements, reductions included. `rows`: where a reduction belongs to the outer axes
 * (softmax, norms, means of a contiguous axis), a warp or a block takes one row of the inner axes: all of its threads share the row's reductions and
 * then its elements.
 */
import {
  affineIn,
  asSymbol,
  ceildiv,
  type Dim,
  type Expr,
  evaluateDim,
  type LoopAxis,
  mul,
  type ReduceExpr,
  rangeOf,
  type SymbolAtom,
  substitute,
  visitExpr,
} from "@nimforge/ir";
import type { Kernel } from "@nimforge/passes";
import { elementBytes, isSmallFloat } from "@nimforge/tensor";
import { Arguments } from "../../cpp/arguments.js";
import { type Axis, freeVariables, loopNest, reductionsOf } from "../../cpp/loop-nest.js";
import { bindBuffers, type LayoutOf, operandAccess } from "../../cpp/operands.js";
import { Names, Printer, Scope, storageType, valueType } from "../../cpp/printer.js";
import type { PrintedKernel } from "../../target.js";
import { divisor, encoded, printRun } from "./runs.js";

/** Threads of a block of the `elements` schedule. */
const elementThreads = 256;
/** A row with more work than this is a block's, not a warp's. */
const warpRow = 1024;
/** A reduction with less work stays in one thread. */
const leastShared = 16;

/** Sizes that an int can count, with room for a grid's overhang. */
const narrow = 2 ** 31 - 2 ** 20;

/** Whether 64-bit indices are needed: not every size and count is known to fit 32. */
export function needsWideIndex(kernel: Kernel): boolean {
  const sizes = [...kernel.inputs, kernel.output].map((value) => mul(...value.shape));
  visitExpr(kernel.body, (part) => {
    if (part.kind === "reduce") sizes.push(mul(...part.axes.map((axis) => axis.extent)));
  });
  return sizes.some((size) => !(rangeOf(size).high < narrow));
}

export function printLoops(
  kernel: Kernel,
  name: string,
  layoutOf: LayoutOf,
  sizeHint: (symbol: SymbolAtom) => number,
): PrintedKernel {
  return new LoopPrinter(kernel, name, layoutOf, sizeHint).print();
}

class LoopPrinter {
  readonly #args = new Arguments();
  readonly #names = new Names();
  readonly #scope = new Scope();
  readonly #bindings: string[];
  readonly #printer: Printer;
  readonly #axes: readonly Axis[];
  readonly #body: Expr;
  readonly #store: Dim;
  readonly #lines: string[] = [];

  constructor(
    readonly kernel: Kernel,
    readonly name: string,
    readonly layoutOf: LayoutOf,
    readonly sizeHint: (symbol: SymbolAtom) => number,
  ) {
    this.#bindings = bindBuffers(kernel, this.#args);
    const { axes, body, store } = loopNest(kernel, layoutOf);
    this.#axes = axes;
    this.#body = body;
    this.#store = store;
    this.#printer = new Printer(
      { args: this.#args, operand: operandAccess(kernel, layoutOf), indexType: "nf::Index", scalar: true },
      this.#names,
    );
  }

  print(): PrintedKernel {
    const split = this.#rowSplit();
    return split ? this.#rows(split.outer, split.shared) : this.#elements();
  }

  #hint(dim: Dim): number {
    return Math.max(
      1,
      evaluateDim(dim, (atom) => (atom.key.startsWith("@") ? 1 : this.sizeHint(atom))),
    );
  }

  #work(reduction: ReduceExpr): number {
    return reduction.axes.reduce((n, axis) => n * this.#hint(axis.extent), 1);
  }

  // ---- which schedule

  /** How many outer axes make a row, and the reductions that its threads share; undefined: none is worth it. */
  #rowSplit(): { outer: number; shared: readonly ReduceExpr[] } | undefined {
    const found = reductionsOf(this.#body)
      .filter((expr) => expr.kind === "reduce")
      .map((reduction) => {
        const free = freeVariables(reduction);
        const depth = this.#axes.reduce((last, axis, k) => (free.has(axis.key) ? k + 1 : last), 0);
        // An inner reduction's variables belong to the reductions around it.
        const known = [...free].every((key) => this.#axes.some((axis) => axis.key === key));
        return { reduction, depth, shareable: known && this.#shareable(reduction) };
      });
    const worth = found.filter(({ reduction, shareable }) => shareable && this.#work(reduction) >= leastShared);
    const inner = worth.filter(({ depth }) => depth < this.#axes.length);
    if (inner.length > 0) {
      const outer = Math.max(...inner.map(({ depth }) => depth));
      return { outer, shared: found.filter((one) => one.shareable && one.depth <= outer).map((one) => one.reduction) };
    }
    // One row for each element pays where neighbouring threads would otherwise read far apart.
    const rows = worth.filter(({ reduction }) => this.#contiguous(reduction));
    return rows.length > 0 ? { outer: this.#axes.length, shared: rows.map(({ reduction }) => reduction) } : undefined;
  }

  #shareable({ axes }: ReduceExpr): boolean {
    return axes.every((axis) => !/@|data\(/.test(typeof axis.extent === "number" ? "" : axis.extent.key));
  }

  #contiguous(reduction: ReduceExpr): boolean {
    const inner = asSymbol((reduction.axes[reduction.axes.length - 1] as LoopAxis).variable);
    const access = operandAccess(this.kernel, this.layoutOf);
    let unit = false;
    if (inner)
      visitExpr(reduction.body, (part) => {
        if (part.kind === "load" && part.operand >= 0)
          unit ||= affineIn(access(part).offset(part.index), inner.key)?.stride === 1;
      });
    return unit;
  }

  // ---- a thread for each run of elements

  #elements(): PrintedKernel {
    const inner = this.#axes[this.#axes.length - 1];
    const total = mul(...this.#axes.map((axis) => axis.extent));
    const length = inner ? this.#runLength(inner) : 1;
    const runs = this.#axes.length === 1 ? ceildiv(total, length) : inRuns(total, length);
    this.#lines.push(
      `const nf::Index run = (nf::Index)nf::block() * ${elementThreads} + nf::tid();`,
      `if (run >= ${this.#dim(runs)}) return;`,
    );
    if (inner) {
      this.#flush();
      this.#unravel("run", this.#axes.slice(0, -1), inRuns(inner.extent, length), "column");
      this.#lines.push(`const nf::Index j = column * ${length};`);
      const whole = length === 1 || divisor(inner.extent) % length === 0;
      if (whole) this.#lines.push(...this.#run(inner, "j", length));
      else
        this.#lines.push(
          `if (j + ${length} <= ${this.#dim(inner.extent)}) {`,
          ...this.#run(inner, "j", length),
          "} else {",
          `for (nf::Index i = j; i < ${this.#dim(inner.extent)}; ++i) {`,
          ...this.#run(inner, "i", 1),
          "}",
          "}",
        );
    } else {
      const value = this.#printer.expr(this.#body, this.#scope);
      const place = this.#dim(this.#store);
      this.#flush();
      this.#lines.push(Printer.store(this.kernel.output.dtype, "out", place, value));
    }
    return this.#finish("loops", { threads: elementThreads, items: ceildiv(runs, elementThreads) });
  }

  /** Elements that a thread takes of the innermost axis. */
  #runLength(inner: Axis): number {
    if (reductionsOf(this.#body).length > 0) return 1;
    if (affineIn(this.#store, inner.key)?.stride !== 1) return 1;
    let length = Math.min(8, 16 / elementBytes(this.kernel.output.dtype));
    // Without other axes a run may be cut short; among several, each row must be whole runs.
    if (this.#axes.length > 1) length = Math.min(length, divisor(inner.extent));
    return Math.max(1, length);
  }

  // ---- a warp or a block for each row

  #rows(outer: number, shared: readonly ReduceExpr[]): PrintedKernel {
    const outerAxes = this.#axes.slice(0, outer);
    const innerAxes = this.#axes.slice(outer);
    const rows = mul(...outerAxes.map((axis) => axis.extent));
    const work = Math.max(...shared.map((reduction) => this.#work(reduction)));
    const warps = work <= warpRow;
    const threads = warps ? 128 : 256;
    const group = warps ? 32 : threads;
    this.#lines.push(
      warps
        ? `const nf::Index row = (nf::Index)nf::block() * ${threads / 32} + nf::warp();`
        : "const nf::Index row = (nf::Index)nf::block();",
      `if (row >= ${this.#dim(rows)}) return;`,
      `const int member = ${warps ? "nf::lane()" : "nf::tid()"};`,
    );
    this.#flush();
    const [first, ...rest] = outerAxes;
    if (first) this.#unravel("row", [first, ...rest].slice(0, -1), outerAxes[outerAxes.length - 1]!.extent, "at");
    if (first) this.#names.variables.set(outerAxes[outerAxes.length - 1]!.key, "at");
    for (const reduction of shared) this.#reduce(reduction, group, warps);
    this.#elementsOfRow(innerAxes, group);
    const items = warps ? ceildiv(rows, threads / 32) : rows;
    return this.#finish(warps ? "rows (warp)" : "rows (block)", { threads, items });
  }

  /** A reduction whose elements the group shares, its result in every thread. */
  #reduce(reduction: ReduceExpr, group: number, warps: boolean): void {
    const { monoid, axes, body } = reduction;
    const { dtype } = body;
    const logical = monoid === "and" || monoid === "or";
    const place = monoid.startsWith("arg");
    const element = logical ? "bool" : isSmallFloat(dtype) ? "float" : valueType(dtype);
    const reducer = `nf::${monoid[0]!.toUpperCase()}${monoid.slice(1)}<${element}>`;
    const total = this.#names.fresh("r");
    this.#lines.push(`auto ${total} = ${reducer}::identity();`);
    const inner = axes[axes.length - 1] as LoopAxis;
    const length = this.#reduceLength(reduction);
    const count = inRuns(mul(...axes.map((axis) => axis.extent)), length);
    this.#lines.push(`for (nf::Index part = member; part < ${this.#dim(count)}; part += ${group}) {`);
    this.#unravel("part", axes.slice(0, -1).flatMap(axisOf), inRuns(inner.extent, length), "column");
    this.#lines.push(`const nf::Index k = column * ${length};`);
    const step = (printer: Printer, scope: Scope) => {
      if (!place) scope.lines.push(printer.accumulate(reduction, total, body, scope, false));
      else {
        const value = printer.expr(body, scope);
        scope.lines.push(
          `${total} = ${reducer}::combine(${total}, {${value}, ${printer.dim(inner.variable, scope)}});`,
        );
      }
    };
    const [variable] = axisOf(inner);
    if (variable) {
      const run = printRun(
        this.#printer,
        this.#scope,
        this.kernel,
        this.layoutOf,
        body,
        { axis: variable.key, base: "k", length, limit: length },
        step,
      );
      this.#lines.push(...run.before, ...perElement(length, run.each));
    } else {
      const scope = new Scope(this.#scope);
      step(this.#printer, scope);
      this.#lines.push(...scope.lines);
    }
    this.#lines.push("}");
    const reduced = `nf::${warps ? "warp" : "block"}_reduce<${reducer}>(${total})`;
    const result = this.#names.fresh("r");
    this.#lines.push(
      place
        ? `const long long ${result} = ${reduced}.index;`
        : `const ${element} ${result} = ${isSmallFloat(dtype) && !logical ? this.#printer.round(dtype, reduced) : reduced};`,
    );
    this.#printer.bind(reduction, this.#scope, result);
  }

  /** Elements of a reduction that a thread reads at once. */
  #reduceLength(reduction: ReduceExpr): number {
    const inner = axisOf(reduction.axes[reduction.axes.length - 1] as LoopAxis)[0];
    if (
      !inner ||
      !this.#contiguous(reduction) ||
      reductionsOf(reduction.body).some((r) => freeVariables(r).has(inner.key))
    )
      return 1;
    let bytes = 1;
    visitExpr(reduction.body, (part) => {
      if (part.kind === "load" && part.operand >= 0)
        bytes = Math.max(bytes, elementBytes(this.kernel.inputs[part.operand]!.dtype));
    });
    return Math.max(1, Math.min(8, 16 / bytes, divisor(inner.extent)));
  }

  #elementsOfRow(axes: readonly Axis[], group: number): void {
    const inner = axes[axes.length - 1];
    if (!inner) {
      const value = this.#printer.expr(this.#body, this.#scope);
      const place = this.#dim(this.#store);
      this.#flush();
      this.#lines.push(`if (member == 0) ${Printer.store(this.kernel.output.dtype, "out", place, value)}`);
      return;
    }
    const bound = new Set(reductionsOf(this.#body).filter((r) => freeVariables(r).has(inner.key)));
    const unit = affineIn(this.#store, inner.key)?.stride === 1;
    const length =
      bound.size > 0 || !unit
        ? 1
        : Math.max(1, Math.min(8, 16 / elementBytes(this.kernel.output.dtype), divisor(inner.extent)));
    const count = inRuns(mul(...axes.map((axis) => axis.extent)), length);
    this.#lines.push(`for (nf::Index part = member; part < ${this.#dim(count)}; part += ${group}) {`);
    this.#flush();
    this.#unravel("part", axes.slice(0, -1), inRuns(inner.extent, length), "column");
    this.#lines.push(`const nf::Index j = column * ${length};`, ...this.#run(inner, "j", length), "}");
  }

  // ---- shared by both

  /** Splits a flat number into variables of the axes, the last part (of `extent`) being `last`. */
  #unravel(flat: string, axes: readonly Axis[], extent: Dim, last: string): void {
    if (axes.length === 0) {
      this.#lines.push(`const nf::Index ${last} = ${flat};`);
      return;
    }
    const rest = this.#names.fresh("rest");
    this.#lines.push(
      `[[maybe_unused]] nf::Index ${rest} = ${flat};`,
      `const nf::Index ${last} = ${rest} % ${this.#dim(extent)}; ${rest} /= ${this.#dim(extent)};`,
    );
    for (const [k, axis] of [...axes].reverse().entries()) {
      const variable = this.#names.fresh("i");
      this.#names.variables.set(axis.key, variable);
      const size = this.#dim(axis.extent);
      this.#lines.push(
        k === axes.length - 1
          ? `[[maybe_unused]] const nf::Index ${variable} = ${rest};`
          : `const nf::Index ${variable} = ${rest} % ${size}; ${rest} /= ${size};`,
      );
    }
    this.#flush();
  }

  /** The output's elements base … base + length of the innermost axis. */
  #run(inner: Axis, base: string, length: number): string[] {
    const { kernel, layoutOf } = this;
    const { dtype } = kernel.output;
    const place = new Scope(this.#scope);
    this.#names.variables.set(inner.key, base);
    const at = this.#printer.dim(this.#store, place);
    const run = printRun(
      this.#printer,
      this.#scope,
      kernel,
      layoutOf,
      this.#body,
      { axis: inner.key, base, length, limit: length },
      (printer, scope) => {
        const value = printer.expr(this.#body, scope);
        scope.lines.push(
          length === 1 ? Printer.store(dtype, "out", at, value) : `result.v[e] = ${encoded(dtype, value)};`,
        );
      },
    );
    if (length === 1) return [...place.lines, ...run.before, ...run.each];
    const aligned = divisor(substitute(this.#store, (atom) => (atom.key === inner.key ? 0 : undefined)));
    return [
      ...place.lines,
      ...run.before,
      `nf::Run<${storageType[dtype]}, ${length}> result;`,
      ...perElement(length, run.each),
      `nf::store_run<${Math.min(length, aligned)}>(out + ${at}, result);`,
    ];
  }

  #dim(dim: Dim): string {
    return this.#printer.dim(dim, this.#scope);
  }

  #flush(): void {
    this.#lines.push(...this.#scope.lines.splice(0));
  }

  #finish(kind: string, { threads, items }: { threads: number; items: Dim }): PrintedKernel {
    const { buffers, dims } = this.#args;
    const source = [
      `NF_KERNEL(${this.name}, ${threads}, 1, ${buffers.length}, ${Math.max(1, dims.length)}) {`,
      "[[maybe_unused]] const auto d = nf::dims(L);",
      ...this.#bindings,
      ...this.#lines,
      "}",
    ].join("\n");
    const headers = ["kernel.cuh", "scalars.cuh", ...(kind.startsWith("rows") ? ["reduce.cuh"] : [])];
    // One value, at most 16 bytes, for each warp.
    const scratch = kind === "rows (block)" ? (16 * threads) / 32 : 0;
    return {
      kind,
      args: this.#args,
      variants: [
        {
          source,
          headers: needsWideIndex(this.kernel) ? ["wide", ...headers] : headers,
          items,
          grain: 1,
          scratch,
          threads,
        },
      ],
    };
  }
}

/** A size that is known to be whole runs, in runs. */
function inRuns(dim: Dim, length: number): Dim {
  return length === 1 ? dim : ceildiv(dim, length);
}

function axisOf({ variable, extent }: LoopAxis): Axis[] {
  const atom = asSymbol(variable);
  return atom ? [{ variable, key: atom.key, extent }] : [];
}

const perElement = (length: number, lines: readonly string[]): string[] =>
  length === 1 ? [...lines] : ["NF_UNROLL", `for (int e = 0; e < ${length}; ++e) {`, ...lines, "}"];
