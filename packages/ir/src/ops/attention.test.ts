import { type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, int64, numbersOf, random, reader, runOp, sumOver, tabulate } from "./testing.js";

/** softmax(score)·V for each query, where score(b, h, i, j) may be −∞. */
function attend(
  scores: (at: readonly number[]) => number,
  v: Tensor,
  heads: number,
  queries: number,
  group: number,
): number[] {
  const [batch, , keys, size] = v.shape as [number, number, number, number];
  const V = reader(v);
  return tabulate([batch, heads, queries, size], ([b, h, i, d]) => {
    const weights = Array.from({ length: keys }, (_, j) => Math.exp(scores([b!, h!, i!, j])));
    const sum = weights.reduce((p, q) => p + q, 0);
    return sum === 0
      ? 0
      : weights.reduce((total, w, j) => total + (w / sum) * V([b!, Math.floor(h! / group), j, d!]), 0);
  });
}

describe("Attention", () => {
  const [q, k, v] = [random([2, 4, 3, 8], 1), random([2, 2, 5, 8], 2), random([2, 2, 5, 6], 3)];
  const [Q, K] = [reader(q), reader(k)];
  const score = ([b, h, i, j]: readonly number[]) =>
    sumOver([8], ([d]) => Q([b!, h!, i!, d!]) * K([b!, Math.floor(h! / 2), j!, d!])) / Math.sqrt(8);
  const open = { open: { 0: [0, 2], 1: [0, 2], 2: [0, 2] } };

  it("shares keys among groups of query heads", () => {
    expect(distance(runOp("Attention", [q, k, v])[0], attend(score, v, 4, 3, 2))).toBeLessThan(1e-5);
  });
  it("with sizes known at run time", () => {
    expect(distance(runOp("Attention", [q, k, v], {}, open)[0], attend(score, v, 4, 3, 2))).toBeLessThan(1e-5);
  });
  it("causal, capped and scaled", () => {
    const [y, , , raw] = runOp(
      "Attention",
      [q, k, v],
      { is_causal: 1, softcap: 2, scale: 0.5, qk_matmul_output_mode: 0 },
      { outputs: 4 },
    );
    const scaled = (at: readonly number[]) => score(at) * Math.sqrt(8) * 0.5;
    expect(
      distance(
        y,
        attend((at) => (at[3]! <= at[2]! ? 2 * Math.tanh(scaled(at) / 2) : -Infinity), v, 4, 3, 2),
      ),
    ).toBeLessThan(1e-5);
    expect(distance(raw, tabulate([2, 4, 3, 5], scaled))).toBeLessThan(1e-5);
  });
  it("a row that may see nothing is 0", () => {
    const mask = tensor(
      "bool",
      [3, 5],
      tabulate([3, 5], ([i, j]) => Number(i !== 1 && j! < 4)),
    );
    const masked = (at: readonly number[]) => (at[2] !== 1 && at[3]! < 4 ? score(at) : -Infinity);
    expect(distance(runOp("Attention", [q, k, v, mask], {}, open)[0], attend(masked, v, 4, 3, 2))).toBeLessThan(1e-5);
  });
  it("a float mask shorter than the keys hides the rest", () => {
    const mask = random([4, 3, 3], 6);
    const M = reader(mask);
    const masked = (at: readonly number[]) => (at[3]! < 3 ? score(at) + M([at[1]!, at[2]!, at[3]!]) : -Infinity);
    expect(distance(runOp("Attention", [q, k, v, mask])[0], attend(masked, v, 4, 3, 2))).toBeLessThan(1e-5);
  });
  it("windows and padded keys are relative to the last valid key", () => {
    const lengths = [5, 4];
    const masked = (at: readonly number[]) => {
      const length = lengths[at[0]!]!;
      const ahead = at[3]! - at[2]! - (length - 3);
      return at[3]! < length && ahead <= 0 && ahead >= -1 ? score(at) : -Infinity;
    };
    const [y] = runOp("Attention", [q, k, v, undefined, undefined, undefined, int64(...lengths)], {
      is_causal: 1,
      left_window_size: 1,
    });
    expect(distance(y, attend(masked, v, 4, 3, 2))).toBeLessThan(1e-5);
  });
  it("one token at a time over a cache gives what the whole sequence gives, packed heads too", () => {
    const [x, kk, vv] = [random([1, 4, 6], 4), random([1, 4, 6], 5), random([1, 4, 6], 6)];
    const attributes = { is_causal: 1, q_num_heads: 2, kv_num_heads: 2 };
    const [whole] = runOp("Attention", [x, kk, vv], attributes);
    const row = (t: Tensor, i: number) => float32([1, 1, 6], numbersOf(t).slice(6 * i, 6 * i + 6));
    let past: (Tensor | undefined)[] = [undefined, undefined];
    const steps: number[] = [];
    for (let i = 0; i < 4; i++) {
      const [y, presentKey, presentValue] = runOp(
        "Attention",
        [row(x, i), row(kk, i), row(vv, i), undefined, ...past],
        attributes,
        { outputs: 3 },
      );
      past = [presentKey, presentValue];
      steps.push(...numbersOf(y));
    }
    expect(past[0]!.shape).toEqual([1, 2, 4, 3]);
    expect(distance(whole, steps)).toBeLessThan(1e-6);
  });
});

