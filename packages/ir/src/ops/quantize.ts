/** Quantization: per tensor, per axis and in blocks, to 16-, 8-, 4- and 2-bit integers, float8 and float4. */
import { type DType, dtypeFromOnnx, dtypes, isFloat } from "@nimforge/tensor";
import { ceildiv, type Dim, floordiv } from "../dim.js";
import type { Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr } from "../scalar.js";
import { arithmetic, castTo } from "./expansion.js";

const { integer, anyFloat } = typeSets;
const typed = (name: string, types: readonly DType[], optional = false): InputSpec => ({ name, types, optional });
const scaleTypes: readonly DType[] = [...anyFloat, "int32"];
const quantizedTypes: readonly DType[] = [...integer, ...anyFloat.filter((name) => dtypes[name].bits <= 8)];

/**
 * round(x) + zero, saturated to the type of `zero`; ties go to even. x is float32. Saturation happens before the conversion, so that no
 * intermediate overflows. Float types round by conversion.
 */
export function requantize(x: Expr, zero: Expr, saturate = true): Expr {
  const dtype = zero.dtype;
  const shift = cast(x.dtype, zero);
  if (isFloat(dtype)) return cast(dtype, call("add", x, shift), saturate);
  const { min, max } = dtypes[dtype];
  const shifted = call("add", call("round", x), shift);
  return cast(dtype, call("min", call("max", shifted, constant(x.dtype, Number(min))), constant(x.dtype, Number(max))));
}

/** Index of a scale or zero point for the element `at` of input 0. */
function parameterIndex(context: OpContext, input: number): (at: readonly Dim[]) => Dim[] {
  const data = context.shape(0);
  const own = context.shape(input);
  if (own.length === 0 || (own.length === 1 && own[0] === 1)) return () => own.map(() => 0);
  const axis = own.length === 1 && data.length === 1 ? 0 : context.axis(context.int("axis"), data.length);
  if (own.length === 1) {
    context.same(own[0] as Dim, data[axis] as Dim, "the scale and the quantized axis");
    return (at) => [at[axis] as Dim];
  }
  const block = context.int("block_size");
  if (own.length !== data.length)
    context.fail("the scale must be a scalar, a vector or blocked", {
      expected: `rank ${data.length}`,
      found: `rank ${own.length}`,
    });
  if (block <= 0) context.fail("block_size must be positive for a blocked scale", { found: String(block) });
  for (const [k, size] of own.entries()) {
    const expected = k === axis ? ceildiv(data[k] as Dim, block) : (data[k] as Dim);
    context.same(size, expected, "the shapes of a blocked scale and the data");
  }
  return (at) => at.map((dim, k) => (k === axis ? floordiv(dim, block) : dim));
}

/** The type that an attribute with a TensorProto.DataType names; 0 is none. */
function namedType(context: OpContext, attribute: string): DType | undefined {
  const code = context.int(attribute);
  if (code === 0) return undefined;
  return dtypeFromOnnx(code) ?? context.unsupported(`${attribute} ${code} is not a known element type`);
}

export const quantize: readonly Op[] = [
  loopOp(
    "QuantizeLinear",
    {
      inputs: [typed("x", scaleTypes), typed("y_scale", scaleTypes), typed("y_zero_point", quantizedTypes, true)],
      attributes: { axis: 1, saturate: 1, block_size: 0, output_dtype: 0, precision: 0 },
    },
    (context) => {
      const named = namedType(context, "output_dtype");
      const dtype = context.has(2) ? context.dtype(2) : (named ?? "uint8");
      if (named && named !== dtype)
        context.fail("output_dtype must be the type of y_zero_point", { expected: dtype, found: named });
      const scaleType = context.dtype(1);
      const precision =
        namedType(context, "precision") ?? (isFloat(scaleType) && dtypes[scaleType].bits >= 16 ? scaleType : "float32");
      const wide = computeType(precision);
      const place = parameterIndex(context, 1);
      const zeroPlace = context.has(2) ? parameterIndex(context, 2) : place;
      return context.over(context.shape(0), (...at) => {
        const quotient = call("div", cast(precision, context.load(0, at)), cast(precision, context.load(1, place(at))));
        const zero = context.has(2) ? context.load(2, zeroPlace(at)) : constant(dtype, 0);
        // no zero point: nothing to add, and float types keep the sign of zero
        if (!context.has(2) && isFloat(dtype)) return cast(dtype, cast(wide, quotient), context.int("saturate") !== 0);
        return requantize(cast(wide, quotient), zero, context.int("saturate") !== 0);
      });
    },
  ),

  loopOp(
    "DequantizeLinear",
    {
      inputs: [typed("x", quantizedTypes), typed("x_scale", scaleTypes), typed("x_zero_point", quantizedTypes, true)],
      attributes: { axis: 1, block_size: 0, output_dtype: 0 },
    },
    (context) => {
      const dtype = namedType(context, "output_dtype") ?? context.dtype(1);
      const wide: DType = dtype === "float64" ? "float64" : "float32";
      const place = parameterIndex(context, 1);
      const zeroPlace = context.has(2) ? parameterIndex(context, 2) : place;
      return context.over(context.shape(0), (...at) => {
        const x = context.load(0, at);
        // integers subtract exactly before they become floats
        const exact: DType = isFloat(x.dtype) ? wide : "int32";
        const shifted = context.has(2) ? call("sub", cast(exact, x), cast(exact, context.load(2, zeroPlace(at)))) : x;
        return cast(dtype, call("mul", cast(wide, shifted), cast(wide, context.load(1, place(at)))));
      });
    },
  ),

  // The range is widened to hold 0, so that 0 is represented exactly.
  compositeOp("DynamicQuantizeLinear", { inputs: [typed("x", ["float32"])] }, (context, input) => {
    const x = input as Value;
    const { sub, div, max, min } = arithmetic(context);
    const all = x.shape.map((_, axis) => axis);
    const zero = context.scalar("float32", 0);
    const low = context.apply("Min", [min(x, all, 0), zero]);
    const high = context.apply("Max", [max(x, all, 0), zero]);
    const scale = div(sub(high, low), 255);
    const position = context.apply("Clip", [
      context.apply("Round", [div(context.apply("Neg", [low]), scale)]),
      zero,
      context.scalar("float32", 255),
    ]);
    const zeroPoint = castTo(context, position, "uint8");
    return [context.apply("QuantizeLinear", [x, scale, zeroPoint]), scale, zeroPoint].slice(0, context.outputCount);
  }),
];
