/** Ops about types and sizes: shapes as values, tensors made from sizes, conversion of element types. */
import {
  bytesOf,
  type DType,
  dtypeFromOnnx,
  dtypeInfo,
  dtypes,
  elementBytes,
  isFloat,
  sizeOf,
  type Tensor,
  tensor,
  tensorFromBytes,
  toNumbers,
} from "@nimforge/tensor";
import { atLeast, ceildiv, type Dim, formatShape, max, neg, productOf, sub } from "../dim.js";
import { chooseDim } from "../graph.js";
import { type Attributes, compositeOp, loopOp, type Op, type OpContext, opaqueOp, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, index, load } from "../scalar.js";
import { tensorType } from "../types.js";

const scalarTypes: readonly DType[] = [...typeSets.anyFloat, ...typeSets.integer, "bool"];

/** An attribute that holds a TensorProto.DataType number; `fallback` where it is absent. */
export function dtypeAttribute(context: OpContext, name: string, fallback?: DType): DType {
  if (fallback !== undefined && context.attribute(name) === undefined) return fallback;
  const code = context.int(name);
  return dtypeFromOnnx(code) ?? context.fail(`attribute ${name} is not an element type`, { found: String(code) });
}

/** The only element of a constant tensor, exact. */
export function constantElement(value: Tensor): number | bigint {
  const element = value.data[0];
  return typeof element === "bigint" ? element : (toNumbers(value)[0] as number);
}

/** A scalar input as an expression: its constant, its Dim, or a load. */
function scalarInput(context: OpContext, input: number, dtype: DType): Expr {
  const known = context.constant(input);
  if (known) return cast(dtype, constant(context.dtype(input), constantElement(known)));
  const [dim] = context.dims(input) ?? [];
  if (dim !== undefined) return cast(dtype, index(dim));
  return cast(dtype, context.at(input, []));
}

/** max(⌈(limit − start) / delta⌉, 0), where the build can say it. */
function rangeLength(context: OpContext): Dim | undefined {
  const constants = [0, 1, 2].map((k) => context.constant(k));
  if (isFloat(context.dtype(0))) {
    if (!constants.every((value) => value !== undefined)) return undefined;
    const [start, limit, delta] = constants.map((value) => toNumbers(value as Tensor)[0] as number) as [
      number,
      number,
      number,
    ];
    return floatRangeLength(context, start, limit, delta);
  }
  const [start, limit, delta] = [0, 1, 2].map((k) => context.dims(k)?.[0]);
  if (start === undefined || limit === undefined || typeof delta !== "number") return undefined;
  if (delta === 0) context.fail("delta must not be 0");
  const length = delta > 0 ? ceildiv(sub(limit, start), delta) : ceildiv(sub(start, limit), -delta);
  return max(length, 0);
}

function floatRangeLength(context: OpContext, start: number, limit: number, delta: number): number {
  if (delta === 0) context.fail("delta must not be 0");
  return Math.max(0, Math.ceil((limit - start) / delta));
}

/** Range whose length is data: its size is a new symbol. */
const rangeOfData = opaqueOp(
  "RangeOfData",
  { domain: "nim", inputs: ["start", "limit", "delta"] },
  {
    infer: (context) => [tensorType(context.dtype(0), [context.context.freshSymbol("range")])],
    reference: (context, inputs) => {
      const operands = inputs as readonly Tensor[];
      const { dtype } = operands[0] as Tensor;
      const [start, limit, delta] = operands.map((operand) => constantElement(operand)) as [
        number | bigint,
        number | bigint,
        number | bigint,
      ];
      if (typeof start === "bigint") {
        const step = BigInt(delta);
        if (step === 0n) context.fail("delta must not be 0");
        const values: bigint[] = [];
        for (let value = start; step > 0n ? value < BigInt(limit) : value > BigInt(limit); value += step)
          values.push(value);
        return [tensor(dtype, [values.length], values)];
      }
      const length = floatRangeLength(context, start, Number(limit), Number(delta));
      return [
        tensor(
          dtype,
          [length],
          Array.from({ length }, (_, i) => start + i * Number(delta)),
        ),
      ];
    },
  },
);

