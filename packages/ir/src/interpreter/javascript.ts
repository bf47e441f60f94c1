/**
 * Prints a loop to a JavaScript function: the reference that judges every kernel.
 *
 * Every operation rounds to its dtype. Sums and products of floats accumulate in double precision. Index arithmetic is Number; int64 and
 * uint64 elements are BigInt. An index that comes as data and is out of range ends the run with an error.
 */
import { type DType, dtypeInfo, internalError, isBig, isFloat, isSmallFloat } from "@nimforge/tensor";
import { type Atom, add, asSymbol, type Dim, mul, SymbolicDim, termsOf } from "../dim.js";
import { type Compute, linearize } from "../op.js";
import { type CallExpr, type Expr, type ExprIndex, type ReduceExpr, visitExpr } from "../scalar.js";
import type { TensorType } from "../types.js";
import { runtime } from "./scalars.js";

/** (operand arrays, output array, symbol values in the order of `symbols`) → fills the output. */
export interface LoopFunction {
  readonly symbols: readonly string[];
  readonly source: string;
  run(operands: readonly unknown[], output: unknown, symbols: readonly number[]): void;
}

export function compileLoop(
  compute: Compute,
  operands: readonly (TensorType | undefined)[],
  outputShape: readonly Dim[],
): LoopFunction {
  const printer = new Printer(operands);
  const { dtype } = compute.body;
  const body: string[] = [];
  const loops = compute.axes.map(({ variable, extent }) => printer.loop(variable, extent));
  const scope = new Scope(undefined, body);
  printer.countUses(compute.body);
  const value = printer.expr(compute.body, scope);
  const position = printer.dim(
    linearize(
      outputShape,
      compute.axes.map((axis) => axis.variable),
    ),
    scope,
  );
  body.push(printer.store(dtype, position, value));
  let text = body.join("\n");
  for (const open of loops.reverse()) text = `${open}\n${text}\n}`;
  const names = [...printer.operands].sort((a, b) => a - b).map((k) => `const x${k} = operands[${k}];`);
  const symbols = [...printer.symbols.keys()];
  const given = symbols.map((key, k) => `const ${printer.symbols.get(key)} = symbols[${k}];`);
  const source = [...names, ...given, ...printer.prelude, printer.finish(text)].join("\n");
  const run = new Function("rt", "operands", "out", "symbols", source);
  return { symbols, source, run: (arrays, output, values) => run(runtime, arrays, output, values) };
}

/** Temporaries that are visible at a place, and the statements that make them. */
class Scope {
  readonly temporaries = new Map<string, string>();
  constructor(
    readonly parent: Scope | undefined,
    readonly statements: string[],
  ) {}
  find(key: string): string | undefined {
    return this.temporaries.get(key) ?? this.parent?.find(key);
  }
}

/** A loop's body: sums that are computed at its start, by their text, with their names. */
interface Loop {
  readonly mark: string;
  readonly hoisted: Map<string, string>;
}

class Printer {
  readonly operands = new Set<number>();
  /** Run-time sizes by key, with their JavaScript names. */
  readonly symbols = new Map<string, string>();
  readonly #variables = new Map<string, { name: string; depth: number }>();
  /** The loops that are open, outermost first, and all there ever were. */
  readonly #open: Loop[] = [];
  readonly #loops: Loop[] = [];
  readonly #uses = new Map<string, number>();
  #next = 0;

  constructor(readonly types: readonly (TensorType | undefined)[]) {}

  /** Opens a loop; `finish` puts at the start of its body what it and the loops around it decide. */
  loop(variable: Dim, extent: Dim): string {
    const atom = asSymbol(variable);
    const limit = this.dim(extent, undefined);
    const name = `i${this.#next++}`;
    const loop: Loop = { mark: `/*${name}*/`, hoisted: new Map() };
    this.#open.push(loop);
    this.#loops.push(loop);
    if (!atom) return `{${loop.mark}`;
    this.#variables.set(atom.key, { name, depth: this.#open.length });
    return `for (let ${name} = 0, n${name} = ${limit}; ${name} < n${name}; ${name}++) {${loop.mark}`;
  }

