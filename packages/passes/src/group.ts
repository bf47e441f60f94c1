/**
 * Grouping: which values get memory of their own, and so which launches there are.
 *
 * Nodes are visited from the outputs back. A value is taken into the launches that read it when that repeats no real work and the target can still
 * run the result; otherwise it is materialized and the reason is kept. So pointwise chains become epilogues of the anchor before them, movements
 * become index maps, and a softmax is one launch.
 */
import {
  asSymbol,
  type Dim,
  type Expr,
  equalDims,
  evaluateDim,
  type Graph,
  hasReduce,
  index as indexExpr,
  type LoadExpr,
  type LoopAxis,
  type Node,
  type SymbolAtom,
  type Value,
  visitExpr,
  visitExprSymbols,
} from "@nimforge/ir";
import { type AnchorMatch, buildKernel, isMaterializedSource, type Kernel } from "./kernel.js";
import type { Layout } from "./layout.js";

export interface GroupRules {
  /** How the target computes a node by a template, if it does. */
  matchAnchor(node: Node): AnchorMatch | undefined;
  /** Why the target cannot run a kernel (well), or undefined. */
  refuses(kernel: Kernel): string | undefined;
  /** A typical value of a size, for estimates. */
  sizeHint(symbol: SymbolAtom): number;
  layoutOf(value: Value): Layout;
}

export interface Grouping {
  /** In an order that respects data flow. */
  readonly kernels: readonly Kernel[];
  /** Nodes that run on the host, between launches. */
  readonly hostNodes: readonly Node[];
}

/** Scalar operations that cost more than a few cycles. */
const heavy = new Set([
  "exp",
  "log",
  "tanh",
  "erf",
  "pow",
  "sin",
  "cos",
  "sigmoid",
  "log1p",
  "expm1",
  "tan",
  "asin",
  "acos",
  "atan",
  "sinh",
  "cosh",
  "asinh",
  "acosh",
  "atanh",
  "div",
  "sqrt",
  "mod",
  "fmod",
]);
/** A value this cheap may be computed again by each reader. */
const cheapOperations = 3;
const maxReaders = 4;
/** Beyond this a launch's body is not grown any further. */
const maxNodes = 96;

interface Profile {
  readonly operations: number;
  readonly reduces: boolean;
  readonly anchor: boolean;
}

export function group(graph: Graph, rules: GroupRules): Grouping {
  const nodes = graph.nodes();
  /** Printed from its declaration, or a template's. */
  const launches = (node: Node) => node.computes !== undefined || rules.matchAnchor(node) !== undefined;
  const outputs = new Set(graph.outputs.map(({ value }) => value));
  const materialized = new Map<Value, string>();
  const readers = new Map<Value, Node[]>();
  for (const node of nodes)
    for (const value of new Set(node.inputs)) if (value) readers.set(value, [...(readers.get(value) ?? []), node]);

  const inlinedInto = new Map<Value, Set<Value>>();
  // What is not decided yet counts as memory: a trial judges one value at a time.
  const isMaterialized = (value: Value) => !inlinedInto.has(value);
  const build = (root: Value) => buildKernel(root, isMaterialized, rules.matchAnchor, materialized.get(root) ?? "");

  /** The launches that a value's readers end up in; undefined when one of them is not a launch. */
  const rootsOf = (value: Value): Set<Value> | undefined => {
    const roots = new Set<Value>();
    for (const reader of readers.get(value) ?? []) {
      if (!launches(reader)) return undefined;
      for (const result of reader.outputs) {
        if (materialized.has(result)) roots.add(result);
        else for (const root of inlinedInto.get(result) ?? []) roots.add(root);
      }
    }
    return roots;
  };

  /** Why `value` must have memory of its own, or the launches that take it in. */
  const place = (value: Value): string | Set<Value> => {
    const { node } = value;
    if (outputs.has(value)) return "graph output";
    if (!launches(node)) return "computed on the host";
    const roots = rootsOf(value);
    if (!roots) return "read by a host operator";
    if (roots.size === 0) return roots; // unused output
    const own = profile(value, rules);
    const repeatable = !own.reduces && !own.anchor && own.operations <= cheapOperations;
    if (roots.size > (repeatable ? maxReaders : 1)) return `read by ${roots.size} launches`;
    for (const root of roots) {
      const why = whyNot(root, value, own);
      if (why !== undefined) return why;
    }
    return roots;
  };

  const whyNot = (root: Value, value: Value, own: Profile): string | undefined => {
    // First with the value still in memory: how often would the launch evaluate it?
    const before = build(root);
    if ("refused" in before) return before.refused;
    if (before.nodes.length >= maxNodes) return "the launch is large enough";
    const hoisted = own.reduces || own.anchor || readInOuterLoops(before, value, rules);
    const reuse = evaluations(before, value, hoisted, rules) / Math.max(1, sizeOfShape(value.shape, rules));
    if (own.anchor && !readsInPlace(before, value)) return "not read element by element";
    if (reuse > 1.5 && (own.reduces || own.operations > cheapOperations))
      return `would be computed ${reuse.toFixed(1)} times`;
    inlinedInto.set(value, new Set());
    const after = build(root);
    inlinedInto.delete(value);
    if ("refused" in after) return after.refused;
    return rules.refuses(after);
  };

  for (const node of [...nodes].reverse()) {
    if (node.outputs.some(isMaterializedSource)) continue;
    for (const value of node.outputs) {
      const placed = place(value);
      if (typeof placed === "string") materialized.set(value, placed);
      else inlinedInto.set(value, placed);
    }
  }

  const kernels: Kernel[] = [];
  const hostNodes: Node[] = [];
  for (const node of nodes) {
    if (node.outputs.some(isMaterializedSource)) continue;
    if (!launches(node)) {
      hostNodes.push(node);
      continue;
    }
    for (const value of node.outputs) {
      if (!materialized.has(value)) continue;
      const kernel = build(value);
      if ("refused" in kernel) throw new Error(`internal: ${kernel.refused}`);
      kernels.push(kernel);
    }
  }
  return { kernels, hostNodes };
}

