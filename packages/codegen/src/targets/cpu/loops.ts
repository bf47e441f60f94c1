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
  type Expr,
  floordiv,
  loopVariable,
  max,
  min,
  mul,
  neg,
  rewriteExpr,
  type SymbolAtom,
  sub,
  substitute,
  visitExpr,
} from "@nimforge/ir";
import type { Kernel } from "@nimforge/passes";
import { Arguments } from "../../cpp/arguments.js";
import { type Axis, freeVariables, loopNest, reductionsOf } from "../../cpp/loop-nest.js";
import { bindBuffers, type LayoutOf, operandAccess, type PrintedFunction, shapeOfLoad } from "../../cpp/operands.js";
import { Names, Printer, Scope, vectorizable } from "../../cpp/printer.js";

/** Elements of a one-dimensional kernel that one work item takes. */
const chunk = 4096;

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

export function printLoops(kernel: Kernel, name: string, layoutOf: LayoutOf): PrintedFunction & { grain: Dim } {
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
  const grain = max(1, floordiv(8192, max(1, workPerItem)));
  return { source, args, items, grain, scratch: 0, kind: lanes ? "loops (vector)" : "loops", headers: [] };
}
