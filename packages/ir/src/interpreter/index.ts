/**
 * The interpreter: runs a graph on tensors, node by node, from the ops' own declarations. It is the judge of folding, of passes and of
 * every kernel.
 */
import { allocate, internalError, NimforgeError, sizeOf, type Tensor } from "@nimforge/tensor";
import { asSymbol, type Dim, evaluateDim, formatDim, formatShape, type SymbolAtom } from "../dim.js";
import { type Graph, inputOp, type Node, reachable, type Value } from "../graph.js";
import type { OpaqueContext, RuntimeValue } from "../op.js";
import { formatType, type TensorType } from "../types.js";
import { compileLoop, type LoopFunction } from "./javascript.js";

export type { RuntimeValue } from "../op.js";

/** Values of run-time sizes, by symbol key. */
type Sizes = Map<string, number>;

/**
 * Runs a graph.
 * @param inputs one value for each graph input, in order
 * @returns one value for each graph output
 * @throws NimforgeError usage when an input does not fit its declared type; what the ops throw, with the node's name
 */
export function evaluate(graph: Graph, inputs: readonly RuntimeValue[]): RuntimeValue[] {
  const sizes: Sizes = new Map();
  const values = new Map<Value, RuntimeValue>();
  graph.inputs.forEach(({ name, value }, k) => {
    const given = inputs[k];
    if (given === undefined)
      throw new NimforgeError("usage", "missing-input", `input "${name}" is missing`, {
        expected: formatType(value.type),
      });
    bindInput(name, value, given, sizes);
    values.set(value, given);
  });
  for (const { left, right, message } of graph.context.assertions) {
    const a = knownSize(left, sizes);
    const b = knownSize(right, sizes);
    if (a !== undefined && b !== undefined && a !== b)
      throw new NimforgeError("usage", "shape-assertion", message, {
        expected: `${formatDim(left)} = ${formatDim(right)}`,
        found: `${a} and ${b}`,
      });
  }
  return evaluateValues(
    graph.outputs.map(({ value }) => value),
    values,
    sizes,
  );
}

/** Values of nodes, given those of some values; unneeded values are dropped as soon as their last user has run. */
export function evaluateValues(
  wanted: readonly Value[],
  known: Map<Value, RuntimeValue>,
  sizes: Sizes = new Map(),
): RuntimeValue[] {
  const nodes = reachable(wanted, (value) => known.has(value)).filter((node) => node.op !== inputOp);
  const remaining = new Map<Value, number>();
  for (const node of nodes)
    for (const value of node.inputs) if (value) remaining.set(value, (remaining.get(value) ?? 0) + 1);
  for (const value of wanted) remaining.set(value, Number.POSITIVE_INFINITY);
  for (const node of nodes) {
    if (node.outputs.every((value) => known.has(value))) continue;
    const operands = node.inputs.map((value) => {
      if (!value) return undefined;
      const operand = known.get(value);
      if (operand === undefined) throw internalError(`${value.node.op.name} has no value`);
      return operand;
    });
    const results = evaluateNode(node, operands, sizes);
    node.outputs.forEach((value, k) => known.set(value, results[k] as RuntimeValue));
    for (const value of node.inputs) {
      if (!value) continue;
      const left = remaining.get(value)! - 1;
      remaining.set(value, left);
      if (left === 0) known.delete(value);
    }
  }
  return wanted.map((value) => known.get(value) as RuntimeValue);
}

