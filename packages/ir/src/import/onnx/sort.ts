/** Order of nodes, and which outer values a node's subgraphs use. */
import type { AttributeValue, SourceGraph, SourceNode } from "./source.js";

/** The subgraphs among a node's attributes. */
export function subgraphsOf(node: SourceNode): SourceGraph[] {
  const graphs: SourceGraph[] = [];
  for (const { kind, value, ref } of node.attributes.values()) {
    if (ref !== undefined) continue;
    if (kind === "graph") graphs.push(value as SourceGraph);
    else if (kind === "graphs") graphs.push(...(value as readonly SourceGraph[]));
  }
  return graphs;
}

const captured = new WeakMap<SourceGraph, ReadonlySet<string>>();

/** Names that a subgraph uses and does not define, in order of first use. */
export function capturesOf(graph: SourceGraph): ReadonlySet<string> {
  const known = captured.get(graph);
  if (known) return known;
  const own = new Set<string>([...graph.inputs.map(({ name }) => name), ...graph.constants.keys()]);
  for (const node of graph.nodes) for (const output of node.outputs) own.add(output);
  const free = new Set<string>();
  for (const node of graph.nodes) for (const name of usesOf(node)) if (!own.has(name)) free.add(name);
  for (const { name } of graph.outputs) if (!own.has(name)) free.add(name);
  captured.set(graph, free);
  return free;
}

/** Names of every value a node needs, through its subgraphs too. */
export function usesOf(node: SourceNode): Set<string> {
  const uses = new Set(node.inputs);
  for (const graph of subgraphsOf(node)) for (const name of capturesOf(graph)) uses.add(name);
  uses.delete("");
  return uses;
}

/**
 * The nodes in an order in which every value is made before it is used; the given order where it already is one.
 * @throws what `cycleError` makes of the nodes of a cycle
 */
export function sortNodes(
  nodes: readonly SourceNode[],
  cycleError: (cycle: readonly SourceNode[]) => Error,
): SourceNode[] {
  const maker = new Map<string, SourceNode>();
  for (const node of nodes) for (const output of node.outputs) if (output !== "") maker.set(output, node);
  const state = new Map<SourceNode, "open" | "done">();
  const order: SourceNode[] = [];
  const stack: { node: SourceNode; needs: SourceNode[]; next: number }[] = [];
  const push = (node: SourceNode) => {
    state.set(node, "open");
    const needs = [...usesOf(node)].map((name) => maker.get(name)).filter((other) => other !== undefined);
    stack.push({ node, needs, next: 0 });
  };
  for (const root of nodes) {
    if (!state.has(root)) push(root);
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as (typeof stack)[number];
      const need = top.needs[top.next++];
      if (need === undefined) {
        state.set(top.node, "done");
        order.push(top.node);
        stack.pop();
      } else if (state.get(need) === "open") {
        throw cycleError(
          stack
            .slice(stack.findIndex(({ node }) => node === need))
            .map(({ node }) => node)
            .reverse(),
        );
      } else if (!state.has(need)) push(need);
    }
  }
  return order;
}

/** A copy of an attribute value in which subgraphs are mapped. */
export function mapGraphs(
  value: AttributeValue,
  kind: string,
  map: (graph: SourceGraph) => SourceGraph,
): AttributeValue {
  if (kind === "graph") return map(value as SourceGraph);
  if (kind === "graphs") return (value as readonly SourceGraph[]).map(map);
  return value;
}
