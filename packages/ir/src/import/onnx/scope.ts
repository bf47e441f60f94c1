/** Values by name while a graph is built: constants are made when first asked for; a subgraph sees the names around it. */
import { internalError } from "@nimforge/tensor";
import type { Context, Value } from "../../graph.js";
import type { TensorSource } from "./source.js";

export class Scope {
  readonly #values = new Map<string, Value>();
  constructor(
    readonly context: Context,
    readonly constants: ReadonlyMap<string, TensorSource>,
    /** Names that something uses. */
    readonly used: ReadonlySet<string>,
    /** The scope around an inlined branch, in the same context. */
    readonly parent?: Scope,
  ) {}

  define(name: string, value: Value): void {
    this.#values.set(name, value);
  }

  has(name: string): boolean {
    return this.#values.has(name) || this.constants.has(name) || (this.parent?.has(name) ?? false);
  }

  get(name: string): Value {
    const known = this.#values.get(name);
    if (known) return known;
    const constant = this.constants.get(name);
    if (constant) {
      const value = this.context.constant(constant.read());
      this.define(name, value);
      return value;
    }
    if (!this.parent) throw internalError(`value ${JSON.stringify(name)} is used before it is made`);
    return this.parent.get(name);
  }

  fresh(stem: string): string {
    if (!this.has(stem)) return stem;
    for (let k = 1; ; k++) if (!this.has(`${stem}.${k}`)) return `${stem}.${k}`;
  }
}
