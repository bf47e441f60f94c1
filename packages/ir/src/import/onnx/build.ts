/**
 * SourceGraph to Graph. Nodes are converted to the newest opset as they are built, when their inputs' types are known.
 *
 * Subgraphs become closed graphs in contexts of their own. Outer values that they use become trailing inputs: of the node (attribute
 * `captures` says how many) and, in the same order, of each of its subgraphs; captured constants are copied instead. So
 *   If(cond, …captures)                          then_branch(…captures)                 else_branch(…captures)
 *   Loop(M?, cond?, …carried, …captures)         body(iteration, cond, …carried, …captures)
 *   Scan(…states, …scanned, …captures)           body(…states, …elements, …captures)
 *   SequenceMap(sequence, …others, …captures)    body(element, …others, …captures)
 * An If whose condition is known is replaced by its branch.
 */
import { type DType, type ErrorDetails, NimforgeError, tensor } from "@nimforge/tensor";
import { type Dim, equalDims } from "../../dim.js";
import { Context, Graph, type OpLookup, type Value } from "../../graph.js";
import type { Attribute, Op } from "../../op.js";
import { tensorType, type ValueType } from "../../types.js";
import { Scope } from "./scope.js";
import { capturesOf, subgraphsOf, usesOf } from "./sort.js";
import type { SourceAttribute, SourceGraph, SourceNode, SourceType, TensorSource } from "./source.js";
import { type ConversionContext, convertNode, newestName } from "./versions.js";

/** A subgraph records what must hold for itself, and shares the names of run-time sizes with the graph around it. */
class SubgraphContext extends Context {
  constructor(readonly outer: Context) {
    super(outer.lookup);
  }
  override freshSymbol(stem: string, low?: number, high?: number): Dim {
    return this.outer.freshSymbol(stem, low, high);
  }
}

/** The nodes that `outputs` need, and every name that they use. */
export function neededNodes(graph: SourceGraph, outputs: Iterable<string>): { nodes: SourceNode[]; used: Set<string> } {
  const used = new Set(outputs);
  const nodes: SourceNode[] = [];
  for (let k = graph.nodes.length - 1; k >= 0; k--) {
    const node = graph.nodes[k] as SourceNode;
    if (!node.outputs.some((name) => name !== "" && used.has(name))) continue;
    nodes.push(node);
    for (const name of usesOf(node)) used.add(name);
  }
  return { nodes: nodes.reverse(), used };
}

/** @throws NimforgeError unsupported, once, listing every node whose op `lookup` does not know. */
export function checkSupported(nodes: readonly SourceNode[], lookup: OpLookup, file: string | undefined): void {
  const missing: SourceNode[] = [];
  const check = (node: SourceNode) => {
    for (const graph of subgraphsOf(node)) graph.nodes.forEach(check);
    if (!isConstant(node) && !lookup(node.domain, newestName(node.domain, node.op, node.version))) missing.push(node);
  };
  nodes.forEach(check);
  const [first] = missing;
  if (!first) return;
  const label = ({ domain, op, version }: SourceNode) => `${domain ? `${domain}:` : ""}${op} (opset ${version})`;
  const kinds = [...new Set(missing.map(label))];
  const listed = missing.slice(0, 20).map((node) => `${JSON.stringify(node.name)}: ${label(node)}`);
  if (missing.length > listed.length) listed.push(`and ${missing.length - listed.length} more`);
  throw new NimforgeError(
    "unsupported",
    "unsupported-op",
    `operator${kinds.length > 1 ? "s" : ""} not supported: ${kinds.join(", ")}`,
    {
      ...placeOf(first, file),
      found: listed.join("; "),
    },
  );
}

const isConstant = (node: SourceNode) => node.op === "Constant" && node.domain === "";

const placeOf = (node: SourceNode, file: string | undefined): ErrorDetails => ({
  file,
  node: node.name,
  op: node.op,
  domain: node.domain,
  opset: node.version,
});

/** Builds nodes in order; what they make is defined in `scope`. */
export class Builder {
  constructor(
    readonly scope: Scope,
    readonly file: string | undefined,
  ) {}

  build(nodes: readonly SourceNode[]): void {
    for (const node of nodes) {
      try {
        this.node(node);
      } catch (error) {
        if (error instanceof NimforgeError) throw error.at(placeOf(node, this.file));
        throw new NimforgeError("internal", "internal", `internal: ${error instanceof Error ? error.message : error}`, {
          ...placeOf(node, this.file),
          cause: error,
        });
      }
    }
  }

