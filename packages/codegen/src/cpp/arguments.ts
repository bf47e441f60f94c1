/** A kernel's arguments: the buffers and the integers that the step passes, in the order in which the printed code asks for them. */

import type { Dim, Value } from "@nimforge/ir";

/** A constant in the layout that a template reads, made at build time. */
export interface PackedConstant {
  readonly packed: string;
  readonly source: Value;
  bytes(): Uint8Array;
}
export type Argument = Value | PackedConstant;

export const isPacked = (argument: Argument): argument is PackedConstant => "packed" in argument;

export class Arguments {
  /** What is read, then what is written. */
  readonly buffers: Argument[] = [];
  readonly dims: Dim[] = [];
  /** Texts of the faults that the kernel can report, by operand number. */
  readonly faults: string[] = [];
  readonly #slots = new Map<string, number>();

  /** Position in L->dims. */
  slot(dim: Dim): number {
    const key = typeof dim === "number" ? String(dim) : dim.key;
    let position = this.#slots.get(key);
    if (position === undefined) {
      this.#slots.set(key, (position = this.dims.length));
      this.dims.push(dim);
    }
    return position;
  }

  /** Puts slots that were already handed out behind a block of `shift` arguments with a fixed order. */
  rebase(slots: readonly Dim[], shift: number): void {
    this.dims.push(...slots);
    for (const [key, position] of this.#slots) this.#slots.set(key, position + shift);
  }

  fault(text: string): number {
    const known = this.faults.indexOf(text);
    if (known >= 0) return known;
    return this.faults.push(text) - 1;
  }
}
