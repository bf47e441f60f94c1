/**
 * The graph: immutable, hash-consed nodes in a Context.
 *
 * Building the same node twice gives the same object, so common subexpressions merge by themselves; rewriting is rebuilding. A Graph is
 * its named inputs (in signature order, used or not), its named outputs and the context's assertions. Names of source nodes are a side table.
 */

import { createHash } from "node:crypto";
import { bytesOf, type DType, internalError, NimforgeError, sizeOf, type Tensor, tensor } from "@nimforge/tensor";
import { type Dim, equalDims, symbol } from "./dim.js";
import {
  type Attribute,
  type Attributes,
  type Compute,
  computedType,
  linearize,
  type Op,
  OpContext,
  opaqueOp,
} from "./op.js";
import { propagateDims } from "./propagate.js";
import { call, cast, constant as constantExpr, type Expr, index as indexExpr } from "./scalar.js";
import { formatType, type TensorType, tensorType, type ValueType } from "./types.js";

/** One output of a node. */
export class Value {
  constructor(
    readonly node: Node,
    readonly index: number,
    readonly type: ValueType,
  ) {}

  /** The type, which must be a tensor's. */
  get tensor(): TensorType {
    if (this.type.kind !== "tensor")
      throw internalError(`${this.node.op.name} gives a ${this.type.kind}, not a tensor`);
    return this.type;
  }
  get dtype(): DType {
    return this.tensor.dtype;
  }
  get shape(): readonly Dim[] {
    return this.tensor.shape;
  }

  /** The value where the build knows it: a constant node's tensor. */
  get constant(): Tensor | undefined {
    return this.node.op === constantOp ? (this.node.attributes.value as Tensor) : undefined;
  }

  #dims: readonly Dim[] | null | undefined;
  /** Elements of a small integer (or bool) tensor as Dims, where shape arithmetic gives them. */
  get dims(): readonly Dim[] | undefined {
    if (this.#dims === undefined) this.#dims = propagateDims(this) ?? null;
    return this.#dims ?? undefined;
  }
}

export class Node {
  readonly outputs: readonly Value[];
  constructor(
    /** Creation order in its context: inputs come before users. */
    readonly id: number,
    readonly op: Op,
    readonly inputs: readonly (Value | undefined)[],
    readonly attributes: Attributes,
    readonly context: Context,
    types: readonly ValueType[],
    /** For loops: what each output's elements are. */
    readonly computes: readonly Compute[] | undefined,
    /** For composites: what the node stands for. */
    readonly expansion: readonly Value[] | undefined,
  ) {
    this.outputs = types.map((type, index) => new Value(this, index, type));
  }

  /** The declaration's view of this node. */
  view(name?: string): OpContext {
    return new OpContext(
      this.op,
      this.inputs,
      this.attributes,
      this.context,
      this.outputs.length,
      name ?? this.context.nameOf(this),
    );
  }
}

export const inputOp: Op = opaqueOp(
  "Input",
  { domain: "nim", attributes: { name: { type: "string" } } },
  {
    infer: () => {
      throw internalError("graph inputs have a given type");
    },
    reference: () => {
      throw internalError("a graph input has no value of its own");
    },
  },
);

/** A tensor known at build time. ONNX's Constant with its other spellings becomes this at import. */
export const constantOp: Op = opaqueOp(
  "Constant",
  { attributes: { value: { type: "tensor", required: true } } },
  {
    infer: (context) => {
      const value = context.attribute("value") as Tensor;
      return [tensorType(value.dtype, value.shape)];
    },
    reference: (context) => [context.attribute("value") as Tensor],
  },
);

/** What must hold at run time because it could not be decided: left = right. */
export interface Assertion {
  readonly left: Dim;
  readonly right: Dim;
  readonly message: string;
}

export interface ApplyOptions {
  /** Source node name, for messages and reports. */
  name?: string | undefined;
  /** How many outputs are asked for (default 1). */
  outputs?: number;
  usedOutputs?: readonly boolean[];
}

/** Finds an op by name; "" domain is ai.onnx. */
export type OpLookup = (domain: string, name: string) => Op | undefined;

export class Context {
  readonly assertions: Assertion[] = [];
  readonly #nodes = new Map<string, Node>();
  readonly #origins = new Map<Node, Set<string>>();
  readonly #tensorKeys = new WeakMap<object, string>();
  #count = 0;
  #fresh = 0;

  constructor(readonly lookup: OpLookup) {}

  /** A graph input; each call makes a new one. */
  input(name: string, type: ValueType): Value {
    return this.#make(inputOp, [], { name }, [type], undefined, undefined).outputs[0] as Value;
  }

