/**
 * Value propagation: the elements of small integer tensors as Dims. It runs an op's own loop on symbols, so Shape → Gather → Mul → Concat →
 * Reshape needs no rule of its own.
 */

import { type DType, dtypeInfo, isInteger } from "@nimforge/tensor";
import {
  type Atom,
  add,
  asSymbol,
  compareDims,
  type Dim,
  floordiv,
  max,
  min,
  mod,
  mul,
  neg,
  rangeOf,
  SymbolicDim,
  sub,
  substitute,
} from "./dim.js";
import type { Value } from "./graph.js";
import type { Expr, ExprIndex } from "./scalar.js";

/** More elements than this are never shape arithmetic. */
const maxElements = 256;

const carriesDims = (dtype: DType) => isInteger(dtype) || dtype === "bool";

export function propagateDims(value: Value): readonly Dim[] | undefined {
  if (value.type.kind !== "tensor" || !carriesDims(value.type.dtype)) return undefined;
  const shape = value.type.shape;
  if (!shape.every((size) => typeof size === "number")) return undefined;
  const sizes = shape as readonly number[];
  const count = sizes.reduce((a, b) => a * b, 1);
  if (count > maxElements) return undefined;
  const { node } = value;
  const constant = value.constant;
  if (constant) {
    const numbers = Array.from(constant.data as ArrayLike<number | bigint>, Number);
    return numbers.every(Number.isSafeInteger) ? numbers : undefined;
  }
  if (node.expansion) return node.expansion[value.index]?.dims;
  const compute = node.computes?.[value.index];
  if (!compute) return undefined;
  const result: Dim[] = [];
  for (let position = 0; position < count; position++) {
    const at = new Map<string, Dim>();
    let rest = position;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const variable = asSymbol(compute.axes[axis]!.variable);
      if (variable) at.set(variable.key, rest % sizes[axis]!);
      rest = Math.floor(rest / sizes[axis]!);
    }
    const element = evaluate(compute.body, at, node.inputs);
    if (element === undefined) return undefined;
    result.push(element);
  }
  return result;
}

type Bindings = ReadonlyMap<string, Dim>;

/** The expression as a Dim for given loop variables, or undefined when it is not integer arithmetic on known things. */
function evaluate(expr: Expr, at: Bindings, inputs: readonly (Value | undefined)[]): Dim | undefined {
  const dim = unbounded(expr, at, inputs);
  return dim !== undefined && fits(dim, expr.dtype) ? dim : undefined;
}

/** Whether the value is the same in the dtype, which wraps around: sizes fit int32 and int64, elsewhere their ranges decide. */
function fits(dim: Dim, dtype: DType): boolean {
  if (typeof dim !== "number" && (dtype === "int64" || dtype === "int32")) return true;
  const { low, high } = rangeOf(dim);
  const { min: least, max: most } = dtypeInfo(dtype);
  return low >= Number(least) && high <= Number(most);
}

function unbounded(expr: Expr, at: Bindings, inputs: readonly (Value | undefined)[]): Dim | undefined {
  switch (expr.kind) {
    case "const": {
      const value = Number(expr.value);
      return carriesDims(expr.dtype) && Number.isSafeInteger(value) ? value : undefined;
    }
    case "index":
      return resolve(expr.dim, at, inputs);
    case "load": {
      const operand = inputs[expr.operand];
      const dims = operand?.dims;
      if (!operand || !dims) return undefined;
      let position = 0;
      for (const [axis, dim] of expr.index.entries()) {
        const where = resolve(dim, at, inputs);
        if (typeof where !== "number") return undefined;
        position = position * (operand.shape[axis] as number) + where;
      }
      return dims[position];
    }
    case "cast":
      return carriesDims(expr.dtype) &&
        carriesDims(expr.arg.dtype) &&
        !(expr.dtype === "bool" && expr.arg.dtype !== "bool")
        ? evaluate(expr.arg, at, inputs)
        : expr.dtype === "bool"
          ? truth(compare("ne", evaluate(expr.arg, at, inputs), 0))
          : undefined;
    case "call":
      return evaluateCall(expr, at, inputs);
    case "reduce": {
      if (expr.axes.length > 1 || !["sum", "prod", "max", "min"].includes(expr.monoid)) return undefined;
      const [axis] = expr.axes;
      const extent = axis && resolve(axis.extent, at, inputs);
      const variable = axis && asSymbol(axis.variable);
      if (typeof extent !== "number" || extent > maxElements) return undefined;
      const combine = { sum: add, prod: mul, max, min }[expr.monoid as "sum"];
      let total: Dim | undefined = expr.monoid === "sum" ? 0 : expr.monoid === "prod" ? 1 : undefined;
      for (let k = 0; k < extent; k++) {
        const next = evaluate(expr.body, variable ? new Map([...at, [variable.key, k]]) : at, inputs);
        if (next === undefined) return undefined;
        total = total === undefined ? next : combine(total, next);
      }
      return total;
    }
  }
}

