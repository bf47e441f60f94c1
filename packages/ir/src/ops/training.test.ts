import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, runOp } from "./testing.js";

const step = (name: string, time: number, states: number[], attributes = {}) =>
  runOp(
    `ai.onnx.preview.training:${name}`,
    [
      float32([], [0.1]),
      tensor("int64", [], [BigInt(time)]),
      float32([1], [2]),
      float32([1], [0.5]),
      ...states.map((s) => float32([1], [s])),
    ],
    attributes,
    {
      outputs: 1 + states.length,
    },
  );

describe("optimizers", () => {
  it("Momentum, standard and nesterov; the first step is not dampened", () => {
    const attributes = { alpha: 0.9, beta: 0.5, norm_coefficient: 0.1 };
    const gradient = 0.1 * 2 + 0.5;
    const [x, v] = step("Momentum", 3, [1], { ...attributes, mode: "standard" });
    expect(distance(v, [0.9 + 0.5 * gradient])).toBeLessThan(1e-6);
    expect(distance(x, [2 - 0.1 * (0.9 + 0.5 * gradient)])).toBeLessThan(1e-6);
    const [y] = step("Momentum", 0, [1], { ...attributes, mode: "nesterov" });
    expect(distance(y, [2 - 0.1 * (gradient + 0.9 * (0.9 + gradient))])).toBeLessThan(1e-6);
  });
  it("Adagrad decays its rate", () => {
    const [x, h] = step("Adagrad", 2, [1], { decay_factor: 0.5, epsilon: 0.25 });
    expect(distance(h, [1.25])).toBeLessThan(1e-6);
    expect(distance(x, [2 - (0.05 * 0.5) / (Math.sqrt(1.25) + 0.25)])).toBeLessThan(1e-6);
  });
  it("Adam corrects its moments after the first step", () => {
    const [x, v, h] = step("Adam", 2, [0.2, 0.3], { alpha: 0.9, beta: 0.99, epsilon: 0 });
    const [m, s] = [0.9 * 0.2 + 0.1 * 0.5, 0.99 * 0.3 + 0.01 * 0.25];
    expect(distance(v, [m])).toBeLessThan(1e-6);
    expect(distance(h, [s])).toBeLessThan(1e-6);
    expect(distance(x, [2 - (((0.1 * Math.sqrt(1 - 0.99 ** 2)) / (1 - 0.9 ** 2)) * m) / Math.sqrt(s)])).toBeLessThan(
      1e-5,
    );
  });
  it("several parameters come group by group", () => {
    const one = (v: number) => float32([1], [v]);
    const outputs = runOp(
      "ai.onnx.preview.training:Momentum",
      [one(1), tensor("int64", [], [1n]), one(1), one(2), one(0.25), one(0.5), one(0), one(0)],
      { alpha: 0, beta: 1, norm_coefficient: 0 },
      { outputs: 4 },
    );
    expect(outputs.map((y) => y.data[0])).toEqual([0.75, 1.5, 0.25, 0.5]);
  });
});
