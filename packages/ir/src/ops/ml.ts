/** Classical machine learning: the operators of ai.onnx.ml that are not about text. */
import { type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import { loopOp, type Op, type OpContext, opaqueOp, typeSets } from "../op.js";
import { call, cast, constant } from "../scalar.js";
import { tensorType } from "../types.js";
import { integers, range } from "./tensors.js";

/** Comparison of a feature with a node's split value, by nodes_modes. */
const comparisons: readonly ((x: number, split: number) => boolean)[] = [
  (x, split) => x <= split,
  (x, split) => x < split,
  (x, split) => x >= split,
  (x, split) => x > split,
  (x, split) => x === split,
  (x, split) => x !== split,
];
const member = comparisons.length;

interface Leaf {
  readonly weight: number;
  readonly target: number;
}
interface Split {
  readonly feature: number;
  readonly test: (x: number) => boolean;
  readonly missingIsTrue: boolean;
  readonly yes: number;
  readonly no: number;
  readonly yesIsLeaf: boolean;
  readonly noIsLeaf: boolean;
}

/** Sets of the MEMBER nodes, in node order, each closed by NaN. */
function memberSets(values: Tensor | undefined): Set<number>[] {
  const sets: Set<number>[] = [];
  let open = new Set<number>();
  for (const value of values ? toNumbers(values) : []) {
    if (!Number.isNaN(value)) open.add(value);
    else {
      sets.push(open);
      open = new Set();
    }
  }
  return sets;
}

function readEnsemble(context: OpContext) {
  const list = (name: string) => context.ints(name) ?? context.fail(`attribute ${name} is missing`);
  const splits = toNumbers(context.attribute("nodes_splits") as Tensor);
  const modes = integers(context.attribute("nodes_modes") as Tensor);
  const weights = toNumbers(context.attribute("leaf_weights") as Tensor);
  const [features, yes, no, yesLeaf, noLeaf] = [
    "nodes_featureids",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_trueleafs",
    "nodes_falseleafs",
  ].map(list) as [number[], number[], number[], number[], number[]];
  const missing = context.ints("nodes_missing_value_tracks_true") ?? [];
  const sets = memberSets(context.attribute("membership_values") as Tensor | undefined);
  let set = 0;
  const nodes = modes.map<Split>((mode, k) => {
    const split = splits[k] as number;
    const compare = comparisons[mode];
    const members = mode === member ? (sets[set++] ?? context.fail("membership_values holds too few sets")) : undefined;
    const test = members
      ? (x: number) => members.has(x)
      : compare
        ? (x: number) => compare(x, split)
        : context.fail("nodes_modes must be in 0 to 6", { found: String(mode) });
    return {
      feature: features[k] as number,
      test,
      missingIsTrue: missing[k] === 1,
      yes: yes[k] as number,
      no: no[k] as number,
      yesIsLeaf: yesLeaf[k] === 1,
      noIsLeaf: noLeaf[k] === 1,
    };
  });
  const leaves = list("leaf_targetids").map<Leaf>((target, k) => ({ target, weight: weights[k] as number }));
  return { nodes, leaves, roots: list("tree_roots") };
}

function findLeaf(
  nodes: readonly Split[],
  leaves: readonly Leaf[],
  root: number,
  feature: (k: number) => number,
): Leaf {
  let at = root;
  for (let depth = 0; depth <= nodes.length; depth++) {
    const node = nodes[at];
    if (!node) break;
    const x = feature(node.feature);
    const taken = node.test(x) || (node.missingIsTrue && Number.isNaN(x));
    at = taken ? node.yes : node.no;
    if (taken ? node.yesIsLeaf : node.noIsLeaf) return leaves[at] as Leaf;
  }
  throw new RangeError("a tree of the ensemble has a cycle or leads nowhere");
}

/** aggregate_function: 0 average, 1 sum, 2 min, 3 max. */
function aggregate(how: number, old: number, weight: number, trees: number): number {
  if (how === 2) return Math.min(old, weight);
  if (how === 3) return Math.max(old, weight);
  return old + (how === 0 ? weight / trees : weight);
}

/** post_transform: 0 none, 1 softmax, 2 logistic, 3 softmax of the scores that are not 0. */
function transformed(how: number, row: readonly number[]): number[] {
  if (how === 0) return [...row];
  if (how === 2) return row.map((x) => 1 / (1 + Math.exp(-x)));
  const weights = row.map((x) => (how === 3 && x === 0 ? 0 : Math.exp(x - Math.max(...row))));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((x) => (total === 0 ? 0 : x / total));
}

const tensorAttribute = { type: "tensor", required: true } as const;
const intsAttribute = { type: "ints", required: true } as const;

export const ml: readonly Op[] = [
  loopOp(
    "Binarizer",
    {
      domain: "ai.onnx.ml",
      inputs: [{ name: "X", types: typeSets.numeric }],
      attributes: { threshold: { type: "float", default: 0 } },
    },
    (context) =>
      context.over(context.shape(0), (...at) => {
        const x = context.load(0, at);
        return cast(x.dtype, call("gt", x, constant(x.dtype, context.float("threshold"))));
      }),
  ),
  opaqueOp(
    "TreeEnsemble",
    {
      domain: "ai.onnx.ml",
      inputs: [{ name: "X", types: typeSets.float }],
      attributes: {
        nodes_splits: tensorAttribute,
        nodes_featureids: intsAttribute,
        nodes_modes: tensorAttribute,
        nodes_truenodeids: intsAttribute,
        nodes_falsenodeids: intsAttribute,
        nodes_trueleafs: intsAttribute,
        nodes_falseleafs: intsAttribute,
        leaf_targetids: intsAttribute,
        leaf_weights: tensorAttribute,
        tree_roots: intsAttribute,
        n_targets: { type: "int", required: true },
        membership_values: { type: "tensor" },
        nodes_missing_value_tracks_true: { type: "ints" },
        nodes_hitrates: { type: "tensor" },
        aggregate_function: 1,
        post_transform: 0,
      },
    },
    {
      infer: (context) => {
        if (context.rank(0) !== 2) context.fail("X must have shape [N, features]");
        if (context.int("post_transform") === 4) context.unsupported("post_transform PROBIT");
        return [tensorType(context.dtype(0), [context.shape(0)[0] ?? 1, context.int("n_targets")])];
      },
      reference: (context, inputs) => {
        const [x] = inputs as readonly [Tensor];
        const [rows, width] = x.shape as [number, number];
        const { nodes, leaves, roots } = readEnsemble(context);
        const targets = context.int("n_targets");
        const how = context.int("aggregate_function");
        const values = toNumbers(x);
        const start = how === 2 ? Number.POSITIVE_INFINITY : how === 3 ? Number.NEGATIVE_INFINITY : 0;
        const result = range(rows).flatMap((row) => {
          const scores = new Array<number>(targets).fill(start);
          for (const root of roots) {
            const { target, weight } = findLeaf(nodes, leaves, root, (k) => values[row * width + k] as number);
            scores[target] = aggregate(how, scores[target] as number, weight, roots.length);
          }
          return transformed(context.int("post_transform"), scores);
        });
        return [tensor(x.dtype, [rows, targets], result)];
      },
    },
  ),
];
