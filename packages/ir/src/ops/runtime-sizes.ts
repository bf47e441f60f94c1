/**
 * Ops whose sizes, axes or positions are data. Each twin, named `nim:<Op>OfData`, is opaque: what the data decides about its result's
 * shape is a new size, and its reference is the op itself on the values at hand. Where the build knows the values, the op's own
 * declaration is used instead.
 */
import { type DType, internalError, type Tensor } from "@nimforge/tensor";
import { add, type Dim, floordiv, productOf } from "../dim.js";
import { Context, Graph, type OpLookup, type Value } from "../graph.js";
import { type Op, type OpContext, opaqueOp } from "../op.js";
import { tensorType, type ValueType } from "../types.js";
import { conv } from "./conv.js";
import { movement } from "./movement.js";
import { pool } from "./pool.js";
import { reduction } from "./reduction.js";
import { resize } from "./resize.js";
import { dtypeAttribute, shape } from "./shape.js";
import { signal } from "./signal.js";
import { range } from "./tensors.js";

/** The shape of each result; `fresh` makes a size that the run decides. */
type Sizes = (context: OpContext, fresh: () => Dim) => readonly (readonly Dim[])[];

interface Form {
  /** How many leading inputs are moved or computed with (default 1); the values of the others say how. */
  readonly data?: number;
  /** Element type of the results (default: the first input's). */
  readonly dtype?: (context: OpContext) => DType;
  readonly sizes: Sizes;
}

const sourceOps = new Map([movement, shape, resize, reduction, conv, pool, signal].flat().map((op) => [op.name, op]));

/** The form of an op for values that come at run time. */
function ofData(name: string, { data = 1, dtype = (context) => context.dtype(0), sizes }: Form): Op {
  const op = sourceOps.get(name) ?? missing(name);
  const twin = `${name}OfData`;
  const apply = (context: OpContext, inner: Context, operands: readonly (Value | undefined)[]) =>
    inner.applyOp(op, operands, context.attributes, { outputs: context.outputCount, name: context.nodeName });

  /** The types that the op itself gives where everything is known after all; its own error where even then it has no such form. */
  const knownTypes = (context: OpContext): readonly ValueType[] | undefined => {
    const inner = new Context(without(twin, context.context.lookup));
    const operands: (Value | undefined)[] = [];
    for (const [k, value] of context.inputs.entries()) {
      const known = value && (k < data ? value.type.kind === "tensor" && value.shape.every(isNumber) : value.constant);
      if (value && !known) return undefined;
      operands.push(
        value && (k < data ? inner.input(`data${k}`, value.type) : inner.constant(value.constant as Tensor)),
      );
    }
    const types = apply(context, inner, operands).map(({ type }) => type);
    return types.every((type) => type.kind === "tensor" && type.shape.every(isNumber)) ? types : undefined;
  };

  return opaqueOp(
    twin,
    { domain: "nim", inputs: op.inputs, attributes: { ...op.attributes } },
    {
      infer: (context) => {
        const fresh = () => context.context.freshSymbol(name.toLowerCase());
        return knownTypes(context) ?? sizes(context, fresh).map((own) => tensorType(dtype(context), own));
      },
      reference: (context, inputs) => {
        const inner = new Context(without(twin, context.context.lookup));
        const operands = inputs.map((input, k) => {
          const value = input as Tensor | undefined;
          return (
            value && (k < data ? inner.input(`data${k}`, tensorType(value.dtype, value.shape)) : inner.constant(value))
          );
        });
        const results = apply(context, inner, operands);
        const given = inputs.slice(0, data) as (Tensor | undefined)[];
        const parameters = operands.slice(0, data).flatMap((value, k) => (value ? [{ name: `data${k}`, value }] : []));
        const graph = new Graph(
          inner,
          parameters,
          results.map((value, k) => ({ name: String(k), value })),
        );
        return context.run(
          graph,
          given.filter((value) => value !== undefined),
        );
      },
    },
  );
}

function missing(name: string): never {
  throw internalError(`no op ${name}`);
}

/** A lookup in which a form that the op does not have fails instead of coming back to the twin. */
const without =
  (twin: string, lookup: OpLookup): OpLookup =>
  (domain, name) =>
    domain === "nim" && name === twin ? undefined : lookup(domain, name);

const isNumber = (dim: Dim): dim is number => typeof dim === "number";

/** The length of a vector input. */
function lengthOf(context: OpContext, input: number): number {
  const length = context.shape(input)[0];
  return typeof length === "number" ? length : context.unsupported("a result whose rank is known only at run time");
}

/** The axes that an input names, where they are known. */
function knownAxes(context: OpContext, input: number): number[] | undefined {
  const given = context.dims(input);
  return given?.every(isNumber) ? context.axes(given, context.rank(0)) : undefined;
}

/** The first input's shape with new sizes on the given axes (default: all). */
const changedOn = (context: OpContext, fresh: () => Dim, axes?: readonly number[]): readonly (readonly Dim[])[] => [
  context.shape(0).map((size, axis) => (axes === undefined || axes.includes(axis) ? fresh() : size)),
];

const everyAxis: Sizes = (context, fresh) => changedOn(context, fresh);
const attributeAxes: Sizes = (context, fresh) => {
  const axes = context.ints("axes");
  return changedOn(context, fresh, axes && context.axes(axes, context.rank(0)));
};
const unchanged: Sizes = (context) => [context.shape(0)];
const rankOf = (context: OpContext, input: number, fresh: () => Dim): Dim[] =>
  range(lengthOf(context, input)).map(fresh);