/** Range of a length that is a size. */
const rangeOfSizes = loopOp("RangeOfSizes", { domain: "nim", inputs: ["start", "limit", "delta"] }, (context) => {
  const dtype = context.dtype(0);
  const wide = computeType(dtype); // small floats count in float32 (stash_type 1)
  const start = scalarInput(context, 0, wide);
  const delta = scalarInput(context, 2, wide);
  return context.over([rangeLength(context) as Dim], (i) =>
    cast(dtype, call("add", start, call("mul", cast(wide, index(i as Dim)), delta))),
  );
});

/** Conversion to float8e8m0 keeps the exponent; up and down correct what rounding to nearest has done. */
function toExponent(x: Expr, mode: string, saturate: boolean): Expr {
  const nearest = cast("float8e8m0", x, saturate);
  if (mode === "nearest") return nearest;
  const wide = computeType(x.dtype);
  const exact = cast(wide, x);
  const rounded = cast(wide, nearest);
  const [wrong, factor] = mode === "up" ? [call("lt", rounded, exact), 2] : [call("gt", rounded, exact), 0.5];
  return cast("float8e8m0", call("select", wrong, call("mul", rounded, constant(wide, factor)), rounded), saturate);
}

function converted(context: OpContext, to: DType): (x: Expr) => Expr {
  const saturate = context.int("saturate") !== 0;
  const mode = context.string("round_mode");
  if (!["up", "down", "nearest"].includes(mode))
    context.fail("round_mode is not one of up, down, nearest", { found: mode });
  return (x) =>
    to === "float8e8m0" && x.dtype !== to
      ? toExponent(cast(isFloat(x.dtype) ? x.dtype : "float32", x), mode, saturate)
      : cast(to, x, saturate);
}

/** Casts from and to strings are not scalar arithmetic. */
const castsText: Op["instead"] = ([type], { to }) => {
  const from = type?.kind === "tensor" && type.dtype === "string";
  const into = Number(to) === dtypes.string.onnx;
  return from && into ? "nim:Forward" : from || into ? "nim:CastText" : undefined;
};

const castAttributes = { saturate: 1, round_mode: "up" };

/** A tensor's bytes read as another type of the same width. */
function reinterpreted(value: Tensor, to: DType): Tensor {
  const { bits, kind } = dtypeInfo(to);
  const bytes = bytesOf(value);
  if (bits >= 8) return tensorFromBytes(to, value.shape, bytes);
  // A byte holds one narrow element: signed types keep it extended.
  const mask = 2 ** bits - 1;
  return tensorFromBytes(
    to,
    value.shape,
    bytes.map((byte) => (kind === "int" ? ((byte & mask) << (32 - bits)) >> (32 - bits) : byte & mask)),
  );
}

