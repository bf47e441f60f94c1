import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, int64, numbersOf, random, reader, runOp, sumOver, tabulate } from "./testing.js";

interface Case {
  input: number[];
  kernel: number[];
  channels?: number;
  maps?: number;
  group?: number;
  strides?: number[];
  dilations?: number[];
  pads?: number[];
}

const complete = (c: Case) => {
  const n = c.input.length;
  return {
    channels: 4,
    maps: 6,
    group: 1,
    strides: Array(n).fill(1) as number[],
    dilations: Array(n).fill(1) as number[],
    pads: Array(2 * n).fill(0) as number[],
    ...c,
  };
};

const cases: Record<string, Case> = {
  "one axis": { input: [9], kernel: [3] },
  "stride and asymmetric pads": { input: [7, 8], kernel: [3, 2], strides: [2, 3], pads: [1, 0, 2, 1] },
  dilation: { input: [9, 9], kernel: [3, 3], dilations: [2, 3], pads: [2, 3, 1, 0] },
  groups: { input: [5, 6], kernel: [3, 3], group: 2, pads: [1, 1, 1, 1] },
  depthwise: { input: [5, 6], kernel: [3, 3], channels: 4, maps: 4, group: 4, pads: [1, 1, 1, 1] },
  "three axes": { input: [4, 5, 3], kernel: [2, 3, 2], strides: [1, 2, 1], pads: [1, 0, 1, 0, 1, 0] },
  "pads wider than the kernel": { input: [3], kernel: [2], pads: [4, 3] },
};

describe("Conv", () => {
  for (const [name, given] of Object.entries(cases))
    for (const open of [false, true])
      it(`is the sum over taps: ${name}${open ? ", sizes known at run time" : ""}`, () => {
        const { input, kernel, channels, maps, group, strides, dilations, pads } = complete(given);
        const rank = input.length;
        const x = random([2, channels, ...input], 1);
        const w = random([maps, channels / group, ...kernel], 2);
        const b = random([maps], 3);
        const [X, W, B] = [reader(x), reader(w), reader(b)];
        const output = input.map(
          (size, a) =>
            Math.floor((size + pads[a]! + pads[a + rank]! - (dilations[a]! * (kernel[a]! - 1) + 1)) / strides[a]!) + 1,
        );
        const expected = tabulate(
          [2, maps, ...output],
          ([n, m, ...o]) =>
            B([m!]) +
            sumOver([channels / group, ...kernel], ([c, ...k]) => {
              const channel = Math.floor(m! / (maps / group)) * (channels / group) + c!;
              return (
                X([n!, channel, ...o.map((p, a) => p * strides[a]! + k[a]! * dilations[a]! - pads[a]!)]) *
                W([m!, c!, ...k])
              );
            }),
        );
        const [y] = runOp(
          "Conv",
          [x, w, b],
          { group, strides, dilations, pads },
          open ? { open: { 0: [0, ...input.map((_, a) => a + 2)] } } : {},
        );
        expect(y!.shape).toEqual([2, maps, ...output]);
        expect(distance(y, expected)).toBeLessThan(1e-5);
      });

  it("keeps ceil(size / stride) positions under SAME, the odd pad at the end for SAME_UPPER", () => {
    const x = float32([1, 1, 4], [1, 2, 3, 4]);
    const w = float32([1, 1, 2], [1, 10]);
    for (const open of [[], [2]]) {
      expect(numbersOf(runOp("Conv", [x, w], { auto_pad: "SAME_UPPER" }, { open: { 0: open } })[0])).toEqual([
        21, 32, 43, 4,
      ]);
      expect(numbersOf(runOp("Conv", [x, w], { auto_pad: "SAME_LOWER" }, { open: { 0: open } })[0])).toEqual([
        10, 21, 32, 43,
      ]);
      expect(numbersOf(runOp("Conv", [x, w], { auto_pad: "VALID", strides: [2] }, { open: { 0: open } })[0])).toEqual([
        21, 43,
      ]);
    }
  });

  it("refuses a group that does not divide the channels", () => {
    expect(() => runOp("Conv", [random([1, 4, 5]), random([4, 1, 3])], { group: 3 })).toThrow(/group must divide/);
  });
});