  private node(node: SourceNode): void {
    const { scope } = this;
    const converted = convertNode(node, this.conversionContext());
    if (converted) {
      for (const part of converted) this.node(part);
      return;
    }
    if (isConstant(node)) {
      const [output] = node.outputs;
      if (output === undefined || output === "") throw malformed("a Constant has no output");
      scope.define(output, scope.context.constant(constantOf(node).read()));
      return;
    }
    if (node.op === "If" && node.domain === "" && this.inlineIf(node)) return;
    const op = scope.context.lookup(node.domain, node.op);
    if (!op) throw new NimforgeError("unsupported", "unsupported-op", `operator not supported: ${node.op}`);
    const inputs = node.inputs.map((name) => (name === "" ? undefined : scope.get(name)));
    const attributes: Record<string, Attribute> = {};
    for (const [name, attribute] of node.attributes)
      if (attribute.kind !== "graph" && attribute.kind !== "graphs")
        attributes[checkedName(op, name, attribute)] = attributeValue(attribute);
    const graphs = [...node.attributes].filter(([, { kind }]) => kind === "graph" || kind === "graphs");
    if (graphs.length > 0) this.attachSubgraphs(node, op, graphs, inputs, attributes);
    let count = node.outputs.length;
    while (count > 1 && node.outputs[count - 1] === "") count--;
    const usedOutputs = node.outputs.slice(0, count).map((name) => name !== "" && scope.used.has(name));
    const values = scope.context.applyOp(op, inputs, attributes, {
      name: node.name,
      outputs: Math.max(1, count),
      usedOutputs,
    });
    node.outputs.forEach((name, k) => {
      const value = values[k];
      if (name === "") return;
      if (value) scope.define(name, value);
      else if (scope.used.has(name))
        throw malformed(`the operator has no output ${k}`, { expected: `at most ${values.length} outputs` });
    });
  }

  /** Builds a node's subgraphs into `attributes` and appends what they capture to `inputs`. */
  private attachSubgraphs(
    node: SourceNode,
    op: Op,
    graphs: readonly (readonly [string, SourceAttribute])[],
    inputs: (Value | undefined)[],
    attributes: Record<string, Attribute>,
  ): void {
    const { scope } = this;
    const sources = graphs.map(([name, { kind, value }]) => {
      if (kind === "graphs") throw new NimforgeError("unsupported", "subgraph", "lists of subgraphs are not supported");
      return [checkedName(op, name), value as SourceGraph] as const;
    });
    const names = new Set(sources.flatMap(([, graph]) => [...capturesOf(graph)]));
    const captures = [...names]
      .map((name) => ({ name, value: scope.get(name) }))
      .filter(({ value }) => copied(value) === undefined);
    while (inputs.length < minimumInputs(node)) inputs.push(undefined);
    const built = sources.map(
      ([name, graph]) =>
        [name, this.subgraph(graph, formalTypes(node, inputs, graph, scope.context), captures)] as const,
    );
    for (const [name, graph] of built) attributes[name] = graph;
    if (Object.hasOwn(op.attributes, "captures")) attributes.captures = captures.length;
    else if (captures.length > 0)
      throw new NimforgeError(
        "unsupported",
        "subgraph",
        `subgraphs of ${op.name} that use outer values are not supported`,
      );
    inputs.push(...captures.map(({ value }) => value));
  }

  private conversionContext(): ConversionContext {
    const { scope } = this;
    const find = (name: string) => (name !== "" && scope.has(name) ? scope.get(name) : undefined);
    return {
      type: (name) => {
        const type = find(name)?.type;
        return type?.kind === "tensor" ? type : undefined;
      },
      constant: (name) => {
        const value = find(name);
        return value?.constant ?? (value && copied(value));
      },
      used: (name) => scope.used.has(name),
      fresh: (stem) => scope.fresh(stem),
    };
  }

  /** Builds the taken branch in place when the condition is known. */
  private inlineIf(node: SourceNode): boolean {
    const [name] = node.inputs;
    if (name === undefined || name === "") return false;
    const condition = this.scope.get(name);
    const known = condition.type.kind === "tensor" && condition.type.dtype === "bool" ? condition.dims : undefined;
    if (known?.length !== 1 || typeof known[0] !== "number") return false;
    const branch = node.attributes.get(known[0] ? "then_branch" : "else_branch");
    if (branch?.kind !== "graph") return false;
    const graph = branch.value as SourceGraph;
    const outputs = graph.outputs.map((output) => output.name);
    const { nodes, used } = neededNodes(graph, outputs);
    const inner = new Scope(this.scope.context, graph.constants, used, this.scope);
    new Builder(inner, this.file).build(nodes);
    node.outputs.forEach((output, k) => {
      if (output === "") return;
      if (outputs[k] === undefined)
        throw malformed("the branch has fewer outputs than the If", {
          expected: String(node.outputs.length),
          found: String(outputs.length),
        });
      this.scope.define(output, inner.get(outputs[k]));
    });
    return true;
  }

