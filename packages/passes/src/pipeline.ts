/** The optimizer: a list of passes that one can read aloud. */
import { evaluate, type Graph, type RuntimeValue } from "@nimforge/ir";
import { foldConstants } from "./fold.js";
import { foldScales } from "./fold-scales.js";
import { dropIdentities, expandComposites, takeBranches } from "./simplify.js";

export interface Pass {
  readonly name: string;
  run(graph: Graph): Graph;
}

export const pipeline: readonly Pass[] = [
  { name: "fold constants", run: foldConstants },
  { name: "take branches", run: takeBranches }, // needs folded conditions
  { name: "expand composites", run: (graph) => expandComposites(graph) },
  { name: "fold expansions", run: foldConstants },
  { name: "drop identities", run: dropIdentities },
  { name: "fold scales into weights", run: foldScales }, // needs constants in their final form
  { name: "fold scaled weights", run: foldConstants },
];

export interface OptimizeOptions {
  /** Runs every pass's result against its input on these values and names the pass that changes an output. */
  readonly checkInputs?: readonly RuntimeValue[];
  readonly compare?: (pass: string, before: readonly RuntimeValue[], after: readonly RuntimeValue[]) => void;
}

/** Runs the pipeline until nothing changes (at most a few rounds: branches may uncover constants). */
export function optimize(graph: Graph, options: OptimizeOptions = {}): Graph {
  let current = graph;
  let expected = options.checkInputs && evaluate(graph, options.checkInputs);
  for (let round = 0; round < 4; round++) {
    const before = fingerprint(current);
    for (const pass of pipeline) {
      current = pass.run(current);
      if (options.checkInputs && options.compare && expected) {
        const found = evaluate(current, options.checkInputs);
        options.compare(pass.name, expected, found);
        expected = found;
      }
    }
    if (fingerprint(current) === before) return current;
  }
  return current;
}

/** Node identities: hash-consing makes an unchanged graph the same nodes. */
const fingerprint = (graph: Graph): string =>
  graph.outputs.map(({ value }) => `${value.node.id}.${value.index}`).join();