export const shape: readonly Op[] = [
  loopOp("Shape", { inputs: ["data"], attributes: { start: 0, end: { type: "int" } } }, (context) => {
    const sizes = context.shape(0);
    const end = context.attribute("end") === undefined ? sizes.length : context.int("end");
    const part = sizes.slice(context.int("start"), end); // counts from the end and clamps as ONNX does
    return context.over([part.length], (i) => chooseDim(part, i as Dim));
  }),
  loopOp("Size", { inputs: ["data"] }, (context) => context.over([], () => index(productOf(context.shape(0))))),
  loopOp(
    "ConstantOfShape",
    { inputs: [{ name: "input", types: ["int64"] }], attributes: { value: { type: "tensor" } } },
    (context) => {
      const value = context.attribute("value") as Tensor | undefined;
      if (value && sizeOf(value.shape) !== 1)
        context.fail("value must hold one element", { found: `[${value.shape.join(", ")}]` });
      const sizes = context.needDims(0);
      if (sizes.some((size) => !atLeast(size, 0) && atLeast(neg(size), 1)))
        context.fail("sizes must not be negative", { found: formatShape(sizes) });
      return context.over(sizes, () => constant(value?.dtype ?? "float32", value ? constantElement(value) : 0));
    },
  ),
  compositeOp(
    "Range",
    {
      inputs: ["start", "limit", "delta"].map((name) => ({ name, types: typeSets.numeric })),
      attributes: { stash_type: 1 },
    },
    (context, ...inputs) => {
      const dtype = context.dtype(0);
      for (const k of [1, 2])
        if (context.dtype(k) !== dtype)
          context.fail("start, limit and delta must have one element type", {
            expected: dtype,
            found: context.dtype(k),
          });
      const op = rangeLength(context) === undefined ? rangeOfData : rangeOfSizes;
      return context.context.applyOp(op, inputs, {}, { name: context.nodeName })[0]!;
    },
  ),
  loopOp("EyeLike", { inputs: ["input"], attributes: { dtype: { type: "int" }, k: 0 } }, (context) => {
    if (context.rank(0) !== 2) context.fail("the input must have 2 axes", { found: formatShape(context.shape(0)) });
    const dtype = dtypeAttribute(context, "dtype", context.dtype(0));
    const k = constant("int64", BigInt(context.int("k")));
    return context.over(context.shape(0), (i, j) => cast(dtype, call("eq", index(sub(j as Dim, i as Dim)), k)));
  }),
  loopOp(
    "OneHot",
    {
      inputs: [{ name: "indices", types: typeSets.numeric }, { name: "depth", types: typeSets.numeric }, "values"],
      attributes: { axis: -1 },
    },
    (context) => {
      const given = context.constant(1);
      const depth = (given ? Math.trunc(toNumbers(given)[0] as number) : context.needDims(1)[0]) as Dim;
      const axis = context.axis(context.int("axis"), context.rank(0) + 1);
      const extents = [...context.shape(0)];
      extents.splice(axis, 0, depth);
      return context.over(extents, (...at) => {
        const wanted = cast(
          "int64",
          context.load(
            0,
            at.filter((_, k) => k !== axis),
          ),
        );
        const category = call(
          "select",
          call("lt", wanted, constant("int64", 0n)),
          call("add", wanted, index(depth)),
          wanted,
        );
        const value = (k: number) => load(2, context.dtype(2), [k]);
        return call("select", call("eq", category, index(at[axis] as Dim)), value(1), value(0));
      });
    },
  ),
  loopOp(
    "Cast",
    {
      inputs: [{ name: "input", types: scalarTypes }],
      instead: castsText,
      attributes: { to: { type: "int", required: true }, ...castAttributes },
    },
    (context) => {
      const convert = converted(context, dtypeAttribute(context, "to"));
      return context.over(context.shape(0), (...at) => convert(context.load(0, at)));
    },
  ),
  compositeOp("CastLike", { inputs: ["input", "target_type"], attributes: castAttributes }, (context, input) => {
    const to = context.dtype(1);
    const text = context.dtype(0) === "string" || to === "string";
    const attributes: Attributes = text
      ? {}
      : { saturate: context.int("saturate"), round_mode: context.string("round_mode") };
    return context.apply(text ? "nim:CastText" : "Cast", [input], { to: dtypes[to].onnx, ...attributes });
  }),
  opaqueOp(
    "BitCast",
    { inputs: [{ name: "input", types: scalarTypes }], attributes: { to: { type: "int", required: true } } },
    {
      infer: (context) => {
        const from = context.dtype(0);
        const to = dtypeAttribute(context, "to");
        if (to === "string" || dtypeInfo(from).bits !== dtypeInfo(to).bits || elementBytes(from) !== elementBytes(to))
          context.fail("the target type must have the width of the input's", {
            expected: `${dtypeInfo(from).bits} bits`,
            found: to,
          });
        return [tensorType(to, context.shape(0))];
      },
      reference: (context, [input]) => [reinterpreted(input as Tensor, dtypeAttribute(context, "to"))],
    },
  ),
  rangeOfData,
  rangeOfSizes,
];
