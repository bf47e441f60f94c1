import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, int64, numbersOf, random, reader, runOp, tabulate } from "./testing.js";

describe("NegativeLogLikelihoodLoss", () => {
  const x = float32([3, 2], [-1, -2, -3, -4, -5, -6]);
  const target = int64(0, 1, 1);
  const weight = float32([2], [2, 4]);
  const run = (attributes = {}, ...more: ReturnType<typeof float32>[]) =>
    numbersOf(runOp("NegativeLogLikelihoodLoss", [x, target, ...more], attributes)[0]);
  it("reduces to nothing, a sum or a weighted mean", () => {
    expect(run({ reduction: "none" })).toEqual([1, 4, 6]);
    expect(run({ reduction: "sum" }, weight)).toEqual([2 + 16 + 24]);
    expect(run({}, weight)).toEqual([Math.fround(42 / 10)]);
  });
  it("an ignored target is worth nothing and weighs nothing, even out of range", () => {
    const outside = int64(0, -7, 1);
    const [loss] = runOp("NegativeLogLikelihoodLoss", [x, outside, weight], { ignore_index: -7 });
    expect(distance(loss, [(2 + 24) / 6])).toBeLessThan(1e-6);
  });
});

describe("SoftmaxCrossEntropyLoss", () => {
  it("gives the loss and the log probabilities", () => {
    const scores = random([2, 3, 4], 1);
    const S = reader(scores);
    const labels = tensor("int64", [2, 4], [0n, 1n, 2n, 0n, 1n, 1n, 2n, 0n]);
    const L = reader(labels);
    const logProbability = ([n, c, d]: readonly number[]) =>
      S([n!, c!, d!]) - Math.log([0, 1, 2].reduce((sum, k) => sum + Math.exp(S([n!, k, d!])), 0));
    const [loss, log] = runOp(
      "SoftmaxCrossEntropyLoss",
      [scores, labels],
      {},
      { outputs: 2, open: { 0: [0, 2], 1: [0, 1] } },
    );
    expect(distance(log, tabulate([2, 3, 4], logProbability))).toBeLessThan(1e-5);
    const picked = tabulate([2, 4], ([n, d]) => -logProbability([n!, L([n!, d!]), d!]));
    expect(distance(loss, [picked.reduce((a, b) => a + b, 0) / 8])).toBeLessThan(1e-5);
  });
});