describe("ConvTranspose", () => {
  const { "pads wider than the kernel": _emptyWhenTransposed, ...transposable } = cases;
  const transposed: Record<string, Case & { output_padding?: number[] }> = {
    ...transposable,
    "stride that the kernel is no multiple of": { input: [5], kernel: [3], strides: [2], output_padding: [1] },
    "stride and dilation with a common divisor": {
      input: [5, 4],
      kernel: [3, 2],
      strides: [4, 3],
      dilations: [2, 2],
      pads: [1, 2, 0, 1],
    },
    "stride wider than the kernel": { input: [4], kernel: [2], strides: [5] },
  };
  for (const [name, given] of Object.entries(transposed))
    for (const open of [false, true])
      it(`scatters each input over its window: ${name}${open ? ", sizes known at run time" : ""}`, () => {
        const { input, kernel, channels, maps, group, strides, dilations, pads } = complete(given);
        const extra = given && "output_padding" in given ? (given.output_padding as number[]) : input.map(() => 0);
        const rank = input.length;
        const perGroup = maps / group;
        const x = random([2, channels, ...input], 1);
        const w = random([channels, perGroup, ...kernel], 2);
        const output = input.map(
          (size, a) =>
            strides[a]! * (size - 1) + extra[a]! + (kernel[a]! - 1) * dilations[a]! + 1 - pads[a]! - pads[a + rank]!,
        );
        const sums = new Map<string, number>();
        const [X, W] = [reader(x), reader(w)];
        tabulate([2, channels, perGroup, ...input, ...kernel], ([n, c, m, ...rest]) => {
          const [i, k] = [rest.slice(0, rank), rest.slice(rank)];
          const map = Math.floor(c! / (channels / group)) * perGroup + m!;
          const key = [n, map, ...i.map((p, a) => p * strides[a]! + k[a]! * dilations[a]! - pads[a]!)].join();
          sums.set(key, (sums.get(key) ?? 0) + X([n!, c!, ...i]) * W([c!, m!, ...k]));
          return 0;
        });
        const expected = tabulate([2, maps, ...output], (at) => sums.get(at.join()) ?? 0);
        const [y] = runOp(
          "ConvTranspose",
          [x, w],
          { group, strides, dilations, pads, output_padding: extra },
          open ? { open: { 0: [0, ...input.map((_, a) => a + 2)] } } : {},
        );
        expect(y!.shape).toEqual([2, maps, ...output]);
        expect(distance(y, expected)).toBeLessThan(1e-5);
      });
});

describe("quantized convolutions", () => {
  const x = tensor("uint8", [1, 1, 3], [10, 20, 30]);
  const w = tensor("uint8", [2, 1, 2], [1, 2, 3, 4]);
  it("ConvInteger subtracts both zero points, and pads with x's", () => {
    const [y] = runOp("ConvInteger", [x, w, tensor("uint8", [], [10]), tensor("uint8", [2], [1, 2])], { pads: [1, 0] });
    expect(y!.dtype).toBe("int32");
    expect(numbersOf(y)).toEqual([0, 10, 20, 0, 20, 50]);
  });
  it("QLinearConv scales, rounds to even and saturates", () => {
    const s = (v: number) => tensor("float32", [], [v]);
    const inputs = [
      x,
      s(1),
      tensor("uint8", [], [10]),
      w,
      tensor("float32", [2], [0.25, 0.5]),
      tensor("uint8", [2], [0, 0]),
      s(1),
      tensor("uint8", [], [3]),
      tensor("int32", [2], [0, 1]),
    ];
    // rows: (20, 50)·0.25 → 5, 12.5 → 12; (1 + 40, 1 + 110)·0.5 → 20.5 → 20, 55.5 → 56
    expect(numbersOf(runOp("QLinearConv", inputs)[0])).toEqual([8, 15, 23, 59]);
  });
});

