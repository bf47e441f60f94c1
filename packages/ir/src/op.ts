/**
 * What an operator is: one declaration from which everything else is derived.
 *
 * An op has one of three semantics. `loop`: what each element of the result is, as a scalar expression; reference, folding, shape
 * inference, value propagation and every target's kernel come from it. `composite`: its expansion into other ops. `opaque`: a
 * reference over tensors, with types inferred by hand.
 */
import { type DType, dtypeNames, dtypes, NimforgeError, type Tensor } from "@nimforge/tensor";
import { add, compareDims, type Dim, equalDims, formatDim, formatShape, loopVariable, mul } from "./dim.js";
import type { Context, Graph, Value } from "./graph.js";
import { type Expr, type LoopAxis, load, type Monoid, reduce } from "./scalar.js";
import { formatType, type TensorType, tensorType, type ValueType } from "./types.js";

/** Values of attributes. Integers are numbers when safe, else BigInt. */
export type Attribute =
  | number
  | bigint
  | string
  | Tensor
  | Graph
  | readonly (number | bigint)[]
  | readonly string[]
  | readonly Tensor[]
  | readonly Graph[];
export type Attributes = Readonly<Record<string, Attribute>>;

export interface AttributeSpec {
  readonly type: "int" | "float" | "string" | "tensor" | "graph" | "ints" | "floats" | "strings" | "graphs" | "any";
  readonly default?: Attribute;
  readonly required?: boolean;
}

export interface InputSpec {
  readonly name: string;
  /** Allowed element types; undefined: any type, sequences and optionals too. */
  readonly types?: readonly DType[] | undefined;
  readonly optional?: boolean;
  /** Takes all remaining inputs (only the last spec). */
  readonly variadic?: boolean;
}

/** out[axes] = body. Loads name the op's inputs by position. */
export interface Compute {
  readonly axes: readonly LoopAxis[];
  readonly body: Expr;
}

/** A run-time value of the interpreter. */
export type RuntimeValue = Tensor | readonly RuntimeValue[] | null;

export interface OpaqueContext extends OpContext {
  /** Runs a subgraph attribute on run-time values. */
  run(graph: Graph, inputs: readonly RuntimeValue[]): RuntimeValue[];
}

export interface OpExample {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attributes?: Attributes;
  readonly outputs: readonly Tensor[];
}

export interface Op {
  /** "" is ai.onnx. */
  readonly domain: string;
  readonly name: string;
  readonly inputs: readonly InputSpec[];
  readonly attributes: Readonly<Record<string, AttributeSpec>>;
  /** Each use is a node of its own (random numbers, state). */
  readonly impure?: boolean;
  /** Name of the op that stands for this one on inputs of other kinds: strings, sequences, optionals. */
  readonly instead?:
    | ((inputs: readonly (ValueType | undefined)[], attributes: Attributes) => string | undefined)
    | undefined;
  readonly examples?: readonly OpExample[];
  readonly semantics: Loop | Composite | Opaque;
}
export interface Loop {
  readonly kind: "loop";
  /** One Compute for each output. */
  compute(context: OpContext): readonly Compute[];
}
export interface Composite {
  readonly kind: "composite";
  expand(context: OpContext, inputs: readonly (Value | undefined)[]): readonly Value[];
}
export interface Opaque {
  readonly kind: "opaque";
  infer(context: OpContext): readonly ValueType[];
  reference(context: OpaqueContext, inputs: readonly (RuntimeValue | undefined)[]): readonly RuntimeValue[];
}

type Declaration = {
  inputs?: readonly (InputSpec | string)[];
  attributes?: Record<string, AttributeSpec | Attribute>;
  examples?: readonly OpExample[];
  impure?: boolean;
  domain?: string;
  instead?: Op["instead"];
};

const inputSpec = (input: InputSpec | string): InputSpec =>
  typeof input !== "string"
    ? input
    : { name: input.replace(/[?*]$/, ""), optional: input.endsWith("?"), variadic: input.endsWith("*") };

/** A plain value stands for an optional attribute with that default. */
function attributeSpec(value: AttributeSpec | Attribute): AttributeSpec {
  if (typeof value === "object" && "type" in value && typeof value.type === "string" && !("dtype" in value))
    return value as AttributeSpec;
  const fallback = value as Attribute;
  if (typeof fallback === "string") return { type: "string", default: fallback };
  if (typeof fallback === "number") return { type: Number.isInteger(fallback) ? "int" : "float", default: fallback };
  return { type: "any", default: fallback };
}

function declare(name: string, declaration: Declaration, semantics: Op["semantics"]): Op {
  const { inputs = [], attributes = {}, domain = "", impure = false, examples = [], instead } = declaration;
  return {
    domain,
    name,
    inputs: inputs.map(inputSpec),
    attributes: Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, attributeSpec(value)])),
    impure,
    instead,
    examples,
    semantics,
  };
}