  constant(value: Tensor): Value {
    return this.applyOp(constantOp, [], { value })[0] as Value;
  }
  scalar(dtype: DType, value: number | bigint): Value {
    return this.constant(tensor(dtype, [], [value]));
  }
  /** An int64 vector of Dims; symbolic elements become a node that computes them. */
  shapeVector(dims: readonly Dim[]): Value {
    if (dims.every((dim) => typeof dim === "number"))
      return this.constant(tensor("int64", [dims.length], dims.map(BigInt)));
    return this.applyOp(dimsOp(dims), [], {})[0] as Value;
  }

  /** A new run-time size; `stem` is for people. */
  freshSymbol(stem: string, low = 0, high = Number.POSITIVE_INFINITY): Dim {
    return symbol(`${stem}.${this.#fresh++}`, low, high);
  }

  /** Records an equality that only a run can check. */
  assume(left: Dim, right: Dim, message: string): void {
    const known = this.assertions.some((a) => equalDims(a.left, left) && equalDims(a.right, right));
    if (!known) this.assertions.push({ left, right, message });
  }

  /** A node of a registered op; `domain:Name` or `Name`. */
  apply(
    name: string,
    inputs: readonly (Value | undefined)[],
    attributes: Attributes = {},
    options: ApplyOptions = {},
  ): readonly Value[] {
    const colon = name.lastIndexOf(":");
    const [domain, plain] = colon < 0 ? ["", name] : [name.slice(0, colon), name.slice(colon + 1)];
    const op = this.lookup(domain, plain);
    if (!op)
      throw new NimforgeError("unsupported", "unsupported-op", `operator ${name} is not supported`, {
        node: options.name,
        op: plain,
        domain,
      });
    return this.applyOp(op, inputs, attributes, options);
  }

  /**
   * A node of `op`: checks inputs and attributes against the declaration, infers types.
   * @throws NimforgeError malformed for a node that breaks a rule of its op, unsupported for a form that is not built
   */
  applyOp(
    op: Op,
    given: readonly (Value | undefined)[],
    attributes: Attributes = {},
    options: ApplyOptions = {},
  ): readonly Value[] {
    const other = op.instead?.(
      given.map((value) => value?.type),
      attributes,
    );
    if (other !== undefined) return this.apply(other, given, attributes, options);
    const inputs = trimTrailing(given);
    const outputs = options.outputs ?? 1;
    const key = op.impure ? undefined : this.#key(op, inputs, attributes, outputs, options.usedOutputs);
    const known = key === undefined ? undefined : this.#nodes.get(key);
    if (known) {
      if (options.name !== undefined) this.addOrigin(known, options.name);
      return known.outputs;
    }
    const view = new OpContext(op, inputs, attributes, this, outputs, options.name, options.usedOutputs);
    verify(view);
    let node: Node;
    try {
      node = this.#infer(view);
    } catch (error) {
      // A form that needs sizes at build time has a twin for sizes that come as data.
      const ofData = this.lookup("nim", `${op.name}OfData`);
      if (!ofData || !(error instanceof NimforgeError) || error.code !== "unsupported-form") throw error;
      return this.applyOp(ofData, inputs, attributes, options);
    }
    if (key !== undefined) this.#nodes.set(key, node);
    if (options.name !== undefined) this.addOrigin(node, options.name);
    return node.outputs;
  }

