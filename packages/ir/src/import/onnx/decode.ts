/**
 * ModelProto to SourceModel: plain values, checked structure. Every rule of the format that later stages rely on is checked here, so that
 * they may assume it: names are defined once, every use has a definition, nodes are in order, attributes hold what their type says.
 */
import { dtypeFromOnnx, NimforgeError } from "@nimforge/tensor";
import type {
  AttributeProto,
  FunctionProto,
  GraphProto,
  ModelProto,
  NodeProto,
  OperatorSetIdProto,
  TensorShapeProto,
  TypeProto,
  ValueInfoProto,
} from "./generated/messages.js";
import { toInteger } from "./proto.js";
import { sortNodes } from "./sort.js";
import type {
  AttributeKind,
  SourceAttribute,
  SourceDim,
  SourceFunction,
  SourceGraph,
  SourceModel,
  SourceNode,
  SourceType,
  SourceValueInfo,
  TensorSource,
} from "./source.js";
import { sparseSource, type TensorContext, tensorSource } from "./tensor.js";

/** Opsets of the default domain that the importer reads; older forms are converted (versions.ts) to the newest. */
export const supportedOpsets = { oldest: 1, newest: 28 };
/** The newest IR version whose fields are known; a newer one is read with a warning. */
export const newestIrVersion = 14;

/** @throws NimforgeError malformed for a broken rule, unsupported for an opset out of range. */
export function decodeModel(proto: ModelProto, context: TensorContext): SourceModel {
  const decoder = new Decoder(context);
  const irVersion = Number(toInteger(proto.irVersion));
  if (!proto.graph)
    throw decoder.bad("no-graph", "the file holds no graph: it is not an ONNX model", {
      expected: "a ModelProto with a graph",
    });
  if (irVersion > newestIrVersion)
    decoder.warnings.push(`IR version ${irVersion} is newer than ${newestIrVersion}; fields that it added are ignored`);
  if (proto.trainingInfo.length > 0) decoder.warnings.push("training information is ignored");
  // Opset imports came with IR version 3; before it there was one opset.
  const opsets =
    proto.opsetImport.length === 0 && irVersion > 0 && irVersion < 3
      ? new Map([["", 1]])
      : decoder.opsets(proto.opsetImport, "the model");
  const functions = proto.functions.map((item) => decoder.function(item));
  const seen = new Set<string>();
  for (const { domain, name, overload } of functions) {
    const id = JSON.stringify([domain, name, overload]);
    if (seen.has(id))
      throw decoder.bad("duplicate-function", `function "${name}" is defined twice`, { op: name, domain });
    seen.add(id);
  }
  const graph = decoder.graph(proto.graph, opsets, new Set());
  const producer = [proto.producerName, proto.producerVersion].filter((part) => part !== "").join(" ");
  return { irVersion, producer, opsets, graph, functions, warnings: decoder.warnings };
}

interface Place {
  node?: string;
  op?: string;
  domain?: string;
  opset?: number;
  expected?: string;
  found?: string;
  fix?: string;
}

/** "" is the one spelling of the default domain from here on. */
const normalDomain = (domain: string) => (domain === "ai.onnx" ? "" : domain);

class Decoder {
  readonly warnings: string[] = [];
  constructor(readonly context: TensorContext) {}

  bad(code: string, fault: string, place: Place = {}): NimforgeError {
    return new NimforgeError("malformed", code, fault, { file: this.context.file, ...place });
  }

