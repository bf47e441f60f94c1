/**
 * Exact integer expressions: the sizes of tensors and the index maps of loads are written in one algebra.
 *
 * A Dim is a number or a polynomial with integer coefficients over atoms: symbols (sizes that are known at run time, loop variables),
 * floor division, modulo, min, max, and indices that come as data. Polynomials are kept in a normal form, so equal keys mean equal
 * expressions (the reverse holds for the polynomial part). Division rounds towards minus infinity, as ONNX's and Python's floor.
 */
import { internalError } from "@nimforge/tensor";

export type Dim = number | SymbolicDim;

/** A named non-constant size or a loop variable with inclusive bounds; the upper bound may itself be an expression. */
export interface SymbolAtom {
  readonly kind: "symbol";
  readonly name: string;
  readonly low: number;
  readonly high: Dim;
  readonly key: string;
}
interface BinaryAtom {
  readonly kind: "floordiv" | "mod" | "min" | "max";
  readonly a: Dim;
  readonly b: Dim;
  readonly key: string;
}
/** An index that comes as data; `value` is a scalar expression, and what it gives is within [0, extent). */
export interface DataAtom {
  readonly kind: "data";
  readonly value: DataIndex;
  readonly extent: Dim;
  readonly key: string;
}
/** What the algebra needs to know of a data index (see scalar.ts). */
export interface DataIndex {
  readonly key: string;
  substitute(map: (symbol: SymbolAtom) => Dim | undefined): DataIndex;
  symbols(visit: (symbol: SymbolAtom) => void): void;
}
export type Atom = SymbolAtom | BinaryAtom | DataAtom;

interface Term {
  readonly coefficient: number;
  /** Sorted by key; a square is listed twice; empty for the constant term. */
  readonly atoms: readonly Atom[];
}

export class SymbolicDim {
  /** Sorted by monomial key. */
  readonly terms: readonly Term[];
  readonly key: string;
  constructor(terms: readonly Term[]) {
    this.terms = terms;
    this.key = terms.map((term) => `${term.coefficient}*${monomialKey(term.atoms)}`).join("+");
  }
  toString(): string {
    return formatDim(this);
  }
}

const monomialKey = (atoms: readonly Atom[]): string => atoms.map((atom) => atom.key).join("·");

function fromTerms(terms: Iterable<Term>): Dim {
  const merged = new Map<string, Term>();
  for (const term of terms) {
    if (term.coefficient === 0) continue;
    const key = monomialKey(term.atoms);
    const old = merged.get(key);
    const coefficient = (old?.coefficient ?? 0) + term.coefficient;
    if (!Number.isSafeInteger(coefficient)) throw internalError(`dim arithmetic overflows 2^53`);
    if (coefficient === 0) merged.delete(key);
    else merged.set(key, { coefficient, atoms: term.atoms });
  }
  rejoinDivisions(merged);
  if (merged.size === 0) return 0;
  const sorted = [...merged.entries()].sort((x, y) => (x[0] < y[0] ? -1 : 1)).map(([, term]) => term);
  const [only] = sorted;
  return sorted.length === 1 && only && only.atoms.length === 0 ? only.coefficient : new SymbolicDim(sorted);
}

/** c·(a mod d) + c·d·⌊a/d⌋ → c·a, where both terms stand in the sum and d is a number. */
function rejoinDivisions(terms: Map<string, Term>): void {
  for (const [key, term] of terms) {
    const position = term.atoms.findIndex((atom) => atom.kind === "mod");
    if (position < 0) continue;
    const mod = term.atoms[position] as BinaryAtom;
    if (typeof mod.b !== "number") continue;
    const quotient = binaryAtom("floordiv", mod.a, mod.b);
    const rest = term.atoms.filter((_, k) => k !== position);
    const partnerKey = monomialKey(sortAtoms([...rest, quotient]));
    const partner = terms.get(partnerKey);
    if (partner?.coefficient !== term.coefficient * mod.b) continue;
    terms.delete(key);
    terms.delete(partnerKey);
    const restored = multiplyTerms(termsOf(mod.a), [{ coefficient: term.coefficient, atoms: rest }]);
    const sum = fromTerms([...terms.values(), ...restored]);
    terms.clear();
    for (const t of termsOf(sum)) terms.set(monomialKey(t.atoms), t);
    return; // fromTerms above has rejoined the others
  }
}

