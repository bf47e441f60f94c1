/**
 * What is fused around a template, as functors: the epilogue that stores a row's neighbouring columns, the prologue that computes an operand's.
 *
 * Both are structs over the launch and its pointers. A Row holds the template's coordinates of a row, from which the printed expressions take the
 * values of the other axes.
 */
import { affineIn, asSymbol, type Dim, type Expr, type LoopAxis, mul, substitute } from "@nimforge/ir";
import { ANCHOR, type Kernel, offsetOf } from "@nimforge/passes";
import { isSmallFloat } from "@nimforge/tensor";
import type { Arguments } from "../../cpp/arguments.js";
import { type LayoutOf, operandAccess } from "../../cpp/operands.js";
import { Names, Printer, Scope, storageType } from "../../cpp/printer.js";
import { divisor, encoded, printRun } from "./runs.js";

/** Columns that a template hands over at once, at most. */
const maxColumns = 8;

/** Coordinates of a row (names of Row's members) and the axes that they stand for; several axes are flattened in order. */
export interface RowAxes {
  readonly members: readonly { readonly name: string; readonly axes: readonly number[] }[];
  /** The axis of the columns. */
  readonly column: number;
  /** Where the row's columns begin on that axis; left out: at 0. */
  readonly begin?: string;
  /** A power of two that every column handed over is a multiple of, if that is less than a run's length. */
  readonly aligned?: number;
}

/** Rows of a matrix product: batch axes flattened, then the row. */
export const matrixRows = (rank: number): RowAxes => ({
  members: [
    { name: "b", axes: Array.from({ length: rank - 2 }, (_, axis) => axis) },
    { name: "m", axes: [rank - 2] },
  ],
  column: rank - 1,
});

/** Pixels of N, C, [H,] W. */
export const pixelRows = (rank: number): RowAxes => ({
  members: [
    { name: "n", axes: [0] },
    { name: "h", axes: rank === 4 ? [2] : [] },
    { name: "w", axes: [rank - 1] },
  ],
  column: 1,
});

export class FunctorPrinter {
  constructor(
    readonly kernel: Kernel,
    readonly layoutOf: LayoutOf,
    readonly args: Arguments,
    /** C++ type of the template's accumulators. */
    readonly accumulator: "float" | "int",
  ) {}

  /** `template <int V> store(acc, row, c)`: columns c … c + V, c being a multiple of V. */
  epilogue(rows: RowAxes): string {
    const { kernel, layoutOf } = this;
    const { body, output, axes } = kernel;
    const { printer, column, base, limit } = this.#printer(rows, axes);
    const at = offsetOf(
      output.shape,
      layoutOf(output),
      axes.map((axis) => axis.variable),
    );
    const aligned = divisor(substitute(at, (atom) => (atom.key === column ? 0 : undefined)));
    const scope = new Scope();
    const place = printer.dim(at, scope);
    const unit = affineIn(at, column)?.stride === 1;
    const run = printRun(
      printer,
      scope,
      kernel,
      layoutOf,
      body,
      { axis: column, base, length: "V", limit },
      (inside, lines) => {
        const value = inside.expr(body, lines);
        if (unit) lines.lines.push(`result.v[e] = ${encoded(output.dtype, value)};`);
        else lines.lines.push(Printer.store(output.dtype, "out", inside.dim(at, lines), value));
      },
      (load, element) => (load.operand === ANCHOR ? this.#accumulated(load.dtype, element, printer) : undefined),
    );
    return this.#struct("Epilogue", rows, [
      `template <int V> NF_DEVICE void store(const ${this.accumulator} (&acc)[V], const Row& r, nf::Index c) const {`,
      "[[maybe_unused]] const auto d = nf::dims(L);",
      ...scope.lines,
      ...run.before,
      unit ? `nf::Run<${storageType[output.dtype]}, V> result;` : "",
      "NF_UNROLL",
      "for (int e = 0; e < V; ++e) {",
      ...run.each,
      "}",
      unit ? `nf::store_run<${Math.min(limit, aligned)}>(out + ${place}, result);` : "",
      "}",
    ]);
  }

  /** `template <int V> load(out, row, c)`: columns c … c + V of an operand's rows. */
  prologue(element: Expr, axes: readonly LoopAxis[], rows: RowAxes): string {
    const { printer, column, base, limit } = this.#printer(rows, axes);
    const scope = new Scope();
    const run = printRun(
      printer,
      scope,
      this.kernel,
      this.layoutOf,
      element,
      { axis: column, base, length: "V", limit },
      (inside, lines) => void lines.lines.push(`values[e] = ${inside.expr(element, lines)};`),
    );
    return this.#struct("Prologue", rows, [
      "template <int V> NF_DEVICE void load(float (&values)[V], const Row& r, nf::Index c) const {",
      "[[maybe_unused]] const auto d = nf::dims(L);",
      ...scope.lines,
      ...run.before,
      "NF_UNROLL",
      "for (int e = 0; e < V; ++e) {",
      ...run.each,
      "}",
      "}",
    ]);
  }

  /** The anchor's element: rounded to its type, as if it had been stored. */
  #accumulated(dtype: Parameters<Printer["round"]>[0], element: string, printer: Printer): string {
    const text = `acc[${element}]`;
    return isSmallFloat(dtype) ? printer.round(dtype, text) : text;
  }

  #printer(rows: RowAxes, axes: readonly LoopAxis[]) {
    const names = new Names();
    const options = {
      args: this.args,
      operand: operandAccess(this.kernel, this.layoutOf),
      indexType: "nf::Index",
      scalar: true,
      literalLimit: 1,
    };
    const printer = new Printer(options, names);
    const size = (dim: Dim) => printer.dim(dim, new Scope());
    for (const { name, axes: flattened } of rows.members)
      flattened.forEach((axis, k) => {
        const atom = asSymbol(axes[axis]!.variable);
        if (!atom) return;
        const inner = mul(...flattened.slice(k + 1).map((other) => axes[other]!.extent));
        const divided = inner === 1 ? `r.${name}` : `(r.${name} / ${size(inner)})`;
        names.variables.set(atom.key, k === 0 ? divided : `(${divided} % ${size(axes[axis]!.extent)})`);
      });
    const column = asSymbol(axes[rows.column]!.variable)?.key ?? "@none";
    const base = rows.begin ? `(${rows.begin} + c)` : "c";
    names.variables.set(column, base);
    return { printer, column, base, limit: Math.min(maxColumns, rows.aligned ?? maxColumns) };
  }

  #struct(type: string, rows: RowAxes, method: readonly string[]): string {
    const { inputs, output } = this.kernel;
    const pointers = inputs.map((value, k) => `const ${storageType[value.dtype]}* __restrict x${k};`);
    const names = rows.members.map(({ name }) => name);
    return [
      `template <class Launch> struct ${type} {`,
      `Launch L; ${pointers.join(" ")} ${storageType[output.dtype]}* __restrict out;`,
      `struct Row { nf::Index ${names.join(", ")}; };`,
      `NF_DEVICE Row row(${names.map((name) => `nf::Index ${name}`).join(", ")}) const { return {${names.join(", ")}}; }`,
      ...method.filter((line) => line !== ""),
      "};",
    ].join("\n");
  }
}