  opsets(imports: readonly OperatorSetIdProto[], owner: string): Map<string, number> {
    const opsets = new Map<string, number>();
    for (const entry of imports) {
      const domain = normalDomain(entry.domain);
      const version = Number(toInteger(entry.version));
      const known = opsets.get(domain);
      if (known !== undefined && known !== version)
        throw this.bad("opset-import", `${owner} imports two versions of domain "${domain || "ai.onnx"}"`, {
          found: `${known} and ${version}`,
        });
      if (version < 1)
        throw this.bad("opset-import", `${owner} imports an opset that does not exist`, {
          expected: "at least 1",
          found: String(version),
        });
      if (domain === "" && version > supportedOpsets.newest)
        throw new NimforgeError(
          "unsupported",
          "opset-version",
          `${owner} uses an opset newer than this version knows`,
          {
            file: this.context.file,
            opset: version,
            expected: `${supportedOpsets.oldest} to ${supportedOpsets.newest}`,
            found: String(version),
            fix: `export the model with opset ${supportedOpsets.newest} or older`,
          },
        );
      opsets.set(domain, version);
    }
    if (opsets.size === 0)
      throw this.bad("opset-import", `${owner} names no opset, so its operators have no meaning`, {
        expected: "an opset_import of ai.onnx",
      });
    return opsets;
  }

  /** @param outer names that an enclosing graph defines */
  graph(proto: GraphProto, opsets: ReadonlyMap<string, number>, outer: ReadonlySet<string>): SourceGraph {
    const constants = new Map<string, TensorSource>();
    const addConstant = (constant: TensorSource) => {
      if (constant.name === "")
        throw this.bad("unnamed-initializer", `an initializer of graph "${proto.name}" has no name`);
      if (constants.has(constant.name))
        throw this.bad("duplicate-value", `initializer "${constant.name}" is defined twice`);
      constants.set(constant.name, constant);
    };
    for (const tensor of proto.initializer) addConstant(tensorSource(tensor, this.context));
    for (const tensor of proto.sparseInitializer) addConstant(sparseSource(tensor, this.context));

    const defined = new Set<string>();
    const inputs = proto.input.map((info) => this.valueInfo(info));
    for (const { name } of inputs) {
      if (name === "") throw this.bad("unnamed-value", `an input of graph "${proto.name}" has no name`);
      if (defined.has(name)) throw this.bad("duplicate-value", `graph input "${name}" is defined twice`);
      defined.add(name);
    }
    for (const name of constants.keys()) defined.add(name);
    const nodes = this.nodes(proto.node, opsets, defined, outer);
    const outputs = proto.output.map((info) => this.valueInfo(info));
    const outputNames = new Set<string>();
    for (const { name } of outputs) {
      if (!defined.has(name) && !outer.has(name))
        throw this.bad("undefined-value", `graph output "${name}" is made by no node`);
      if (outputNames.has(name)) this.warnings.push(`graph output "${name}" is listed twice`);
      outputNames.add(name);
    }
    if (outputs.length === 0) throw this.bad("no-outputs", `graph "${proto.name}" has no outputs`);
    return { name: proto.name, inputs, outputs, constants, nodes };
  }

  function(proto: FunctionProto): SourceFunction {
    const opsets = this.opsets(proto.opsetImport, `function "${proto.name}"`);
    const attributes = new Map<string, SourceAttribute | undefined>(proto.attribute.map((name) => [name, undefined]));
    for (const item of proto.attributeProto)
      attributes.set(item.name, this.attribute(item, opsets, new Set(), { op: proto.name }));
    const defined = new Set(proto.input);
    const nodes = this.nodes(proto.node, opsets, defined, new Set());
    for (const name of proto.output)
      if (!defined.has(name))
        throw this.bad("undefined-value", `output "${name}" of function "${proto.name}" is made by no node`, {
          op: proto.name,
        });
    return {
      name: proto.name,
      domain: normalDomain(proto.domain),
      overload: proto.overload,
      inputs: proto.input,
      outputs: proto.output,
      attributes,
      nodes,
    };
  }

