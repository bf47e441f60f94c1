/**
 * Scalar expressions as C++.
 *
 * In vector mode one loop variable runs over the lanes: what depends on it is a `V` (or a mask), everything else stays a scalar and is
 * broadcast where the two meet. The text is generic in V and in the lane selector M, so the same body serves full vectors and tails.
 */
import {
  type Atom,
  add as addDims,
  affineIn,
  asSymbol,
  atLeast,
  type CallExpr,
  type Dim,
  dependsOn,
  type Expr,
  type ExprIndex,
  type LoadExpr,
  type LoopAxis,
  mul,
  type ReduceExpr,
  rangeOf,
  SymbolicDim,
  sub,
  termsOf,
  visitExpr,
  visitExprSymbols,
} from "@nimforge/ir";
import { type DType, dtypeInfo, internalError, isFloat, isSmallFloat } from "@nimforge/tensor";
import type { Arguments } from "./arguments.js";

/** C++ type of a dtype's elements in memory. */
export const storageType: Partial<Record<DType, string>> = {
  float32: "float", float64: "double", float16: "unsigned short", bfloat16: "unsigned short",
  float8e4m3fn: "unsigned char", float8e4m3fnuz: "unsigned char", float8e5m2: "unsigned char", float8e5m2fnuz: "unsigned char",
  float8e8m0: "unsigned char", float4e2m1: "unsigned char",
  int8: "signed char", int16: "short", int32: "int", int64: "long long", uint8: "unsigned char", uint16: "unsigned short",
  uint32: "unsigned", uint64: "unsigned long long", int4: "signed char", uint4: "unsigned char", int2: "signed char", uint2: "unsigned char",
  bool: "unsigned char",
}; // biome-ignore format: a table

/** C++ type in which a dtype is computed. */
export function valueType(dtype: DType): string {
  if (dtype === "bool") return "bool";
  if (isSmallFloat(dtype)) return "float";
  const type = storageType[dtype];
  if (type === undefined) throw internalError(`${dtype} has no C++ type`);
  return type;
}

/** How a kernel reads an operand: the pointer's name and the element's position for an index. */
export interface OperandAccess {
  readonly pointer: string;
  readonly shape: readonly Dim[];
  offset(index: readonly Dim[]): Dim;
  /** For people, in faults. */
  readonly name: string;
}

export interface PrinterOptions {
  readonly args: Arguments;
  operand(load: LoadExpr): OperandAccess | { readonly text: string };
  /** Key of the loop variable that runs over the lanes; undefined: scalar code. */
  readonly vector?: string | undefined;
  /** Name of the vector type; "V", a template parameter, when left out. */
  readonly vectorType?: string;
  /** Expression text of the lane selector in vector mode. */
  readonly selector?: string;
  /** Numbers above this become arguments, so that kernels which differ only in sizes share their code. */
  readonly literalLimit?: number;
  /** C++ type of indices and sizes; NfInt when left out. */
  readonly indexType?: string;
  /** Never use vectors, in reductions neither: each thread is a lane. */
  readonly scalar?: boolean;
}

/** Temporaries visible at a place, with the statements that make them. */
export class Scope {
  readonly lines: string[] = [];
  readonly #known = new Map<string, string>();
  constructor(readonly parent?: Scope) {}
  find(key: string): string | undefined {
    return this.#known.get(key) ?? this.parent?.find(key);
  }
  remember(key: string, name: string): void {
    this.#known.set(key, name);
  }
}

export class Names {
  readonly variables = new Map<string, string>();
  #next = 0;
  fresh(stem = "t"): string {
    return `${stem}${this.#next++}`;
  }
}

/** Operations with a vector form in nf.hpp. */
const vectorOps = new Set([
  "add", "sub", "mul", "div", "min", "max", "neg", "abs", "sign", "sqrt", "floor", "ceil", "round", "trunc", "exp", "log", "tanh", "sigmoid", "erf", "expm1", "log1p",
  "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "pow",
  "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "select", "isnan", "isinf",
]); // biome-ignore format: a table

export function dependsOnVariable(expr: Expr, key: string): boolean {
  let found = false;
  visitExprSymbols(expr, (atom) => {
    found ||= atom.key === key;
  });
  return found;
}