  #infer(view: OpContext): Node {
    const { op, inputs, attributes } = view;
    const { semantics } = op;
    if (semantics.kind === "loop") {
      const computes = semantics.compute(view);
      return this.#make(op, inputs, attributes, computes.map(computedType), computes, undefined);
    }
    if (semantics.kind === "composite") {
      const expansion = semantics.expand(view, inputs);
      return this.#make(
        op,
        inputs,
        attributes,
        expansion.map((value) => value.type),
        undefined,
        expansion,
      );
    }
    return this.#make(op, inputs, attributes, semantics.infer(view), undefined, undefined);
  }

  #make(
    op: Op,
    inputs: readonly (Value | undefined)[],
    attributes: Attributes,
    types: readonly ValueType[],
    computes: readonly Compute[] | undefined,
    expansion: readonly Value[] | undefined,
  ): Node {
    return new Node(this.#count++, op, inputs, attributes, this, types, computes, expansion);
  }

  #key(
    op: Op,
    inputs: readonly (Value | undefined)[],
    attributes: Attributes,
    outputs: number,
    used?: readonly boolean[],
  ): string {
    const operands = inputs.map((value) => (value ? `${value.node.id}.${value.index}` : "-")).join(",");
    const named = Object.keys(attributes)
      .sort()
      .map((name) => `${name}=${this.#attributeKey(attributes[name] as Attribute)}`);
    return `${op.domain}:${op.name}#${opIdentity(op)}(${operands}){${named.join(";")}}${outputs}${used?.map(Number).join("") ?? ""}`;
  }

  #attributeKey(value: Attribute): string {
    if (typeof value !== "object") return `${typeof value}:${Object.is(value, -0) ? "-0" : value}`;
    if (Array.isArray(value)) return `[${value.map((item) => this.#attributeKey(item as Attribute)).join(",")}]`;
    let key = this.#tensorKeys.get(value);
    if (key === undefined) {
      key = "dtype" in value ? tensorKey(value as Tensor) : `graph${this.#fresh++}`;
      this.#tensorKeys.set(value, key);
    }
    return key;
  }

  addOrigin(node: Node, name: string): void {
    const names = this.#origins.get(node);
    if (names) names.add(name);
    else this.#origins.set(node, new Set([name]));
  }
  /** Names of the source nodes that a node came from. */
  originOf(node: Node): readonly string[] {
    return [...(this.#origins.get(node) ?? [])];
  }
  nameOf(node: Node): string | undefined {
    return this.originOf(node)[0];
  }
}

const identities = new WeakMap<Op, number>();
let identity = 0;
/** Ops made on the fly (kernels, dims) share a name; object identity tells them apart. */
function opIdentity(op: Op): number {
  let id = identities.get(op);
  if (id === undefined) identities.set(op, (id = identity++));
  return id;
}

function tensorKey(value: Tensor): string {
  const type = `${value.dtype}[${value.shape.join(",")}]`;
  if (value.dtype === "string") return `${type}${JSON.stringify(value.data)}`;
  const bytes = bytesOf(value);
  return `${type}${sizeOf(value.shape) <= 16 ? Buffer.from(bytes).toString("hex") : createHash("sha256").update(bytes).digest("hex")}`;
}

function trimTrailing(inputs: readonly (Value | undefined)[]): readonly (Value | undefined)[] {
  let length = inputs.length;
  while (length > 0 && inputs[length - 1] === undefined) length--;
  return inputs.slice(0, length);
}

/** Arity, element types and attribute names against the declaration. */
function verify(view: OpContext): void {
  const { op, inputs, attributes } = view;
  const last = op.inputs[op.inputs.length - 1];
  if (inputs.length > op.inputs.length && !last?.variadic)
    view.fail("too many inputs", { expected: `at most ${op.inputs.length}`, found: String(inputs.length) });
  op.inputs.forEach((spec, k) => {
    if (!spec.optional && !spec.variadic && inputs[k] === undefined) view.fail(`input ${spec.name} is missing`);
  });
  inputs.forEach((value, k) => {
    const spec = op.inputs[Math.min(k, op.inputs.length - 1)];
    if (!value || !spec?.types) return;
    const type = value.type;
    if (type.kind !== "tensor" || !spec.types.includes(type.dtype))
      view.fail(`input ${spec.name} has a type that the operator does not take`, {
        expected: spec.types.join(", "),
        found: formatType(type),
      });
  });
  for (const [name, spec] of Object.entries(op.attributes))
    if (spec.required && attributes[name] === undefined) view.fail(`attribute ${name} is missing`);
}

/** A node without inputs whose elements, in row-major order, are the given Dims. */
export function dimsOp(dims: readonly Dim[], dtype: DType = "int64", shape: readonly number[] = [dims.length]): Op {
  const element = (context: OpContext) =>
    context.over(shape, (...at) => cast(dtype, chooseDim(dims, linearize(shape, at))));
  return {
    domain: "nim",
    name: "Dims",
    inputs: [],
    attributes: {},
    semantics: { kind: "loop", compute: (context) => [element(context)] },
  };
}

export class Graph {
  constructor(
    readonly context: Context,
    /** In signature order; values of `Input` nodes. */
    readonly inputs: readonly { readonly name: string; readonly value: Value }[],
    readonly outputs: readonly { readonly name: string; readonly value: Value }[],
    readonly name = "graph",
  ) {}

  /** Every node that an output needs, inputs before users. Iterative: chains of 50,000 nodes are normal. */
  nodes(): Node[] {
    return reachable(this.outputs.map(({ value }) => value));
  }

  /** How many times each value is used, outputs included. */
  useCounts(): Map<Value, number> {
    const counts = new Map<Value, number>();
    const use = (value: Value | undefined) => value && counts.set(value, (counts.get(value) ?? 0) + 1);
    for (const node of this.nodes()) node.inputs.forEach(use);
    for (const { value } of this.outputs) use(value);
    return counts;
  }

  /**
   * Rebuilds the graph bottom-up. `rewrite` gets each node with its inputs already rebuilt and returns the values that take its outputs' place, or
   * undefined to rebuild the node as it is.
   */
  rewrite(rewrite: (node: Node, inputs: readonly (Value | undefined)[]) => readonly Value[] | undefined): Graph {
    const replaced = new Map<Value, Value>();
    const context = this.context;
    for (const node of this.nodes()) {
      const inputs = node.inputs.map((value) => value && (replaced.get(value) as Value));
      let outputs = node.op === inputOp ? node.outputs : rewrite(node, inputs);
      if (!outputs) outputs = rebuild(node, inputs);
      else if (node.op !== inputOp)
        for (const name of context.originOf(node))
          for (const value of outputs)
            if (value.node.op !== inputOp && value.node.op !== constantOp) context.addOrigin(value.node, name);
      node.outputs.forEach((value, k) => replaced.set(value, outputs[k] as Value));
    }
    const outputs = this.outputs.map(({ name, value }) => ({ name, value: replaced.get(value) as Value }));
    return new Graph(context, this.inputs, outputs, this.name);
  }

  toString(): string {
    return printGraph(this);
  }
}

/** The same node on other inputs. */
export function rebuild(node: Node, inputs: readonly (Value | undefined)[]): readonly Value[] {
  if (inputs.every((value, k) => value === node.inputs[k])) return node.outputs;
  const context = node.context;
  const names = context.originOf(node);
  const outputs = context.applyOp(node.op, inputs, node.attributes, { outputs: node.outputs.length, name: names[0] });
  for (const name of names) context.addOrigin(outputs[0]!.node, name);
  return outputs;
}

/** Nodes needed by `values`, in creation-compatible (topological) order; what makes a value that `stopAt` holds for is not walked. */
export function reachable(values: readonly Value[], stopAt: (value: Value) => boolean = () => false): Node[] {
  const seen = new Set<Node>();
  const order: Node[] = [];
  const stack: { node: Node; next: number }[] = [];
  const push = (node: Node) => {
    if (seen.has(node)) return;
    seen.add(node);
    stack.push({ node, next: 0 });
  };
  for (const value of values) {
    if (!stopAt(value)) push(value.node);
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as { node: Node; next: number };
      const input = top.node.inputs[top.next++];
      if (top.next > top.node.inputs.length) {
        order.push(top.node);
        stack.pop();
      } else if (input && !stopAt(input)) push(input.node);
    }
  }
  return order;
}