/** Inputs are written `"X"`, `"bias?"` (optional), `"inputs*"` (variadic), or as InputSpec. */
export const loopOp = (
  name: string,
  declaration: Declaration,
  compute: (context: OpContext) => Compute | readonly Compute[],
): Op =>
  declare(name, declaration, {
    kind: "loop",
    compute: (context) => {
      const result = compute(context);
      return Array.isArray(result) ? result : [result as Compute];
    },
  });

export const compositeOp = (
  name: string,
  declaration: Declaration,
  expand: (context: OpContext, ...inputs: (Value | undefined)[]) => Value | readonly Value[],
): Op =>
  declare(name, declaration, {
    kind: "composite",
    expand: (context, inputs) => {
      const result = expand(context, ...inputs);
      return Array.isArray(result) ? result : [result as Value];
    },
  });

export const opaqueOp = (name: string, declaration: Declaration, semantics: Omit<Opaque, "kind">): Op =>
  declare(name, declaration, { kind: "opaque", ...semantics });

/** Groups of element types, for InputSpec.types. */
export const typeSets = {
  float: dtypeNames.filter((name) => dtypes[name].kind === "float" && dtypes[name].bits >= 16),
  anyFloat: dtypeNames.filter((name) => dtypes[name].kind === "float"),
  integer: dtypeNames.filter((name) => dtypes[name].kind === "int" || dtypes[name].kind === "uint"),
  numeric: dtypeNames.filter((name) => /^(float|int|uint)$/.test(dtypes[name].kind) && dtypes[name].bits >= 8),
  index: ["int32", "int64"],
  bool: ["bool"],
} satisfies Record<string, readonly DType[]>;

/**
 * What a declaration sees of one node: attributes with defaults, input types, what is known of input values; and how it speaks:
 * `fail` names the rule that an invalid node breaks, `assume` records what can only be checked at run time.
 */
export class OpContext {
  constructor(
    readonly op: Op,
    readonly inputs: readonly (Value | undefined)[],
    readonly attributes: Attributes,
    readonly context: Context,
    /** How many outputs the node's user asks for. */
    readonly outputCount: number,
    /** Source node name for messages. */
    readonly nodeName: string | undefined,
    /** Which of the outputs are used (by position; trailing and empty names are not). */
    readonly usedOutputs: readonly boolean[] = [],
  ) {}

  /** Ends with a verifier error (exit 4): the model is invalid. */
  fail(rule: string, details: { expected?: string; found?: string; fix?: string } = {}): never {
    throw new NimforgeError("malformed", "invalid-node", `${this.op.name}: ${rule}`, {
      node: this.nodeName,
      op: this.op.name,
      domain: this.op.domain,
      ...details,
    });
  }

  /** Ends with exit 3: the node is valid but this form is not supported. */
  unsupported(what: string, fix?: string): never {
    throw new NimforgeError("unsupported", "unsupported-form", `${this.op.name}: ${what}`, {
      node: this.nodeName,
      op: this.op.name,
      domain: this.op.domain,
      fix,
    });
  }

  has(input: number): boolean {
    return this.inputs[input] !== undefined;
  }

  /** The tensor type of an input; fails when it is missing or not a tensor. */
  type(input: number): TensorType {
    const type = this.inputs[input]?.type;
    const name = this.op.inputs[Math.min(input, this.op.inputs.length - 1)]?.name ?? String(input);
    if (type === undefined) this.fail(`input ${name} is missing`);
    if (type.kind !== "tensor") this.fail(`input ${name} must be a tensor`, { found: formatType(type) });
    return type;
  }
  dtype(input: number): DType {
    return this.type(input).dtype;
  }
  shape(input: number): readonly Dim[] {
    return this.type(input).shape;
  }
  rank(input: number): number {
    return this.type(input).shape.length;
  }

  attribute(name: string): Attribute | undefined {
    return this.attributes[name] ?? this.op.attributes[name]?.default;
  }
  int(name: string): number {
    const value = this.attribute(name);
    if (typeof value === "bigint") return Number(value);
    return typeof value === "number"
      ? value
      : this.fail(`attribute ${name} must be an integer`, { found: String(value) });
  }
  float(name: string): number {
    return this.int(name);
  }
  string(name: string): string {
    const value = this.attribute(name);
    return typeof value === "string"
      ? value
      : this.fail(`attribute ${name} must be a string`, { found: String(value) });
  }
  ints(name: string): number[] | undefined {
    const value = this.attribute(name);
    if (value === undefined) return undefined;
    return Array.isArray(value) ? value.map(Number) : this.fail(`attribute ${name} must be a list of integers`);
  }

  /** An axis in [0, rank), from one that may be negative. */
  axis(value: number, rank: number, name = "axis"): number {
    if (!Number.isInteger(value) || value < -rank || value >= rank)
      this.fail(`${name} is out of range`, { expected: `[${-rank}, ${rank - 1}]`, found: String(value) });
    return value < 0 ? value + rank : value;
  }
  axes(values: readonly number[], rank: number, name = "axes"): number[] {
    const normalized = values.map((value) => this.axis(value, rank, name));
    if (new Set(normalized).size !== normalized.length)
      this.fail(`${name} are not unique`, { found: `[${values.join(", ")}]` });
    return normalized;
  }