/** Whether the expression can run with `variable` over the lanes: float32 and masks, affine indices, provably safe loads under a mask. */
export function vectorizable(
  expr: Expr,
  variable: string,
  shapeOf: (load: LoadExpr) => readonly Dim[] | undefined,
): boolean {
  const varies = (part: Expr) => dependsOnVariable(part, variable);
  const check = (part: Expr, masked: boolean): boolean => {
    if (part.kind === "load" && part.operand < 0) return part.dtype === "float32";
    if (!varies(part)) return true;
    switch (part.kind) {
      case "const":
        return true;
      case "index":
        return false;
      case "load": {
        if (part.dtype !== "float32" || !part.index.every((dim) => affineIn(dim, variable))) return false;
        const shape = shapeOf(part);
        return (
          !masked ||
          (shape !== undefined &&
            part.index.every((dim, k) => atLeast(dim, 0) && atLeast(sub(sub(shape[k] as Dim, 1), dim), 0)))
        );
      }
      case "cast":
        return part.dtype === "float32" && part.arg.dtype === "bool" && check(part.arg, masked);
      case "call": {
        const fine = (arg: Expr) => arg.dtype === "float32" || arg.dtype === "bool";
        if (!vectorOps.has(part.op) || !part.args.every(fine)) return false;
        if (part.args[0]!.dtype === "bool" && (part.op === "eq" || part.op === "ne")) return false;
        if (part.op !== "select") return part.args.every((arg) => check(arg, masked));
        const [condition, yes, no] = part.args as readonly [Expr, Expr, Expr];
        if (yes.dtype !== "float32" || !check(condition, masked)) return false;
        const lanes = varies(condition);
        return check(yes, masked || lanes) && check(no, masked || lanes);
      }
      case "reduce":
        return (
          ["sum", "prod", "max", "min"].includes(part.monoid) &&
          part.dtype === "float32" &&
          part.axes.every((axis) => !dependsOn(axis.extent, variable)) &&
          check(part.body, masked)
        );
    }
  };
  return expr.dtype === "float32" && check(expr, false);
}

const literalOf = (dtype: DType, value: number | bigint): string => {
  if (dtype === "bool") return value ? "true" : "false";
  if (!isFloat(dtype)) {
    const text = String(value);
    if (dtype === "int64") return value === -(2n ** 63n) ? "(-9223372036854775807LL-1)" : `${text}LL`;
    if (dtype === "uint64") return `${text}ULL`;
    return `((${valueType(dtype)})${text})`;
  }
  const number = Number(value);
  const type = dtype === "float64" ? "double" : "float";
  if (Number.isNaN(number)) return `((${type})__builtin_nan(""))`;
  if (!Number.isFinite(number)) return `((${type})${number < 0 ? "-" : ""}__builtin_inf())`;
  if (Object.is(number, -0)) return `((${type})-0.0)`;
  const text = String(number);
  return `((${type})${/[.e]/.test(text) ? text : `${text}.0`})`;
};

/** x² and x, which need no pow. */
function simplePower(expr: CallExpr, base: string): string | undefined {
  const exponent = expr.op === "pow" ? expr.args[1] : undefined;
  if (exponent?.kind !== "const") return undefined;
  if (exponent.value === 2) return `(${base} * ${base})`;
  return exponent.value === 1 ? base : undefined;
}

const infix: Partial<Record<string, string>> = {
  add: "+",
  sub: "-",
  mul: "*",
  div: "/",
  bitand: "&",
  bitor: "|",
  bitxor: "^",
};
const comparisons: Partial<Record<string, string>> = { eq: "==", ne: "!=", lt: "<", le: "<=", gt: ">", ge: ">=" };

export class Printer {
  constructor(
    readonly options: PrinterOptions,
    readonly names: Names,
  ) {}

  /** The name of the lanes' type at this place. */
  get V(): string {
    return this.options.vectorType ?? "V";
  }

  /** C++ type of indices. */
  get index(): string {
    return this.options.indexType ?? "NfInt";
  }

  /** The same printer in another mode. */
  with(changes: Partial<PrinterOptions>): Printer {
    return new Printer({ ...this.options, ...changes }, this.names);
  }

  readonly #varying = new Map<Expr, boolean>();

  varies(expr: Expr): boolean {
    const { vector } = this.options;
    if (vector === undefined) return false;
    let found = this.#varying.get(expr);
    if (found === undefined) {
      found = dependsOnVariable(expr, vector);
      if (!found)
        visitExpr(expr, (part) => {
          found ||= part.kind === "load" && part.operand < 0;
        });
      this.#varying.set(expr, found);
    }
    return found;
  }

