/** A hand-written kernel as the generator sees it: which nodes it computes, the call that instantiates it, its geometry. */
import type { Dim, Node, OpContext, Value } from "@nimforge/ir";
import type { AnchorMatch, Kernel } from "@nimforge/passes";
import type { Access } from "../../cpp/anchors.js";
import type { PackedConstant } from "../../cpp/arguments.js";
import type { Choices } from "../../target.js";
import type { Capability } from "./capabilities.js";
import type { RowAxes } from "./functors.js";

/** One kernel of a launch: the function's text up to its functors, and its geometry. */
export interface Instance {
  readonly guard?: Dim;
  readonly call: string;
  readonly items: Dim;
  readonly threads: number;
  readonly scratch: number;
  /** A header beyond the template's. */
  readonly header?: string;
  readonly tactic?: string;
}

export interface Printed {
  /** The first integers of the launch. */
  readonly dims: readonly Dim[];
  readonly instances: readonly Instance[];
  readonly headers: readonly string[];
  /** Takes the place of the weights as they are. */
  readonly packed?: { readonly weights: Value; readonly as: PackedConstant };
}

/** What a template may use while printing. */
export interface Site {
  readonly kernel: Kernel;
  readonly node: Node;
  readonly attributes: OpContext;
  readonly capability: Capability;
  readonly choices: Choices;
  /** Strides of streamed operand k along its own axes, or undefined when it has a prologue. */
  access(k: number): Access | undefined;
  readonly outputStrides: readonly Dim[];
  /** The first element of streamed operand k. */
  source(k: number): string;
  weights(value: Value): string;
  readonly prologue: string;
}

export interface Template {
  /** Which nodes; undefined: not this one. */
  match(node: Node, capability: Capability): AnchorMatch | undefined;
  /** How the template counts the rows of its output, and those of its first operand. */
  rows(rank: number, node: Node): RowAxes;
  operandRows(rank: number): RowAxes;
  print(site: Site): Printed;
}

const floats = new Set(["float32", "float16", "bfloat16"]);

/** All operands have the same type, one that templates multiply. */
export const multiplies = (...values: (Value | undefined)[]) => {
  const [first] = values as unknown as readonly [Value];
  return (
    first.type.kind === "tensor" &&
    floats.has(first.dtype) &&
    values.every((value) => value === undefined || (value.type.kind === "tensor" && value.dtype === first.dtype))
  );
};
