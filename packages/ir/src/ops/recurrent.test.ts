import { type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, numbersOf, random, reader, runOp, tabulate } from "./testing.js";

const [length, batch, inputs, hidden] = [4, 2, 3, 2];
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const gatesOf = { RNN: 1, GRU: 3, LSTM: 4 };
const weights = (name: keyof typeof gatesOf, directions = 1) => {
  const rows = gatesOf[name] * hidden;
  return [
    random([directions, rows, inputs], 2),
    random([directions, rows, hidden], 3),
    random([directions, 2 * rows], 4),
  ];
};
const x = random([length, batch, inputs], 1);

/** Pre-activation of one gate's element from the input and from the state, biases included. */
const gate = ([w, r, b]: Tensor[], d: number, row: number, rows: number) => {
  const [W, R, B] = [reader(w!), reader(r!), reader(b!)];
  return {
    input: (xs: number[]) => xs.reduce((sum, v, k) => sum + W([d, row, k]) * v, B([d, row])),
    state: (hs: number[]) => hs.reduce((sum, v, k) => sum + R([d, row, k]) * v, B([d, rows + row])),
  };
};
const X = reader(x);
const rowsOf = (n: number, t: number) => Array.from({ length: inputs }, (_, k) => X([t, n, k]));

describe("RNN", () => {
  const w = weights("RNN", 2);
  const expectedRun = (d: number, n: number, steps: number) => {
    const out: number[][] = Array.from({ length }, () => [0, 0]);
    let h = [0, 0];
    for (let s = 0; s < steps; s++) {
      const t = d === 1 ? steps - 1 - s : s;
      h = [0, 1].map((j) => Math.tanh(gate(w, d, j, hidden).input(rowsOf(n, t)) + gate(w, d, j, hidden).state(h)));
      out[t] = h;
    }
    return { out, h };
  };
  it("runs both directions, each over a sequence's own length", () => {
    const lengths = [4, 2];
    const runs = [0, 1].map((d) => lengths.map((steps, n) => expectedRun(d, n, steps)));
    const [y, last] = runOp(
      "RNN",
      [x, ...w, tensor("int32", [batch], lengths)],
      { direction: "bidirectional" },
      { outputs: 2, open: { 0: [0, 1] } },
    );
    expect(y!.shape).toEqual([length, 2, batch, hidden]);
    expect(
      distance(
        y,
        tabulate([length, 2, batch, hidden], ([t, d, n, j]) => runs[d!]![n!]!.out[t!]![j!]!),
      ),
    ).toBeLessThan(1e-5);
    expect(
      distance(
        last,
        tabulate([2, batch, hidden], ([d, n, j]) => runs[d!]![n!]!.h[j!]!),
      ),
    ).toBeLessThan(1e-5);
  });
  it("layout 1 puts the batch first", () => {
    const first = weights("RNN");
    const swapped = float32(
      [batch, length, inputs],
      tabulate([batch, length, inputs], ([n, t, k]) => X([t!, n!, k!])),
    );
    const [a, lastA] = runOp("RNN", [x, ...first], {}, { outputs: 2 });
    const [b, lastB] = runOp("RNN", [swapped, ...first], { layout: 1 }, { outputs: 2 });
    const A = reader(a!);
    expect(b!.shape).toEqual([batch, length, 1, hidden]);
    expect(
      distance(
        b,
        tabulate([batch, length, 1, hidden], ([n, t, d, j]) => A([t!, d!, n!, j!])),
      ),
    ).toBe(0);
    expect(lastB!.shape).toEqual([batch, 1, hidden]);
    expect(numbersOf(lastB)).toEqual(numbersOf(lastA));
  });
  it("clips before the activation, which may be another one", () => {
    const [y] = runOp("RNN", [x, ...weights("RNN")], {
      activations: ["Affine"],
      activation_alpha: [2],
      activation_beta: [1],
      clip: 0.25,
    });
    expect(numbersOf(y).every((v) => v >= 0.5 && v <= 1.5)).toBe(true);
    expect(() => runOp("RNN", [x, ...weights("RNN")], { activations: ["Sine"] })).toThrow(/activation is unknown/);
  });
});

describe("GRU", () => {
  for (const linear of [0, 1])
    it(`linear_before_reset ${linear}`, () => {
      const w = weights("GRU");
      const [, r, b] = w;
      const [R, B] = [reader(r!), reader(b!)];
      let h = [0, 0];
      const expected: number[] = [];
      for (let t = 0; t < length; t++) {
        const xs = rowsOf(0, t);
        const at = (g: number, j: number) => gate(w, 0, g * hidden + j, 3 * hidden);
        const z = [0, 1].map((j) => sigmoid(at(0, j).input(xs) + at(0, j).state(h)));
        const reset = [0, 1].map((j) => sigmoid(at(1, j).input(xs) + at(1, j).state(h)));
        const candidate = [0, 1].map((j) => {
          const past = linear
            ? reset[j]! * at(2, j).state(h)
            : h.reduce((sum, v, k) => sum + R([0, 2 * hidden + j, k]) * v * reset[k]!, 0) + B([0, 5 * hidden + j]);
          return Math.tanh(at(2, j).input(xs) + past);
        });
        h = h.map((v, j) => (1 - z[j]!) * candidate[j]! + z[j]! * v);
        expected.push(...h);
      }
      const one = float32(
        [length, 1, inputs],
        tabulate([length, 1, inputs], ([t, , k]) => X([t!, 0, k!])),
      );
      expect(distance(runOp("GRU", [one, ...w], { linear_before_reset: linear })[0], expected)).toBeLessThan(1e-5);
    });
});

describe("LSTM", () => {
  it("with peepholes and initial states, in reverse", () => {
    const w = weights("LSTM");
    const [h0, c0, p] = [random([1, batch, hidden], 5), random([1, batch, hidden], 6), random([1, 3 * hidden], 7)];
    const [H, C, P] = [reader(h0), reader(c0), reader(p)];
    const final = Array.from({ length: batch }, (_, n) => {
      let h = [0, 1].map((j) => H([0, n, j]));
      let c = [0, 1].map((j) => C([0, n, j]));
      for (let t = length - 1; t >= 0; t--) {
        const pre = (g: number, j: number) =>
          gate(w, 0, g * hidden + j, 4 * hidden).input(rowsOf(n, t)) + gate(w, 0, g * hidden + j, 4 * hidden).state(h);
        const next = [0, 1].map(
          (j) =>
            sigmoid(pre(2, j) + P([0, 2 * hidden + j]) * c[j]!) * c[j]! +
            sigmoid(pre(0, j) + P([0, j]) * c[j]!) * Math.tanh(pre(3, j)),
        );
        h = [0, 1].map((j) => sigmoid(pre(1, j) + P([0, hidden + j]) * next[j]!) * Math.tanh(next[j]!));
        c = next;
      }
      return { h, c };
    });
    const [y, lastH, lastC] = runOp("LSTM", [x, ...w, undefined, h0, c0, p], { direction: "reverse" }, { outputs: 3 });
    expect(
      distance(
        lastH,
        final.flatMap(({ h }) => h),
      ),
    ).toBeLessThan(1e-5);
    expect(
      distance(
        lastC,
        final.flatMap(({ c }) => c),
      ),
    ).toBeLessThan(1e-5);
    expect(numbersOf(y).slice(0, batch * hidden)).toEqual(numbersOf(lastH));
  });
});
