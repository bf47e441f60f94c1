import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, numbersOf, random, reader, runOp, sumOver, tabulate } from "./testing.js";

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const variance = (values: number[]) => mean(values.map((v) => (v - mean(values)) ** 2));

describe("normalizations", () => {
  const x = random([2, 4, 3, 5], 1);
  const X = reader(x);
  const [scale, bias] = [random([4], 2), random([4], 3)];
  const [S, B] = [reader(scale), reader(bias)];
  const epsilon = 1e-3;
  const channel = (c: number) => tabulate([2, 3, 5], ([n, i, j]) => X([n!, c, i!, j!]));
  const affine = (group: (at: readonly number[]) => number[]) =>
    tabulate(
      x.shape,
      (at) => ((X(at) - mean(group(at))) / Math.sqrt(variance(group(at)) + epsilon)) * S([at[1]!]) + B([at[1]!]),
    );

  it("BatchNormalization uses the given statistics", () => {
    const [m, v] = [random([4], 4), float32([4], [0.5, 1, 2, 3])];
    const [M, V] = [reader(m), reader(v)];
    const expected = tabulate(
      x.shape,
      (at) => (S([at[1]!]) * (X(at) - M([at[1]!]))) / Math.sqrt(V([at[1]!]) + epsilon) + B([at[1]!]),
    );
    expect(
      distance(
        runOp("BatchNormalization", [x, scale, bias, m, v], { epsilon }, { open: { 0: [0, 2, 3] } })[0],
        expected,
      ),
    ).toBeLessThan(1e-5);
  });
  it("BatchNormalization in training takes them from X and updates the running ones", () => {
    const [m, v] = [float32([4], [1, 1, 1, 1]), float32([4], [2, 2, 2, 2])];
    const [y, runningMean, runningVariance] = runOp(
      "BatchNormalization",
      [x, scale, bias, m, v],
      { epsilon, training_mode: 1, momentum: 0.75 },
      { outputs: 3 },
    );
    expect(
      distance(
        y,
        affine(([, c]) => channel(c!)),
      ),
    ).toBeLessThan(1e-5);
    expect(
      distance(
        runningMean,
        [0, 1, 2, 3].map((c) => 0.75 + 0.25 * mean(channel(c))),
      ),
    ).toBeLessThan(1e-6);
    expect(
      distance(
        runningVariance,
        [0, 1, 2, 3].map((c) => 1.5 + 0.25 * variance(channel(c))),
      ),
    ).toBeLessThan(1e-6);
  });
  it("InstanceNormalization is over one image of one channel", () => {
    const image = ([n, c]: readonly number[]) => tabulate([3, 5], ([i, j]) => X([n!, c!, i!, j!]));
    expect(distance(runOp("InstanceNormalization", [x, scale, bias], { epsilon })[0], affine(image))).toBeLessThan(
      1e-5,
    );
  });
  it("GroupNormalization is over a group of channels", () => {
    const group = ([n, c]: readonly number[]) =>
      tabulate([2, 3, 5], ([k, i, j]) => X([n!, 2 * Math.floor(c! / 2) + k!, i!, j!]));
    expect(
      distance(
        runOp("GroupNormalization", [x, scale, bias], { epsilon, num_groups: 2 }, { open: { 0: [0, 2] } })[0],
        affine(group),
      ),
    ).toBeLessThan(1e-5);
    expect(() => runOp("GroupNormalization", [x, scale, bias], { num_groups: 3 })).toThrow(/divide/);
  });
  it("LayerNormalization also gives the mean and the inverse deviation", () => {
    const [w, b] = [random([3, 5], 5), random([3, 5], 6)];
    const [W, C] = [reader(w), reader(b)];
    const rows = tabulate([2, 4], () => 0).map((_, k) =>
      tabulate([3, 5], ([i, j]) => X([Math.floor(k / 4), k % 4, i!, j!])),
    );
    const [y, centre, inverse] = runOp("LayerNormalization", [x, w, b], { axis: 2, epsilon }, { outputs: 3 });
    expect(centre!.shape).toEqual([2, 4, 1, 1]);
    expect(distance(centre, rows.map(mean))).toBeLessThan(1e-6);
    expect(
      distance(
        inverse,
        rows.map((row) => 1 / Math.sqrt(variance(row) + epsilon)),
      ),
    ).toBeLessThan(1e-4);
    const expected = tabulate(x.shape, ([n, c, i, j]) => {
      const row = rows[n! * 4 + c!]!;
      return ((X([n!, c!, i!, j!]) - mean(row)) / Math.sqrt(variance(row) + epsilon)) * W([i!, j!]) + C([i!, j!]);
    });
    expect(distance(y, expected)).toBeLessThan(1e-5);
  });
  it("RMSNormalization divides by the root of the mean square", () => {
    expect(
      distance(runOp("RMSNormalization", [float32([1, 2], [3, 4]), float32([2], [1, 2])], { epsilon: 0 })[0], [
        3 / Math.sqrt(12.5),
        8 / Math.sqrt(12.5),
      ]),
    ).toBeLessThan(1e-6);
  });
  it("float16 computes in float32: large elements do not overflow", () => {
    expect(
      numbersOf(
        runOp("RMSNormalization", [tensor("float16", [1, 2], [1000, 1000]), tensor("float16", [2], [1, 1])])[0],
      ),
    ).toEqual([1, 1]);
  });
  it("LRN sums squares over neighbouring channels", () => {
    const expected = tabulate(
      x.shape,
      ([n, c, i, j]) =>
        X([n!, c!, i!, j!]) / (2 + 0.25 * sumOver([4], ([k]) => X([n!, c! + k! - 1, i!, j!]) ** 2)) ** 0.75,
    );
    expect(distance(runOp("LRN", [x], { size: 4, alpha: 1, bias: 2 })[0], expected)).toBeLessThan(1e-6);
  });
});