const sortAtoms = (atoms: Atom[]): Atom[] => atoms.sort((x, y) => (x.key < y.key ? -1 : x.key > y.key ? 1 : 0));

/** The terms of any Dim; a number is its constant term. */
export function termsOf(dim: Dim): readonly Term[] {
  return typeof dim !== "number" ? dim.terms : dim === 0 ? [] : [{ coefficient: dim, atoms: [] }];
}

function multiplyTerms(a: readonly Term[], b: readonly Term[]): Term[] {
  return a.flatMap((x) =>
    b.map((y) => ({ coefficient: x.coefficient * y.coefficient, atoms: sortAtoms([...x.atoms, ...y.atoms]) })),
  );
}

const atomDim = (atom: Atom): Dim => new SymbolicDim([{ coefficient: 1, atoms: [atom] }]);

const keyOf = (dim: Dim): string => (typeof dim === "number" ? String(dim) : dim.key);

function binaryAtom(kind: BinaryAtom["kind"], a: Dim, b: Dim): BinaryAtom {
  return { kind, a, b, key: `${kind}(${keyOf(a)},${keyOf(b)})` };
}

/** A run-time size. `name` identifies it: two symbols of one name are the same size. */
export function symbol(name: string, low = 0, high: Dim = Number.POSITIVE_INFINITY): SymbolicDim {
  return atomDim({ kind: "symbol", name, low, high, key: `$${name}` }) as SymbolicDim;
}

let fresh = 0;
/** A loop variable over [0, extent); its identity is new. Printing renames them by position. */
export function loopVariable(extent: Dim): SymbolicDim {
  const key = `@${String(fresh++).padStart(9, "0")}`;
  return atomDim({ kind: "symbol", name: key, low: 0, high: sub(extent, 1), key }) as SymbolicDim;
}

/** The symbol atom of a Dim made by `symbol` or `loopVariable`. */
export function asSymbol(dim: Dim): SymbolAtom | undefined {
  if (typeof dim === "number" || dim.terms.length !== 1) return undefined;
  const [term] = dim.terms;
  const [atom] = term?.atoms ?? [];
  return term?.coefficient === 1 && term.atoms.length === 1 && atom?.kind === "symbol" ? atom : undefined;
}

/** An index given by data; the value is promised to be in [0, extent) (the printers clamp and report). */
export function dataIndex(value: DataIndex, extent: Dim): Dim {
  return atomDim({ kind: "data", value, extent, key: `data(${value.key},${keyOf(extent)})` });
}

export function equalDims(a: Dim, b: Dim): boolean {
  return a === b || (typeof a !== "number" && typeof b !== "number" && a.key === b.key);
}

export function add(...dims: Dim[]): Dim {
  if (dims.every((dim) => typeof dim === "number")) return dims.reduce((x, y) => x + y, 0);
  return fromTerms(dims.flatMap((dim) => [...termsOf(dim)]));
}

export function mul(...dims: Dim[]): Dim {
  return dims.reduce<Dim>((x, y) => {
    if (typeof x === "number" && typeof y === "number") return x * y;
    if (x === 1) return y;
    if (y === 1) return x;
    return fromTerms(multiplyTerms(termsOf(x), termsOf(y)));
  }, 1);
}

export const neg = (a: Dim): Dim => mul(-1, a);
export const sub = (a: Dim, b: Dim): Dim => (typeof a === "number" && typeof b === "number" ? a - b : add(a, neg(b)));

