/**
 * Movement ops whose sizes or positions are data. They are opaque, each size of their result is a new one, and their reference is the op
 * itself on the sizes at hand. Where the build knows the sizes, the loops of movement.ts and shape.ts are used instead.
 */
import { NimforgeError, type Tensor } from "@nimforge/tensor";
import type { Dim } from "../dim.js";
import { Context, Graph } from "../graph.js";
import { type Op, type OpContext, opaqueOp } from "../op.js";
import { tensorType } from "../types.js";
import { movement } from "./movement.js";
import { resize } from "./resize.js";
import { shape } from "./shape.js";
import { range } from "./tensors.js";

type Sizes = (context: OpContext, fresh: () => Dim) => readonly (readonly Dim[])[];

/** The length of a vector input. */
function lengthOf(context: OpContext, input: number): number {
  const length = context.shape(input)[0];
  return typeof length === "number" ? length : context.unsupported("a result whose rank is known only at run time");
}

/**
 * The form of `op` for run-time sizes, named `nim:<op>OfData`.
 * @param data leading inputs that are moved; the others say how
 */
function ofData(op: Op, sizes: Sizes, data = 1): Op {
  return opaqueOp(`${op.name}OfData`, { domain: "nim", inputs: op.inputs, attributes: { ...op.attributes } }, {
    infer: (context) => {
      const fresh = () => context.context.freshSymbol(op.name.toLowerCase());
      const dtype = op.name === "OneHot" ? context.dtype(2) : op.name === "ConstantOfShape" ? ((context.attribute("value") as Tensor | undefined)?.dtype ?? "float32") : context.dtype(0);
      return sizes(context, fresh).map((own) => tensorType(dtype, own));
    },
    reference: (context, inputs) => {
      const inner = new Context(context.context.lookup);
      const operands = inputs.map((input, k) => {
        const value = input as Tensor | undefined;
        return value && (k < data ? inner.input(`data${k}`, tensorType(value.dtype, value.shape)) : inner.constant(value));
      });
      const results = inner.applyOp(op, operands, context.attributes, { outputs: context.outputCount, name: context.nodeName });
      const moved = operands.slice(0, data).map((value, k) => ({ name: `data${k}`, value: value ?? context.fail("an input is missing") }));
      const graph = new Graph(inner, moved, results.map((value, k) => ({ name: String(k), value })));
      return context.run(graph, inputs.slice(0, data) as Tensor[]);
    },
  });
}

const named = (name: string): Op => {
  const op = [...movement, ...shape, ...resize].find((candidate) => candidate.name === name);
  if (!op) throw new NimforgeError("internal", "internal", `internal: no op ${name}`);
  return op;
};

const everyAxis: Sizes = (context, fresh) => [context.shape(0).map(fresh)];

export const runtimeSizes: readonly Op[] = [
  ofData(named("Reshape"), (context, fresh) => [range(lengthOf(context, 1)).map(fresh)]),
  ofData(named("Expand"), (context, fresh) => [range(Math.max(context.rank(0), lengthOf(context, 1))).map(fresh)]),
  ofData(named("ConstantOfShape"), (context, fresh) => [range(lengthOf(context, 0)).map(fresh)], 0),
  ofData(named("Tile"), everyAxis),
  ofData(named("Pad"), everyAxis),
  ofData(named("CenterCropPad"), everyAxis),
  ofData(named("Resize"), everyAxis),
  ofData(named("Slice"), (context, fresh) => {
    const rank = context.rank(0);
    const given = context.has(3) ? context.dims(3) : range(lengthOf(context, 1));
    const axes = given?.every((axis) => typeof axis === "number") ? context.axes(given, rank) : range(rank);
    return [context.shape(0).map((size, axis) => (axes.includes(axis) ? fresh() : size))];
  }),
  ofData(named("Split"), (context, fresh) => {
    const axis = context.axis(context.int("axis"), context.rank(0));
    return range(lengthOf(context, 1)).map(() => context.shape(0).map((size, other) => (other === axis ? fresh() : size)));
  }),
  ofData(named("OneHot"), (context, fresh) => {
    const own = [...context.shape(0)];
    own.splice(context.axis(context.int("axis"), own.length + 1), 0, fresh());
    return [own];
  }),
];