  /** Emits what the expression needs into the scope and returns its text; a `V` or mask when it varies over the lanes. */
  expr(expr: Expr, scope: Scope): string {
    const known = scope.find(this.#key(expr));
    if (known !== undefined) return known;
    const text = this.#print(expr, scope);
    if (expr.kind === "const" || (expr.kind === "load" && expr.operand < 0)) return text;
    const name = this.names.fresh();
    scope.lines.push(`const ${this.#type(expr)} ${name} = ${text};`);
    scope.remember(this.#key(expr), name);
    return name;
  }

  /** From here on the expression's value is the variable `name`. */
  bind(expr: Expr, scope: Scope, name: string): void {
    scope.remember(this.#key(expr), name);
  }

  /** What does not vary over the lanes is the same scalar in every mode. */
  #key(expr: Expr): string {
    return `${this.varies(expr) ? this.options.vector : ""}|${expr.key}`;
  }

  #type(expr: Expr): string {
    if (!this.varies(expr)) return valueType(expr.dtype);
    return expr.dtype === "bool" ? `nf::MaskOf<${this.V}>` : this.V;
  }

  /** As a vector, whatever it is. */
  vector(expr: Expr, scope: Scope): string {
    const text = this.expr(expr, scope);
    if (this.varies(expr)) return text;
    return expr.dtype === "bool" ? `nf::mask_of<${this.V}>(${text})` : `nf::splat<${this.V}>(${text})`;
  }

  #print(expr: Expr, scope: Scope): string {
    const varies = this.varies(expr);
    switch (expr.kind) {
      case "const":
        return literalOf(expr.dtype, expr.value);
      case "index":
        return `(long long)${this.dim(expr.dim, scope)}`;
      case "load":
        return this.#load(expr, scope);
      case "cast":
        if (varies)
          return `nf::select<${this.V}>(${this.expr(expr.arg, scope)}, nf::splat<${this.V}>(1), nf::splat<${this.V}>(0))`;
        return this.#cast(expr.dtype, expr.arg, this.expr(expr.arg, scope), expr.saturate);
      case "call":
        if (expr.op === "select") return this.#select(expr, scope);
        return varies ? this.#vectorCall(expr, scope) : this.#scalarCall(expr, scope);
      case "reduce":
        return this.#reduce(expr, scope);
    }
  }