  /** Nodes in order; adds what they make to `defined`. */
  nodes(
    protos: readonly NodeProto[],
    opsets: ReadonlyMap<string, number>,
    defined: Set<string>,
    outer: ReadonlySet<string>,
  ): SourceNode[] {
    const nameOf = (node: NodeProto, index: number) => node.name || `${node.opType}_${index}`;
    for (const [index, node] of protos.entries())
      for (const output of node.output) {
        if (output === "") continue;
        if (defined.has(output))
          throw this.bad("duplicate-value", `value "${output}" is defined twice`, {
            node: nameOf(node, index),
            op: node.opType,
          });
        defined.add(output);
      }
    const scope = new Set([...outer, ...defined]);
    const nodes = protos.map((node, index): SourceNode => {
      const name = nameOf(node, index);
      const domain = normalDomain(node.domain);
      const place = { node: name, op: node.opType, domain };
      if (node.opType === "") throw this.bad("no-operator", "a node names no operator", place);
      const version = opsets.get(domain);
      if (version === undefined)
        throw this.bad(
          "opset-import",
          `domain "${domain || "ai.onnx"}" is used but no version of it is imported`,
          place,
        );
      const attributes = new Map<string, SourceAttribute>();
      for (const attribute of node.attribute) {
        if (attributes.has(attribute.name))
          throw this.bad("duplicate-attribute", `attribute "${attribute.name}" is given twice`, place);
        attributes.set(attribute.name, this.attribute(attribute, opsets, scope, place));
      }
      if (domain === "")
        for (const required of requiredGraphs.get(node.opType) ?? []) {
          const attribute = attributes.get(required);
          if (attribute?.kind !== "graph")
            throw this.bad("missing-subgraph", `${node.opType} needs the subgraph "${required}"`, place);
          const count = (attribute.value as SourceGraph).outputs.length;
          if (node.opType === "If" && attribute.ref === undefined && count !== node.output.length)
            throw this.bad("subgraph-outputs", `"${required}" does not give what the If gives`, {
              ...place,
              expected: `${node.output.length} outputs`,
              found: `${count}`,
            });
        }
      for (const input of node.input)
        if (input !== "" && !scope.has(input))
          throw this.bad("undefined-value", `input "${input}" is made by no node`, place);
      return {
        name,
        op: node.opType,
        domain,
        overload: node.overload,
        version,
        inputs: node.input,
        outputs: node.output,
        attributes,
      };
    });
    return sortNodes(nodes, (cycle) =>
      this.bad("cycle", "the graph has a cycle", {
        node: (cycle[0] as SourceNode).name,
        op: (cycle[0] as SourceNode).op,
        expected: "every value made before it is used",
        found: [...cycle, cycle[0] as SourceNode].map((node) => JSON.stringify(node.name)).join(" -> "),
      }),
    );
  }

  attribute(
    proto: AttributeProto,
    opsets: ReadonlyMap<string, number>,
    scope: ReadonlySet<string>,
    place: Place,
  ): SourceAttribute {
    const mismatch = (expected: string) =>
      this.bad("attribute-type", `attribute "${proto.name}" does not hold what its type says`, { ...place, expected });
    const present = presentKinds(proto);
    const declared = attributeKinds[proto.type];
    if (proto.type !== 0 && declared === undefined)
      throw this.bad("attribute-type", `attribute "${proto.name}" has an unknown type`, {
        ...place,
        found: String(proto.type),
      });
    // Files older than IR version 2 (and references in functions) leave the type out.
    const kind = declared ?? present[0] ?? "ints";
    if (proto.refAttrName !== "") return { kind: attributeKind(kind), value: 0, ref: proto.refAttrName };
    if (present.some((other) => other !== kind)) throw mismatch(kind);
    const graph = (item: GraphProto) => this.graph(item, opsets, scope);
    const need = <T>(value: T | null | undefined): T => {
      if (value === null || value === undefined) throw mismatch(kind);
      return value;
    };
    switch (kind) {
      case "float":
        return { kind, value: proto.f ?? 0 };
      case "int":
        return { kind, value: proto.i ? toInteger(proto.i) : 0 };
      case "string":
        return { kind, value: text(proto.s ?? new Uint8Array(0)) };
      case "tensor":
        return { kind, value: tensorSource(need(proto.t), this.context, proto.t?.name || proto.name) };
      case "sparse":
        return { kind: "tensor", value: sparseSource(need(proto.sparseTensor), this.context, proto.name) };
      case "graph":
        return { kind, value: graph(need(proto.g)) };
      case "type":
        return { kind, value: need(this.type(need(proto.tp))) };
      case "floats":
        return { kind, value: proto.floats };
      case "ints":
        return { kind, value: proto.ints.map(toInteger) };
      case "strings":
        return { kind, value: proto.strings.map(text) };
      case "tensors":
        return { kind, value: proto.tensors.map((tensor) => tensorSource(tensor, this.context)) };
      case "sparses":
        return { kind: "tensors", value: proto.sparseTensors.map((tensor) => sparseSource(tensor, this.context)) };
      case "graphs":
        return { kind, value: proto.graphs.map(graph) };
      case "types":
        return { kind, value: proto.typeProtos.map((type) => need(this.type(type))) };
    }
  }

