/**
 * Typed scalar expressions: what one element of a loop's result is.
 *
 * An expression is immutable. Loads name an operand of the loop by position and give one index (a Dim over the loop's variables) per
 * axis; a data index enters a Dim through `indexBy`. Every operation rounds to its dtype, so that all printers agree. `select` evaluates
 * only the branch it takes: that is how padding is written.
 */
import { createHash } from "node:crypto";
import { type DType, internalError, isFloat } from "@nimforge/tensor";
import {
  type Atom,
  add,
  type DataIndex,
  type Dim,
  dataIndex,
  floordiv,
  max,
  min,
  mod,
  mul,
  rangeOf,
  type SymbolAtom,
  SymbolicDim,
  sub,
  substitute as substituteDim,
  visitSymbols,
} from "./dim.js";

/** Operations on one element. Comparison and logic give bool; bitwise and shift are for integers. */
export const scalarOps = {
  add: 2, sub: 2, mul: 2, div: 2, mod: 2, fmod: 2, pow: 2, min: 2, max: 2, atan2: 2,
  neg: 1, abs: 1, sign: 1, floor: 1, ceil: 1, round: 1, trunc: 1, sqrt: 1, exp: 1, log: 1,
  sin: 1, cos: 1, tan: 1, asin: 1, acos: 1, atan: 1, sinh: 1, cosh: 1, tanh: 1, asinh: 1, acosh: 1, atanh: 1, erf: 1,
  expm1: 1, log1p: 1, sigmoid: 1,
  eq: 2, ne: 2, lt: 2, le: 2, gt: 2, ge: 2, and: 2, or: 2, xor: 2, not: 1, isnan: 1, isinf: 1,
  bitand: 2, bitor: 2, bitxor: 2, bitnot: 1, shl: 2, shr: 2,
  select: 3,
} as const; // biome-ignore format: a table
export type ScalarOp = keyof typeof scalarOps;

