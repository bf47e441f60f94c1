/** Simplification: nodes that change nothing go, composites open, branches with a known condition are taken. */
import { type Attribute, equalDims, type Graph, inputOp, type Node, type Value } from "@nimforge/ir";
import { isFloat, toNumbers } from "@nimforge/tensor";

/** y[i] = x[i] for the same type: Identity, a Reshape to the same shape, a Slice of everything, Dropout… */
export function dropIdentities(graph: Graph): Graph {
  return graph.rewrite((node, inputs) => {
    if (node.outputs.length !== 1) return undefined;
    const compute = node.computes?.[0];
    const [output] = node.outputs as readonly [Value];
    if (compute?.body.kind !== "load") return identityArithmetic(node, inputs);
    const source = node.inputs[compute.body.operand];
    if (source?.type.kind !== "tensor" || source.dtype !== output.dtype || source.shape.length !== output.shape.length)
      return undefined;
    const same = compute.body.index.every(
      (dim, axis) => equalDims(dim, compute.axes[axis]!.variable) || source.shape[axis] === 1,
    );
    return same && source.shape.every((size, axis) => equalDims(size, output.shape[axis]!))
      ? [inputs[compute.body.operand] as Value]
      : undefined;
  });
}

const neutralElements = new Map([
  ["Add", -0],
  ["Sub", 0],
  ["Mul", 1],
  ["Div", 1],
]);

/** x + (−0), x − 0, x·1, x / 1 where the constant does not broadcast x up; −0 + 0 is 0, so for floats the zero's sign counts. */
function identityArithmetic(node: Node, inputs: readonly (Value | undefined)[]): readonly Value[] | undefined {
  const neutral = node.op.domain === "" ? neutralElements.get(node.op.name) : undefined;
  if (neutral === undefined) return undefined;
  const keeps = (x: number, c: number) => {
    const constant = node.inputs[c]?.constant;
    if (!constant || constant.dtype === "string" || constant.data.length > 4096) return false;
    const shape = node.inputs[x]!.shape;
    const output = node.outputs[0]!.shape;
    return (
      shape.length === output.length &&
      shape.every((d, k) => equalDims(d, output[k]!)) &&
      toNumbers(constant).every((v) => (isFloat(constant.dtype) ? Object.is(v, neutral) : v === neutral))
    );
  };
  if (keeps(0, 1)) return [inputs[0] as Value];
  if ((node.op.name === "Add" || node.op.name === "Mul") && keeps(1, 0)) return [inputs[1] as Value];
  return undefined;
}

/** Composites that a target has no kernel for are replaced by their expansion, until none is left. */
export function expandComposites(graph: Graph, keep: (node: Node) => boolean = () => false): Graph {
  let current = graph;
  while (current.nodes().some((node) => node.expansion && !keep(node))) {
    current = current.rewrite((node, inputs) => {
      if (!node.expansion || keep(node)) return undefined;
      const { semantics } = node.op;
      if (semantics.kind !== "composite") return undefined;
      return inputs.every((value, k) => value === node.inputs[k]) ? node.expansion : expandOn(node, inputs);
    });
  }
  return current;
}

function expandOn(node: Node, inputs: readonly (Value | undefined)[]): readonly Value[] {
  const name = node.context.nameOf(node);
  const [first] = node.context.applyOp(node.op, inputs, node.attributes, { outputs: node.outputs.length, name });
  return first?.node.expansion as readonly Value[];
}

/** If with a constant condition becomes the branch that is taken. */
export function takeBranches(graph: Graph): Graph {
  return graph.rewrite((node, inputs) => {
    if (node.op.name !== "If" || node.op.domain !== "") return undefined;
    const condition = inputs[0]?.constant;
    if (!condition) return undefined;
    const taken = Number(condition.data[0]) ? "then_branch" : "else_branch";
    return inline(node.attributes[taken] as Graph & Attribute, inputs.slice(1) as Value[]);
  });
}

/** A graph's outputs on given values, built in the values' context. */
export function inline(body: Graph, inputs: readonly Value[]): readonly Value[] {
  const mapped = new Map<Value, Value>();
  body.inputs.forEach(({ value }, k) => mapped.set(value, inputs[k] as Value));
  const context = body.context;
  for (const node of body.nodes()) {
    if (node.op === inputOp) continue;
    const operands = node.inputs.map((value) => value && (mapped.get(value) as Value));
    const names = context.originOf(node);
    const outputs = context.applyOp(node.op, operands, node.attributes, {
      outputs: node.outputs.length,
      name: names[0],
    });
    node.outputs.forEach((value, k) => mapped.set(value, outputs[k] as Value));
  }
  return body.outputs.map(({ value }) => mapped.get(value) as Value);
}