  /** Leaves the innermost `count` loops: their closing braces. */
  close(count: number): string {
    this.#open.length -= count;
    return "}".repeat(count);
  }

  /** The text with the hoisted sums in their places. */
  finish(text: string): string {
    return this.#loops.reduce(
      (result, { mark, hoisted }) =>
        result.replace(mark, () => [...hoisted].map(([sum, name]) => `const ${name} = ${sum};`).join("\n")),
      text,
    );
  }

  countUses(expr: Expr): void {
    const count = (part: Expr) => this.#uses.set(part.key, (this.#uses.get(part.key) ?? 0) + 1);
    visitExpr(expr, (part) => {
      if (part.kind === "call") part.args.forEach(count);
      else if (part.kind === "cast") count(part.arg);
    });
  }

  expr(expr: Expr, scope: Scope): string {
    const known = scope.find(expr.key);
    if (known !== undefined) return known;
    const text = this.#print(expr, scope);
    if (expr.kind === "const" || expr.kind === "index" || (this.#uses.get(expr.key) ?? 0) < 2) return text;
    const name = `t${this.#next++}`;
    scope.statements.push(`const ${name} = ${text};`);
    scope.temporaries.set(expr.key, name);
    return name;
  }

  #print(expr: Expr, scope: Scope): string {
    switch (expr.kind) {
      case "const":
        return literal(expr.value, expr.dtype);
      case "index":
        return `BigInt(${this.dim(expr.dim, scope)})`;
      case "load": {
        const type = this.types[expr.operand];
        if (!type) throw internalError(`loop loads operand ${expr.operand}, which is missing`);
        this.operands.add(expr.operand);
        const element = `x${expr.operand}[${this.dim(linearize(type.shape, expr.index), scope)}]`;
        return isSmallFloat(expr.dtype) ? `rt.decode.${expr.dtype}[${element}]` : element;
      }
      case "cast":
        return castText(expr.dtype, expr.arg.dtype, this.expr(expr.arg, scope), expr.saturate);
      case "call": {
        const compared = this.#compareIndices(expr, scope);
        if (compared !== undefined) return compared;
        return expr.op === "select"
          ? this.#select(expr, scope)
          : callText(
              expr,
              expr.args.map((arg) => this.expr(arg, scope)),
            );
      }
      case "reduce":
        return this.#reduce(expr, scope);
    }
  }

  /** Indices are Numbers: comparing them needs no BigInt. */
  #compareIndices(expr: CallExpr, scope: Scope): string | undefined {
    const operator = expr.dtype === "bool" ? infix[expr.op] : undefined;
    if (operator === undefined || expr.args.length !== 2) return undefined;
    const texts = expr.args.map((arg) => {
      if (arg.kind === "index") return this.dim(arg.dim, scope);
      return arg.kind === "const" && arg.dtype === "int64" && Number.isSafeInteger(Number(arg.value))
        ? `(${arg.value})`
        : undefined;
    });
    return texts.includes(undefined) ? undefined : `(${texts[0]} ${operator} ${texts[1]})`;
  }

  /** Only the branch that is taken is evaluated. */
  #select(expr: CallExpr, scope: Scope): string {
    const [condition, yes, no] = expr.args as readonly [Expr, Expr, Expr];
    const test = this.expr(condition, scope);
    const left = new Scope(scope, []);
    const right = new Scope(scope, []);
    const a = this.expr(yes, left);
    const b = this.expr(no, right);
    if (left.statements.length + right.statements.length === 0) return `(${test} ? ${a} : ${b})`;
    const name = `t${this.#next++}`;
    scope.statements.push(
      `let ${name}; if (${test}) {`,
      ...left.statements,
      `${name} = ${a}; } else {`,
      ...right.statements,
      `${name} = ${b}; }`,
    );
    return name;
  }

  #reduce(expr: ReduceExpr, scope: Scope): string {
    const total = `t${this.#next++}`;
    const { dtype } = expr.body;
    const big = isBig(dtype);
    const opens = expr.axes.map((axis) => this.loop(axis.variable, axis.extent));
    const inner = new Scope(scope, []);
    const value = this.expr(expr.body, inner);
    const argument = expr.monoid.startsWith("arg");
    const update: string[] = [...inner.statements];
    let start: string;
    if (argument) {
      // The first axis' variable is the position; `found` keeps the best value.
      const position = asSymbol(expr.axes[0]!.variable)
        ? this.#variables.get(asSymbol(expr.axes[0]!.variable)!.key)!.name
        : "0";
      const better = `${expr.monoid.startsWith("argmax") ? ">" : "<"}${expr.monoid.endsWith("Last") ? "=" : ""}`;
      start = `let ${total} = 0, ${total}v;`;
      update.push(
        `const v${total} = ${value};`,
        `if (${total}v === undefined || v${total} ${better} ${total}v || (v${total} !== v${total} && ${total}v === ${total}v)) { ${total}v = v${total}; ${total} = ${position}; }`,
      );
    } else if (expr.monoid === "sum" || expr.monoid === "prod") {
      const operator = expr.monoid === "sum" ? "+" : "*";
      start = `let ${total} = ${expr.monoid === "sum" ? 0 : 1}${big ? "n" : ""};`;
      const integer = !isFloat(dtype);
      update.push(
        integer
          ? `${total} = ${wrap(dtype, integerArithmetic(operator, dtype, total, value))};`
          : `${total} ${operator}= ${value};`,
      );
    } else if (expr.monoid === "max" || expr.monoid === "min") {
      start = `let ${total} = ${identity(expr.monoid, dtype)};`;
      const operator = expr.monoid === "max" ? ">" : "<";
      update.push(
        `const v${total} = ${value};`,
        `if (v${total} ${operator} ${total} || v${total} !== v${total}) ${total} = v${total};`,
      );
    } else {
      start = `let ${total} = ${expr.monoid === "and" ? 1 : 0};`;
      update.push(`${total} = ${total} ${expr.monoid === "and" ? "&" : "|"} (${value} ? 1 : 0);`);
    }
    scope.statements.push(start, ...opens, ...update, this.close(opens.length));
    if (argument) return `BigInt(${total})`;
    return isFloat(dtype) && (expr.monoid === "sum" || expr.monoid === "prod") ? round(dtype, total) : total;
  }

  /** Sizes that no loop variable changes, computed once at the function's start. */
  readonly prelude: string[] = [];
  readonly #sizes = new Map<string, string>();

  /** A Dim as a Number expression: what outer loops decide of it is a constant of theirs, what no loop changes one of the function. */
  dim(dim: Dim, scope: Scope | undefined): string {
    if (typeof dim === "number") return String(dim);
    const groups = new Map<string, { atoms: readonly Atom[]; free: Dim[] }>();
    for (const { coefficient, atoms } of termsOf(dim)) {
      const bound = atoms.filter((atom) => this.#isBound(atom));
      const free = atoms.filter((atom) => !this.#isBound(atom));
      const key = bound.map((atom) => atom.key).join("·");
      const group = groups.get(key) ?? { atoms: bound, free: [] };
      group.free.push(mul(coefficient, ...free.map((atom) => new SymbolicDim([{ coefficient: 1, atoms: [atom] }]))));
      groups.set(key, group);
    }
    const terms = [...groups.values()].map(({ atoms, free }) => {
      const factors = atoms.map((atom) => this.#atom(atom, scope));
      const factor = add(...free);
      if (factor !== 1 || factors.length === 0)
        factors.unshift(
          typeof factor === "number" ? (factor < 0 ? `(${factor})` : String(factor)) : this.#size(factor),
        );
      return { text: factors.join(" * "), depth: Math.max(0, ...atoms.map((atom) => this.#depthOf(atom))) };
    });
    let sum: string[] = [];
    for (const depth of new Set(terms.map((term) => term.depth).sort((a, b) => a - b))) {
      sum.push(...terms.filter((term) => term.depth === depth).map(({ text }) => text));
      const loop = this.#open[depth - 1];
      if (loop && depth < this.#open.length && (sum.length > 1 || sum[0]!.includes(" ")))
        sum = [this.#hoist(loop, sum.join(" + "))];
    }
    return sum.length === 1 && !sum[0]!.includes(" ") ? sum[0]! : `(${sum.join(" + ")})`;
  }

  #hoist({ hoisted }: Loop, sum: string): string {
    let name = hoisted.get(sum);
    if (name === undefined) hoisted.set(sum, (name = `h${this.#next++}`));
    return name;
  }

  /** How many of the open loops, from outside, decide an atom's value. */
  #depthOf(atom: Atom): number {
    if (atom.kind === "symbol") return this.#variables.get(atom.key)?.depth ?? 0;
    if (atom.kind === "data") return this.#open.length;
    return Math.max(
      0,
      ...[atom.a, atom.b].flatMap((dim) =>
        termsOf(dim).flatMap(({ atoms }) => atoms.map((part) => this.#depthOf(part))),
      ),
    );
  }

  #isBound(atom: Atom): boolean {
    return atom.kind === "data" || (atom.kind === "symbol" ? this.#variables.has(atom.key) : /@|data\(/.test(atom.key));
  }

  #size(dim: SymbolicDim): string {
    let name = this.#sizes.get(dim.key);
    if (name === undefined) {
      const terms = dim.terms.map(({ coefficient, atoms }) =>
        [`(${coefficient})`, ...atoms.map((atom) => this.#atom(atom, undefined))].join(" * "),
      );
      name = `c${this.#sizes.size}`;
      this.#sizes.set(dim.key, name);
      this.prelude.push(`const ${name} = ${terms.join(" + ")};`);
    }
    return name;
  }

  #atom(atom: Atom, scope: Scope | undefined): string {
    switch (atom.kind) {
      case "symbol": {
        const variable = this.#variables.get(atom.key);
        if (variable !== undefined) return variable.name;
        let name = this.symbols.get(atom.key);
        if (name === undefined) this.symbols.set(atom.key, (name = `s${this.symbols.size}`));
        return name;
      }
      case "data": {
        if (!scope) throw internalError("a loop's extent comes from data");
        return `rt.at(Number(${this.expr((atom.value as ExprIndex).expr, scope)}), ${this.dim(atom.extent, scope)})`;
      }
      case "floordiv":
        return `Math.floor(${this.dim(atom.a, scope)} / ${this.dim(atom.b, scope)})`;
      case "mod":
        return `rt.floorMod(${this.dim(atom.a, scope)}, ${this.dim(atom.b, scope)})`;
      default:
        return `Math.${atom.kind}(${this.dim(atom.a, scope)}, ${this.dim(atom.b, scope)})`;
    }
  }

  store(dtype: DType, position: string, value: string): string {
    if (isSmallFloat(dtype)) return `out[${position}] = rt.encode(${JSON.stringify(dtype)}, ${value});`;
    return `out[${position}] = ${dtype === "bool" ? `(${value}) ? 1 : 0` : value};`;
  }
}

function literal(value: number | bigint, dtype: DType): string {
  if (isBig(dtype)) return value < 0 ? `(${value}n)` : `${value}n`;
  if (dtype === "bool") return value ? "true" : "false";
  const number = isFloat(dtype) ? runtime.round(dtype, Number(value)) : Number(value);
  if (Number.isNaN(number)) return "NaN";
  return Object.is(number, -0) ? "(-0)" : number < 0 ? `(${number})` : String(number);
}

function identity(monoid: "max" | "min", dtype: DType): string {
  if (isFloat(dtype)) return monoid === "max" ? "-Infinity" : "Infinity";
  const { min, max } = dtypeInfo(dtype);
  return `${monoid === "max" ? min : max}${isBig(dtype) ? "n" : ""}`;
}

/** Rounds a double to a float dtype. */
function round(dtype: DType, text: string): string {
  if (dtype === "float64") return `(${text})`;
  return dtype === "float32" ? `Math.fround(${text})` : `rt.round(${JSON.stringify(dtype)}, ${text})`;
}

/** Wraps an integer result around its type. */
function wrap(dtype: DType, text: string): string {
  const { bits, kind } = dtypeInfo(dtype);
  if (isBig(dtype)) return `BigInt.as${kind === "int" ? "Int" : "Uint"}N(64, ${text})`;
  if (kind === "bool") return text;
  if (kind === "uint") return bits === 32 ? `((${text}) >>> 0)` : `((${text}) & ${2 ** bits - 1})`;
  return bits === 32 ? `((${text}) | 0)` : `((${text}) << ${32 - bits} >> ${32 - bits})`;
}

function integerArithmetic(operator: string, dtype: DType, a: string, b: string): string {
  if (operator === "*" && !isBig(dtype) && dtypeInfo(dtype).bits === 32) return `Math.imul(${a}, ${b})`;
  return `${a} ${operator} ${b}`;
}

const infix: Partial<Record<string, string>> = {
  add: "+", sub: "-", mul: "*", eq: "===", ne: "!==", lt: "<", le: "<=", gt: ">", ge: ">=", and: "&&", or: "||", bitand: "&", bitor: "|", bitxor: "^",
}; // biome-ignore format: a table

function callText(expr: CallExpr, args: readonly string[]): string {
  const { op, dtype } = expr;
  const operand = (expr.args[0] as Expr).dtype;
  const [a, b] = args as readonly [string, string];
  const operator = infix[op];
  if (dtype === "bool") {
    if (operand === "bool" && (op === "eq" || op === "ne" || op === "xor"))
      return `(!${a} ${op === "eq" ? "===" : "!=="} !${b})`;
    if (op === "not") return `(!${a})`;
    if (op === "isnan") return `(${a} !== ${a})`;
    if (op === "isinf") return `(Math.abs(${a}) === Infinity)`;
    return `(${a} ${operator} ${b})`;
  }
  if (isFloat(dtype)) {
    if (operator) return round(dtype, `${a} ${operator} ${b}`);
    if (op === "neg") return `(-${a})`;
    const name = `rt.float.${op}`;
    const exact = op === "min" || op === "max" || op === "abs" || op === "sign";
    const text = `${name}(${args.join(", ")})`;
    return exact ? text : round(dtype, text);
  }
  if (op === "neg") return wrap(dtype, `-${a}`);
  if (op === "bitnot") return wrap(dtype, `~${a}`);
  if (operator) return wrap(dtype, `(${integerArithmetic(operator, dtype, a, b)})`);
  const table = isBig(dtype) ? "big" : "int";
  if (op === "shl" || op === "shr") return wrap(dtype, `rt.${table}.${op}(${a}, ${b}, ${dtypeInfo(dtype).bits})`);
  if (op in runtime[table]) return wrap(dtype, `rt.${table}.${op}(${args.join(", ")})`);
  // Functions of the reals on integers (Erf, Pow): through double.
  return castText(dtype, "float64", `rt.float.${op}(${args.map((arg) => `Number(${arg})`).join(", ")})`, true, operand);
}

function castText(to: DType, from: DType, value: string, saturate: boolean, _operand?: DType): string {
  if (to === "string" || from === "string") throw internalError("strings are not scalars");
  if (to === "bool") return `(${value} !== ${isBig(from) ? "0n" : "0"})`; // NaN is true
  const number = from === "bool" ? `(${value} ? 1 : 0)` : isBig(from) ? `Number(${value})` : value;
  if (isFloat(to)) {
    if (to === "float64") return number;
    if (dtypeInfo(to).bits <= 8) return `rt.round(${JSON.stringify(to)}, ${number}, ${saturate})`;
    // float64 → small float passes through no intermediate rounding; int64 → float is exact in double up to 2^53.
    return round(to, number);
  }
  if (isFloat(from))
    return isBig(to) ? `rt.toBig(${JSON.stringify(to)}, ${value})` : `rt.toInt(${JSON.stringify(to)}, ${value})`;
  if (isBig(to)) return wrap(to, `BigInt(${from === "bool" ? number : value})`);
  if (isBig(from))
    return `Number(BigInt.as${dtypeInfo(to).kind === "int" ? "Int" : "Uint"}N(${dtypeInfo(to).bits}, ${value}))`;
  return wrap(to, number);
}
