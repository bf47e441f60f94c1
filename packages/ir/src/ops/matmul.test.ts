import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, numbersOf, random, reader, runOp, sumOver, tabulate } from "./testing.js";

describe("MatMul", () => {
  it("broadcasts batches, with known and with open sizes", () => {
    const [a, b] = [random([2, 1, 3, 4], 1), random([5, 4, 6], 2)];
    const [A, B] = [reader(a), reader(b)];
    const expected = tabulate([2, 5, 3, 6], ([i, j, m, n]) =>
      sumOver([4], ([k]) => A([i!, 0, m!, k!]) * B([j!, k!, n!])),
    );
    for (const open of [undefined, { 0: [0, 2, 3], 1: [0, 1] }]) {
      const [y] = runOp("MatMul", [a, b], {}, open ? { open } : {});
      expect(y!.shape).toEqual([2, 5, 3, 6]);
      expect(distance(y, expected)).toBeLessThan(1e-5);
    }
  });
  it("takes a vector as a row on the left and as a column on the right", () => {
    const m = float32([2, 3], [1, 2, 3, 4, 5, 6]);
    expect(numbersOf(runOp("MatMul", [float32([2], [1, 10]), m])[0])).toEqual([41, 52, 63]);
    expect(numbersOf(runOp("MatMul", [m, float32([3], [1, 0, 1])])[0])).toEqual([4, 10]);
    expect(runOp("MatMul", [float32([3], [1, 2, 3]), float32([3], [1, 1, 1])])[0]!.shape).toEqual([]);
  });
  it("wraps int32 and accumulates float16 in float32", () => {
    expect(
      numbersOf(runOp("MatMul", [tensor("int32", [1, 2], [2 ** 30, 2 ** 30]), tensor("int32", [2, 1], [1, 1])])[0]),
    ).toEqual([-(2 ** 31)]);
    expect(
      numbersOf(runOp("MatMul", [tensor("float16", [1, 3], [2048, 1, 1]), tensor("float16", [3, 1], [1, 1, 1])])[0]),
    ).toEqual([2050]);
  });
  it("names the sizes that do not match", () => {
    expect(() => runOp("MatMul", [random([2, 3]), random([4, 5])])).toThrow(/inner sizes/);
  });
});

describe("Gemm", () => {
  it("transposes, scales and adds a broadcast C", () => {
    const [a, b, c] = [random([4, 3], 1), random([5, 4], 2), random([5], 3)];
    const [A, B, C] = [reader(a), reader(b), reader(c)];
    const expected = tabulate([3, 5], ([m, n]) => 0.5 * sumOver([4], ([k]) => A([k!, m!]) * B([n!, k!])) + 2 * C([n!]));
    expect(distance(runOp("Gemm", [a, b, c], { alpha: 0.5, beta: 2, transA: 1, transB: 1 })[0], expected)).toBeLessThan(
      1e-6,
    );
  });
});

describe("integer products", () => {
  const a = tensor("uint8", [2, 2], [1, 2, 3, 4]);
  const b = tensor("int8", [2, 2], [1, -1, 2, -2]);
  it("MatMulInteger has a zero point for each row of A and each column of B", () => {
    const [y] = runOp("MatMulInteger", [a, b, tensor("uint8", [2], [1, 2]), tensor("int8", [2], [0, 1])]);
    expect(numbersOf(y)).toEqual([2, -3, 5, -8]);
  });
  it("QLinearMatMul requantizes with saturation", () => {
    const scale = (v: number) => tensor("float32", [], [v]);
    const inputs = [
      a,
      scale(0.5),
      tensor("uint8", [], [0]),
      b,
      scale(1),
      tensor("int8", [], [0]),
      scale(1),
      tensor("int8", [], [-126]),
    ];
    // products 5, −5, 11, −11 halved and rounded to even: 2, −2, 6, −6
    expect(numbersOf(runOp("QLinearMatMul", inputs)[0])).toEqual([-124, -128, -120, -128]);
  });
});

describe("Einsum", () => {
  const [a, b] = [random([2, 3, 4], 1), random([2, 4, 5], 2)];
  const [A, B] = [reader(a), reader(b)];
  const run = (equation: string, ...inputs: ReturnType<typeof random>[]) => runOp("Einsum", inputs, { equation })[0];
  it("contracts what the output does not name", () => {
    expect(
      distance(
        run("bij, bjk -> bik", a, b),
        tabulate([2, 3, 5], ([n, i, k]) => sumOver([4], ([j]) => A([n!, i!, j!]) * B([n!, j!, k!]))),
      ),
    ).toBeLessThan(1e-5);
    expect(
      distance(
        run("bij,bjk->kb", a, b),
        tabulate([5, 2], ([k, n]) => sumOver([3, 4], ([i, j]) => A([n!, i!, j!]) * B([n!, j!, k!]))),
      ),
    ).toBeLessThan(1e-5);
  });
  it("without an arrow gives the labels that occur once, sorted", () => {
    expect(run("cab", a)!.shape).toEqual([3, 4, 2]);
    expect(run("bij,bjk", a, b)!.shape).toEqual([3, 5]);
  });
  it("reads diagonals", () => {
    const m = random([3, 3], 4);
    const M = reader(m);
    expect(
      distance(
        run("ii->i", m),
        [0, 1, 2].map((i) => M([i, i])),
      ),
    ).toBe(0);
    expect(distance(run("ii", m), [M([0, 0]) + M([1, 1]) + M([2, 2])])).toBeLessThan(1e-6);
  });
  it("broadcasts the ellipsis", () => {
    const c = random([4, 5], 3);
    const C = reader(c);
    const expected = tabulate([2, 3, 5], ([n, i, k]) => sumOver([4], ([j]) => A([n!, i!, j!]) * C([j!, k!])));
    expect(distance(run("...ij,...jk->...ik", a, c), expected)).toBeLessThan(1e-5);
    expect(distance(run("...j,jk", a, c), expected)).toBeLessThan(1e-5);
  });
  it("refuses terms that do not fit", () => {
    expect(() => run("ij,jk->ik", a, b)).toThrow(/every axis/);
    expect(() => run("ijk->ijx", a)).toThrow(/in no input/);
    expect(() => run("ijk-ijk", a)).toThrow(/malformed/);
  });
});

describe("Det", () => {
  it("of a batch, a permutation and a singular matrix", () => {
    expect(numbersOf(runOp("Det", [float32([3, 2, 2], [1, 2, 3, 4, 0, 1, 1, 0, 1, 2, 2, 4])])[0])).toEqual([-2, -1, 0]);
    const upper = float32([3, 3], [2, 5, 7, 0, 3, 1, 0, 0, 4]);
    expect(numbersOf(runOp("Det", [upper])[0])).toEqual([24]);
  });
});
