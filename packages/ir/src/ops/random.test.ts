import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { applied, result } from "./applied.js";
import { MersenneTwister } from "./random.js";

test("the generator gives numpy's numbers for seed 0", () => {
  // np.random.RandomState(0).rand(3) and .randn(2)
  const random = new MersenneTwister(0);
  expect([random.uniform(), random.uniform(), random.uniform()]).toEqual([
    0.5488135039273248, 0.7151893663724195, 0.6027633760716439,
  ]);
  const normal = new MersenneTwister(0);
  expect([normal.normal(), normal.normal()]).toEqual([
    expect.closeTo(1.764052345967664, 12),
    expect.closeTo(0.4001572083672233, 12),
  ]);
});

test("a seed repeats, and no seed does not", () => {
  const draw = (attributes = {}) =>
    result("RandomUniform", [], [], { shape: [8], low: 2, high: 3, ...attributes }).values;
  expect(draw({ seed: 7 })).toEqual(draw({ seed: 7 }));
  expect(draw()).not.toEqual(draw());
  expect(draw().every((value) => Number(value) >= 2 && Number(value) <= 3)).toBe(true);
});

test("Bernoulli and Multinomial are certain where the odds are", () => {
  expect(result("Bernoulli", [tensor("float32", [3], [0, 1, 0])]).values).toEqual([0, 1, 0]);
  const logits = tensor("float32", [2, 2], [0, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, 0]);
  expect(result("Multinomial", [logits], [], { sample_size: 3 })).toEqual({
    shape: [2, 3],
    values: [0, 0, 0, 1, 1, 1],
  });
});

test("Dropout copies in inference, and scales what it keeps in training", () => {
  const x = tensor("float32", [64], new Float32Array(64).fill(1));
  const half = tensor("float32", [], [0.5]);
  expect(applied("Dropout", [x], [half], {}, 2).run()).toMatchObject([
    x,
    { dtype: "bool", data: new Uint8Array(64).fill(1) },
  ]);
  const [kept, mask] = applied("Dropout", [x], [half, tensor("bool", [], [true])], { seed: 0 }, 2).run() as Tensor[];
  expect([...kept!.data]).toEqual(Array.from(mask!.data as Uint8Array, (keep) => 2 * keep));
  expect(new Set(mask!.data as Uint8Array).size).toBe(2);
});
