/**
 * Scales and shifts after a convolution or matrix product go into its weights:
 *   Conv(x, w, b)·s + t = Conv(x, w·s, b·s + t) for s, t constant per output channel (BatchNormalization is such a pair).
 */
import type { Graph, Node, Value } from "@nimforge/ir";
import { byteSize, sizeOf, toNumbers } from "@nimforge/tensor";
import { maxFoldBytes } from "./fold.js";

export function foldScales(graph: Graph): Graph {
  const uses = graph.useCounts();
  return graph.rewrite((node, inputs) => {
    if (
      node.op.domain !== "" ||
      (node.op.name !== "Mul" && node.op.name !== "Add" && node.op.name !== "Sub" && node.op.name !== "Div")
    )
      return undefined;
    for (const side of node.op.name === "Mul" || node.op.name === "Add" ? [0, 1] : [0]) {
      const original = node.inputs[side] as Value;
      const product = inputs[side] as Value;
      const factor = inputs[1 - side] as Value;
      if (product.node.op.name !== "Conv" || product.node.op.domain !== "" || (uses.get(original) ?? 0) !== 1) continue;
      const perChannel = channelVector(product, factor, node.outputs[0] as Value);
      if (perChannel) return fold(node, product.node, perChannel);
    }
    return undefined;
  });
}

/** The constant as a vector of one element or one per output channel, when that is what it broadcasts to. */
function channelVector(product: Value, factor: Value, output: Value): Value | undefined {
  const constant = factor.constant;
  const weights = product.node.inputs[1]?.constant;
  if (!constant || !weights || weights.dtype !== constant.dtype || output.shape.length !== product.shape.length)
    return undefined;
  const channels = weights.shape[0] as number;
  const count = sizeOf(constant.shape);
  const channelAxis = constant.shape.length - (product.shape.length - 1);
  const onlyChannels = constant.shape.every((size, axis) => size === 1 || (axis === channelAxis && size === channels));
  if (!onlyChannels || (count !== 1 && count !== channels)) return undefined;
  // Inf·0 and 0/0 must not enter the weights; products too large to fold would leave the weights no constant.
  const exact = toNumbers(constant).every((value) => Number.isFinite(value) && value !== 0);
  if (!exact && !/^(Add|Sub)$/.test(output.node.op.name)) return undefined;
  if (byteSize(weights.dtype, weights.shape) > maxFoldBytes) return undefined;
  return factor.node.context.constant({ ...constant, shape: [count] });
}

function fold(node: Node, conv: Node, vector: Value): readonly Value[] {
  const { context } = node;
  const [x, weights, bias] = conv.inputs as readonly [Value, Value, Value | undefined];
  const apply = (name: string, ...inputs: Value[]) => context.apply(name, inputs)[0] as Value;
  const name = context.nameOf(conv);
  const rebuilt = (w: Value, b: Value | undefined) => {
    const outputs = context.applyOp(conv.op, [x, w, b], conv.attributes, { name });
    for (const origin of context.originOf(conv)) context.addOrigin(outputs[0]!.node, origin);
    return outputs;
  };
  const channels = weights.shape[0] as number;
  const wide = context.apply("Expand", [vector, context.shapeVector([channels])])[0] as Value;
  if (node.op.name === "Add" || node.op.name === "Sub") {
    const start = bias ?? undefined;
    if (node.op.name === "Add") return rebuilt(weights, start ? apply("Add", start, wide) : wide);
    return rebuilt(weights, start ? apply("Sub", start, wide) : apply("Neg", wide));
  }
  const operation = node.op.name; // Mul or Div
  const column = context.apply("Reshape", [
    wide,
    context.shapeVector([channels, ...weights.shape.slice(1).map(() => 1)]),
  ])[0] as Value;
  return rebuilt(apply(operation, weights, column), bias && apply(operation, bias, wide));
}
