/** Pointwise ops: one element of the result depends on the elements at the same place, under broadcasting. */
import { type DType, isFloat } from "@nimforge/tensor";
import { type InputSpec, loopOp, type Op, type OpContext, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, type ScalarOp } from "../scalar.js";
import type { ValueType } from "../types.js";

const { float, integer, numeric } = typeSets;
const bool: readonly DType[] = ["bool"];

const typed = (name: string, types: readonly DType[]): InputSpec => ({ name, types });

/** Elements at the same place of two inputs of one type. */
function operands(context: OpContext, body: (a: Expr, b: Expr) => Expr) {
  if (context.dtype(0) !== context.dtype(1))
    context.fail("both inputs must have one element type", { expected: context.dtype(0), found: context.dtype(1) });
  return context.over(context.broadcast(context.shape(0), context.shape(1)), (...at) =>
    body(context.at(0, at), context.at(1, at)),
  );
}

const unary = (
  name: string,
  types: readonly DType[],
  body: (x: Expr, context: OpContext) => Expr,
  attributes = {},
): Op =>
  loopOp(name, { inputs: [typed("X", types)], attributes }, (context) =>
    context.over(context.shape(0), (...at) => body(context.at(0, at), context)),
  );

const direct = (name: string, op: ScalarOp, types: readonly DType[]): Op => unary(name, types, (x) => call(op, x));

const binary = (
  name: string,
  types: readonly DType[],
  body: (a: Expr, b: Expr, context: OpContext) => Expr,
  attributes = {},
  instead?: Op["instead"],
): Op =>
  loopOp(name, { inputs: [typed("A", types), typed("B", types)], attributes, instead }, (context) =>
    operands(context, (a, b) => body(a, b, context)),
  );

const directBinary = (name: string, op: ScalarOp, types: readonly DType[]): Op =>
  binary(name, types, (a, b) => call(op, a, b));

/** op folded over any number of inputs, all broadcast together. */
const variadic = (name: string, fold: (all: Expr[]) => Expr): Op =>
  loopOp(name, { inputs: [{ name: "inputs", types: numeric, variadic: true }] }, (context) => {
    if (context.inputs.length === 0) context.fail("takes at least one input");
    const positions = context.inputs.map((_, k) => k);
    return context.over(context.broadcast(...positions.map((k) => context.shape(k))), (...at) =>
      fold(positions.map((k) => context.at(k, at))),
    );
  });

const folded = (op: ScalarOp) => (all: Expr[]) => all.reduce((a, b) => call(op, a, b));

export const num = (like: Expr, value: number): Expr => constant(like.dtype, value);

/** Arithmetic in the type that the dtype computes in, rounded once at the end (small floats compute in float32). */
function inComputeType(x: Expr, body: (x: Expr) => Expr): Expr {
  return cast(x.dtype, body(cast(computeType(x.dtype), x)));
}

const relu = (x: Expr) => call("max", x, num(x, 0));
const clamp01 = (x: Expr) => call("min", call("max", x, num(x, 0)), num(x, 1));
const sigmoid = (x: Expr) => call("sigmoid", x);
const softplus = (x: Expr) =>
  call("add", call("max", x, num(x, 0)), call("log1p", call("exp", call("neg", call("abs", x)))));

