import { describe, expect, it } from "vitest";
import { components, detectedBoxes, detectionInput, readingOrder } from "./detect.js";
import type { Quad } from "./geometry.js";
import type { Image } from "./image.js";

/** A map as rows of digits: tenths of a probability. */
function map(...rows: string[]): { data: Float32Array; width: number; height: number } {
  const data = Float32Array.from(rows.join(""), (digit) => Number(digit) / 10);
  return { data, width: rows[0]!.length, height: rows.length };
}

const blank = (width: number, height: number): Image => ({ width, height, data: new Uint8Array(width * height * 3) });

const box = (x: number, y: number, width: number, height: number): Quad => [
  { x, y },
  { x: x + width, y },
  { x: x + width, y: y + height },
  { x, y: y + height },
];

describe("components", () => {
  it("joins pixels along rows, columns and diagonals, and no others", () => {
    const { data, width, height } = map("9900009", "0090090", "0000900", "9000000", "0900999");
    expect(components(data, width, height).map(({ outline }) => outline.length)).toHaveLength(4);
  });

  it("follows a spiral as one component and gives the mean of its pixels alone", () => {
    const { data, width, height } = map("888880", "000080", "888080", "800080", "888880");
    const found = components(data, width, height);
    expect(found).toHaveLength(1);
    expect(found[0]!.mean).toBeCloseTo(0.8, 6);
    expect(found[0]!.outline).toContainEqual({ x: 4.5, y: 0.5 });
    expect(found[0]!.outline).toContainEqual({ x: 0.5, y: 4.5 });
  });

  it("leaves out pixels below 0.3", () => {
    const { data, width, height } = map("2224", "0000");
    expect(components(data, width, height)).toEqual([
      {
        outline: [
          { x: 3.5, y: 0.5 },
          { x: 3.5, y: 0.5 },
        ],
        mean: expect.closeTo(0.4, 6),
      },
    ]);
  });
});

describe("detectedBoxes", () => {
  /** A 96 x 64 map with rectangles of one probability. */
  function boxes(...rectangles: [x: number, y: number, width: number, height: number, probability: number][]): Quad[] {
    const data = new Float32Array(96 * 64);
    for (const [x0, y0, width, height, probability] of rectangles)
      for (let y = y0; y < y0 + height; y++) data.fill(probability, y * 96 + x0, y * 96 + x0 + width);
    return detectedBoxes({ dims: [1, 1, 64, 96], data }, blank(192, 64));
  }

  it("grows a box as the network shrank it and scales it to the picture", () => {
    // Between pixel centres 30 x 10; unclip adds 30 * 10 * 1.5 / 80 = 5.625 on each side; x is doubled.
    expect(boxes([20, 20, 31, 11, 0.9])).toEqual([box(30, 15, 82, 21).map(({ x, y }) => ({ x, y }))]);
  });

  it("drops what is too uncertain or too thin", () => {
    expect(boxes([10, 10, 30, 10, 0.5], [10, 40, 30, 3, 0.9])).toEqual([]);
  });

  it("keeps boxes inside the picture", () => {
    const [found] = boxes([0, 0, 96, 20, 0.9]);
    expect(found).toEqual([
      { x: 0, y: 0 },
      { x: 192, y: 0 },
      { x: 192, y: expect.any(Number) },
      { x: 0, y: expect.any(Number) },
    ]);
  });
});

describe("readingOrder", () => {
  it("reads rows from the top, each from the left, though a row is not level", () => {
    const rows = [
      box(10, 14, 30, 10),
      box(50, 10, 30, 10),
      box(90, 12, 30, 10),
      box(20, 30, 30, 10),
      box(60, 33, 30, 10),
    ];
    expect(readingOrder([rows[4]!, rows[2]!, rows[0]!, rows[3]!, rows[1]!])).toEqual(rows);
  });
});

describe("detectionInput", () => {
  it.each([
    [384, 152, 640, 256],
    [960, 640, 960, 640],
    [640, 640, 640, 640],
    [3000, 2000, 960, 640],
    [2000, 10, 960, 32],
  ])("fits a picture of %i x %i to %i x %i", (width, height, W, H) => {
    expect(detectionInput(blank(width, height)).dims).toEqual([1, 3, H, W]);
  });
});