function evaluateCall(
  expr: Expr & { kind: "call" },
  at: Bindings,
  inputs: readonly (Value | undefined)[],
): Dim | undefined {
  const argument = (k: number) => evaluate(expr.args[k] as Expr, at, inputs);
  if (expr.op === "select") {
    const condition = argument(0);
    return typeof condition === "number" ? argument(condition ? 1 : 2) : undefined;
  }
  const a = argument(0);
  const b = expr.args.length > 1 ? argument(1) : 0;
  if (a === undefined || b === undefined) return undefined;
  switch (expr.op) {
    case "add":
      return add(a, b);
    case "sub":
      return sub(a, b);
    case "mul":
      return mul(a, b);
    case "neg":
      return neg(a);
    case "min":
      return min(a, b);
    case "max":
      return max(a, b);
    case "mod":
      return b === 0 ? undefined : mod(a, b);
    case "div": // truncates; equal to floor division where both are known not to be negative
      if (typeof a === "number" && typeof b === "number") return b === 0 ? undefined : Math.trunc(a / b);
      return notNegative(a) && compareDims(b, 0) === "greater" ? floordiv(a, b) : undefined;
    case "eq":
    case "ne":
    case "lt":
    case "le":
    case "gt":
    case "ge":
      return truth(compare(expr.op, a, b));
    case "not":
      return typeof a === "number" ? Number(!a) : undefined;
    case "and":
      return typeof a === "number" && typeof b === "number" ? Number(a && b) : undefined;
    case "or":
      return typeof a === "number" && typeof b === "number" ? Number(a || b) : undefined;
    case "abs":
      return notNegative(a) ? a : typeof a === "number" ? -a : undefined;
    case "sign":
      return typeof a === "number" ? Math.sign(a) : undefined;
    default:
      return undefined;
  }
}

const notNegative = (dim: Dim) => {
  const order = compareDims(dim, 0);
  return order === "greater" || order === "equal" || (typeof dim !== "number" && compareDims(dim, -1) === "greater");
};

function compare(op: "eq" | "ne" | "lt" | "le" | "gt" | "ge", a: Dim | undefined, b: Dim): boolean | undefined {
  if (a === undefined) return undefined;
  const order = compareDims(a, b);
  if (order === undefined) return undefined;
  return {
    eq: order === "equal",
    ne: order !== "equal",
    lt: order === "less",
    le: order !== "greater",
    gt: order === "greater",
    ge: order !== "less",
  }[op];
}

const truth = (value: boolean | undefined): Dim | undefined => (value === undefined ? undefined : Number(value));

/** A Dim with loop variables and data indices replaced by what is known. */
function resolve(dim: Dim, at: Bindings, inputs: readonly (Value | undefined)[]): Dim | undefined {
  const substituted = substitute(dim, (atom) => at.get(atom.key));
  if (typeof substituted === "number" || !substituted.key.includes("data(")) return substituted;
  let unknown = false;
  const data = new Map<string, number>();
  for (const term of substituted.terms)
    for (const atom of term.atoms) {
      if (atom.kind !== "data") continue;
      const value = evaluate((atom.value as ExprIndex).expr, at, inputs);
      const extent = resolve(atom.extent, at, inputs);
      if (typeof value !== "number" || (value < 0 && typeof extent !== "number")) unknown = true;
      else data.set(atom.key, value < 0 ? value + (extent as number) : value);
    }
  if (unknown) return undefined;
  return add(
    ...substituted.terms.map((term) =>
      mul(
        term.coefficient,
        ...term.atoms.map((atom) => (atom.kind === "data" ? (data.get(atom.key) as number) : fromAtom(atom))),
      ),
    ),
  );
}

const fromAtom = (atom: Atom): Dim => new SymbolicDim([{ coefficient: 1, atoms: [atom] }]);