function profile(value: Value, rules: GroupRules): Profile {
  const anchor = rules.matchAnchor(value.node) !== undefined;
  const compute = value.node.computes?.[value.index];
  if (!compute) return { operations: 0, reduces: true, anchor };
  let operations = 0;
  visitExpr(compute.body, (part) => {
    if (part.kind === "call" && part.op !== "select" && part.dtype !== "bool") operations += heavy.has(part.op) ? 4 : 1;
  });
  return { operations, reduces: hasReduce(compute.body), anchor };
}

const sizeOfShape = (shape: readonly Dim[], rules: GroupRules): number =>
  shape.reduce<number>((n, dim) => n * estimate(dim, rules), 1);

function estimate(dim: Dim, rules: GroupRules): number {
  return Math.max(
    1,
    evaluateDim(dim, (atom) =>
      atom.key.startsWith("@") ? Math.max(1, estimate(atom.high, rules) / 2) : rules.sizeHint(atom),
    ),
  );
}

/** Every load of a value with the loop variables around it. */
function loadsOf(kernel: Kernel, value: Value): { load: LoadExpr; scope: readonly LoopAxis[] }[] {
  const slot = kernel.inputs.indexOf(value);
  const found: { load: LoadExpr; scope: readonly LoopAxis[] }[] = [];
  const visit = (expr: Expr, scope: readonly LoopAxis[]) => {
    walk(expr, scope, (part, around) => {
      if (part.kind === "load" && part.operand === slot) found.push({ load: part, scope: around });
    });
  };
  visit(kernel.body, kernel.axes);
  for (const operand of kernel.anchor?.operands ?? []) visit(operand.element, operand.axes);
  return found;
}

/** visitExpr with the axes of the enclosing reductions. */
function walk(expr: Expr, scope: readonly LoopAxis[], visit: (expr: Expr, scope: readonly LoopAxis[]) => void): void {
  const reduces: { part: Expr; scope: readonly LoopAxis[] }[] = [];
  const here = (part: Expr, around: readonly LoopAxis[]) => {
    visit(part, around);
    if (part.kind === "reduce") reduces.push({ part: part.body, scope: [...hoistedScope(part, around), ...part.axes] });
    else if (part.kind === "call") for (const arg of part.args) once(arg, around);
    else if (part.kind === "cast") once(part.arg, around);
    else if (part.kind === "load" || part.kind === "index")
      visitExpr(part, (inner) => {
        if (inner !== part && inner.kind === "load") visit(inner, around);
      });
  };
  const seen = new Set<Expr>();
  const once = (part: Expr, around: readonly LoopAxis[]) => {
    if (seen.has(part)) return;
    seen.add(part);
    here(part, around);
  };
  once(expr, scope);
  for (const { part, scope: around } of reduces) walk(part, around, visit);
}

/** Every load stands in outer loops only, in memory order: what it reads is computed once for all of the inner ones. */
function readInOuterLoops(kernel: Kernel, value: Value, rules: GroupRules): boolean {
  const order = rules
    .layoutOf(kernel.output)
    .map((axis) => asSymbol(kernel.axes[axis]!.variable)?.key)
    .filter((key) => key !== undefined);
  return loadsOf(kernel, value).every(({ load }) => {
    const used = new Set<string>();
    visitExprSymbols(load, (atom) => used.add(atom.key));
    const depth = order.findIndex((key) => !used.has(key));
    return (
      depth >= 0 &&
      order.slice(depth).every((key) => !used.has(key)) &&
      [...used].every((key) => !key.startsWith("@") || order.includes(key))
    );
  });
}

/** A reduction is computed outside of the loops that it does not depend on. */
function hoistedScope(reduction: Expr, around: readonly LoopAxis[]): readonly LoopAxis[] {
  const used = new Set<string>();
  visitExprSymbols(reduction, (atom) => used.add(atom.key));
  return around.filter((axis) => used.has(asSymbol(axis.variable)?.key ?? ""));
}

/** How many times the launch would compute elements of the value; a reduction is hoisted out of loops that it does not depend on. */
function evaluations(kernel: Kernel, value: Value, hoisted: boolean, rules: GroupRules): number {
  let total = 0;
  for (const { load, scope } of loadsOf(kernel, value)) {
    const used = new Set<string>();
    visitExprSymbols(load, (atom) => used.add(atom.key));
    let count = 1;
    for (const axis of scope) {
      const atom = asSymbol(axis.variable);
      if (atom && (!hoisted || used.has(atom.key))) count *= estimate(axis.extent, rules);
    }
    total = Math.max(total, count);
  }
  return total;
}

/** The value is read exactly at the kernel's own index, outside of reductions and of the anchor's operands. */
function readsInPlace(kernel: Kernel, value: Value): boolean {
  if (!value.shape.every((size, axis) => equalDims(size, kernel.axes[axis]?.extent ?? -1))) return false; // a Pad or Slice of it
  return loadsOf(kernel, value).every(
    ({ load, scope }) =>
      scope === kernel.axes &&
      load.index.length === kernel.axes.length &&
      load.index.every((dim, axis) => sameIndex(dim, kernel.axes[axis]!.variable)),
  );
}

const sameIndex = (a: Dim, b: Dim): boolean => a === b || indexExpr(a).key === indexExpr(b).key;