const gcd = (a: number, b: number): number => {
  a = Math.abs(a);
  b = Math.abs(b);
  while (b > 0) [a, b] = [b, a % b];
  return a;
};

/** a = d·quotient + rest, taking every term that d divides exactly. */
function divideTerms(a: Dim, d: Dim): { quotient: Dim; rest: Dim } {
  const quotient: Term[] = [];
  const rest: Term[] = [];
  const divisor = termsOf(d);
  const single = divisor.length === 1 ? divisor[0] : undefined;
  for (const term of termsOf(a)) {
    const taken = single && divideTerm(term, single);
    if (taken) quotient.push(taken);
    else if (typeof d === "number" && term.atoms.length > 0 && Math.abs(term.coefficient) > d) {
      const whole = Math.floor(term.coefficient / d);
      quotient.push({ coefficient: whole, atoms: term.atoms });
      rest.push({ coefficient: term.coefficient - whole * d, atoms: term.atoms });
    } else if (typeof d === "number" && term.atoms.length === 0) {
      const whole = Math.floor(term.coefficient / d);
      quotient.push({ coefficient: whole, atoms: [] });
      rest.push({ coefficient: term.coefficient - whole * d, atoms: [] });
    } else rest.push(term);
  }
  if (!single && equalDims(a, d)) return { quotient: 1, rest: 0 };
  return { quotient: fromTerms(quotient), rest: fromTerms(rest) };
}

function divideTerm(term: Term, divisor: Term): Term | undefined {
  if (term.coefficient % divisor.coefficient !== 0) return undefined;
  const atoms = [...term.atoms];
  for (const atom of divisor.atoms) {
    const at = atoms.findIndex((candidate) => candidate.key === atom.key);
    if (at < 0) return undefined;
    atoms.splice(at, 1);
  }
  return { coefficient: term.coefficient / divisor.coefficient, atoms };
}

/** ⌊a/b⌋. b must not be zero; an unprovable sign of b is allowed and decided at run time. */
export function floordiv(a: Dim, b: Dim): Dim {
  if (typeof b === "number") {
    if (b === 0) throw internalError("division of a dim by zero");
    if (typeof a === "number") return Math.floor(a / b);
    if (b < 0) return floordiv(neg(a), -b);
    if (b === 1) return a;
  }
  if (equalDims(a, b) && atLeast(b, 1)) return 1;
  const { quotient, rest } = atLeast(b, 1) ? divideTerms(a, b) : { quotient: 0, rest: a };
  if (atLeast(rest, 0) && atLeast(sub(b, rest), 1)) return quotient;
  return add(quotient, atomicFloordiv(rest, b));
}

function atomicFloordiv(a: Dim, b: Dim): Dim {
  if (typeof a !== "number" && typeof b === "number") {
    // ⌊(g·x + k)/(g·m)⌋ = ⌊(x + ⌊k/g⌋)/m⌋
    const divisor = a.terms.reduce((g, term) => (term.atoms.length === 0 ? g : gcd(g, term.coefficient)), b);
    if (divisor > 1) {
      const scaled = a.terms.map((term) => ({ ...term, coefficient: Math.floor(term.coefficient / divisor) }));
      return floordiv(fromTerms(scaled), b / divisor);
    }
    // ⌊⌊x/p⌋/q⌋ = ⌊x/(p·q)⌋
    const [term] = a.terms;
    const [atom] = term?.atoms ?? [];
    if (
      a.terms.length === 1 &&
      term?.coefficient === 1 &&
      term.atoms.length === 1 &&
      atom?.kind === "floordiv" &&
      typeof atom.b === "number" &&
      atom.b > 0
    )
      return floordiv(atom.a, atom.b * b);
  }
  if (a === 0) return 0;
  return atomDim(binaryAtom("floordiv", a, b));
}

/** ⌈a/b⌉ = −⌊−a/b⌋; written with a positive numerator where b is known to be positive. */
export function ceildiv(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number" && b !== 0) return Math.ceil(a / b);
  return atLeast(b, 1) ? floordiv(add(a, sub(b, 1)), b) : neg(floordiv(neg(a), b));
}