/** One node on run-time values. */
export function evaluateNode(
  node: Node,
  operands: readonly (RuntimeValue | undefined)[],
  sizes: Sizes = new Map(),
): RuntimeValue[] {
  const { semantics } = node.op;
  try {
    // Sizes that a data-dependent producer left open are known from the operands.
    node.inputs.forEach((value, k) => {
      const operand = operands[k];
      if (value?.type.kind === "tensor" && isTensorValue(operand)) learnSizes(value.type, operand.shape, sizes);
    });
    if (semantics.kind === "opaque") {
      const view = node.view() as OpaqueContext;
      view.run = (graph, inputs) => evaluate(graph, inputs);
      return [...semantics.reference(view, operands)];
    }
    if (semantics.kind === "composite") {
      const known = new Map<Value, RuntimeValue>();
      node.inputs.forEach((value, k) => value && known.set(value, operands[k] as RuntimeValue));
      return evaluateValues(node.expansion!, known, sizes);
    }
    return node.computes!.map((_, k) => runLoop(node, k, operands as readonly (Tensor | undefined)[], sizes));
  } catch (error) {
    if (error instanceof NimforgeError)
      throw error.at({ node: node.context.nameOf(node), op: node.op.name, domain: node.op.domain || undefined });
    throw error;
  }
}

const compiled = new WeakMap<Value, LoopFunction>();

function runLoop(node: Node, output: number, operands: readonly (Tensor | undefined)[], sizes: Sizes): Tensor {
  const value = node.outputs[output] as Value;
  const { dtype, shape } = value.tensor;
  const compute = node.computes![output]!;
  let loop = compiled.get(value);
  if (!loop) {
    loop = compileLoop(
      compute,
      node.inputs.map((input) => (input?.type.kind === "tensor" ? input.type : undefined)),
      shape,
    );
    compiled.set(value, loop);
  }
  const concrete = shape.map((dim) => sizeIn(dim, sizes));
  const data = allocate(dtype, sizeOf(concrete));
  loop.run(
    operands.map((operand) => operand?.data),
    data,
    loop.symbols.map((key) => sizeOfSymbol(key, sizes)),
  );
  return { dtype, shape: concrete, data };
}

function sizeOfSymbol(key: string, sizes: Sizes): number {
  const size = sizes.get(key);
  if (size === undefined) throw internalError(`size ${key} is not known yet`);
  return size;
}

const sizeIn = (dim: Dim, sizes: Sizes): number => evaluateDim(dim, (atom) => sizes.get(atom.key));

function knownSize(dim: Dim, sizes: Sizes): number | undefined {
  let known = true;
  const value = evaluateDim(dim, (atom: SymbolAtom) => {
    const size = sizes.get(atom.key);
    known &&= size !== undefined;
    return size ?? 1;
  });
  return known ? value : undefined;
}

export const isTensorValue = (value: RuntimeValue | undefined): value is Tensor =>
  value !== null && value !== undefined && "dtype" in value;

function learnSizes(type: TensorType, shape: readonly number[], sizes: Sizes): void {
  type.shape.forEach((dim, axis) => {
    const atom = asSymbol(dim);
    if (atom && !sizes.has(atom.key)) sizes.set(atom.key, shape[axis] as number);
  });
}

function bindInput(name: string, value: Value, given: RuntimeValue, sizes: Sizes): void {
  const { type } = value;
  if (type.kind !== "tensor") return;
  const bad = (fault: string, found: string) =>
    new NimforgeError("usage", "bad-input", `input "${name}" ${fault}`, { expected: formatType(type), found });
  if (!isTensorValue(given)) throw bad("must be a tensor", String(given));
  if (given.dtype !== type.dtype) throw bad("has the wrong element type", given.dtype);
  if (given.shape.length !== type.shape.length) throw bad("has the wrong rank", formatShape(given.shape));
  learnSizes(type, given.shape, sizes);
  type.shape.forEach((dim, axis) => {
    const size = given.shape[axis] as number;
    const expected = knownSize(dim, sizes);
    if (expected !== undefined && expected !== size)
      throw bad(`has the wrong size at axis ${axis}`, formatShape(given.shape));
    const atom = asSymbol(dim);
    if (atom && (size < atom.low || (typeof atom.high === "number" && size > atom.high)))
      throw bad(
        `is out of range at axis ${axis}: ${atom.name} must be in [${atom.low}, ${formatDim(atom.high)}]`,
        formatShape(given.shape),
      );
  });
}