  valueInfo(proto: ValueInfoProto): SourceValueInfo {
    return { name: proto.name, type: proto.type ? this.type(proto.type, proto.name) : undefined };
  }

  type(proto: TypeProto, name = ""): SourceType | undefined {
    if (proto.tensorType) {
      const { elemType, shape } = proto.tensorType;
      if (elemType === 0) return undefined;
      const dtype = dtypeFromOnnx(elemType);
      if (dtype === undefined)
        throw this.bad("value-type", `value "${name}" has an unknown element type`, { found: String(elemType) });
      return { kind: "tensor", dtype, shape: shape ? dimsOf(shape) : undefined };
    }
    if (proto.sequenceType)
      return {
        kind: "sequence",
        element: proto.sequenceType.elemType ? this.type(proto.sequenceType.elemType, name) : undefined,
      };
    if (proto.optionalType)
      return {
        kind: "optional",
        element: proto.optionalType.elemType ? this.type(proto.optionalType.elemType, name) : undefined,
      };
    if (proto.mapType) return { kind: "map" };
    if (proto.sparseTensorType) return { kind: "sparse" };
    if (proto.opaqueType) return { kind: "opaque" };
    return undefined;
  }
}

/** Sizes, names, or undefined; some exporters write -1 for an unknown size. */
function dimsOf(shape: TensorShapeProto): SourceDim[] {
  return shape.dim.map((dim) => {
    if (dim.dimParam) return dim.dimParam;
    const size = dim.dimValue
      ? toInteger(dim.dimValue)
      : dim.dimValue === undefined || dim.dimValue === null
        ? undefined
        : 0;
    return typeof size === "number" && size >= 0 ? size : undefined;
  });
}

/** The subgraphs without which control flow means nothing. */
const requiredGraphs = new Map<string, readonly string[]>([
  ["If", ["then_branch", "else_branch"]],
  ["Loop", ["body"]],
  ["Scan", ["body"]],
  ["SequenceMap", ["body"]],
]);

type RawKind = AttributeKind | "sparse" | "sparses";
const attributeKind = (kind: RawKind): AttributeKind =>
  kind === "sparse" ? "tensor" : kind === "sparses" ? "tensors" : kind;

/** By AttributeProto.AttributeType. */
const attributeKinds: readonly (RawKind | undefined)[] = [
  undefined,
  "float",
  "int",
  "string",
  "tensor",
  "graph",
  "floats",
  "ints",
  "strings",
  "tensors",
  "graphs",
  "sparse",
  "sparses",
  "type",
  "types",
];

/** The kinds whose fields hold something. A zero number counts as nothing: writers may leave it out or in. */
function presentKinds(proto: AttributeProto): RawKind[] {
  const present: [RawKind, unknown][] = [
    ["float", proto.f],
    ["int", proto.i && (proto.i.low !== 0 || proto.i.high !== 0)],
    ["string", proto.s?.length],
    ["tensor", proto.t],
    ["graph", proto.g],
    ["floats", proto.floats.length],
    ["ints", proto.ints.length],
    ["strings", proto.strings.length],
    ["tensors", proto.tensors.length],
    ["graphs", proto.graphs.length],
    ["sparse", proto.sparseTensor],
    ["sparses", proto.sparseTensors.length],
    ["type", proto.tp],
    ["types", proto.typeProtos.length],
  ];
  return present.filter(([, field]) => field).map(([kind]) => kind);
}

const text = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
