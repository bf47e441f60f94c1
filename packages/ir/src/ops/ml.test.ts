import { tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { result } from "./applied.js";

test("Binarizer compares with its threshold", () => {
  expect(result("ai.onnx.ml:Binarizer", [tensor("float32", [3], [0, 1, 2])], [], { threshold: 1 }).values).toEqual([
    0, 0, 1,
  ]);
});

/** x0 <= 1 ? 5 : (x1 in {2, 4} ? 6 : 7), to targets 0, 1, 0. */
const tree = {
  nodes_splits: tensor("float32", [2], [1, 0]),
  nodes_modes: tensor("uint8", [2], [0, 6]),
  nodes_featureids: [0, 1],
  nodes_truenodeids: [0, 1],
  nodes_trueleafs: [1, 1],
  nodes_falsenodeids: [1, 2],
  nodes_falseleafs: [0, 1],
  leaf_targetids: [0, 1, 0],
  leaf_weights: tensor("float32", [3], [5, 6, 7]),
  membership_values: tensor("float32", [3], [2, 4, Number.NaN]),
  n_targets: 2,
};

test("TreeEnsemble follows splits and memberships to a leaf", () => {
  const x = tensor("float32", [3, 2], [0, 0, 3, 4, 3, 5]);
  expect(result("ai.onnx.ml:TreeEnsemble", [x], [], { ...tree, tree_roots: [0] }).values).toEqual([5, 0, 0, 6, 7, 0]);
  expect(
    result("ai.onnx.ml:TreeEnsemble", [x], [], { ...tree, tree_roots: [0, 1], aggregate_function: 0 }).values,
  ).toEqual([6, 0, 0, 6, 7, 0]);
});