describe("DeformConv", () => {
  it("with whole-number offsets reads shifted pixels", () => {
    const x = random([1, 2, 5, 5], 1);
    const w = random([3, 2, 2, 2], 2);
    const offset = float32(
      [1, 8, 4, 4],
      tabulate([1, 8, 4, 4], ([, channel]) => (channel! % 2 === 0 ? 1 : -1)),
    );
    const [X, W] = [reader(x), reader(w)];
    const expected = tabulate([1, 3, 4, 4], ([n, m, i, j]) =>
      sumOver([2, 2, 2], ([c, p, q]) => X([n!, c!, i! + p! + 1, j! + q! - 1]) * W([m!, c!, p!, q!])),
    );
    expect(distance(runOp("DeformConv", [x, w, offset])[0], expected)).toBeLessThan(1e-5);
  });
  it("interpolates between pixels and multiplies by the mask", () => {
    const x = float32([1, 1, 1, 2], [2, 6]);
    const offset = float32([1, 2, 1, 2], [0, 0, 0.25, 0.5]);
    const mask = float32([1, 1, 1, 2], [1, 2]);
    expect(numbersOf(runOp("DeformConv", [x, float32([1, 1, 1, 1], [1]), offset, undefined, mask])[0])).toEqual([3, 6]);
  });
});

describe("CausalConvWithState", () => {
  it("in two parts with the state carried over gives what one run gives", () => {
    const x = random([1, 3, 7], 1);
    const w = random([3, 1, 4], 2);
    const [X] = [reader(x)];
    const part = (from: number, to: number) =>
      float32(
        [1, 3, to - from],
        tabulate([1, 3, to - from], ([n, c, t]) => X([n!, c!, t! + from])),
      );
    const [whole] = runOp("CausalConvWithState", [x, w], { activation: "silu" });
    const [first, state] = runOp("CausalConvWithState", [part(0, 2), w], { activation: "silu" }, { outputs: 2 });
    const [second] = runOp("CausalConvWithState", [part(2, 7), w, undefined, state], { activation: "silu" });
    const [A, B] = [reader(first!), reader(second!)];
    expect(state!.shape).toEqual([1, 3, 3]);
    expect(
      distance(
        whole,
        tabulate([1, 3, 7], ([n, c, t]) => (t! < 2 ? A([n!, c!, t!]) : B([n!, c!, t! - 2]))),
      ),
    ).toBeLessThan(1e-6);
  });
});

describe("Col2Im", () => {
  it("adds overlapping blocks", () => {
    const [image, block, stride, dilation, pad] = [
      [5, 4],
      [2, 2],
      [2, 1],
      [1, 2],
      [1, 0],
    ];
    const blocks = image.map(
      (size, a) => Math.floor((size + 2 * pad[a]! - (dilation[a]! * (block[a]! - 1) + 1)) / stride[a]!) + 1,
    );
    const x = random([1, 8, blocks[0]! * blocks[1]!], 4);
    const X = reader(x);
    const sums = new Map<string, number>();
    tabulate([2, ...block, ...blocks], ([c, p, q, i, j]) => {
      const key = [
        c,
        i! * stride[0]! + p! * dilation[0]! - pad[0]!,
        j! * stride[1]! + q! * dilation[1]! - pad[1]!,
      ].join();
      sums.set(key, (sums.get(key) ?? 0) + X([0, c! * 4 + p! * 2 + q!, i! * blocks[1]! + j!]));
      return 0;
    });
    const [y] = runOp(
      "Col2Im",
      [x, int64(...image), int64(...block)],
      { strides: stride, dilations: dilation, pads: [...pad, ...pad] },
      { known: [1, 2] },
    );
    expect(y!.shape).toEqual([1, 2, 5, 4]);
    expect(
      distance(
        y,
        tabulate([2, 5, 4], (at) => sums.get(at.join()) ?? 0),
      ),
    ).toBeLessThan(1e-6);
  });
});
