/** The public view of a graph, for analysis and drawing with any tool that takes a graphlib Graph. */
import { Graph as Graphlib } from "@dagrejs/graphlib";
import { type Graph, inputOp, type Node, type Value } from "./graph.js";
import { formatType } from "./types.js";

export interface GraphlibNode {
  /** `domain:Name`, or `Name` for ONNX's own; `Input` and `Output` for the signature. */
  readonly op: string;
  /** Names of the source nodes that it came from. */
  readonly origin: readonly string[];
}
export interface GraphlibEdge {
  readonly type: string;
  /** Which output of the producer goes to which input of the reader. */
  readonly output: number;
  readonly input: number;
}

/**
 * A directed multigraph: a node for each graph input, node and graph output, an edge for each use of a value. Nodes are named by the
 * signature, by their first source node, or by `Op.number`; a name that is taken gets `.number`.
 */
export function toGraphlib(graph: Graph): Graphlib<string, GraphlibNode, GraphlibEdge> {
  const result = new Graphlib<string, GraphlibNode, GraphlibEdge>({ directed: true, multigraph: true });
  result.setGraph(graph.name);
  const names = new Map<Node, string>();
  const unused = (name: string): string => {
    let free = name;
    for (let k = 1; result.hasNode(free); k++) free = `${name}.${k}`;
    return free;
  };
  const place = (name: string, label: GraphlibNode): string => {
    const free = unused(name);
    result.setNode(free, label);
    return free;
  };
  const connect = (value: Value, reader: string, input: number) => {
    const edge = { type: formatType(value.type), output: value.index, input };
    result.setEdge(names.get(value.node) as string, reader, edge, `${value.index}:${input}`);
  };
  for (const { name, value } of graph.inputs) names.set(value.node, place(name, { op: "Input", origin: [] }));
  for (const node of graph.nodes()) {
    if (node.op === inputOp) continue;
    const origin = graph.context.originOf(node);
    const op = node.op.domain === "" ? node.op.name : `${node.op.domain}:${node.op.name}`;
    const name = place(origin[0] ?? `${node.op.name}.${node.id}`, { op, origin });
    names.set(node, name);
    node.inputs.forEach((value, input) => value && connect(value, name, input));
  }
  for (const { name, value } of graph.outputs) connect(value, place(name, { op: "Output", origin: [] }), 0);
  return result;
}
