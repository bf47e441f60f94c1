/** ONNX import: a file or bytes to a Graph, with what is worth knowing of the source. */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { NimforgeError } from "@nimforge/tensor";
import { Context, Graph, type OpLookup } from "../../graph.js";
import { findOp } from "../../ops/index.js";
import { Builder, checkSupported, neededNodes } from "./build.js";
import { decodeModel } from "./decode.js";
import { inlineFunctions } from "./functions.js";
import { type InputOptions, resolveInputs } from "./inputs.js";
import { decodeMessage, maxMessageBytes, tooLarge } from "./proto.js";
import { Scope } from "./scope.js";
import { subgraphsOf } from "./sort.js";
import type { SourceGraph, SourceModel } from "./source.js";

export { newestIrVersion, supportedOpsets } from "./decode.js";
export type { BindValue, DimSpec, InputOptions } from "./inputs.js";
export { type ProtoValue, readOptionalProto, readSequenceProto, readTensorProto } from "./tensor.js";

export interface ImportOptions extends InputOptions {
  /** Cuts the graph: names of values, or of nodes, which stand for all they make. */
  readonly outputs?: readonly string[] | undefined;
  /** Where external data lies; default: the folder of the model's file, none for bytes. */
  readonly folder?: string | undefined;
  /** The file's name in messages, for bytes. */
  readonly file?: string | undefined;
  /** The ops to build with; default: all registered ones. */
  readonly lookup?: OpLookup | undefined;
}

export interface ImportMeta {
  /** Domain ("" is ai.onnx) to version. */
  readonly opsets: Readonly<Record<string, number>>;
  readonly irVersion: number;
  readonly producer: string;
  /** SHA-256 of the model file, in hex; external data is not part of it. */
  readonly digest: string;
  /** External data files, in order of first use. */
  readonly externalFiles: readonly string[];
  /** Source nodes without Constants; subgraphs and inlined functions included. */
  readonly nodeCount: number;
  readonly warnings: readonly string[];
}

/**
 * Reads a model and builds its graph in the newest opset.
 * @throws NimforgeError usage (no such file, option that does not fit), malformed (anything wrong inside the file), unsupported (all unknown
 *   operators in one error; opset too new), limit (over 2 GiB)
 */
export function importOnnx(
  model: string | Uint8Array,
  options: ImportOptions = {},
): { graph: Graph; meta: ImportMeta } {
  const file = typeof model === "string" ? model : options.file;
  const { source, digest } = readModel(model, options);
  const whole = inlineFunctions(source, file);
  const warnings = [...source.warnings];

  const cut = cutGraph(whole, options.outputs, file);
  const { nodes, used } = neededNodes(whole, cut);
  const context = new Context(options.lookup ?? findOp);
  checkSupported(nodes, context.lookup, file);

  // An input that is also an initializer has that value: a default that no caller of ours overrides.
  const signature = whole.inputs.filter(({ name }) => !whole.constants.has(name));
  const { types, bound } = resolveInputs(signature, options, file);
  const scope = new Scope(context, whole.constants, used);
  const inputs = [...types].map(([name, type]) => ({ name, value: context.input(name, type) }));
  for (const { name, value } of inputs) scope.define(name, value);
  for (const [name, value] of bound) scope.define(name, context.constant(value));
  new Builder(scope, file).build(nodes);
  const outputs = cut.map((name) => ({ name, value: scope.get(name) }));
  checkOutputs(whole, outputs, warnings, file);

  const meta: ImportMeta = {
    opsets: Object.fromEntries(source.opsets),
    irVersion: source.irVersion,
    producer: source.producer,
    digest,
    externalFiles: externalFiles(whole, file),
    nodeCount: countNodes(whole),
    warnings,
  };
  return { graph: new Graph(context, inputs, outputs, whole.name || "graph"), meta };
}