export const pointwise: readonly Op[] = [
  directBinary("Add", "add", numeric),
  directBinary("Sub", "sub", numeric),
  directBinary("Mul", "mul", numeric),
  directBinary("Div", "div", numeric),
  loopOp("Pow", { inputs: [typed("X", numeric), typed("Y", numeric)] }, (context) =>
    context.over(context.broadcast(context.shape(0), context.shape(1)), (...at) => {
      const x = context.at(0, at);
      const y = context.at(1, at);
      if (x.dtype === y.dtype) return call("pow", x, y);
      // The result has the base's type; the power is taken in a type that holds both.
      const wide: DType = isFloat(x.dtype) && !isFloat(y.dtype) ? computeType(x.dtype) : "float64";
      return cast(x.dtype, call("pow", cast(wide, x), cast(wide, y)));
    }),
  ),
  binary("Mod", numeric, (a, b, context) => call(context.int("fmod") ? "fmod" : "mod", a, b), { fmod: 0 }),
  variadic("Sum", folded("add")),
  variadic("Min", folded("min")),
  variadic("Max", folded("max")),
  variadic("Mean", (all) => inComputeType(folded("add")(all), (sum) => call("div", sum, num(sum, all.length)))),

  direct("Neg", "neg", numeric),
  direct("Abs", "abs", numeric),
  direct("Sign", "sign", numeric),
  direct("Floor", "floor", float),
  direct("Ceil", "ceil", float),
  direct("Round", "round", float),
  direct("Sqrt", "sqrt", float),
  direct("Exp", "exp", float),
  direct("Log", "log", float),
  direct("Erf", "erf", numeric),
  ...(["sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"] as const).map(
    (op) => direct(`${op[0]!.toUpperCase()}${op.slice(1)}`, op, float),
  ),
  unary("Reciprocal", float, (x) => call("div", num(x, 1), x)),

  direct("Sigmoid", "sigmoid", float),
  unary("Relu", numeric, relu),
  unary(
    "LeakyRelu",
    float,
    (x, context) => call("select", call("lt", x, num(x, 0)), call("mul", num(x, context.float("alpha")), x), x),
    { alpha: 0.01 },
  ),
  unary(
    "ThresholdedRelu",
    float,
    (x, context) => call("select", call("gt", x, num(x, context.float("alpha"))), x, num(x, 0)),
    { alpha: 1 },
  ),
  unary(
    "Elu",
    float,
    (x, context) =>
      call("select", call("lt", x, num(x, 0)), call("mul", num(x, context.float("alpha")), call("expm1", x)), x),
    { alpha: 1 },
  ),
  unary(
    "Selu",
    float,
    (x, context) =>
      call(
        "mul",
        num(x, context.float("gamma")),
        call("select", call("gt", x, num(x, 0)), x, call("mul", num(x, context.float("alpha")), call("expm1", x))),
      ),
    { alpha: 1.6732632423543772, gamma: 1.0507009873554805 },
  ),
  unary(
    "Celu",
    float,
    (x, context) => {
      const alpha = num(x, context.float("alpha"));
      return call("add", relu(x), call("min", num(x, 0), call("mul", alpha, call("expm1", call("div", x, alpha)))));
    },
    { alpha: 1 },
  ),
  unary(
    "HardSigmoid",
    float,
    (x, context) => clamp01(call("add", call("mul", num(x, context.float("alpha")), x), num(x, context.float("beta")))),
    { alpha: 0.2, beta: 0.5 },
  ),
  unary("HardSwish", float, (x) => call("mul", x, clamp01(call("add", call("mul", num(x, 1 / 6), x), num(x, 0.5))))),
  unary("Softplus", float, softplus),
  unary("Softsign", float, (x) => call("div", x, call("add", num(x, 1), call("abs", x)))),
  unary("Mish", float, (x) => call("mul", x, call("tanh", softplus(x)))),
  unary("Swish", float, (x, context) => call("mul", x, sigmoid(call("mul", num(x, context.float("alpha")), x))), {
    alpha: 1,
  }),
  unary(
    "Gelu",
    float,
    (x, context) => {
      const half = call("mul", num(x, 0.5), x);
      if (context.string("approximate") === "tanh") {
        const cubic = call("add", x, call("mul", num(x, 0.044715), call("mul", x, call("mul", x, x))));
        return call(
          "mul",
          half,
          call("add", num(x, 1), call("tanh", call("mul", num(x, Math.sqrt(2 / Math.PI)), cubic))),
        );
      }
      return call("mul", half, call("add", num(x, 1), call("erf", call("mul", x, num(x, Math.SQRT1_2)))));
    },
    { approximate: "none" },
  ),
  loopOp("PRelu", { inputs: [typed("X", numeric), typed("slope", numeric)] }, (context) =>
    // slope broadcasts to X only
    context.over(context.shape(0), (...at) => {
      context.broadcast(context.shape(0), context.shape(1));
      const x = context.at(0, at);
      return call("select", call("lt", x, num(x, 0)), call("mul", context.at(1, at), x), x);
    }),
  ),
  loopOp(
    "Clip",
    {
      inputs: [
        typed("X", numeric),
        { name: "min", types: numeric, optional: true },
        { name: "max", types: numeric, optional: true },
      ],
    },
    (context) =>
      context.over(context.shape(0), (...at) => {
        let x = context.at(0, at);
        if (context.has(1)) x = call("max", x, context.at(1, []));
        if (context.has(2)) x = call("min", x, context.at(2, []));
        return x;
      }),
  ),

  binary(
    "Equal",
    [...numeric, "bool"],
    (a, b) => call("eq", a, b),
    {},
    ([a]) => (isText(a) ? "nim:EqualText" : undefined),
  ),
  directBinary("Less", "lt", numeric),
  directBinary("LessOrEqual", "le", numeric),
  directBinary("Greater", "gt", numeric),
  directBinary("GreaterOrEqual", "ge", numeric),
  directBinary("And", "and", bool),
  directBinary("Or", "or", bool),
  directBinary("Xor", "xor", bool),
  direct("Not", "not", bool),
  direct("IsNaN", "isnan", typeSets.anyFloat),
  unary(
    "IsInf",
    typeSets.anyFloat,
    (x, context) => {
      const infinite = call("isinf", x);
      const sides = [
        context.int("detect_negative") ? call("lt", x, num(x, 0)) : undefined,
        context.int("detect_positive") ? call("gt", x, num(x, 0)) : undefined,
      ];
      const wanted = sides.filter((side) => side !== undefined);
      return wanted.length === 0
        ? constant("bool", false)
        : call(
            "and",
            infinite,
            wanted.reduce((a, b) => call("or", a, b)),
          );
    },
    { detect_negative: 1, detect_positive: 1 },
  ),
  directBinary("BitwiseAnd", "bitand", integer),
  directBinary("BitwiseOr", "bitor", integer),
  directBinary("BitwiseXor", "bitxor", integer),
  direct("BitwiseNot", "bitnot", integer),
  binary("BitShift", integer, (a, b, context) => call(context.string("direction") === "LEFT" ? "shl" : "shr", a, b), {
    direction: { type: "string", required: true },
  }),

  loopOp("Where", { inputs: [typed("condition", bool), "X", "Y"] }, (context) =>
    context.over(context.broadcast(context.shape(0), context.shape(1), context.shape(2)), (...at) =>
      call("select", context.at(0, at), context.at(1, at), context.at(2, at)),
    ),
  ),
  loopOp(
    "Identity",
    { inputs: ["input"], instead: ([type]) => (isScalarTensor(type) ? undefined : "nim:Forward") },
    (context) => context.over(context.shape(0), (...at) => context.load(0, at)),
  ),
];

const isText = (type: ValueType | undefined) => type?.kind === "tensor" && type.dtype === "string";
const isScalarTensor = (type: ValueType | undefined) =>
  type?.kind === "tensor" && !["string", "complex64", "complex128"].includes(type.dtype);