  #load(expr: LoadExpr, scope: Scope): string {
    const access = this.options.operand(expr);
    if ("text" in access) return access.text;
    const offset = access.offset(expr.index);
    const { vector, selector } = this.options;
    if (vector === undefined || !dependsOn(offset, vector)) {
      const element = `${access.pointer}[${this.dim(offset, scope, access.name)}]`;
      if (isSmallFloat(expr.dtype)) return `nf::decode_${expr.dtype}(${element})`;
      if (this.varies(expr)) return `nf::splat<${this.V}>(${element})`; // its index varies, along an axis of stride 0
      return expr.dtype === "bool" ? `(${element} != 0)` : element;
    }
    const affine = affineIn(offset, vector);
    if (!affine) throw internalError("a vector load is not affine");
    const at = `${access.pointer} + (${this.dim(offset, scope, access.name)})`;
    if (affine.stride === 1) return `nf::ld<${this.V}>(${at}, ${selector})`;
    return `nf::lds<${this.V}>(${at}, ${this.dim(affine.stride, scope)}, ${selector})`;
  }

  /** Only the branch that is taken is evaluated, unless lanes differ. */
  #select(expr: CallExpr, scope: Scope): string {
    const [condition, yes, no] = expr.args as readonly [Expr, Expr, Expr];
    const test = this.expr(condition, scope);
    if (this.varies(condition))
      return `nf::select<${this.V}>(${test}, ${this.vector(yes, scope)}, ${this.vector(no, scope)})`;
    const varies = this.varies(expr);
    const left = new Scope(scope);
    const right = new Scope(scope);
    const [a, b] = varies
      ? [this.vector(yes, left), this.vector(no, right)]
      : [this.expr(yes, left), this.expr(no, right)];
    const name = this.names.fresh("s");
    scope.lines.push(
      `${this.#type(expr)} ${name};`,
      `if (${test}) {`,
      ...left.lines,
      `${name} = ${a};`,
      "} else {",
      ...right.lines,
      `${name} = ${b};`,
      "}",
    );
    return name;
  }

  #vectorCall(expr: CallExpr, scope: Scope): string {
    const args = expr.args.map((arg) => this.vector(arg, scope));
    const [a, b] = args as unknown as readonly [string, string];
    const { op } = expr;
    const power = simplePower(expr, a);
    if (power !== undefined) return power;
    const operator = infix[op];
    if (operator) return `${a} ${operator} ${b}`;
    if (op === "neg") return `-${a}`;
    if (op in comparisons) return `nf::${op}<${this.V}>(${a}, ${b})`;
    if (op === "and" || op === "or") return `nf::${op}_(${a}, ${b})`;
    if (op === "not") return `nf::not_(${a})`;
    if (op === "isnan") return `nf::ne<${this.V}>(${a}, ${a})`;
    if (op === "isinf") return `nf::eq<${this.V}>(nf::abs(${a}), nf::splat<${this.V}>(__builtin_inff()))`;
    if (op === "sqrt") return `nf::sqrt(${a})`;
    if (op === "sign") return `nf::sign<${this.V}>(${a})`;
    return `nf::${op === "round" ? "round_even" : op}<${this.V}>(${args.join(", ")})`;
  }

  #scalarCall(expr: CallExpr, scope: Scope): string {
    const { op, dtype } = expr;
    const operand = (expr.args[0] as Expr).dtype;
    const args = expr.args.map((arg) => this.expr(arg, scope));
    const [a, b] = args as unknown as readonly [string, string];
    const comparison = comparisons[op];
    if (comparison) return `(${a} ${comparison} ${b})`;
    if (op === "and") return `(${a} && ${b})`;
    if (op === "or") return `(${a} || ${b})`;
    if (op === "xor") return `(${a} != ${b})`;
    if (op === "not") return `(!${a})`;
    if (op === "isnan") return `(${a} != ${a})`;
    if (op === "isinf") return isFloat(operand) ? `(__builtin_fabs((double)${a}) == __builtin_inf())` : "false";
    if (isFloat(dtype)) {
      const power = isSmallFloat(dtype) ? undefined : simplePower(expr, a);
      if (power !== undefined) return power;
      const operator = infix[op];
      const exact = ["neg", "abs", "min", "max", "sign", "floor", "ceil", "round", "trunc"].includes(op);
      const type = valueType(dtype);
      const text = operator
        ? `(${a} ${operator} ${b})`
        : op === "neg"
          ? `(-${a})`
          : op === "sqrt"
            ? `nf::sqrt(${a})`
            : `nf::${op === "round" ? "round_even" : op}<${type}>(${args.join(", ")})`;
      return isSmallFloat(dtype) && !exact ? this.round(dtype, text) : text;
    }
    const type = valueType(dtype);
    if (op === "div" || op === "mod" || op === "fmod") {
      const fault = this.options.args.fault("division by zero");
      return `nf::int_${op}<${type}>(L, ${fault}, ${a}, ${b})`;
    }
    const operator = infix[op];
    if (operator) return `((${type})(${this.#wide(dtype, a)} ${operator} ${this.#wide(dtype, b)}))`;
    if (op === "neg") return `((${type})-${this.#wide(dtype, a)})`;
    if (op === "bitnot") return `((${type})~${a})`;
    if (["shl", "shr", "min", "max", "abs", "sign", "pow"].includes(op))
      return `nf::int_${op}<${type}>(${args.join(", ")})`;
    return `((${type})nf::${op}<double>(${args.map((arg) => `(double)${arg}`).join(", ")}))`;
  }

  /** 64-bit products wrap in unsigned arithmetic; smaller types are promoted to int and cut off again. */
  #wide(dtype: DType, text: string): string {
    return dtype === "int64" || dtype === "int32"
      ? `(unsigned ${dtype === "int64" ? "long long" : "int"})${text}`
      : dtype === "uint16"
        ? `(unsigned)${text}`
        : text;
  }

  /** A float32 value as the nearest that the small type has. */
  round(dtype: DType, text: string): string {
    return `nf::decode_${dtype}(nf::encode_${dtype}(${text}))`;
  }

  #cast(to: DType, arg: Expr, text: string, saturate: boolean): string {
    const from = arg.dtype;
    if (to === "bool") return `(${text} != 0)`;
    if (isFloat(to)) {
      if (to === "float64") return `((double)${text})`;
      if (to === "float32") return `((float)${text})`;
      const narrow = `(float)${text}`;
      return dtypeInfo(to).bits <= 8
        ? `nf::decode_${to}(nf::encode_${to}(${narrow}, ${saturate}))`
        : this.round(to, narrow);
    }
    const { bits, kind } = dtypeInfo(to);
    if (bits < 8) {
      const { min, max } = dtypeInfo(to);
      return isFloat(from)
        ? `((${valueType(to)})nf::to_small((float)${text}, ${min}, ${max}))`
        : `nf::wrap_small<${valueType(to)}>((int)${text}, ${bits}, ${kind === "int"})`;
    }
    if (isFloat(from)) return `nf::float_to_int<${valueType(to)}>(${text})`;
    return `((${valueType(to)})${text})`;
  }

  // ---- reductions

  #reduce(expr: ReduceExpr, scope: Scope): string {
    if (this.options.vector !== undefined && this.varies(expr)) return this.#reduceLanes(expr, scope);
    const inner = expr.axes[expr.axes.length - 1] as LoopAxis;
    const atom = asSymbol(inner.variable);
    const shapeOf = (load: LoadExpr) => {
      const access = this.options.operand(load);
      return "text" in access ? undefined : access.shape;
    };
    const worthwhile =
      !this.options.scalar &&
      ["sum", "max", "min", "prod"].includes(expr.monoid) &&
      atom &&
      rangeOf(inner.extent).high >= 8;
    if (worthwhile && this.#contiguous(expr.body, atom.key) && vectorizable(expr.body, atom.key, shapeOf))
      return this.#reduceVectorized(expr, atom.key, scope);
    return this.#reduceScalar(expr, scope);
  }

  /** Some load runs along the variable with stride 1, and none needs a gather. */
  #contiguous(body: Expr, key: string): boolean {
    let unit = false;
    let strided = false;
    visitExpr(body, (part) => {
      if (part.kind !== "load" || part.operand < 0) return;
      const access = this.options.operand(part);
      if ("text" in access) return;
      const affine = affineIn(access.offset(part.index), key);
      if (affine?.stride === 1) unit = true;
      else if (affine?.stride !== 0) strided = true;
    });
    return unit && !strided;
  }

  /** The value that changes nothing. */
  identity(monoid: string, dtype: DType): string {
    if (monoid === "sum") return literalOf(dtype, isFloat(dtype) ? 0 : 0n);
    if (monoid === "prod") return literalOf(dtype, isFloat(dtype) ? 1 : 1n);
    if (isFloat(dtype)) return literalOf(dtype, monoid === "max" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY);
    if (dtype === "bool") return monoid === "max" ? "false" : "true";
    return literalOf(dtype, monoid === "max" ? dtypeInfo(dtype).min : dtypeInfo(dtype).max);
  }

  /** One step of a sum of products is a fused multiply-add. */
  accumulate(expr: ReduceExpr, total: string, body: Expr, scope: Scope, vector: boolean): string {
    const value = (part: Expr, at: Scope) => (vector ? this.vector(part, at) : this.expr(part, at));
    if (
      expr.monoid === "sum" &&
      expr.dtype === "float32" &&
      body.kind === "call" &&
      body.op === "mul" &&
      scope.find(this.#key(body)) === undefined
    )
      return `${total} = nf::fma(${value(body.args[0] as Expr, scope)}, ${value(body.args[1] as Expr, scope)}, ${total});`;
    const next = value(body, scope);
    switch (expr.monoid) {
      case "sum":
        return `${total} = ${total} + ${next};`;
      case "prod":
        return `${total} = ${total} * ${next};`;
      case "and":
        return `${total} = ${total} && ${next};`;
      case "or":
        return `${total} = ${total} || ${next};`;
      default:
        if (isFloat(body.dtype)) return `${total} = nf::${expr.monoid}(${total}, ${next});`;
        return `${total} = ${next} ${expr.monoid === "max" ? ">" : "<"} ${total} ? ${next} : ${total};`;
    }
  }

  /** Each lane has a total of its own. */
  #reduceLanes(expr: ReduceExpr, scope: Scope): string {
    const total = this.names.fresh("r");
    scope.lines.push(`${this.V} ${total} = nf::splat<${this.V}>(${this.identity(expr.monoid, "float32")});`);
    const inner = new Scope(scope);
    const opens = expr.axes.map((axis) => this.loop(axis, scope));
    const step = this.accumulate(expr, total, expr.body, inner, true);
    scope.lines.push(...opens, ...inner.lines, step, "}".repeat(opens.length));
    return total;
  }

  #reduceScalar(expr: ReduceExpr, scope: Scope): string {
    const total = this.names.fresh("r");
    const { dtype } = expr.body;
    const argument = expr.monoid.startsWith("arg");
    const wide = dtype === "float32" || isSmallFloat(dtype) ? "float" : valueType(dtype);
    const inner = new Scope(scope);
    if (argument) {
      const [axis] = expr.axes as readonly [LoopAxis];
      const best = this.names.fresh("b");
      scope.lines.push(`long long ${total} = 0;`, `${wide} ${best}{};`, `bool any${total} = false;`);
      const open = this.loop(axis, scope);
      const variable = asSymbol(axis.variable) ? this.names.variables.get(asSymbol(axis.variable)!.key)! : "0";
      const value = this.expr(expr.body, inner);
      const better = `${value} ${expr.monoid.startsWith("argmax") ? ">" : "<"}${expr.monoid.endsWith("Last") ? "=" : ""} ${best}`;
      const nan = isFloat(dtype) ? ` || (${value} != ${value} && ${best} == ${best})` : "";
      scope.lines.push(
        open,
        ...inner.lines,
        `if (!any${total} || ${better}${nan}) { ${best} = ${value}; ${total} = ${variable}; any${total} = true; }`,
        "}",
      );
      return total;
    }
    if (expr.monoid === "and" || expr.monoid === "or") scope.lines.push(`bool ${total} = ${expr.monoid === "and"};`);
    else scope.lines.push(`${wide} ${total} = ${this.identity(expr.monoid, dtype)};`);
    const opens = expr.axes.map((axis) => this.loop(axis, scope));
    const step = this.accumulate(expr, total, expr.body, inner, false);
    scope.lines.push(...opens, ...inner.lines, step, "}".repeat(opens.length));
    return isSmallFloat(dtype) ? this.round(dtype, total) : total;
  }

  /** The innermost axis over the lanes, their totals joined in a fixed order, then the tail. */
  #reduceVectorized(expr: ReduceExpr, key: string, scope: Scope): string {
    const total = this.names.fresh("r");
    const lanesTotal = `${total}v`;
    const identity = this.identity(expr.monoid, "float32");
    const outer = expr.axes.slice(0, -1);
    const inner = expr.axes[expr.axes.length - 1] as LoopAxis;
    scope.lines.push(`float ${total} = ${identity};`, `nf::F32 ${lanesTotal} = nf::splat<nf::F32>(${identity});`);
    const opens = outer.map((axis) => this.loop(axis, scope));
    const variable = this.names.fresh("k");
    const limit = this.names.fresh("n");
    this.names.variables.set(key, variable);
    const full = new Scope(scope);
    const vector = this.with({ vector: key, selector: "nf::All{}", vectorType: "nf::F32" });
    const step = vector.accumulate(expr, lanesTotal, expr.body, full, true);
    const tail = new Scope(scope);
    const scalar = this.with({ vector: undefined });
    const tailStep = scalar.accumulate(expr, total, expr.body, tail, false);
    scope.lines.push(
      ...opens,
      `const NfInt ${limit} = ${this.dim(inner.extent, scope)};`,
      `NfInt ${variable} = 0;`,
      `for (; ${variable} + nf::lanes<nf::F32> <= ${limit}; ${variable} += nf::lanes<nf::F32>) {`,
      ...full.lines,
      step,
      "}",
      `for (; ${variable} < ${limit}; ++${variable}) {`,
      ...tail.lines,
      tailStep,
      "}",
      "}".repeat(opens.length),
    );
    const joined = {
      sum: `${total} + nf::hsum(${lanesTotal})`,
      prod: `${total} * nf::hprod(${lanesTotal})`,
      max: `nf::max(${total}, nf::hmax(${lanesTotal}))`,
      min: `nf::min(${total}, nf::hmin(${lanesTotal}))`,
    };
    return joined[expr.monoid as "sum"];
  }

  /** Opens `for` over an axis; the caller closes it. */
  loop(axis: LoopAxis, scope: Scope): string {
    const atom = asSymbol(axis.variable);
    if (!atom) return "{";
    const name = this.names.fresh("k");
    const limit = this.dim(axis.extent, scope);
    this.names.variables.set(atom.key, name);
    return `for (${this.index} ${name} = 0; ${name} < ${limit}; ++${name}) {`;
  }

  // ---- sizes and indices

  /** A Dim as an NfInt expression: parts without loop variables are arguments, the rest is arithmetic on them. */
  dim(dim: Dim, scope: Scope, operandName = ""): string {
    if (typeof dim === "number") return this.#number(dim);
    const groups = new Map<string, { atoms: readonly Atom[]; free: Dim[] }>();
    for (const { coefficient, atoms } of termsOf(dim)) {
      const bound = atoms.filter((atom) => this.#isBound(atom));
      const free = atoms.filter((atom) => !this.#isBound(atom));
      const key = bound.map((atom) => atom.key).join("·");
      const group = groups.get(key) ?? { atoms: bound, free: [] };
      group.free.push(mul(coefficient, ...free.map(dimOfAtom)));
      groups.set(key, group);
    }
    const terms: string[] = [];
    for (const { atoms, free } of groups.values()) {
      const factor = free.reduce<Dim>((x, y) => addDims(x, y), 0);
      const text = atoms.map((atom) => this.#atom(atom, scope, operandName));
      if (factor !== 1 || text.length === 0)
        text.push(typeof factor === "number" ? this.#number(factor) : `d[${this.options.args.slot(factor)}]`);
      terms.push(text.join(" * "));
    }
    return terms.length === 1 && !terms[0]!.includes(" ") ? terms[0]! : `(${terms.join(" + ")})`;
  }

  #number(value: number): string {
    const limit = this.options.literalLimit ?? Number.POSITIVE_INFINITY;
    if (Math.abs(value) > limit) return `d[${this.options.args.slot(value)}]`;
    const long = this.options.indexType === undefined || Math.abs(value) >= 2 ** 31;
    const text = `${value}${long ? "LL" : ""}`;
    return value < 0 ? `(${text})` : text;
  }

  #isBound(atom: Atom): boolean {
    let bound = atom.kind === "data";
    const visit = (symbolKey: string) => {
      bound ||= symbolKey.startsWith("@");
    };
    if (atom.kind === "symbol") visit(atom.key);
    else if (atom.kind !== "data") bound ||= /@|data\(/.test(atom.key);
    return bound;
  }

  #atom(atom: Atom, scope: Scope, operandName: string): string {
    switch (atom.kind) {
      case "symbol": {
        const name = this.names.variables.get(atom.key);
        if (name === undefined) throw internalError(`loop variable ${atom.key} is not open`);
        return name;
      }
      case "data": {
        const fault = this.options.args.fault(`${operandName}: an index that comes as data is out of range`);
        const value = this.expr((atom.value as ExprIndex).expr, scope);
        return `nf::data_index(L, ${fault}, ${value}, ${this.dim(atom.extent, scope)})`;
      }
      case "floordiv":
        // Indices are not negative and divisors positive in almost every map: plain division is exact there.
        return atLeast(atom.a, 0) && atLeast(atom.b, 1)
          ? `(${this.dim(atom.a, scope, operandName)} / ${this.dim(atom.b, scope, operandName)})`
          : `nf::floor_div(${this.dim(atom.a, scope, operandName)}, ${this.dim(atom.b, scope, operandName)})`;
      case "mod":
        return atLeast(atom.a, 0) && atLeast(atom.b, 1)
          ? `(${this.dim(atom.a, scope, operandName)} % ${this.dim(atom.b, scope, operandName)})`
          : `nf::floor_mod(${this.dim(atom.a, scope, operandName)}, ${this.dim(atom.b, scope, operandName)})`;
      default:
        return `nf::int_${atom.kind}<${this.index}>(${this.dim(atom.a, scope, operandName)}, ${this.dim(atom.b, scope, operandName)})`;
    }
  }

  /** `out[offset] = value` for scalars. */
  static store(dtype: DType, pointer: string, offset: string, value: string): string {
    if (isSmallFloat(dtype)) return `${pointer}[${offset}] = nf::encode_${dtype}(${value});`;
    return `${pointer}[${offset}] = ${value};`;
  }
}

const dimOfAtom = (atom: Atom): Dim => new SymbolicDim([{ coefficient: 1, atoms: [atom] }]);
