/**
 * A kernel: one launch, as the expression of one element of what it writes, over values that lie in memory.
 *
 * An anchor is a node that a hand-written template computes (a convolution, a matrix product); in the body it appears as a load of operand
 * ANCHOR, so everything around that load is the template's epilogue, and the streamed operands' expressions are its prologue.
 */
import {
  asSymbol,
  type Compute,
  call,
  constant,
  type Dim,
  type Expr,
  type LoopAxis,
  load,
  loopVariable,
  type Node,
  rewriteExpr,
  type SymbolAtom,
  type Value,
} from "@nimforge/ir";
import { bitsToFloat, internalError, isSmallFloat, sizeOf } from "@nimforge/tensor";

/** Operand number of the anchor's result in a kernel's body. */
export const ANCHOR = -1;

/** How a target's template computes a node. */
export interface AnchorMatch {
  readonly template: string;
  /** Inputs that are read through strides; the first may have a prologue where `prologue` says so. */
  readonly streamed: readonly number[];
  readonly prologue: boolean;
  /** Inputs that must be constants: they are packed at build time. */
  readonly weights: readonly number[];
  /** Input that is added per output channel (axis of the result). */
  readonly bias?: { readonly input: number; readonly axis: number };
}

export interface AnchorOperand {
  readonly value: Value;
  /** The index that `element` is written in. */
  readonly axes: readonly LoopAxis[];
  readonly element: Expr;
}

export interface Kernel {
  readonly output: Value;
  readonly axes: readonly LoopAxis[];
  /** Loads name `inputs` by position. */
  readonly body: Expr;
  readonly inputs: readonly Value[];
  readonly anchor?:
    | { readonly node: Node; readonly match: AnchorMatch; readonly operands: readonly AnchorOperand[] }
    | undefined;
  /** Everything this launch computes, in order. */
  readonly nodes: readonly Node[];
  /** Why it ends where it ends. */
  readonly reason: string;
}

/** Builds the kernel that writes `root`, taking in every value that is not materialized. */
export function buildKernel(
  root: Value,
  isMaterialized: (value: Value) => boolean,
  matchAnchor: (node: Node) => AnchorMatch | undefined,
  reason = "",
): Kernel | { readonly refused: string } {
  const slots = new Map<Value, number>();
  const inputs: Value[] = [];
  const nodes = new Set<Node>();
  const known = new Map<string, Expr>();
  let anchor: Kernel["anchor"];
  let refused: string | undefined;

  const slot = (value: Value): number => {
    let position = slots.get(value);
    if (position === undefined) {
      slots.set(value, (position = inputs.length));
      inputs.push(value);
    }
    return position;
  };

  const element = (value: Value, at: readonly Dim[]): Expr => {
    const literal = splat(value);
    if (literal) return literal;
    if (value !== root && isMaterialized(value)) return load(slot(value), value.dtype, at);
    const key = `${value.node.id}.${value.index}[${at.map((dim) => (typeof dim === "number" ? dim : dim.key)).join(";")}]`;
    let result = known.get(key);
    if (!result) known.set(key, (result = computed(value, at)));
    return result;
  };

  const computed = (value: Value, at: readonly Dim[]): Expr => {
    const { node } = value;
    nodes.add(node);
    const match = matchAnchor(node);
    if (match) return anchored(value, match, at);
    const compute = node.computes?.[value.index];
    if (!compute) throw internalError(`${node.op.name} has no loop and is not materialized`);
    return substituteAxes(compute, at, (operand, index) => element(node.inputs[operand] as Value, index));
  };

  const anchored = (value: Value, match: AnchorMatch, at: readonly Dim[]): Expr => {
    const { node } = value;
    if (anchor && anchor.node !== node) refused = `two of ${anchor.node.op.name} and ${node.op.name} in one launch`;
    if (!anchor) {
      anchor = { node, match, operands: [] };
      const operands = match.streamed.map((position) => {
        const input = node.inputs[position] as Value;
        const axes = input.shape.map((extent) => ({ variable: extent === 1 ? 0 : loopVariable(extent), extent }));
        const at = axes.map((axis) => axis.variable);
        // A template reads its operands from memory, constants too.
        return {
          value: input,
          axes,
          element: isMaterialized(input) ? load(slot(input), input.dtype, at) : element(input, at),
        };
      });
      for (const position of match.weights) slot(node.inputs[position] as Value);
      anchor = { node, match, operands };
    }
    const product = load(ANCHOR, value.dtype, at);
    const bias = match.bias && node.inputs[match.bias.input];
    return bias ? call("add", product, element(bias, [at[match.bias!.axis] as Dim])) : product;
  };

  const axes = root.shape.map((extent) => ({ variable: extent === 1 ? 0 : loopVariable(extent), extent }));
  const body = isMaterializedSource(root)
    ? load(
        slot(root),
        root.dtype,
        axes.map((axis) => axis.variable),
      )
    : computed(
        root,
        axes.map((axis) => axis.variable),
      );
  if (refused !== undefined) return { refused };
  const ordered = [...nodes].sort((a, b) => a.id - b.id);
  return { output: root, axes, body, inputs, anchor, nodes: ordered, reason };
}

/** Graph inputs and constants are in memory before anything runs. */
export function isMaterializedSource(value: Value): boolean {
  return value.node.op.name === "Constant" || (value.node.op.domain === "nim" && value.node.op.name === "Input");
}

/** A compute's body at an index, with its loads rewritten. */
export function substituteAxes(
  compute: Compute,
  at: readonly Dim[],
  onLoad: (operand: number, index: readonly Dim[]) => Expr,
): Expr {
  const bound = new Map<string, Dim>();
  compute.axes.forEach((axis, k) => {
    const atom = asSymbol(axis.variable);
    if (atom) bound.set(atom.key, at[k] as Dim);
  });
  return rewriteExpr(compute.body, {
    symbol: (atom: SymbolAtom) => bound.get(atom.key),
    load: (part) => onLoad(part.operand, part.index),
  });
}

/** A constant whose elements are all equal, as a literal. */
function splat(value: Value): Expr | undefined {
  const tensor = value.constant;
  if (!tensor || tensor.dtype === "string" || sizeOf(tensor.shape) === 0) return undefined;
  const { data } = tensor;
  if (Array.isArray(data) || data.length > 64) return undefined;
  const first = data[0] as number | bigint;
  for (let i = 1; i < data.length; i++) if (!Object.is(data[i], first)) return undefined;
  return constant(tensor.dtype, isSmallFloat(tensor.dtype) ? bitsToFloat(tensor.dtype, first as number) : first);
}
