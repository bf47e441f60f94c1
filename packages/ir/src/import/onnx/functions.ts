/**
 * Model-local functions are inlined: their nodes take the call's place, with names of their own, attribute references replaced by what the
 * call gives (else the function's default, else left out). Subgraphs inside functions and calls inside subgraphs included.
 */
import { NimforgeError } from "@nimforge/tensor";
import { mapGraphs, subgraphsOf } from "./sort.js";
import type { SourceAttribute, SourceFunction, SourceGraph, SourceModel, SourceNode } from "./source.js";

/** Functions that each call the one below twice, thirty levels deep, are an attack. */
const maxInlinedNodes = 2 ** 20;
const maxDepth = 128;

const identify = (domain: string, name: string, overload: string) => JSON.stringify([domain, name, overload]);

/**
 * The graph without calls of model-local functions.
 * @throws NimforgeError malformed for recursion or wrong arity, limit when inlining explodes
 */
export function inlineFunctions(model: SourceModel, file?: string): SourceGraph {
  if (model.functions.length === 0) return model.graph;
  const inliner = new Inliner(model, file);
  inliner.checkSize(model.graph);
  return inliner.graph(model.graph);
}

class Inliner {
  readonly functions = new Map<string, SourceFunction>();
  readonly names = new Set<string>();
  readonly counters = new Map<string, number>();
  readonly sizes = new Map<SourceFunction, number>();

  constructor(
    model: SourceModel,
    readonly file: string | undefined,
  ) {
    for (const item of model.functions) this.functions.set(identify(item.domain, item.name, item.overload), item);
    collectNames(model.graph, this.names);
  }

  called(node: SourceNode): SourceFunction | undefined {
    return this.functions.get(identify(node.domain, node.op, node.overload));
  }

  /** Refuses recursion and explosion before anything is expanded. */
  checkSize(graph: SourceGraph): void {
    const size = this.size(graph.nodes, []);
    if (size <= maxInlinedNodes) return;
    throw new NimforgeError("limit", "functions-too-large", "inlining the model's functions gives too many nodes", {
      file: this.file,
      expected: `at most ${maxInlinedNodes}`,
      found: String(size),
    });
  }

  size(nodes: readonly SourceNode[], active: readonly SourceFunction[]): number {
    let total = 0;
    for (const node of nodes) {
      for (const graph of subgraphsOf(node)) total += this.size(graph.nodes, active);
      const called = this.called(node);
      total += called ? this.functionSize(called, node, active) : 1;
    }
    return total;
  }

  functionSize(called: SourceFunction, node: SourceNode, active: readonly SourceFunction[]): number {
    const known = this.sizes.get(called);
    if (known !== undefined) return known;
    const place = { file: this.file, node: node.name, op: node.op, domain: node.domain };
    if (active.includes(called)) {
      const found = [...active.slice(active.indexOf(called)), called].map((item) => item.name).join(" -> ");
      throw new NimforgeError("malformed", "recursive-function", `function "${called.name}" calls itself`, {
        ...place,
        found,
      });
    }
    if (active.length >= maxDepth)
      throw new NimforgeError("limit", "functions-too-deep", "functions call each other too deeply", {
        ...place,
        expected: `at most ${maxDepth} levels`,
      });
    const size = this.size(called.nodes, [...active, called]);
    this.sizes.set(called, size);
    return size;
  }

  graph(graph: SourceGraph): SourceGraph {
    return { ...graph, nodes: graph.nodes.flatMap((node) => this.node(node)) };
  }

  node(source: SourceNode): SourceNode[] {
    const attributes = new Map<string, SourceAttribute>();
    for (const [name, attribute] of source.attributes)
      attributes.set(name, {
        ...attribute,
        value: mapGraphs(attribute.value, attribute.kind, (graph) => this.graph(graph)),
      });
    const node = { ...source, attributes };
    const called = this.called(node);
    if (!called) return [node];
    const place = { file: this.file, node: node.name, op: node.op, domain: node.domain };
    if (node.inputs.length > called.inputs.length || node.outputs.length > called.outputs.length)
      throw new NimforgeError("malformed", "function-arity", `the call does not fit function "${called.name}"`, {
        ...place,
        expected: `at most ${called.inputs.length} inputs and ${called.outputs.length} outputs`,
        found: `${node.inputs.length} and ${node.outputs.length}`,
      });
    for (const name of attributes.keys())
      if (!called.attributes.has(name))
        throw new NimforgeError(
          "malformed",
          "function-attribute",
          `function "${called.name}" has no attribute "${name}"`,
          place,
        );
    return this.instantiate(called, node).flatMap((inner) => this.node(inner));
  }

