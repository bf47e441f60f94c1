import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { distance, float32, int64, numbersOf, random, reader, runOp, tabulate } from "./testing.js";

/** Input positions of the window at `o`, with undefined for taps in the padding; taps beyond the end padding are left out. */
const windowOf = (
  o: number,
  size: number,
  kernel: number,
  stride: number,
  dilation: number,
  begin: number,
  end: number,
) =>
  Array.from({ length: kernel }, (_, k) => o * stride - begin + k * dilation)
    .filter((position) => position < size + end)
    .map((position) => (position < 0 || position >= size ? undefined : position));

describe("windows", () => {
  const settings = [
    { kernel: 3, stride: 1, dilation: 1, pads: [0, 0], ceil: 0 },
    { kernel: 3, stride: 2, dilation: 1, pads: [1, 1], ceil: 0 },
    { kernel: 2, stride: 2, dilation: 2, pads: [0, 1], ceil: 0 },
    { kernel: 3, stride: 2, dilation: 1, pads: [1, 0], ceil: 1 },
    { kernel: 2, stride: 3, dilation: 1, pads: [0, 1], ceil: 1 },
  ];
  for (const { kernel, stride, dilation, pads, ceil } of settings)
    for (const open of [[], [0, 2]])
      for (const size of [7, 8])
        it(`kernel ${kernel}, stride ${stride}, dilation ${dilation}, pads ${pads}, ceil ${ceil}, ${open.length > 0 ? "open" : "known"} size ${size}`, () => {
          const [begin, end] = pads as [number, number];
          const x = random([2, 3, size], size);
          const X = reader(x);
          const room = (size + begin + end - (dilation * (kernel - 1) + 1)) / stride;
          let length = (ceil ? Math.ceil(room) : Math.floor(room)) + 1;
          if (ceil && (length - 1) * stride >= size + begin) length--;
          const attributes = {
            kernel_shape: [kernel],
            strides: [stride],
            dilations: [dilation],
            pads,
            ceil_mode: ceil,
          };
          const taps = (o: number) => windowOf(o, size, kernel, stride, dilation, begin, end);
          const values = (n: number, c: number, o: number) =>
            taps(o)
              .filter((p) => p !== undefined)
              .map((p) => X([n, c, p]));
          const total = (list: number[]) => list.reduce((a, b) => a + b, 0);
          const options = { open: { 0: open } };

          const [most, where] = runOp("MaxPool", [x], attributes, { ...options, outputs: 2 });
          expect(most!.shape).toEqual([2, 3, length]);
          expect(
            distance(
              most,
              tabulate([2, 3, length], ([n, c, o]) => Math.max(...values(n!, c!, o!))),
            ),
          ).toBe(0);
          const flat = numbersOf(x);
          expect(numbersOf(where).map((position) => flat[position])).toEqual(numbersOf(most));

          const [mean] = runOp("AveragePool", [x], attributes, options);
          expect(
            distance(
              mean,
              tabulate([2, 3, length], ([n, c, o]) => total(values(n!, c!, o!)) / values(n!, c!, o!).length),
            ),
          ).toBeLessThan(1e-6);
          const [padded] = runOp("AveragePool", [x], { ...attributes, count_include_pad: 1 }, options);
          expect(
            distance(
              padded,
              tabulate([2, 3, length], ([n, c, o]) => total(values(n!, c!, o!)) / taps(o!).length),
            ),
          ).toBeLessThan(1e-6);
          const [norm] = runOp("LpPool", [x], { ...attributes, p: 3 }, options);
          expect(
            distance(
              norm,
              tabulate([2, 3, length], ([n, c, o]) =>
                Math.cbrt(total(values(n!, c!, o!).map((v) => Math.abs(v) ** 3))),
              ),
            ),
          ).toBeLessThan(1e-5);
        });

  it("integers pool with their own smallest value as padding", () => {
    expect(
      numbersOf(runOp("MaxPool", [tensor("int8", [1, 1, 2], [-128, -5])], { kernel_shape: [2], pads: [1, 1] })[0]),
    ).toEqual([-128, -5, -5]);
  });
  it("storage_order 1 counts the image's columns first", () => {
    const x = float32([1, 1, 2, 3], [0, 9, 0, 0, 0, 0]);
    expect(numbersOf(runOp("MaxPool", [x], { kernel_shape: [2, 3], storage_order: 1 }, { outputs: 2 })[1])).toEqual([
      2,
    ]);
  });
});

describe("global pools", () => {
  it("reduce every spatial axis and keep them", () => {
    const x = float32([1, 2, 2, 2], [1, 2, 3, 4, -3, 4, 0, 0]);
    expect(runOp("GlobalAveragePool", [x])[0]!.shape).toEqual([1, 2, 1, 1]);
    expect(numbersOf(runOp("GlobalAveragePool", [x])[0])).toEqual([2.5, 0.25]);
    expect(numbersOf(runOp("GlobalMaxPool", [x])[0])).toEqual([4, 4]);
    expect(numbersOf(runOp("GlobalLpPool", [x])[0])[1]).toBe(5);
  });
});

describe("MaxUnpool", () => {
  it("puts each maximum back where it came from", () => {
    const x = float32([1, 1, 2, 4], [1, 5, 2, 3, 4, 0, 7, 6]);
    const attributes = { kernel_shape: [2, 2], strides: [2, 2] };
    const [y, at] = runOp("MaxPool", [x], attributes, { outputs: 2 });
    expect(numbersOf(runOp("MaxUnpool", [y, at], attributes)[0])).toEqual([0, 5, 0, 0, 0, 0, 7, 0]);
  });
});

describe("regions", () => {
  const x = float32(
    [1, 1, 4, 4],
    Array.from({ length: 16 }, (_, k) => k),
  );
  it("MaxRoiPool takes the largest element of each bin", () => {
    const [y] = runOp("MaxRoiPool", [x, float32([1, 5], [0, 0, 0, 3, 3])], { pooled_shape: [2, 2] });
    expect(numbersOf(y)).toEqual([5, 7, 13, 15]);
  });
  it("RoiAlign averages samples of a plane to the bin's centre, with a fixed or an adaptive grid", () => {
    for (const sampling_ratio of [0, 2]) {
      const [y] = runOp("RoiAlign", [x, float32([1, 4], [0.5, 0.5, 3.5, 3.5]), int64(0)], {
        output_height: 2,
        output_width: 1,
        sampling_ratio,
      });
      // value 4·row + column is linear; with half pixels the region is rows and columns 0 … 3
      expect(distance(y, [4 * 0.75 + 1.5, 4 * 2.25 + 1.5])).toBeLessThan(1e-5);
    }
  });
});