/** a − b·⌊a/b⌋: has the sign of b. */
export function mod(a: Dim, b: Dim): Dim {
  if (b === 0) throw internalError("modulo of a dim by zero");
  if (typeof a === "number" && typeof b === "number") return a - b * Math.floor(a / b);
  if (b === 1) return 0;
  const { rest } = atLeast(b, 1) ? divideTerms(a, b) : { rest: a };
  if (atLeast(b, 1) && atLeast(rest, 0) && atLeast(sub(b, rest), 1)) return rest;
  if (typeof rest === "number" && typeof b === "number") return mod(rest, b);
  // (x mod p·b) mod b = x mod b
  const inner = typeof rest === "number" ? undefined : onlyAtom(rest);
  if (inner?.kind === "mod" && typeof inner.b === "number" && typeof b === "number" && inner.b % b === 0)
    return mod(inner.a, b);
  return atomDim(binaryAtom("mod", rest, b));
}

function onlyAtom(dim: SymbolicDim): Atom | undefined {
  const [term] = dim.terms;
  return dim.terms.length === 1 && term?.coefficient === 1 && term.atoms.length === 1 ? term.atoms[0] : undefined;
}

export function min(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return Math.min(a, b);
  if (atLeast(sub(b, a), 0)) return a;
  if (atLeast(sub(a, b), 0)) return b;
  const [x, y] = keyOf(a) < keyOf(b) ? [a, b] : [b, a];
  return atomDim(binaryAtom("min", x, y));
}

export function max(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return Math.max(a, b);
  if (atLeast(sub(b, a), 0)) return b;
  if (atLeast(sub(a, b), 0)) return a;
  const [x, y] = keyOf(a) < keyOf(b) ? [a, b] : [b, a];
  return atomDim(binaryAtom("max", x, y));
}

export interface Range {
  readonly low: number;
  readonly high: number;
}

const product = (x: number, y: number): number => (x === 0 || y === 0 ? 0 : x * y);

/** Interval of values, by interval arithmetic after replacing symbols that have symbolic bounds. */
export function rangeOf(dim: Dim): Range {
  if (typeof dim === "number") return { low: dim, high: dim };
  const low = intervalOf(bound(dim, "low")).low;
  const high = intervalOf(bound(dim, "high")).high;
  return { low, high };
}

/** Replaces symbols whose upper bound is an expression, so that i − N with i < N is seen to be negative. */
function bound(dim: Dim, side: "low" | "high"): Dim {
  let current = dim;
  for (let round = 0; round < 8; round++) {
    if (typeof current === "number") return current;
    const loose = new Map<string, { atom: SymbolAtom; sign: number }>();
    const blocked = new Set<string>();
    for (const term of current.terms) {
      // A symbol is replaced where it stands alone or beside non-negative factors, with one sign throughout.
      for (const atom of term.atoms) {
        if (atom.kind !== "symbol") {
          symbolsOfAtom(atom, (inner) => blocked.add(inner.key));
          continue;
        }
        if (typeof atom.high === "number") continue;
        const others = term.atoms.filter((other) => other !== atom);
        if (others.some((other) => other.key === atom.key || atomInterval(other).low < 0)) blocked.add(atom.key);
        const sign = Math.sign(term.coefficient);
        const seen = loose.get(atom.key);
        if (seen && seen.sign !== sign) blocked.add(atom.key);
        loose.set(atom.key, { atom, sign });
      }
    }
    const replace = new Map<string, Dim>();
    for (const [key, { atom, sign }] of loose) {
      if (blocked.has(key)) continue;
      replace.set(key, (side === "low") === sign < 0 ? atom.high : atom.low);
      break; // one at a time: the bound may mention the next
    }
    if (replace.size === 0) return current;
    current = substitute(current, (atom) => replace.get(atom.key));
  }
  return current;
}