  /** The function's nodes for one call, renamed; outputs take the caller's names. */
  instantiate(called: SourceFunction, call: SourceNode): SourceNode[] {
    const names = new Map<string, string>();
    for (const [k, name] of called.inputs.entries()) names.set(name, call.inputs[k] ?? "");
    const passed: [from: string, to: string][] = [];
    called.outputs.forEach((name, k) => {
      const outer = call.outputs[k];
      if (outer === undefined || outer === "") return;
      // An output that is an input, or is listed twice, needs a node of its own.
      if (names.has(name)) passed.push([names.get(name) as string, outer]);
      else names.set(name, outer);
    });
    const attributes = new Map<string, SourceAttribute | undefined>(called.attributes);
    for (const [name, attribute] of call.attributes) attributes.set(name, attribute);
    const nodes = called.nodes.map((node) => this.rename(node, names, attributes, call.name));
    const version = called.nodes.find(({ domain }) => domain === "")?.version ?? 1;
    for (const [from, to] of passed)
      nodes.push({
        name: call.name,
        op: "Identity",
        domain: "",
        overload: "",
        version,
        inputs: [from],
        outputs: [to],
        attributes: new Map(),
      });
    return nodes;
  }

  rename(
    node: SourceNode,
    names: Map<string, string>,
    given: ReadonlyMap<string, SourceAttribute | undefined>,
    prefix: string,
  ): SourceNode {
    const renamed = (name: string): string => {
      if (name === "") return "";
      let other = names.get(name);
      if (other === undefined) names.set(name, (other = this.fresh(name)));
      return other;
    };
    const attributes = new Map<string, SourceAttribute>();
    for (const [name, attribute] of node.attributes) {
      const actual = attribute.ref === undefined ? attribute : given.get(attribute.ref);
      if (actual === undefined) continue;
      // What the call gave is in the caller's names already.
      const value =
        attribute.ref === undefined
          ? mapGraphs(actual.value, actual.kind, (graph) => this.renameGraph(graph, names, given, prefix))
          : actual.value;
      attributes.set(name, { kind: actual.kind, value });
    }
    return {
      ...node,
      name: `${prefix}/${node.name}`,
      inputs: node.inputs.map(renamed),
      outputs: node.outputs.map(renamed),
      attributes,
    };
  }

  /** Names that the subgraph defines are new in it; others are the function's. */
  renameGraph(
    graph: SourceGraph,
    outer: ReadonlyMap<string, string>,
    given: ReadonlyMap<string, SourceAttribute | undefined>,
    prefix: string,
  ): SourceGraph {
    const names = new Map(outer);
    const define = (name: string) => name !== "" && names.set(name, this.fresh(name));
    for (const { name } of graph.inputs) define(name);
    for (const name of graph.constants.keys()) define(name);
    for (const node of graph.nodes) for (const output of node.outputs) define(output);
    const renamed = (name: string) => names.get(name) ?? name;
    return {
      name: graph.name,
      inputs: graph.inputs.map((info) => ({ ...info, name: renamed(info.name) })),
      outputs: graph.outputs.map((info) => ({ ...info, name: renamed(info.name) })),
      constants: new Map([...graph.constants].map(([name, constant]) => [renamed(name), constant])),
      nodes: graph.nodes.map((node) => this.rename(node, names, given, prefix)),
    };
  }

  fresh(name: string): string {
    for (let k = (this.counters.get(name) ?? 0) + 1; ; k++) {
      const candidate = `${name}.${k}`;
      if (this.names.has(candidate)) continue;
      this.counters.set(name, k);
      this.names.add(candidate);
      return candidate;
    }
  }
}

function collectNames(graph: SourceGraph, names: Set<string>): void {
  for (const { name } of graph.inputs) names.add(name);
  for (const name of graph.constants.keys()) names.add(name);
  for (const node of graph.nodes) {
    for (const output of node.outputs) names.add(output);
    for (const inner of subgraphsOf(node)) collectNames(inner, names);
  }
}
