/** What the expansions of composite ops have in common. */
import { type DType, dtypes } from "@nimforge/tensor";
import type { Value } from "../graph.js";
import type { Attribute, OpContext } from "../op.js";
import { computeType } from "../scalar.js";

/** `value` as `dtype`; itself where it is that already. */
export function castTo(context: OpContext, value: Value, dtype: DType): Value {
  return value.dtype === dtype ? value : context.apply("Cast", [value], { to: dtypes[dtype].onnx });
}

/** Computes in the type that small floats compute in, and rounds once at the end. */
export function inComputeType(context: OpContext, x: Value, body: (x: Value) => Value): Value {
  return castTo(context, body(castTo(context, x, computeType(x.dtype))), x.dtype);
}

/** Two-operand and one-operand pointwise nodes, for expansions that read like formulas. */
export const arithmetic = (context: OpContext) => {
  const binary = (name: string) => (a: Value, b: Value | number) =>
    context.apply(name, [a, typeof b === "number" ? context.scalar(a.dtype, b) : b]);
  const unary = (name: string) => (x: Value) => context.apply(name, [x]);
  const reduction =
    (name: string) =>
    (x: Value, axes: readonly number[], keepdims = 1) =>
      context.apply(name, [x, context.int64s(axes)], { keepdims, noop_with_empty_axes: 1 });
  return {
    add: binary("Add"),
    sub: binary("Sub"),
    mul: binary("Mul"),
    div: binary("Div"),
    exp: unary("Exp"),
    log: unary("Log"),
    sqrt: unary("Sqrt"),
    reciprocal: unary("Reciprocal"),
    sum: reduction("ReduceSum"),
    mean: reduction("ReduceMean"),
    max: reduction("ReduceMax"),
    min: reduction("ReduceMin"),
  };
};

/** Attribute specs whose default does not tell the type. */
export const attributeOf = {
  float: (value: number): { type: "float"; default: number } => ({ type: "float", default: value }),
  ints: { type: "ints" } as const,
  int: { type: "int" } as const,
  floats: { type: "floats" } as const,
  strings: { type: "strings" } as const,
};

/** An integer attribute that has no default. */
export function optionalInt(context: OpContext, name: string): number | undefined {
  return context.attribute(name) === undefined ? undefined : context.int(name);
}

/** A list attribute of strings, or undefined. */
export function stringsOf(context: OpContext, name: string): readonly string[] | undefined {
  return context.attribute(name) as (Attribute & readonly string[]) | undefined;
}

/** A list attribute of floats, or undefined. */
export function floatsOf(context: OpContext, name: string): readonly number[] | undefined {
  return context.ints(name);
}