  /**
   * A closed graph whose first inputs have the given types. A loop-carried size that the body changes becomes a run-time size, until
   * the body gives back what it takes everywhere else. Each round opens a size, so this ends.
   */
  private subgraph(source: SourceGraph, formals: Formals, captures: readonly { name: string; value: Value }[]): Graph {
    let { types } = formals;
    if (types.length !== source.inputs.length)
      throw malformed(`subgraph "${source.name}" has the wrong number of inputs`, {
        expected: String(types.length),
        found: String(source.inputs.length),
      });
    const open = new Set<string>();
    for (;;) {
      const context = new SubgraphContext(this.scope.context);
      const outputs = source.outputs.map(({ name }) => name);
      const { nodes, used } = neededNodes(source, outputs);
      const scope = new Scope(context, source.constants, used);
      const inputs = source.inputs.map(({ name }, k) => ({ name, value: context.input(name, types[k] as ValueType) }));
      for (const { name, value } of captures) inputs.push({ name, value: context.input(name, value.type) });
      for (const { name, value } of inputs) scope.define(name, value);
      for (const name of capturesOf(source)) {
        const constant = copied(this.scope.get(name));
        if (constant) scope.define(name, context.constant(constant));
      }
      new Builder(scope, this.file).build(nodes);
      const graph = new Graph(
        context,
        inputs,
        outputs.map((name) => ({ name, value: scope.get(name) })),
        source.name,
      );
      const widened = widen(types, formals, graph, open);
      if (!widened) return graph;
      types = widened;
    }
  }
}

interface Formals {
  readonly types: readonly ValueType[];
  /** Formal input k must have the type of body output `carried[k]`. */
  readonly carried: ReadonlyMap<number, number>;
}

/** The types of a subgraph's own inputs: given by the node's inputs in control flow, declared elsewhere. */
function formalTypes(
  node: SourceNode,
  inputs: readonly (Value | undefined)[],
  body: SourceGraph,
  context: Context,
): Formals {
  const typeOf = (k: number): ValueType => inputs[k]?.type ?? fail(`input ${k} is missing`);
  const fail = (fault: string): never => {
    throw malformed(fault);
  };
  switch (node.domain === "" ? node.op : "") {
    case "If":
      return { types: [], carried: new Map() };
    case "Loop": {
      const carried = inputs.slice(2).map((_, k) => typeOf(k + 2));
      // Some exporters declare the counter and the condition as vectors of one element.
      const flag = (dtype: DType, k: number) => {
        const declared = body.inputs[k]?.type;
        return tensorType(dtype, declared?.kind === "tensor" && declared.shape?.length === 1 ? [1] : []);
      };
      return {
        types: [flag("int64", 0), flag("bool", 1), ...carried],
        carried: new Map(carried.map((_, k) => [k + 2, k + 1])),
      };
    }
    case "Scan": {
      const scanned = Number(
        node.attributes.get("num_scan_inputs")?.value ?? fail("attribute num_scan_inputs is missing"),
      );
      const states = inputs.length - scanned;
      if (!Number.isInteger(scanned) || scanned < 1 || states < 0) fail("num_scan_inputs does not fit the inputs");
      const axes = (node.attributes.get("scan_input_axes")?.value ?? []) as readonly number[];
      const types = inputs.map((_, k): ValueType => {
        const type = typeOf(k);
        if (k < states || type.kind !== "tensor") return type;
        const axis = Number(axes[k - states] ?? 0);
        const at = axis < 0 ? axis + type.shape.length : axis;
        if (at < 0 || at >= type.shape.length) fail("scan_input_axes is out of range");
        return tensorType(
          type.dtype,
          type.shape.filter((_, position) => position !== at),
        );
      });
      return { types, carried: new Map(types.slice(0, states).map((_, k) => [k, k])) };
    }
    case "SequenceMap":
      return { types: inputs.map((_, k) => elementType(typeOf(k))), carried: new Map() };
    default:
      return { types: body.inputs.map(({ name, type }) => declaredType(name, type, context)), carried: new Map() };
  }
}

/** Names of sizes in a subgraph are its own, so each open size is new. */
function declaredType(name: string, type: SourceType | undefined, context: Context): ValueType {
  if (type?.kind !== "tensor" || !type.shape)
    throw new NimforgeError(
      "unsupported",
      "subgraph",
      `subgraph input ${JSON.stringify(name)} has no declared tensor type`,
    );
  return tensorType(
    type.dtype,
    type.shape.map((dim, axis) => (typeof dim === "number" ? dim : context.freshSymbol(`${name}.${axis}`))),
  );
}

