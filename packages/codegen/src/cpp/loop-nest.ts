/** A kernel as a nest of loops: the output's axes in memory order, and where in it each reduction can be computed. */
import {
  affineIn,
  asSymbol,
  type Dim,
  dependsOn,
  type Expr,
  equalDims,
  evaluateDim,
  type LoopAxis,
  loopVariable,
  mul,
  rewriteExpr,
  type SymbolAtom,
  substitute,
  type Value,
  visitExpr,
  visitExprSymbols,
} from "@nimforge/ir";
import { type Kernel, offsetOf } from "@nimforge/passes";
import type { LayoutOf } from "./operands.js";

export interface Axis {
  readonly variable: Dim;
  readonly key: string;
  readonly extent: Dim;
}

/** The output's axes in memory order with neighbours merged where every access allows it, and the body over them. */
export function loopNest(kernel: Kernel, layoutOf: LayoutOf): { axes: Axis[]; body: Expr; store: Dim } {
  const layout = layoutOf(kernel.output);
  const store = offsetOf(
    kernel.output.shape,
    layout,
    kernel.axes.map((axis) => axis.variable),
  );
  const axes = layout
    .map((axis) => kernel.axes[axis] as LoopAxis)
    .filter((axis) => asSymbol(axis.variable))
    .map((axis) => ({ variable: axis.variable, key: asSymbol(axis.variable)!.key, extent: axis.extent }));
  return mergeAxes(kernel, layoutOf, { axes, body: kernel.body, store });
}

/** Two neighbouring loops a, b are one where every offset has stride(a) = extent(b)·stride(b). */
function mergeAxes(kernel: Kernel, layoutOf: LayoutOf, nest: { axes: Axis[]; body: Expr; store: Dim }) {
  let { axes, body, store } = nest;
  for (let k = axes.length - 2; k >= 0; k--) {
    const outer = axes[k] as Axis;
    const inner = axes[k + 1] as Axis;
    const offsets = [store];
    let simple = true;
    visitExpr(body, (part) => {
      if (part.kind === "index") simple &&= !dependsOn(part.dim, outer.key) && !dependsOn(part.dim, inner.key);
      else if (part.kind === "reduce")
        simple &&= part.axes.every((axis) => !dependsOn(axis.extent, outer.key) && !dependsOn(axis.extent, inner.key));
      else if (part.kind === "load" && part.operand >= 0) {
        const value = kernel.inputs[part.operand] as Value;
        offsets.push(offsetOf(value.shape, layoutOf(value), part.index));
      }
    });
    const mergeable = offsets.every((offset) => {
      const a = affineIn(offset, outer.key);
      const b = a && affineIn(a.offset, inner.key);
      return a && b && equalDims(a.stride, mul(inner.extent, b.stride));
    });
    if (!simple || !mergeable) continue;
    // The merged variable takes the inner one's place and runs on; the outer one is always 0.
    const merged = loopVariable(mul(outer.extent, inner.extent));
    const symbol = (atom: SymbolAtom) => (atom.key === outer.key ? 0 : atom.key === inner.key ? merged : undefined);
    body = rewriteExpr(body, { symbol });
    store = substitute(store, symbol);
    axes = [
      ...axes.slice(0, k),
      { variable: merged, key: asSymbol(merged)!.key, extent: mul(outer.extent, inner.extent) },
      ...axes.slice(k + 2),
    ];
  }
  return { axes, body, store };
}

/** Reductions of the body outside of conditional branches, inner ones first. */
export function reductionsOf(body: Expr): Expr[] {
  const found: Expr[] = [];
  const seen = new Set<string>();
  const walk = (expr: Expr): void => {
    if (seen.has(expr.key)) return;
    seen.add(expr.key);
    if (expr.kind === "reduce") {
      walk(expr.body);
      found.push(expr);
    } else if (expr.kind === "cast") walk(expr.arg);
    else if (expr.kind === "call") (expr.op === "select" ? expr.args.slice(0, 1) : expr.args).forEach(walk);
  };
  walk(body);
  return found;
}

/** Loop variables that an expression needs from around it. */
export function freeVariables(expr: Expr): Set<string> {
  const own = new Set<string>();
  visitExpr(expr, (part) => {
    if (part.kind === "reduce") for (const axis of part.axes) own.add(asSymbol(axis.variable)?.key ?? "");
  });
  const free = new Set<string>();
  visitExprSymbols(expr, (atom) => {
    if (atom.key.startsWith("@") && !own.has(atom.key)) free.add(atom.key);
  });
  return free;
}

/** Whether a reduction would be computed more than once, at the typical sizes. */
export function repeatsReductions(
  kernel: Kernel,
  layoutOf: LayoutOf,
  sizeHint: (symbol: SymbolAtom) => number,
): boolean {
  let repeats = 1;
  for (const { axis } of repeatedReductions(kernel, layoutOf))
    repeats *= Math.max(1, evaluateDim(axis.extent, sizeHint));
  return repeats > 1.5;
}

/** Axes that a reduction is repeated over although it does not depend on them. */
function repeatedReductions(kernel: Kernel, layoutOf: LayoutOf): { axis: LoopAxis; reduction: Expr }[] {
  const { axes, body } = loopNest(kernel, layoutOf);
  const reductions = reductionsOf(body);
  return reductions.flatMap((reduction) => {
    const used = freeVariables(reduction);
    const deepest = axes.reduce((last, axis, k) => (used.has(axis.key) ? k : last), -1);
    // Inside of a reduction over a variable that it needs, it is computed for every element that the outer one is.
    const around = reductions.filter(
      (outer) => outer.kind === "reduce" && outer.axes.some((axis) => used.has(keyOf(axis))),
    );
    const within = new Set(around.flatMap((outer) => [...freeVariables(outer)]));
    return axes
      .filter((axis, k) => (k < deepest || within.has(axis.key)) && !used.has(axis.key))
      .map((axis) => ({ axis, reduction }));
  });
}

const keyOf = ({ variable }: LoopAxis): string => asSymbol(variable)?.key ?? "@none";