/** One line a node: `%3 = Conv(%x, %1) {strides=[2, 2]} : float32[1, 16, H, W]`. */
export function printGraph(graph: Graph): string {
  const names = new Map<Value, string>(graph.inputs.map(({ name, value }) => [value, `%${JSON.stringify(name)}`]));
  const nameOf = (value: Value | undefined) => (value ? (names.get(value) ?? "%?") : "-");
  const lines = graph.inputs.map(({ name, value }) => `%${JSON.stringify(name)} : ${formatType(value.type)}`);
  let next = 0;
  for (const node of graph.nodes()) {
    if (node.op === inputOp) continue;
    for (const value of node.outputs) names.set(value, `%${next++}`);
    const attributes = Object.entries(node.attributes).map(([key, value]) => `${key}=${formatAttribute(value)}`);
    const left = node.outputs.map(nameOf).join(", ");
    const right = `${node.op.domain ? `${node.op.domain}:` : ""}${node.op.name}(${node.inputs.map(nameOf).join(", ")})`;
    lines.push(
      `${left} = ${right}${attributes.length > 0 ? ` {${attributes.join(", ")}}` : ""} : ${node.outputs.map((v) => formatType(v.type)).join(", ")}`,
    );
  }
  lines.push(`return ${graph.outputs.map(({ name, value }) => `${JSON.stringify(name)}=${nameOf(value)}`).join(", ")}`);
  return lines.join("\n");
}

function formatAttribute(value: Attribute): string {
  if (typeof value === "object" && "dtype" in value) {
    const t = value as Tensor;
    return sizeOf(t.shape) <= 8
      ? `${t.dtype}[${t.shape.join(",")}](${Array.from(t.data as ArrayLike<unknown>).join(" ")})`
      : `${t.dtype}[${t.shape.join(",")}]`;
  }
  if (Array.isArray(value)) return `[${value.map((item) => formatAttribute(item as Attribute)).join(", ")}]`;
  return typeof value === "object" ? "graph" : JSON.stringify(typeof value === "bigint" ? String(value) : value);
}

/** dims[i] as a chain of selects: what Shape and shape vectors are made of. */
export function chooseDim(dims: readonly Dim[], i: Dim): Expr {
  if (typeof i === "number") return indexExpr(dims[i] ?? 0);
  return dims
    .slice(0, -1)
    .reduceRight<Expr>(
      (rest, dim, k) =>
        call("select", call("eq", indexExpr(i), constantExpr("int64", BigInt(k))), indexExpr(dim), rest),
      indexExpr(dims[dims.length - 1] ?? 0),
    );
}