const predicates = new Set<ScalarOp>(["eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "isnan", "isinf"]);

/** How partial results of a reduction are combined; argmin and argmax give the int64 position (first or last of equals). */
export type Monoid = "sum" | "prod" | "max" | "min" | "and" | "or" | "argmax" | "argmin" | "argmaxLast" | "argminLast";

export type Expr = ConstExpr | IndexExpr | LoadExpr | CallExpr | CastExpr | ReduceExpr;

interface Base {
  readonly dtype: DType;
  readonly key: string;
}
export interface ConstExpr extends Base {
  readonly kind: "const";
  readonly value: number | bigint;
}
/** A Dim as an int64 value. */
export interface IndexExpr extends Base {
  readonly kind: "index";
  readonly dim: Dim;
}
/** Element of an operand; the indices are within its shape by construction. */
export interface LoadExpr extends Base {
  readonly kind: "load";
  readonly operand: number;
  readonly index: readonly Dim[];
}
export interface CallExpr extends Base {
  readonly kind: "call";
  readonly op: ScalarOp;
  readonly args: readonly Expr[];
}
/** Float to integer truncates (out of range: the nearest representable, NaN: 0); to bool: not zero; `saturate` is for float8. */
export interface CastExpr extends Base {
  readonly kind: "cast";
  readonly arg: Expr;
  readonly saturate: boolean;
}
/** Over all values of `axes` (later extents may use earlier variables), first axis outermost, in ascending order. */
export interface ReduceExpr extends Base {
  readonly kind: "reduce";
  readonly monoid: Monoid;
  readonly axes: readonly LoopAxis[];
  readonly body: Expr;
}
export interface LoopAxis {
  /** A loopVariable(extent). */
  readonly variable: Dim;
  readonly extent: Dim;
}

const dimKey = (dim: Dim): string => (typeof dim === "number" ? String(dim) : dim.key);

/** Keys are identities; long ones are digests, so a shared sub-expression costs one key however often it is used. */
const shorten = (text: string): string =>
  text.length <= 80 ? text : `#${createHash("md5").update(text).digest("base64url")}`;

export function constant(dtype: DType, value: number | bigint | boolean): ConstExpr {
  const plain = typeof value === "boolean" ? Number(value) : value;
  return { kind: "const", dtype, value: plain, key: `${dtype}:${Object.is(plain, -0) ? "-0" : plain}` };
}

/** A Dim as an int64 scalar. */
export function index(dim: Dim): Expr {
  return typeof dim === "number"
    ? constant("int64", BigInt(dim))
    : { kind: "index", dtype: "int64", dim, key: shorten(`i(${dim.key})`) };
}

export function load(operand: number, dtype: DType, at: readonly Dim[]): LoadExpr {
  return {
    kind: "load",
    dtype,
    operand,
    index: at,
    key: shorten(`ld${operand}:${dtype}[${at.map(dimKey).join(",")}]`),
  };
}

export function call(op: ScalarOp, ...args: Expr[]): Expr {
  if (args.length !== scalarOps[op]) throw internalError(`scalar ${op} takes ${scalarOps[op]} arguments`);
  const operands = op === "select" ? args.slice(1) : args;
  const first = operands[0] as Expr;
  if (operands.some((arg) => arg.dtype !== first.dtype))
    throw internalError(`scalar ${op}: operands have types ${args.map((arg) => arg.dtype).join(", ")}`);
  if (op === "select") {
    const condition = args[0] as Expr;
    if (condition.dtype !== "bool") throw internalError(`scalar select: the condition is ${condition.dtype}`);
    if (condition.kind === "const") return (condition.value ? args[1] : args[2]) as Expr;
  }
  const decided = decideComparison(op, args);
  if (decided !== undefined) return constant("bool", decided);
  const dtype = predicates.has(op) ? "bool" : first.dtype;
  return { kind: "call", dtype, op, args, key: shorten(`${op}(${args.map((arg) => arg.key).join(",")})`) };
}

/** Comparisons of indices whose ranges decide them, and logic on constants: so padding conditions vanish where they hold. */
function decideComparison(op: ScalarOp, args: readonly Expr[]): boolean | undefined {
  const [a, b] = args as readonly [Expr, Expr];
  if (op === "and" || op === "or") {
    const known = [a, b].map((arg) => (arg.kind === "const" ? Boolean(arg.value) : undefined));
    if (known.includes(op === "or")) return op === "or";
    return known.includes(undefined) ? undefined : known[0];
  }
  if (op === "not" && a.kind === "const") return !a.value;
  if (!["eq", "ne", "lt", "le", "gt", "ge"].includes(op) || a.dtype !== "int64") return undefined;
  const dims = args.map((arg) =>
    arg.kind === "index"
      ? arg.dim
      : arg.kind === "const" && arg.value >= -maxExact && arg.value <= maxExact
        ? Number(arg.value)
        : undefined,
  );
  const [x, y] = dims;
  if (x === undefined || y === undefined) return undefined;
  const { low, high } = rangeOf(sub(x, y));
  switch (op) {
    case "lt":
      return high < 0 ? true : low >= 0 ? false : undefined;
    case "le":
      return high <= 0 ? true : low > 0 ? false : undefined;
    case "gt":
      return low > 0 ? true : high <= 0 ? false : undefined;
    case "ge":
      return low >= 0 ? true : high < 0 ? false : undefined;
    default:
      if (low === 0 && high === 0) return op === "eq";
      return low > 0 || high < 0 ? op === "ne" : undefined;
  }
}
const maxExact = 2 ** 53;

export function cast(dtype: DType, arg: Expr, saturate = true): Expr {
  if (arg.dtype === dtype) return arg;
  return { kind: "cast", dtype, arg, saturate, key: shorten(`cast:${dtype}${saturate ? "" : "!"}(${arg.key})`) };
}

export function reduce(monoid: Monoid, axes: readonly LoopAxis[], body: Expr): Expr {
  if (axes.length === 0 && !monoid.startsWith("arg")) return body;
  const dtype: DType = monoid.startsWith("arg") ? "int64" : body.dtype;
  const over = axes.map((axis) => `${dimKey(axis.variable)}<${dimKey(axis.extent)}`).join(",");
  return { kind: "reduce", dtype, monoid, axes, body, key: shorten(`${monoid}[${over}](${body.key})`) };
}

/** An integer expression used as an index into an axis of `extent` elements; negative values count from the end. */
export function indexBy(value: Expr, extent: Dim): Dim {
  if (value.kind === "index") return value.dim;
  if (value.kind === "const") {
    const n = Number(value.value);
    if (n >= 0) return n;
    if (typeof extent === "number") return n + extent;
  }
  return dataIndex(new ExprIndex(cast("int64", value)), extent);
}

/** A scalar expression inside a Dim. */
export class ExprIndex implements DataIndex {
  readonly key: string;
  constructor(readonly expr: Expr) {
    this.key = expr.key;
  }
  substitute(map: (symbol: SymbolAtom) => Dim | undefined): DataIndex {
    const replaced = rewriteExpr(this.expr, { symbol: map });
    return replaced === this.expr ? this : new ExprIndex(replaced);
  }
  symbols(visit: (symbol: SymbolAtom) => void): void {
    visitExprSymbols(this.expr, visit);
  }
}

export interface Rewrite {
  /** Replaces symbols and loop variables. */
  symbol?: (symbol: SymbolAtom) => Dim | undefined;
  /** Replaces loads; the load's indices are already rewritten. */
  load?: (load: LoadExpr) => Expr | undefined;
}

/** Rebuilds an expression bottom-up, each shared part once; returns the same object when nothing changed. */
export function rewriteExpr(expr: Expr, rewrite: Rewrite): Expr {
  const done = new Map<Expr, Expr>();
  const onDim = (dim: Dim) => rewriteDim(dim, rewrite);
  const onExpr = (part: Expr): Expr => {
    let result = done.get(part);
    if (!result) done.set(part, (result = rebuilt(part)));
    return result;
  };
  const rebuilt = (part: Expr): Expr => {
    switch (part.kind) {
      case "const":
        return part;
      case "index": {
        const dim = onDim(part.dim);
        return dim === part.dim ? part : index(dim);
      }
      case "load": {
        const at = part.index.map(onDim);
        const same = at.every((dim, k) => dim === part.index[k]);
        const next = same ? part : load(part.operand, part.dtype, at);
        return rewrite.load?.(next) ?? next;
      }
      case "cast": {
        const arg = onExpr(part.arg);
        return arg === part.arg ? part : cast(part.dtype, arg, part.saturate);
      }
      case "call": {
        const args = part.args.map(onExpr);
        return args.every((arg, k) => arg === part.args[k]) ? part : call(part.op, ...args);
      }
      case "reduce": {
        const axes = part.axes.map((axis) => {
          const extent = onDim(axis.extent);
          const variable = onDim(axis.variable);
          return extent === axis.extent && variable === axis.variable ? axis : { variable, extent };
        });
        const body = onExpr(part.body);
        const same = body === part.body && axes.every((axis, k) => axis === part.axes[k]);
        return same ? part : reduce(part.monoid, axes, body);
      }
    }
  };
  return onExpr(expr);
}

/** Rewrites a Dim, and through it the loads inside data indices; what a symbol is replaced by is taken as it is. */
export function rewriteDim(dim: Dim, rewrite: Rewrite): Dim {
  if (typeof dim === "number") return dim;
  if (!rewrite.load || !dim.key.includes("data(")) return rewrite.symbol ? substituteDim(dim, rewrite.symbol) : dim;
  const onAtom = (atom: Atom): Dim => {
    const self = () => new SymbolicDim([{ coefficient: 1, atoms: [atom] }]);
    if (atom.kind === "symbol") return rewrite.symbol?.(atom) ?? self();
    if (atom.kind === "data") {
      const expr = rewriteExpr((atom.value as ExprIndex).expr, rewrite);
      return dataIndex(new ExprIndex(expr), rewriteDim(atom.extent, rewrite));
    }
    return { floordiv, mod, min, max }[atom.kind](rewriteDim(atom.a, rewrite), rewriteDim(atom.b, rewrite));
  };
  return add(...dim.terms.map((term) => mul(term.coefficient, ...term.atoms.map(onAtom))));
}

/** Replaces the data indices inside a Dim. */
export function mapDataIndices(dim: Dim, map: (value: DataIndex) => DataIndex): Dim {
  if (typeof dim === "number") return dim;
  const parts = dim.terms.map((term) =>
    term.atoms.reduce<Dim>((value, atom) => {
      if (atom.kind === "symbol") return mul(value, new SymbolicDim([{ coefficient: 1, atoms: [atom] }]));
      if (atom.kind === "data") return mul(value, dataIndex(map(atom.value), mapDataIndices(atom.extent, map)));
      return mul(
        value,
        { floordiv, mod, min, max }[atom.kind](mapDataIndices(atom.a, map), mapDataIndices(atom.b, map)),
      );
    }, term.coefficient),
  );
  return add(...parts);
}

/** Visits every sub-expression once, those inside data indices too, parents first. */
export function visitExpr(root: Expr, visit: (expr: Expr) => void): void {
  const seen = new Set<Expr>();
  const inDim = (dim: Dim) => {
    if (typeof dim === "number" || !dim.key.includes("data(")) return;
    mapDataIndices(dim, (value) => {
      onExpr((value as ExprIndex).expr);
      return value;
    });
  };
  const onExpr = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    visit(expr);
    if (expr.kind === "index") inDim(expr.dim);
    else if (expr.kind === "load") expr.index.forEach(inDim);
    else if (expr.kind === "cast") onExpr(expr.arg);
    else if (expr.kind === "call") expr.args.forEach(onExpr);
    else if (expr.kind === "reduce") {
      for (const axis of expr.axes) inDim(axis.extent);
      onExpr(expr.body);
    }
  };
  onExpr(root);
}

export function visitExprSymbols(expr: Expr, visit: (symbol: SymbolAtom) => void): void {
  visitExpr(expr, (part) => {
    if (part.kind === "index") visitSymbols(part.dim, visit);
    else if (part.kind === "load") for (const dim of part.index) visitSymbols(dim, visit);
    else if (part.kind === "reduce") for (const axis of part.axes) visitSymbols(axis.extent, visit);
  });
}

/** Operands that an expression loads. */
export function operandsOf(expr: Expr): Set<number> {
  const operands = new Set<number>();
  visitExpr(expr, (part) => {
    if (part.kind === "load") operands.add(part.operand);
  });
  return operands;
}

export const hasReduce = (expr: Expr): boolean => {
  let found = false;
  visitExpr(expr, (part) => {
    found ||= part.kind === "reduce";
  });
  return found;
};

/** The type in which a dtype's arithmetic is done before rounding: small floats compute in float32. */
export function computeType(dtype: DType): DType {
  return isFloat(dtype) && dtype !== "float64" ? "float32" : dtype;
}
