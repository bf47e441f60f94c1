/** The optimizer: a list of passes that one can read aloud. */
import { evaluate, type Graph, type Node, type RuntimeValue } from "@nimforge/ir";
import { foldConstants } from "./fold.js";
import { foldScales } from "./fold-scales.js";
import { castToHalf, type HalfType, isIsland } from "./precision.js";
import { dropIdentities, expandComposites, takeBranches } from "./simplify.js";

export interface Pass {
  readonly name: string;
  /** @param keep composites that are not opened */
  run(graph: Graph, keep?: (node: Node) => boolean): Graph;
}

export const pipeline: readonly Pass[] = [
  { name: "fold constants", run: foldConstants },
  { name: "take branches", run: takeBranches }, // needs folded conditions
  { name: "expand composites", run: (graph, keep) => expandComposites(graph, keep) },
  { name: "fold expansions", run: foldConstants },
  { name: "drop identities", run: dropIdentities },
  { name: "fold scales into weights", run: foldScales }, // needs constants in their final form
  { name: "fold scaled weights", run: foldConstants },
];

export interface OptimizeOptions {
  /** float32 values inside the graph become this type (see precision.ts). */
  readonly half?: HalfType | undefined;
  /** Names nodes that stay float32 because `half` cannot hold a constant of theirs. */
  readonly onOutOfRange?: ((names: readonly string[]) => void) | undefined;
  /** Composites that the target has a kernel for: they are not opened. */
  readonly keep?: ((node: Node) => boolean) | undefined;
  /** Runs every pass's result against its input on these values and names the pass that changes an output; what `half` rounds is not compared. */
  readonly checkInputs?: readonly RuntimeValue[];
  readonly compare?: (pass: string, before: readonly RuntimeValue[], after: readonly RuntimeValue[]) => void;
}

/** Runs the pipeline; for a half type once more after the types have changed, because only then norms and softmaxes are opened. */
export function optimize(graph: Graph, options: OptimizeOptions = {}): Graph {
  const { half, keep = () => false } = options;
  if (half === undefined) return settle(graph, keep, options);
  const whole = settle(graph, (node) => isIsland(node) || keep(node), options);
  const { graph: halved, outOfRange } = castToHalf(whole, half);
  if (outOfRange.length > 0) options.onOutOfRange?.(outOfRange);
  return settle(halved, keep, options);
}

/** Runs the pipeline until nothing changes (at most a few rounds: branches may uncover constants). */
function settle(graph: Graph, keep: (node: Node) => boolean, options: OptimizeOptions): Graph {
  let current = graph;
  let expected = options.checkInputs && evaluate(graph, options.checkInputs);
  for (let round = 0; round < 4; round++) {
    const before = fingerprint(current);
    for (const pass of pipeline) {
      current = pass.run(current, keep);
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
