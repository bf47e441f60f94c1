import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, int64, numbersOf, random, reader, runOp, tabulate } from "./testing.js";

const total = (values: number[]) => values.reduce((a, b) => a + b, 0);
const folds: Record<string, (values: number[]) => number> = {
  ReduceSum: total,
  ReduceMean: (v) => total(v) / v.length,
  ReduceMax: (v) => Math.max(...v),
  ReduceMin: (v) => Math.min(...v),
  ReduceProd: (v) => v.reduce((a, b) => a * b, 1),
  ReduceL1: (v) => total(v.map(Math.abs)),
  ReduceL2: (v) => Math.hypot(...v),
  ReduceSumSquare: (v) => total(v.map((x) => x * x)),
  ReduceLogSumExp: (v) => Math.log(total(v.map(Math.exp))),
};

describe("reductions", () => {
  const x = random([3, 4, 5], 7);
  const X = reader(x);
  for (const [name, fold] of Object.entries(folds)) {
    it(`${name} over a middle axis, over outer axes, over all, over none`, () => {
      for (const open of [[], [0, 1, 2]]) {
        const options = { known: [1], open: { 0: open } };
        const middle = tabulate([3, 5], ([i, k]) => fold([0, 1, 2, 3].map((j) => X([i!, j, k!]))));
        const [kept] = runOp(name, [x, int64(1)], {}, options);
        expect(kept!.shape).toEqual([3, 1, 5]);
        expect(distance(kept, middle)).toBeLessThan(1e-5);
        expect(distance(runOp(name, [x, int64(-2)], { keepdims: 0 }, options)[0], middle)).toBeLessThan(1e-5);
        const outer = tabulate([4], ([j]) => fold(tabulate([3, 5], ([i, k]) => X([i!, j!, k!]))));
        expect(distance(runOp(name, [x, int64(2, 0)], { keepdims: 0 }, options)[0], outer)).toBeLessThan(1e-5);
        expect(distance(runOp(name, [x], { keepdims: 0 }, options)[0], [fold(numbersOf(x))])).toBeLessThan(1e-4);
        expect(
          distance(
            runOp(name, [x], { noop_with_empty_axes: 1 }, options)[0],
            numbersOf(x).map((v) => fold([v])),
          ),
        ).toBeLessThan(1e-6);
      }
    });
  }
  it("of nothing give the neutral element", () => {
    const none = tensor("float32", [2, 0]);
    const of = (name: string) => numbersOf(runOp(name, [none, int64(1)], { keepdims: 0 }, { known: [1] })[0]);
    expect(of("ReduceSum")).toEqual([0, 0]);
    expect(of("ReduceProd")).toEqual([1, 1]);
    expect(of("ReduceMax")).toEqual([-Infinity, -Infinity]);
    expect(of("ReduceLogSumExp")).toEqual([-Infinity, -Infinity]);
  });
  it("ReduceLogSumExp stays finite for large elements and exact for infinite ones", () => {
    const of = (...values: number[]) =>
      numbersOf(runOp("ReduceLogSumExp", [float32([values.length], values)], { keepdims: 0 })[0])[0];
    expect(of(1000, 1000)).toBeCloseTo(1000 + Math.LN2, 3);
    expect(of(-Infinity, -Infinity)).toBe(-Infinity);
    expect(of(Infinity, 0)).toBe(Infinity);
  });
  it("a float16 sum is rounded once", () => {
    expect(numbersOf(runOp("ReduceSum", [tensor("float16", [3], [2048, 1, 1])], { keepdims: 0 })[0])).toEqual([2050]);
  });
  it("bool maximum is or, minimum is and", () => {
    const x = tensor("bool", [2, 2], [true, false, false, false]);
    expect(numbersOf(runOp("ReduceMax", [x, int64(1)], { keepdims: 0 }, { known: [1] })[0])).toEqual([1, 0]);
    expect(numbersOf(runOp("ReduceMin", [x, int64(0)], { keepdims: 0 }, { known: [1] })[0])).toEqual([0, 0]);
  });
  it("refuses an axis that is out of range or repeated", () => {
    expect(() => runOp("ReduceSum", [x, int64(3)], {}, { known: [1] })).toThrow(/out of range/);
    expect(() => runOp("ReduceSum", [x, int64(1, -2)], {}, { known: [1] })).toThrow(/not unique/);
  });
});

