import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, int64, numbersOf, random, reader, runOp, sumOver, tabulate } from "./testing.js";

describe("DFT", () => {
  const x = random([2, 6, 2], 1);
  const X = reader(x);
  const transform = (n: number, length: number, sign: number, scale = 1) =>
    tabulate(
      [length, 2],
      ([k, part]) =>
        scale *
        sumOver([Math.min(6, length)], ([t]) => {
          const angle = (sign * 2 * Math.PI * k! * t!) / length;
          const [re, im] = [X([n, t!, 0]), X([n, t!, 1])];
          return part === 0 ? re * Math.cos(angle) - im * Math.sin(angle) : re * Math.sin(angle) + im * Math.cos(angle);
        }),
    );
  it("of complex input, and back, padded and cut", () => {
    expect(
      distance(runOp("DFT", [x], {}, { open: { 0: [0] } })[0], [...transform(0, 6, -1), ...transform(1, 6, -1)]),
    ).toBeLessThan(1e-5);
    expect(
      distance(runOp("DFT", [x], { inverse: 1 })[0], [...transform(0, 6, 1, 1 / 6), ...transform(1, 6, 1, 1 / 6)]),
    ).toBeLessThan(1e-5);
    for (const length of [4, 9])
      expect(
        distance(runOp("DFT", [x, int64(length)], {}, { known: [1] })[0], [
          ...transform(0, length, -1),
          ...transform(1, length, -1),
        ]),
      ).toBeLessThan(1e-5);
  });
  it("one-sided there and back is the identity, for even and odd lengths", () => {
    for (const length of [6, 7]) {
      const signal = random([1, length, 1], 2);
      const [half] = runOp("DFT", [signal], { onesided: 1 });
      expect(half!.shape).toEqual([1, Math.floor(length / 2) + 1, 2]);
      const [back] = runOp("DFT", [half, int64(length)], { onesided: 1, inverse: 1 }, { known: [1] });
      expect(back!.shape).toEqual([1, length, 1]);
      expect(distance(back, numbersOf(signal))).toBeLessThan(1e-6);
    }
  });
  it("refuses to transform the axis of real and imaginary parts", () => {
    expect(() => runOp("DFT", [x, undefined, int64(-1)], {}, { known: [2] })).toThrow(/must not be the last/);
  });
});

describe("STFT", () => {
  it("transforms windowed frames, with the signal's length known at run time", () => {
    const signal = random([1, 12, 1], 3);
    const window = random([5], 4);
    const [S, W] = [reader(signal), reader(window)];
    const expected = tabulate([1, 3, 3, 2], ([, frame, k, part]) =>
      sumOver([5], ([n]) => {
        const angle = (2 * Math.PI * k! * n!) / 5;
        return S([0, frame! * 3 + n!, 0]) * W([n!]) * (part === 0 ? Math.cos(angle) : -Math.sin(angle));
      }),
    );
    const [y] = runOp("STFT", [signal, tensor("int64", [], [3n]), window], {}, { known: [1], open: { 0: [0, 1] } });
    expect(y!.shape).toEqual([1, 3, 3, 2]);
    expect(distance(y, expected)).toBeLessThan(1e-5);
  });
});

describe("windows", () => {
  const run = (name: string, periodic: number) =>
    numbersOf(runOp(name, [tensor("int32", [], [4])], { periodic }, { known: [0] })[0]);
  it("periodic and symmetric", () => {
    expect(run("HannWindow", 1)).toEqual([0, 0.5, 1, 0.5]);
    expect(distance(float32([4], run("HannWindow", 0)), [0, 0.75, 0.75, 0])).toBeLessThan(1e-6);
    expect(distance(float32([4], run("HammingWindow", 1)), [4 / 46, 25 / 46, 1, 25 / 46])).toBeLessThan(1e-6);
    expect(distance(float32([4], run("BlackmanWindow", 1)), [0, 0.34, 1, 0.34])).toBeLessThan(1e-6);
  });
  it("take the named type", () => {
    expect(runOp("HannWindow", [tensor("int64", [], [3n])], { output_datatype: 11 }, { known: [0] })[0]!.dtype).toBe(
      "float64",
    );
  });
});

describe("MelWeightMatrix", () => {
  it("is triangles between centres that are even on the mel scale", () => {
    const scalar = (value: number) => float32([], [value]);
    const int = (value: number) => tensor("int32", [], [value]);
    const [bins, length, rate, low, high] = [5, 64, 8000, 100, 3800];
    const mel = (hertz: number) => 2595 * Math.log10(1 + hertz / 700);
    const step = (mel(high) - mel(low)) / (bins + 2);
    const centres = Array.from({ length: bins + 2 }, (_, i) =>
      Math.floor(((length + 1) * 700 * (10 ** ((mel(low) + i * step) / 2595) - 1)) / rate),
    );
    const expected = tabulate([33, bins], ([j, i]) => {
      const [left, centre, right] = [centres[i!]!, centres[i! + 1]!, centres[i! + 2]!];
      if (j! >= centre && j! < right) return (right - j!) / (right - centre);
      return j! >= left && j! <= centre ? (left === centre ? 1 : (j! - left) / (centre - left)) : 0;
    });
    const [y] = runOp(
      "MelWeightMatrix",
      [int(bins), int(length), int(rate), scalar(low), scalar(high)],
      {},
      { known: [0, 1] },
    );
    expect(y!.shape).toEqual([33, 5]);
    expect(distance(y, expected)).toBeLessThan(1e-6);
  });
});