/** Decodes and checks a model without building it. */
export function readModel(
  model: string | Uint8Array,
  options: Pick<ImportOptions, "folder" | "file"> = {},
): { source: SourceModel; digest: string } {
  const file = typeof model === "string" ? model : options.file;
  const bytes = typeof model === "string" ? readModelFile(model) : model;
  if (bytes.length === 0)
    throw new NimforgeError("malformed", "empty-file", "the model file is empty", {
      file,
      expected: "an ONNX protobuf file",
    });
  const folder = options.folder ?? (typeof model === "string" ? dirname(resolve(model)) : undefined);
  const source = decodeModel(decodeMessage("ModelProto", bytes, file), { file, folder, bytes });
  return { source, digest: createHash("sha256").update(bytes).digest("hex") };
}

function readModelFile(path: string): Uint8Array {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(path);
  } catch (cause) {
    throw new NimforgeError("usage", "model-not-found", "the model file is not there", {
      file: path,
      fix: "check the path",
      cause,
    });
  }
  if (!stat.isFile())
    throw new NimforgeError("usage", "model-not-found", "the model is not a file", {
      file: path,
      fix: "name an .onnx file",
    });
  if (stat.size > maxMessageBytes) throw tooLarge(stat.size, path);
  return readFileSync(path);
}

/** Names of the values to give, in order. */
function cutGraph(graph: SourceGraph, outputs: readonly string[] | undefined, file: string | undefined): string[] {
  if (outputs === undefined) return [...new Set(graph.outputs.map(({ name }) => name))];
  const values = new Set([
    ...graph.inputs.map(({ name }) => name),
    ...graph.constants.keys(),
    ...graph.nodes.flatMap((node) => node.outputs),
  ]);
  const names = outputs.flatMap((name) => {
    if (name !== "" && values.has(name)) return [name];
    const made = graph.nodes
      .filter((node) => node.name === name)
      .flatMap((node) => node.outputs.filter((output) => output !== ""));
    if (made.length === 0)
      throw new NimforgeError(
        "usage",
        "unknown-output",
        `outputs: the model has no value or node ${JSON.stringify(name)}`,
        {
          file,
          fix: "list nodes and values with nim-build inspect",
        },
      );
    return made;
  });
  return [...new Set(names)];
}

/** What the file declares of its outputs against what was inferred: element types must agree, sizes are only worth a warning. */
function checkOutputs(
  graph: SourceGraph,
  outputs: Graph["outputs"],
  warnings: string[],
  file: string | undefined,
): void {
  const declared = new Map(graph.outputs.map(({ name, type }) => [name, type]));
  for (const { name, value } of outputs) {
    const type = declared.get(name);
    if (type?.kind !== "tensor" || value.type.kind !== "tensor") continue;
    if (type.dtype !== value.type.dtype)
      throw new NimforgeError(
        "malformed",
        "output-type",
        `output ${JSON.stringify(name)} is declared with another element type than its node gives`,
        {
          file,
          node: value.node.context.nameOf(value.node),
          expected: type.dtype,
          found: value.type.dtype,
        },
      );
    const { shape } = value.type;
    const agrees =
      type.shape === undefined ||
      (type.shape.length === shape.length &&
        type.shape.every((dim, k) => typeof dim !== "number" || typeof shape[k] !== "number" || dim === shape[k]));
    if (!agrees)
      warnings.push(
        `output ${JSON.stringify(name)} is declared as [${type.shape?.map((dim) => dim ?? "?").join(", ")}] but has another shape`,
      );
  }
}

function countNodes(graph: SourceGraph): number {
  return graph.nodes.reduce((count, node) => {
    const inner = subgraphsOf(node).reduce((sum, subgraph) => sum + countNodes(subgraph), 0);
    return count + inner + (node.op === "Constant" && node.domain === "" ? 0 : 1);
  }, 0);
}

function externalFiles(graph: SourceGraph, file: string | undefined): string[] {
  const files = new Set<string>();
  for (const { location } of graph.constants.values()) if (location && location.file !== file) files.add(location.file);
  return [...files];
}