describe("positions of extremes", () => {
  const x = float32([2, 3], [1, 5, 5, -2, -2, 0]);
  it("take the first of equals, or the last", () => {
    expect(numbersOf(runOp("ArgMax", [x], { axis: 1, keepdims: 0 })[0])).toEqual([1, 2]);
    expect(numbersOf(runOp("ArgMax", [x], { axis: -1, keepdims: 0, select_last_index: 1 })[0])).toEqual([2, 2]);
    expect(numbersOf(runOp("ArgMin", [x], { axis: 1, keepdims: 0 })[0])).toEqual([0, 0]);
    expect(numbersOf(runOp("ArgMin", [x], { axis: 1, keepdims: 0, select_last_index: 1 })[0])).toEqual([0, 1]);
    expect(runOp("ArgMax", [x])[0]!.shape).toEqual([1, 3]);
  });
  it("Hardmax marks the first maximum", () => {
    expect(numbersOf(runOp("Hardmax", [x])[0])).toEqual([0, 1, 0, 0, 0, 1]);
  });
});

describe("cumulative sums and products", () => {
  const x = float32([2, 3], [1, 2, 3, 4, 5, 6]);
  const run = (name: string, attributes = {}, axis = 1) =>
    numbersOf(runOp(name, [x, tensor("int32", [], [axis])], attributes, { known: [1], open: { 0: [1] } })[0]);
  it("run forwards, backwards, with and without their own element", () => {
    expect(run("CumSum")).toEqual([1, 3, 6, 4, 9, 15]);
    expect(run("CumSum", { exclusive: 1 })).toEqual([0, 1, 3, 0, 4, 9]);
    expect(run("CumSum", { reverse: 1 })).toEqual([6, 5, 3, 15, 11, 6]);
    expect(run("CumSum", { reverse: 1, exclusive: 1 })).toEqual([5, 3, 0, 11, 6, 0]);
    expect(run("CumSum", {}, -2)).toEqual([1, 2, 3, 5, 7, 9]);
    expect(run("CumProd", { exclusive: 1 })).toEqual([1, 1, 2, 1, 4, 20]);
  });
});

describe("softmax and norms", () => {
  const x = random([2, 3, 4], 5);
  const X = reader(x);
  it("Softmax and LogSoftmax along any axis", () => {
    for (const axis of [0, 1, -1]) {
      const at = axis < 0 ? axis + 3 : axis;
      const sum = (index: readonly number[]) =>
        total(Array.from({ length: x.shape[at]! }, (_, k) => Math.exp(X(index.map((i, a) => (a === at ? k : i))))));
      const expected = tabulate([2, 3, 4], (index) => Math.exp(X(index)) / sum(index));
      expect(distance(runOp("Softmax", [x], { axis })[0], expected)).toBeLessThan(1e-6);
      expect(distance(runOp("LogSoftmax", [x], { axis })[0], expected.map(Math.log))).toBeLessThan(1e-5);
    }
  });
  it("Softmax of large numbers does not overflow", () => {
    expect(numbersOf(runOp("Softmax", [float32([3], [1e4, 1e4, -1e4])])[0])).toEqual([0.5, 0.5, 0]);
  });
  it("LpNormalization keeps a zero vector", () => {
    const v = float32([2, 2], [3, -4, 0, 0]);
    expect(distance(runOp("LpNormalization", [v])[0], [0.6, -0.8, 0, 0])).toBeLessThan(1e-6);
    expect(distance(runOp("LpNormalization", [v], { p: 1 })[0], [3 / 7, -4 / 7, 0, 0])).toBeLessThan(1e-6);
  });
  it("MeanVarianceNormalization gives mean 0 and variance 1 over its axes", () => {
    const values = numbersOf(runOp("MeanVarianceNormalization", [random([2, 1, 3, 3], 9)])[0]);
    expect(Math.abs(total(values))).toBeLessThan(1e-5);
    expect(total(values.map((v) => v * v)) / 18).toBeCloseTo(1, 4);
  });
});
