/**
 * Any kernel without a template, as loops: the output's axes in memory order, the innermost over the lanes where the body allows it.
 *
 * Work items are the outer axes; the last two are loops inside an item, so an item is worth its index arithmetic. A reduction is computed as
 * soon as the loops that it depends on are open: once a row for softmax, per lane for pooling over channels-last memory.
 */
import {
  add,
  affineIn,
  asSymbol,
  ceildiv,
  compareDims,
  type Dim,
  dependsOn,
  type Expr,
  equalDims,
  type LoadExpr,
  type LoopAxis,
  loopVariable,
  max,
  min,
  mul,
  neg,
  rewriteExpr,
  type SymbolAtom,
  sub,
  substitute,
  type Value,
  visitExpr,
  visitExprSymbols,
} from "@nimforge/ir";
import { type Kernel, type Layout, offsetOf } from "@nimforge/passes";
import { Arguments } from "../../cpp/arguments.js";
import { Names, type OperandAccess, Printer, Scope, storageType, vectorizable } from "../../cpp/printer.js";

export type LayoutOf = (value: Value) => Layout;

/** The printed function and what the step passes to it. */
export interface PrintedKernel {
  readonly source: string;
  readonly args: Arguments;
  readonly items: Dim;
  readonly scratch: Dim;
  readonly kind: string;
  /** Elements that one work item computes. */
  readonly workPerItem: Dim;
}

/** Elements of a one-dimensional kernel that one work item takes. */
const chunk = 4096;

export function operandAccess(kernel: Kernel, layoutOf: LayoutOf) {
  return (load: LoadExpr): OperandAccess => {
    const value = kernel.inputs[load.operand] as Value;
    return {
      pointer: `x${load.operand}`,
      shape: value.shape,
      name: `${kernel.nodes[kernel.nodes.length - 1]?.op.name ?? "kernel"}`,
      offset: (index) => offsetOf(value.shape, layoutOf(value), index),
    };
  };
}

export function shapeOfLoad(kernel: Kernel) {
  return (load: LoadExpr) => (load.operand < 0 ? undefined : kernel.inputs[load.operand]?.shape);
}

/** `const T* __restrict xK = …` for every buffer; the output is the last. */
export function bindBuffers(kernel: Kernel, args: Arguments): string[] {
  args.buffers.push(...kernel.inputs, kernel.output);
  const inputs = kernel.inputs.map(
    (value, k) =>
      `const ${storageType[value.dtype]}* __restrict x${k} = (const ${storageType[value.dtype]}*)L->buffers[${k}];`,
  );
  return [
    ...inputs,
    `${storageType[kernel.output.dtype]}* __restrict out = (${storageType[kernel.output.dtype]}*)L->buffers[${kernel.inputs.length}];`,
  ];
}

interface Axis {
  readonly variable: Dim;
  readonly key: string;
  readonly extent: Dim;
}

/** The output's axes in memory order with neighbours merged where every access allows it, and the body over them. */
function loopNest(kernel: Kernel, layoutOf: LayoutOf): { axes: Axis[]; body: Expr; store: Dim } {
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
    store = rewriteStore(store, symbol);
    axes = [
      ...axes.slice(0, k),
      { variable: merged, key: asSymbol(merged)!.key, extent: mul(outer.extent, inner.extent) },
      ...axes.slice(k + 2),
    ];
  }
  return { axes, body, store };
}

const rewriteStore = (store: Dim, symbol: (atom: SymbolAtom) => Dim | undefined): Dim => substitute(store, symbol);

