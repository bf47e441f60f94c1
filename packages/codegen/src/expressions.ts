/** Dims as a program's expression array, each distinct one once. */

import type { ExprOpName, ExprSpec } from "@nimforge/engine";
import { type Atom, type Dim, termsOf, visitSymbols } from "@nimforge/ir";
import { internalError } from "@nimforge/tensor";

export class Expressions {
  readonly list: ExprSpec[] = [];
  readonly #known = new Map<string, number>();

  /** `symbolOf` gives the index of a run-time size. */
  constructor(readonly symbolOf: (key: string) => number) {}

  of(dim: Dim): number {
    if (typeof dim === "number") return this.#add({ op: "constant", value: dim });
    const terms = termsOf(dim).map(({ coefficient, atoms }) => {
      let product = atoms
        .map((atom) => this.#atom(atom))
        .reduce<number | undefined>((a, b) => (a === undefined ? b : this.#add({ op: "mul", a, b })), undefined);
      if (product === undefined || coefficient !== 1) {
        const factor = this.#add({ op: "constant", value: coefficient });
        product = product === undefined ? factor : this.#add({ op: "mul", a: factor, b: product });
      }
      return product;
    });
    return terms.reduce((a, b) => this.#add({ op: "add", a, b }));
  }

  equal(a: Dim, b: Dim): number {
    return this.#add({ op: "eq", a: this.of(a), b: this.of(b) });
  }

  #atom(atom: Atom): number {
    if (atom.kind === "symbol") return this.#add({ op: "symbol", a: this.symbolOf(atom.key) });
    if (atom.kind === "data") throw internalError("a size comes from data");
    return this.#add({ op: atom.kind as ExprOpName, a: this.of(atom.a), b: this.of(atom.b) });
  }

  #add(expr: ExprSpec): number {
    const key = `${expr.op},${expr.a ?? ""},${expr.b ?? ""},${expr.value ?? ""}`;
    let position = this.#known.get(key);
    if (position === undefined) {
      position = this.list.push(expr) - 1;
      this.#known.set(key, position);
    }
    return position;
  }
}

/** Symbols of a Dim that nothing binds. */
export function symbolsIn(dims: readonly Dim[]): Map<string, { name: string; low: number; high: Dim }> {
  const found = new Map<string, { name: string; low: number; high: Dim }>();
  for (const dim of dims) visitSymbols(dim, (atom) => found.set(atom.key, atom));
  return found;
}
