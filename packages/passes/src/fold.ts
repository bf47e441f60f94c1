/** Constant folding: what depends on nothing that a run brings is computed now, by the interpreter. */
import {
  type Dim,
  dimsOp,
  evaluateNode,
  type Graph,
  isTensorValue,
  type Node,
  type RuntimeValue,
  type Value,
} from "@nimforge/ir";
import { byteSize, isInteger, type Tensor, tensor } from "@nimforge/tensor";

/** A folded constant never takes more than this; larger results stay computations. */
export const maxFoldBytes = 64 * 2 ** 20;
/** A fold may not blow its operands up by more than this: a splat stays a splat. */
const maxGrowth = 16;

/** Nodes on constants become constants; small integer tensors that shape arithmetic knows become their Dims. */
export function foldConstants(graph: Graph): Graph {
  return graph.rewrite((node, inputs) => {
    const { context } = node;
    if (node.op.name === "Constant" || node.op.name === "Dims") return undefined;
    const rebuilt = rebuiltNode(node, inputs);
    const known = rebuilt.outputs.map((value) => knownDims(value));
    if (known.every((values) => values !== undefined))
      return rebuilt.outputs.map((value, k) => fromDims(value, known[k] as readonly Dim[]));
    if (!foldable(rebuilt)) return rebuilt.outputs;
    const operands = rebuilt.inputs.map((value) => value?.constant);
    const results = evaluateNode(rebuilt, operands as readonly (RuntimeValue | undefined)[]);
    return results.every(isTensorValue) ? results.map((result) => context.constant(result as Tensor)) : rebuilt.outputs;
  });
}

/** The node on its new inputs (the same object when they did not change). */
function rebuiltNode(node: Node, inputs: readonly (Value | undefined)[]): Node {
  if (inputs.every((value, k) => value === node.inputs[k])) return node;
  const names = node.context.originOf(node);
  const [first] = node.context.applyOp(node.op, inputs, node.attributes, {
    outputs: node.outputs.length,
    name: names[0],
  });
  for (const name of names) node.context.addOrigin((first as Value).node, name);
  return (first as Value).node;
}

function knownDims(value: Value): readonly Dim[] | undefined {
  return value.type.kind === "tensor" && isInteger(value.type.dtype) ? value.dims : undefined;
}

function fromDims(value: Value, dims: readonly Dim[]): Value {
  const { context } = value.node;
  const shape = value.shape as readonly number[];
  if (dims.every((dim) => typeof dim === "number")) return context.constant(tensor(value.dtype, shape, dims));
  return context.applyOp(dimsOp(dims, value.dtype, shape), [], {})[0] as Value;
}

function foldable(node: Node): boolean {
  if (node.op.impure || node.inputs.some((value) => value && value.constant === undefined)) return false;
  if (node.op.name === "ConstantOfShape" || node.inputs.length === 0) return false;
  let grown = 0;
  for (const value of node.outputs) {
    if (value.type.kind !== "tensor" || !value.shape.every((dim) => typeof dim === "number")) return false;
    const bytes = byteSize(value.dtype, value.shape as readonly number[]);
    if (bytes > maxFoldBytes) return false;
    grown += bytes;
  }
  const given = node.inputs.reduce(
    (sum, value) => sum + (value ? byteSize(value.dtype, value.shape as readonly number[]) : 0),
    0,
  );
  return grown <= 4096 || grown <= maxGrowth * given;
}