describe("RotaryEmbedding", () => {
  const angles = tabulate([4, 2], ([p, j]) => p! * (j! + 1) * 0.3);
  const [cos, sin] = [float32([4, 2], angles.map(Math.cos)), float32([4, 2], angles.map(Math.sin))];
  const x = random([1, 2, 3, 6], 1);
  const X = reader(x);
  const positions = tensor("int64", [1, 3], [2n, 0n, 3n]);
  for (const interleaved of [0, 1])
    it(`turns pairs and keeps the rest (${interleaved ? "interleaved" : "halves"}), for rank 4 and for packed heads`, () => {
      const expected = (h: number, s: number, d: number) => {
        if (d >= 4) return X([0, h, s, d]);
        const [j, first, other] = interleaved
          ? [Math.floor(d / 2), d % 2 === 0, d ^ 1]
          : [d % 2, d < 2, d < 2 ? d + 2 : d - 2];
        const angle = angles[[2, 0, 3][s]! * 2 + j]!;
        return Math.cos(angle) * X([0, h, s, d]) + (first ? -1 : 1) * Math.sin(angle) * X([0, h, s, other]);
      };
      const attributes = { interleaved, rotary_embedding_dim: 4 };
      const [y] = runOp("RotaryEmbedding", [x, cos, sin, positions], attributes, { open: { 0: [2], 3: [1] } });
      expect(
        distance(
          y,
          tabulate([1, 2, 3, 6], ([, h, s, d]) => expected(h!, s!, d!)),
        ),
      ).toBeLessThan(1e-6);
      const packed = float32(
        [1, 3, 12],
        tabulate([1, 3, 2, 6], ([, s, h, d]) => X([0, h!, s!, d!])),
      );
      const [z] = runOp("RotaryEmbedding", [packed, cos, sin, positions], { ...attributes, num_heads: 2 });
      expect(
        distance(
          z,
          tabulate([1, 3, 2, 6], ([, s, h, d]) => expected(h!, s!, d!)),
        ),
      ).toBeLessThan(1e-6);
    });
});

describe("LinearAttention", () => {
  it("without gates is causal attention without a softmax, and carries its state", () => {
    const [q, k, v] = [random([1, 4, 6], 1), random([1, 4, 3], 2), random([1, 4, 2], 3)];
    const [Q, K, V] = [reader(q), reader(k), reader(v)];
    const attributes = { q_num_heads: 2, kv_num_heads: 1, update_rule: "linear", scale: 0.5 };
    const expected = tabulate(
      [1, 4, 2, 2],
      ([, t, h, m]) =>
        0.5 *
        sumOver([t! + 1], ([s]) => sumOver([3], ([d]) => Q([0, t!, h! * 3 + d!]) * K([0, s!, d!])) * V([0, s!, m!])),
    );
    const [y, state] = runOp("LinearAttention", [q, k, v], attributes, { outputs: 2 });
    expect(distance(y, expected)).toBeLessThan(1e-5);
    expect(
      distance(
        state,
        tabulate([3, 2], ([d, m]) => sumOver([4], ([s]) => K([0, s!, d!]) * V([0, s!, m!]))),
      ),
    ).toBeLessThan(1e-5);
  });
});