const elementType = (type: ValueType): ValueType => (type.kind === "sequence" ? type.element : type);
/** Positions that captures must not take. */
const minimumInputs = (node: SourceNode): number => (node.op === "Loop" ? 2 : 0);

/** Formal types that also admit what the body carries over, or undefined where they already do. `open` are the sizes that take any value. */
function widen(
  types: readonly ValueType[],
  formals: Formals,
  graph: Graph,
  open: Set<string>,
): ValueType[] | undefined {
  let changed = false;
  const next = types.map((type, k) => {
    const position = formals.carried.get(k);
    const made = position === undefined ? undefined : graph.outputs[position]?.value.type;
    if (position !== undefined && !made)
      throw malformed(`subgraph "${graph.name}" does not give back carried value ${k}`);
    if (!made || type.kind !== "tensor" || made.kind !== "tensor") return type;
    if (made.dtype !== type.dtype)
      throw malformed(`carried value ${k} of "${graph.name}" changes its element type`, {
        expected: type.dtype,
        found: made.dtype,
      });
    if (made.shape.length !== type.shape.length)
      throw new NimforgeError("unsupported", "loop-shape", `carried value ${k} of "${graph.name}" changes its rank`, {
        expected: String(type.shape.length),
        found: String(made.shape.length),
      });
    const shape = type.shape.map((size, axis) => {
      const id = `carried${k}.${axis}`;
      if (open.has(id) || equalDims(size, made.shape[axis] as Dim)) return size;
      open.add(id);
      changed = true;
      return graph.context.freshSymbol(`${graph.name || "loop"}.${id}`);
    });
    return tensorType(type.dtype, shape);
  });
  return changed ? next : undefined;
}

/** The tensor of a value that a subgraph copies instead of capturing it. */
function copied(value: Value) {
  if (value.constant) return value.constant;
  if (value.type.kind !== "tensor") return undefined;
  const { dtype, shape } = value.type;
  const { dims } = value;
  return dims?.every((dim) => typeof dim === "number") ? tensor(dtype, shape as readonly number[], dims) : undefined;
}

/** The tensor of a Constant node, in any of its spellings. */
export function constantOf(node: SourceNode): TensorSource {
  if (node.attributes.size !== 1)
    throw malformed("a Constant must have exactly one attribute", { found: String(node.attributes.size) });
  const [[name, { kind, value }]] = [...node.attributes] as [[string, SourceAttribute]];
  const make = (dtype: DType, shape: readonly number[], data: readonly (number | bigint | string)[]): TensorSource => {
    const made = tensor(dtype, shape, data);
    return { name, dtype, shape, read: () => made };
  };
  const spelling = `${name}:${kind}`;
  switch (spelling) {
    case "value:tensor":
    case "sparse_value:tensor":
      return value as TensorSource;
    case "value_float:float":
      return make("float32", [], [value as number]);
    case "value_int:int":
      return make("int64", [], [value as number | bigint]);
    case "value_string:string":
      return make("string", [], [value as string]);
    case "value_floats:floats":
      return make("float32", [(value as number[]).length], value as number[]);
    case "value_ints:ints":
      return make("int64", [(value as number[]).length], value as number[]);
    case "value_strings:strings":
      return make("string", [(value as string[]).length], value as string[]);
    default:
      throw malformed("a Constant has an attribute that is not one of its spellings", { found: spelling });
  }
}

/** The name of an attribute that the op declares, of a kind that fits. */
function checkedName(op: Op, name: string, attribute?: SourceAttribute): string {
  if (!Object.hasOwn(op.attributes, name))
    throw new NimforgeError("unsupported", "unknown-attribute", `attribute ${JSON.stringify(name)} is not known`, {
      expected: Object.keys(op.attributes).join(", ") || "no attributes",
    });
  const declared = op.attributes[name]?.type ?? "any";
  if (attribute && declared !== "any" && family(declared) !== family(attribute.kind))
    throw malformed(`attribute ${name} has the wrong type`, { expected: declared, found: attribute.kind });
  return name;
}

/** A number's kind may be int where float is declared and the other way round: declarations write 1 for 1.0. */
const family = (kind: string): string => (kind === "float" ? "int" : kind === "floats" ? "ints" : kind);

function attributeValue({ kind, value }: SourceAttribute): Attribute {
  if (kind === "tensor") return (value as TensorSource).read();
  if (kind === "tensors") return (value as readonly TensorSource[]).map((item) => item.read());
  if (kind === "type" || kind === "types")
    throw new NimforgeError("unsupported", "type-attribute", "attributes that hold types are not supported");
  return value as Attribute;
}

function malformed(fault: string, details: ErrorDetails = {}): NimforgeError {
  return new NimforgeError("malformed", "bad-node", fault, details);
}