/** Reductions of the body outside of conditional branches, inner ones first. */
function reductionsOf(body: Expr): Expr[] {
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
function freeVariables(expr: Expr): Set<string> {
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

/** Axes that a reduction is repeated over although it does not depend on them. */
export function repeatedReductions(kernel: Kernel, layoutOf: LayoutOf): { axis: LoopAxis; reduction: Expr }[] {
  const { axes, body } = loopNest(kernel, layoutOf);
  return reductionsOf(body).flatMap((reduction) => {
    const used = new Set<string>();
    visitExprSymbols(reduction, (atom) => used.add(atom.key));
    const deepest = axes.reduce((last, axis, k) => (used.has(axis.key) ? k : last), -1);
    return axes
      .slice(0, deepest)
      .filter((axis) => !used.has(axis.key))
      .map((axis) => ({ axis, reduction }));
  });
}

/** More pieces than this are not worth their code. */
const maxSegments = 12;

/**
 * The inner axis cut where comparisons of it with fixed bounds change (the parts of a Concat, the edges of a Pad): inside a piece they are known,
 * so it needs no condition and vectorizes.
 */
function splitAt(body: Expr, inner: Axis): { low: Dim; high: Dim }[] {
  const whole = [{ low: 0 as Dim, high: inner.extent }];
  const points: Dim[] = [];
  visitExpr(body, (part) => {
    if (part.kind !== "call" || part.dtype !== "bool" || part.args.length !== 2) return;
    const [a, b] = part.args.map((arg) =>
      arg.kind === "index" ? arg.dim : arg.kind === "const" && arg.dtype === "int64" ? Number(arg.value) : undefined,
    );
    const difference = a === undefined || b === undefined ? undefined : affineIn(sub(a, b), inner.key);
    if (!difference || (difference.stride !== 1 && difference.stride !== -1)) return;
    const { offset } = difference;
    if (/@|data\(/.test(typeof offset === "number" ? "" : offset.key)) return;
    const zero = difference.stride === 1 ? neg(offset) : offset; // where both sides are equal
    const strict = part.op === "lt" || part.op === "ge" ? difference.stride === 1 : difference.stride === -1;
    if (part.op === "eq" || part.op === "ne") points.push(zero, add(zero, 1));
    else points.push(strict ? zero : add(zero, 1));
  });
  const inside = points.map((point) => min(max(point, 0), inner.extent));
  const sorted: Dim[] = [0, inner.extent];
  for (const point of inside) {
    const order = sorted.map((other) => compareDims(point, other));
    if (order.includes("equal")) continue;
    if (order.includes(undefined)) return whole;
    sorted.splice(order.filter((o) => o === "greater").length, 0, point);
  }
  if (sorted.length - 1 > maxSegments) return whole;
  return sorted.slice(1).map((high, k) => ({ low: sorted[k] as Dim, high }));
}

/** Steps of the largest reduction with known extents. */
function reductionWork(body: Expr): Dim {
  let work: Dim = 1;
  visitExpr(body, (part) => {
    if (part.kind === "reduce" && part.axes.every((axis) => typeof axis.extent === "number"))
      work = mul(...part.axes.map((axis) => axis.extent));
  });
  return work;
}

export function printLoops(kernel: Kernel, name: string, layoutOf: LayoutOf): PrintedKernel {
  const args = new Arguments();
  const prologue = bindBuffers(kernel, args);
  const names = new Names();
  const { axes, body, store } = loopNest(kernel, layoutOf);
  const printer = new Printer({ args, operand: operandAccess(kernel, layoutOf) }, names);
  const inner = axes[axes.length - 1];
  let lanes = false;

  const single = axes.length <= 1;
  const itemAxes = axes.length >= 3 ? axes.slice(0, -2) : axes.slice(0, -1);
  const middle = axes.length >= 3 ? axes[axes.length - 2] : undefined;
  const lines: string[] = [];
  const open: string[] = [];
  const scope = new Scope();
  const flush = () => lines.push(...scope.lines.splice(0));

  // Work item → outer indices, the last axis fastest.
  const chunks = single && inner ? ceildiv(inner.extent, chunk) : 1;
  const items = mul(chunks, ...itemAxes.map((axis) => axis.extent));
  lines.push("for (NfInt item = L->begin; item < L->end; ++item) {", "[[maybe_unused]] NfInt rest = item;");
  for (const [k, axis] of [...itemAxes].reverse().entries()) {
    const variable = names.fresh("i");
    names.variables.set(axis.key, variable);
    const last = k === itemAxes.length - 1;
    lines.push(
      last
        ? `const NfInt ${variable} = rest;`
        : `const NfInt ${variable} = rest % ${printer.dim(axis.extent, scope)}; rest /= ${printer.dim(axis.extent, scope)};`,
    );
    flush();
  }
  open.push("}");
  const available = new Set(itemAxes.map((axis) => axis.key));
  const pending = reductionsOf(body);
  const hoist = () => {
    for (const reduction of [...pending]) {
      if (![...freeVariables(reduction)].every((key) => available.has(key))) continue;
      printer.expr(reduction, scope);
      pending.splice(pending.indexOf(reduction), 1);
    }
    flush();
  };
  hoist();
  if (middle) {
    lines.push(printer.loop({ variable: middle.variable, extent: middle.extent }, scope));
    flush();
    open.push("}");
    available.add(middle.key);
    hoist();
  }

  if (!inner) {
    const value = printer.expr(body, scope);
    const place = printer.dim(store, scope);
    flush();
    lines.push(Printer.store(kernel.output.dtype, "out", place, value));
  } else {
    const from = single ? `item * ${chunk}LL` : "0";
    const extent = printer.dim(inner.extent, scope);
    const to = single ? `nf::int_min<NfInt>(${extent}, item * ${chunk}LL + ${chunk})` : extent;
    flush();
    const segments = splitAt(body, inner);
    for (const { low, high } of segments) {
      const whole = segments.length === 1;
      const local = whole ? inner.variable : loopVariable(sub(high, low));
      const symbol = (atom: SymbolAtom) => (atom.key === inner.key ? add(local, low) : undefined);
      const part = whole ? body : rewriteExpr(body, { symbol });
      const place = whole ? store : substitute(store, symbol);
      const key = asSymbol(local)?.key ?? "@none";
      const variable = names.fresh("j");
      names.variables.set(key, variable);
      const lowText = whole ? "0" : printer.dim(low, scope);
      const start = whole ? from : `nf::int_max<NfInt>(${from}, ${lowText}) - ${lowText}`;
      const end = whole ? to : `nf::int_min<NfInt>(${to}, ${printer.dim(high, scope)}) - ${lowText}`;
      flush();
      const block = new Scope(scope);
      if (affineIn(place, key)?.stride === 1 && vectorizable(part, key, shapeOfLoad(kernel))) {
        lanes = true;
        const vector = printer.with({ vector: key, selector: "m" });
        const value = vector.vector(part, block);
        const stored = `nf::st(out + ${vector.dim(place, block)}, ${value}, m);`;
        lines.push(
          `{ auto at = [&]<class V, class M>(NfInt ${variable}, M m) __attribute__((always_inline)) {`,
          ...block.lines,
          stored,
          "};",
          `NfInt j = ${start}; const NfInt end = ${end};`,
          "for (; j + nf::lanes<nf::F32> <= end; j += nf::lanes<nf::F32>) at.template operator()<nf::F32, nf::All>(j, nf::All{});",
          "if (j < end) at.template operator()<nf::F32, nf::Some>(j, nf::Some(end - j)); }",
        );
      } else {
        const value = printer.expr(part, block);
        const stored = Printer.store(kernel.output.dtype, "out", printer.dim(place, block), value);
        lines.push(
          `for (NfInt ${variable} = ${start}, end = ${end}; ${variable} < end; ++${variable}) {`,
          ...block.lines,
          stored,
          "}",
        );
      }
    }
  }
  const source = [
    `extern "C" __attribute__((visibility("default"))) int ${name}(const NfLaunch* L) {`,
    "[[maybe_unused]] const NfInt* d = L->dims;",
    ...prologue,
    ...lines,
    ...open,
    "return 0;",
    "}",
  ].join("\n");
  const inside = [middle, single ? undefined : inner].flatMap((axis) => (axis ? [axis.extent] : []));
  const workPerItem = mul(single ? chunk : 1, ...inside, reductionWork(body));
  return { source, args, items, scratch: 0, kind: lanes ? "loops (vector)" : "loops", workPerItem };
}