  /** The input's value where the build knows it entirely. */
  constant(input: number): Tensor | undefined {
    return this.inputs[input]?.constant;
  }
  /** The elements of a small integer input as Dims, where shape arithmetic gives them. */
  dims(input: number): readonly Dim[] | undefined {
    return this.inputs[input]?.dims;
  }
  /** As dims(), failing with exit 3 when the values exist only at run time. */
  needDims(input: number): readonly Dim[] {
    const dims = this.dims(input);
    const name = this.op.inputs[Math.min(input, this.op.inputs.length - 1)]?.name ?? String(input);
    return (
      dims ??
      this.unsupported(
        `${name} is known only at run time`,
        `fix ${name} with --bind, or make it a constant in the model`,
      )
    );
  }
  needInts(input: number): number[] {
    return this.needDims(input).map((dim) =>
      typeof dim === "number" ? dim : this.unsupported(`${formatDim(dim)} must be a known number here`),
    );
  }

  /** States that two sizes are equal: decided now, or checked at run time. Returns the more specific one. */
  same(a: Dim, b: Dim, what: string): Dim {
    if (equalDims(a, b)) return a;
    const order = compareDims(a, b);
    if (order === "less" || order === "greater")
      this.fail(`${what} must match`, { expected: formatDim(a), found: formatDim(b) });
    this.context.assume(a, b, `${this.nodeName ?? this.op.name}: ${what} must match`);
    return typeof b === "number" ? b : a;
  }

  /** The common shape under multidirectional broadcasting (numpy's rule). */
  broadcast(...shapes: (readonly Dim[])[]): Dim[] {
    const rank = Math.max(0, ...shapes.map((shape) => shape.length));
    return Array.from({ length: rank }, (_, axis) => {
      let size: Dim = 1;
      for (const shape of shapes) {
        const own = shape[axis - (rank - shape.length)];
        if (own === undefined || own === 1) continue;
        if (size === 1) size = own;
        else if (!equalDims(size, own)) {
          const differ = compareDims(size, own);
          if (differ === "less" || differ === "greater")
            this.fail("inputs do not broadcast", { found: shapes.map(formatShape).join(" and ") });
          size = this.same(size, own, "broadcast sizes");
        }
      }
      return size;
    });
  }

  /** Loads input `input` at the trailing positions of `at` under broadcasting: an axis of size 1 is read at 0. */
  at(input: number, at: readonly Dim[]): Expr {
    const { dtype, shape } = this.type(input);
    const offset = at.length - shape.length;
    return load(
      input,
      dtype,
      shape.map((size, axis) => (size === 1 ? 0 : (at[axis + offset] as Dim))),
    );
  }
  /** Loads input `input` at exactly this index. */
  load(input: number, at: readonly Dim[]): Expr {
    if (at.length !== this.rank(input)) this.fail(`internal: index of rank ${at.length} for input ${input}`);
    return load(input, this.dtype(input), at);
  }

  /** out[i0, …] = body(i0, …) over a shape. */
  over(shape: readonly Dim[], body: (...at: Dim[]) => Expr): Compute {
    const axes = shape.map((extent) => ({ variable: extent === 1 ? 0 : loopVariable(extent), extent }));
    return { axes, body: body(...axes.map((axis) => axis.variable)) };
  }

  /** Builds nodes inside a composite's expansion; `outputs` defaults to 1. */
  apply(name: string, inputs: readonly (Value | undefined)[], attributes: Attributes = {}): Value {
    return this.context.apply(name, inputs, attributes, { name: this.nodeName })[0] as Value;
  }
  /** A scalar constant of a dtype, for expansions. */
  scalar(dtype: DType, value: number): Value {
    return this.context.scalar(dtype, value);
  }
  /** A constant int64 vector, for expansions. */
  int64s(values: readonly (number | Dim)[]): Value {
    return this.context.shapeVector(values);
  }
}

/** Σ, Π, max… of body over extents: `reduceOver("sum", [K], (k) => …)`. */
export function reduceOver(monoid: Monoid, extents: readonly Dim[], body: (...at: Dim[]) => Expr): Expr {
  const axes = extents.map((extent) => ({ variable: extent === 1 ? 0 : loopVariable(extent), extent }));
  const inner = body(...axes.map((axis) => axis.variable));
  const kept = monoid.startsWith("arg") ? axes : axes.filter((axis) => axis.variable !== 0);
  return reduce(monoid, kept, inner);
}

/** The result type of a Compute. */
export function computedType(compute: Compute): TensorType {
  return tensorType(
    compute.body.dtype,
    compute.axes.map((axis) => axis.extent),
  );
}

/** Row-major position of an index in a shape. */
export function linearize(shape: readonly Dim[], at: readonly Dim[]): Dim {
  return shape.reduce<Dim>((position, size, axis) => add(mul(position, size), at[axis] as Dim), 0);
}