/** A known size other than 1 cannot broadcast to another. */
const expanded: Sizes = (context, fresh) => {
  const own = context.shape(0);
  const added = Math.max(0, lengthOf(context, 1) - own.length);
  return [[...range(added).map(fresh), ...own.map((size) => (isNumber(size) && size !== 1 ? size : fresh()))]];
};

const reduced: Sizes = (context, fresh) => {
  const shape = context.shape(0);
  const keepdims = context.int("keepdims") !== 0;
  const [count] = context.shape(1);
  if (count === 0 && context.int("noop_with_empty_axes")) return [shape];
  if (count === 0 || count === shape.length) return [keepdims ? shape.map(() => 1) : []];
  return [
    keepdims ? shape.map((size) => (size === 1 ? 1 : fresh())) : range(shape.length - lengthOf(context, 1)).map(fresh),
  ];
};

const squeezed: Sizes = (context, fresh) => {
  const shape = context.shape(0);
  const count = lengthOf(context, 1);
  const kept = shape.filter((size) => isNumber(size) && size !== 1);
  return [kept.length === shape.length - count ? kept : range(shape.length - count).map(fresh)];
};

const outputDtype = (context: OpContext) => dtypeAttribute(context, "output_datatype");

const fourier: Sizes = (context, fresh) => {
  const rank = context.rank(0);
  const [inverse, onesided] = [context.int("inverse") !== 0, context.int("onesided") !== 0];
  const axes = context.has(2) ? knownAxes(context, 2) : [rank - 2];
  const sameLength = !context.has(1) && !onesided;
  const [own] = changedOn(context, fresh, sameLength ? [] : axes) as readonly [readonly Dim[]];
  return [[...own.slice(0, -1), inverse && onesided ? 1 : 2]];
};

const framed: Sizes = (context, fresh) => {
  const length = context.has(2) ? context.shape(2)[0] : context.has(3) ? context.dims(3)?.[0] : context.shape(0)[1];
  const bins = length === undefined ? fresh() : context.int("onesided") ? add(floordiv(length, 2), 1) : length;
  return [[context.shape(0)[0] as Dim, fresh(), bins, 2]];
};

const reductions = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"];

export const runtimeSizes: readonly Op[] = [
  ofData("Reshape", { sizes: (context, fresh) => [rankOf(context, 1, fresh)] }),
  ofData("Expand", { sizes: expanded }),
  ofData("Squeeze", { sizes: squeezed }),
  ofData("Unsqueeze", { sizes: (context, fresh) => [range(context.rank(0) + lengthOf(context, 1)).map(fresh)] }),
  ofData("ConstantOfShape", {
    data: 0,
    dtype: (context) => (context.attribute("value") as Tensor | undefined)?.dtype ?? "float32",
    sizes: (context, fresh) => [rankOf(context, 0, fresh)],
  }),
  ofData("Tile", { sizes: everyAxis }),
  ofData("Pad", {
    sizes: (context, fresh) => changedOn(context, fresh, context.has(3) ? knownAxes(context, 3) : undefined),
  }),
  ofData("CenterCropPad", { sizes: attributeAxes }),
  ofData("Resize", { sizes: attributeAxes }),
  ofData("Slice", {
    sizes: (context, fresh) =>
      changedOn(context, fresh, context.has(3) ? knownAxes(context, 3) : range(lengthOf(context, 1))),
  }),
  ofData("Split", {
    sizes: (context, fresh) => {
      const axis = context.axis(context.int("axis"), context.rank(0));
      return range(lengthOf(context, 1)).flatMap(() => changedOn(context, fresh, [axis]));
    },
  }),
  ofData("OneHot", {
    dtype: (context) => context.dtype(2),
    sizes: (context, fresh) => {
      const own = [...context.shape(0)];
      own.splice(context.axis(context.int("axis"), own.length + 1), 0, fresh());
      return [own];
    },
  }),
  ...reductions.map((name) => ofData(`Reduce${name}`, { sizes: reduced })),
  ofData("CumSum", { sizes: unchanged }),
  ofData("CumProd", { sizes: unchanged }),
  ofData("MaxUnpool", { data: 2, sizes: (context, fresh) => changedOn(context, fresh, range(context.rank(0) - 2, 2)) }),
  ofData("Col2Im", {
    sizes: (context, fresh) => {
      const [batch, rows] = context.shape(0) as readonly [Dim, Dim];
      const block = context.dims(2);
      return [
        [batch, block ? floordiv(rows, productOf(block)) : fresh(), ...(context.dims(1) ?? rankOf(context, 1, fresh))],
      ];
    },
  }),
  ofData("AffineGrid", {
    sizes: (context, fresh) => {
      const [batch, rows] = context.shape(0);
      const spatial = typeof rows === "number" ? rows : lengthOf(context, 1) - 2;
      return [[batch as Dim, ...range(spatial).map(fresh), spatial]];
    },
  }),
  ...["HannWindow", "HammingWindow", "BlackmanWindow"].map((name) =>
    ofData(name, { data: 0, dtype: outputDtype, sizes: (_, fresh) => [[fresh()]] }),
  ),
  ofData("MelWeightMatrix", { data: 0, dtype: outputDtype, sizes: (_, fresh) => [[fresh(), fresh()]] }),
  ofData("DFT", { sizes: fourier }),
  ofData("STFT", { sizes: framed }),
];