function intervalOf(dim: Dim): Range {
  let low = 0;
  let high = 0;
  for (const term of termsOf(dim)) {
    let from = term.coefficient;
    let to = term.coefficient;
    for (const atom of term.atoms) {
      const range = atomInterval(atom);
      const corners = [
        product(from, range.low),
        product(from, range.high),
        product(to, range.low),
        product(to, range.high),
      ];
      from = Math.min(...corners);
      to = Math.max(...corners);
    }
    low += from;
    high += to;
  }
  return {
    low: Number.isNaN(low) ? Number.NEGATIVE_INFINITY : low,
    high: Number.isNaN(high) ? Number.POSITIVE_INFINITY : high,
  };
}

function atomInterval(atom: Atom): Range {
  switch (atom.kind) {
    case "symbol":
      return { low: atom.low, high: typeof atom.high === "number" ? atom.high : rangeOf(atom.high).high };
    case "data":
      return { low: 0, high: Math.max(0, rangeOf(atom.extent).high - 1) };
    case "min": {
      const a = rangeOf(atom.a);
      const b = rangeOf(atom.b);
      return { low: Math.min(a.low, b.low), high: Math.min(a.high, b.high) };
    }
    case "max": {
      const a = rangeOf(atom.a);
      const b = rangeOf(atom.b);
      return { low: Math.max(a.low, b.low), high: Math.max(a.high, b.high) };
    }
    case "mod": {
      const b = rangeOf(atom.b);
      if (b.low < 1) return { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
      return { low: 0, high: b.high - 1 };
    }
    case "floordiv": {
      const a = rangeOf(atom.a);
      const b = rangeOf(atom.b);
      if (b.low < 1) return { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
      const quotients = [a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high].map((q) =>
        Number.isNaN(q) ? 0 : q,
      );
      return { low: Math.floor(Math.min(...quotients)), high: Math.floor(Math.max(...quotients)) };
    }
  }
}

/** Provably dim >= value. */
export function atLeast(dim: Dim, value: number): boolean {
  return typeof dim === "number" ? dim >= value : rangeOf(dim).low >= value;
}

/** Decides a comparison where the ranges allow it. */
export function compareDims(a: Dim, b: Dim): "less" | "equal" | "greater" | undefined {
  const difference = sub(a, b);
  if (difference === 0) return "equal";
  const { low, high } = rangeOf(difference);
  return low > 0 ? "greater" : high < 0 ? "less" : undefined;
}

/** Replaces symbols everywhere (inside divisions and data indices too) and normalises. */
export function substitute(dim: Dim, map: (symbol: SymbolAtom) => Dim | undefined): Dim {
  if (typeof dim === "number") return dim;
  let changed = false;
  const parts = dim.terms.map((term) => {
    let value: Dim = term.coefficient;
    for (const atom of term.atoms) {
      const replaced = substituteAtom(atom, map);
      changed ||= replaced !== undefined;
      value = mul(value, replaced ?? atomDim(atom));
    }
    return value;
  });
  return changed ? add(...parts) : dim;
}

function substituteAtom(atom: Atom, map: (symbol: SymbolAtom) => Dim | undefined): Dim | undefined {
  if (atom.kind === "symbol") return map(atom);
  if (atom.kind === "data") {
    const value = atom.value.substitute(map);
    const extent = substitute(atom.extent, map);
    return value === atom.value && equalDims(extent, atom.extent) ? undefined : dataIndex(value, extent);
  }
  const a = substitute(atom.a, map);
  const b = substitute(atom.b, map);
  if (a === atom.a && b === atom.b) return undefined;
  return { floordiv, mod, min, max }[atom.kind](a, b);
}

export function visitSymbols(dim: Dim, visit: (symbol: SymbolAtom) => void): void {
  if (typeof dim !== "number") for (const term of dim.terms) for (const atom of term.atoms) symbolsOfAtom(atom, visit);
}

function symbolsOfAtom(atom: Atom, visit: (symbol: SymbolAtom) => void): void {
  if (atom.kind === "symbol") visit(atom);
  else if (atom.kind === "data") {
    atom.value.symbols(visit);
    visitSymbols(atom.extent, visit);
  } else {
    visitSymbols(atom.a, visit);
    visitSymbols(atom.b, visit);
  }
}

export function dependsOn(dim: Dim, key: string): boolean {
  let found = false;
  visitSymbols(dim, (atom) => {
    found ||= atom.key === key;
  });
  return found;
}

/** dim = stride·symbol + offset with a stride and offset free of the symbol, or undefined. */
export function affineIn(dim: Dim, symbolKey: string): { stride: Dim; offset: Dim } | undefined {
  const stride: Dim[] = [];
  const offset: Dim[] = [];
  for (const term of termsOf(dim)) {
    const factors = term.atoms.filter((atom) => atom.kind === "symbol" && atom.key === symbolKey);
    const others = term.atoms.filter((atom) => !(atom.kind === "symbol" && atom.key === symbolKey));
    let hidden = false;
    for (const other of others)
      symbolsOfAtom(other, (inner) => {
        hidden ||= inner.key === symbolKey;
      });
    if (hidden || factors.length > 1) return undefined;
    const rest = mul(term.coefficient, ...others.map(atomDim));
    (factors.length === 1 ? stride : offset).push(rest);
  }
  return { stride: add(...stride), offset: add(...offset) };
}

/** The number a Dim has for given symbol values. @throws internal when a symbol has no value or the result is not a safe integer */
export function evaluateDim(dim: Dim, valueOf: (symbol: SymbolAtom) => number | undefined): number {
  if (typeof dim === "number") return dim;
  const atom = (a: Atom): number => {
    switch (a.kind) {
      case "symbol": {
        const value = valueOf(a);
        if (value === undefined) throw internalError(`dim symbol ${a.name} has no value`);
        return value;
      }
      case "data":
        throw internalError("a data index has no value outside a kernel");
      default: {
        const x = evaluateDim(a.a, valueOf);
        const y = evaluateDim(a.b, valueOf);
        return { floordiv, mod, min, max }[a.kind](x, y) as number;
      }
    }
  };
  let sum = 0;
  for (const term of dim.terms) sum += term.atoms.reduce((value, a) => value * atom(a), term.coefficient);
  if (!Number.isSafeInteger(sum)) throw internalError(`the size ${formatDim(dim)} exceeds 2^53`);
  return sum;
}

/** The product of sizes. */
export const productOf = (dims: readonly Dim[]): Dim => mul(...dims);

/** Text that people read: `2*W + 1`, `floor(W / 4)`. */
export function formatDim(dim: Dim): string {
  if (typeof dim === "number") return String(dim);
  const name = (a: Atom): string => {
    if (a.kind === "symbol") return a.name;
    if (a.kind === "data") return `data(${a.value.key})`;
    if (a.kind === "floordiv") return `floor(${paren(a.a)} / ${paren(a.b)})`;
    return `${a.kind}(${formatDim(a.a)}, ${formatDim(a.b)})`;
  };
  const paren = (d: Dim) =>
    typeof d !== "number" && (d.terms.length > 1 || d.terms[0]?.coefficient !== 1) ? `(${formatDim(d)})` : formatDim(d);
  return dim.terms
    .map((term, k) => {
      const magnitude = Math.abs(term.coefficient);
      const factors = term.atoms.map(name);
      if (magnitude !== 1 || factors.length === 0) factors.unshift(String(magnitude));
      const sign = term.coefficient < 0 ? (k === 0 ? "-" : " - ") : k === 0 ? "" : " + ";
      return sign + factors.join("*");
    })
    .join("");
}

export const formatShape = (shape: readonly Dim[]): string => `[${shape.map(formatDim).join(", ")}]`;
