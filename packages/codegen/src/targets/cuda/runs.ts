/**
 * Runs: a thread's neighbouring elements along one axis, read and written in accesses of up to 16 bytes.
 *
 * Loads that advance by one element per step and are needed whatever the data say are read ahead as one `nf::Vec`; all others stay where they are.
 */
import { affineIn, type Dim, type Expr, type LoadExpr, substitute, termsOf } from "@nimforge/ir";
import type { Kernel } from "@nimforge/passes";
import { type DType, isSmallFloat } from "@nimforge/tensor";
import { type LayoutOf, operandAccess } from "../../cpp/operands.js";
import { type OperandAccess, type Printer, Scope, storageType } from "../../cpp/printer.js";

/** The largest power of two, at most 16, that divides the value whatever its symbols are. */
export function divisor(dim: Dim): number {
  let found = 16;
  for (const { coefficient } of termsOf(dim)) while (coefficient % found !== 0) found /= 2;
  return found;
}

/** Loads that are evaluated unconditionally and once per element. */
function steadyLoads(body: Expr): LoadExpr[] {
  const found: LoadExpr[] = [];
  const seen = new Set<string>();
  const walk = (expr: Expr): void => {
    if (seen.has(expr.key)) return;
    seen.add(expr.key);
    if (expr.kind === "load") found.push(expr);
    else if (expr.kind === "cast") walk(expr.arg);
    else if (expr.kind === "call") (expr.op === "select" ? expr.args.slice(0, 1) : expr.args).forEach(walk);
  };
  walk(body);
  return found;
}

export interface Run {
  /** Statements before the elements' loop. */
  readonly before: readonly string[];
  /** Statements of one element, the variable `e` counting from 0. */
  readonly each: readonly string[];
}

/** Where the elements of a run come from besides memory: operands that a template holds. */
export type HeldOperand = (load: LoadExpr, element: string) => string | undefined;

/**
 * What `emit` prints for the elements base, base + 1, … of the axis with key `axis`, where `base` is a multiple of `length`.
 * `length` is a number or the name of a template parameter; alignment is stated for at most `limit` elements.
 */
export function printRun(
  printer: Printer,
  scope: Scope,
  kernel: Kernel,
  layoutOf: LayoutOf,
  body: Expr,
  run: { axis: string; base: string; length: number | string; limit: number },
  emit: (printer: Printer, scope: Scope) => void,
  held?: HeldOperand,
): Run {
  const { names } = printer;
  const before: string[] = [];
  const access = operandAccess(kernel, layoutOf);
  const ahead = new Map<string, string>();
  const outer = new Scope(scope);
  names.variables.set(run.axis, run.base);
  if (run.length !== 1)
    for (const load of steadyLoads(body)) {
      if (load.operand < 0) continue;
      const { pointer, offset } = access(load);
      const place = offset(load.index);
      const affine = affineIn(place, run.axis);
      if (affine?.stride !== 1) continue;
      const aligned = Math.min(
        run.limit,
        divisor(substitute(place, (atom) => (atom.key === run.axis ? 0 : undefined))),
      );
      const variable = names.fresh("v");
      const at = printer.dim(place, outer);
      before.push(
        ...outer.lines.splice(0),
        `const auto ${variable} = nf::load_run<${run.length}, ${aligned}>(${pointer} + ${at});`,
      );
      ahead.set(load.key, decoded(load.dtype, `${variable}.v[e]`));
    }
  names.variables.set(run.axis, run.length === 1 ? run.base : `(${run.base} + e)`);
  const operand = (load: LoadExpr): OperandAccess | { text: string } => {
    const text = ahead.get(load.key) ?? held?.(load, "e");
    return text === undefined ? access(load) : { text };
  };
  const inner = new Scope(scope);
  emit(printer.with({ operand }), inner);
  return { before, each: inner.lines };
}

/** An element as it lies in memory, in the type in which it is computed. */
export function decoded(dtype: DType, text: string): string {
  if (isSmallFloat(dtype)) return `nf::decode_${dtype}(${text})`;
  return dtype === "bool" ? `(${text} != 0)` : text;
}

/** A computed value as it lies in memory. */
export function encoded(dtype: DType, text: string): string {
  return isSmallFloat(dtype) ? `nf::encode_${dtype}(${text})` : `(${storageType[dtype]})${text}`;
}
