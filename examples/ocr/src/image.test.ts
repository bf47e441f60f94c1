import { encode } from "fast-png";
import { describe, expect, it } from "vitest";
import type { Quad } from "./geometry.js";
import { crop, decodeImage, type Image, rotate180, toTensor } from "./image.js";

/** A picture from a function of the pixel, linear where bilinear sampling is to be exact. */
function picture(width: number, height: number, color: (x: number, y: number) => [number, number, number]): Image {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data.set(color(x, y), (y * width + x) * 3);
  return { width, height, data };
}

const quad = (x0: number, y0: number, x1: number, y1: number): Quad => [
  { x: x0, y: y0 },
  { x: x1, y: y0 },
  { x: x1, y: y1 },
  { x: x0, y: y1 },
];

describe("decodeImage", () => {
  it.each([
    ["grey", 1, [7, 200], [7, 7, 7, 200, 200, 200]],
    ["grey and alpha", 2, [0, 255, 0, 0], [0, 0, 0, 255, 255, 255]],
    ["colour", 3, [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]],
    ["colour and alpha", 4, [10, 20, 30, 255, 0, 0, 0, 51], [10, 20, 30, 204, 204, 204]],
  ])("reads a PNG of %s", (_, channels, data, rgb) => {
    const file = encode({ width: 2, height: 1, channels, depth: 8, data: Uint8Array.from(data) });
    expect([...decodeImage(file).data]).toEqual(rgb);
  });

  it("reads a PNG of 16 bits", () => {
    const file = encode({ width: 2, height: 1, channels: 1, depth: 16, data: Uint16Array.of(257 * 9, 65535) });
    expect([...decodeImage(file).data]).toEqual([9, 9, 9, 255, 255, 255]);
  });

  it("refuses what is neither PNG nor JPEG", () => {
    expect(() => decodeImage(Uint8Array.of(0x47, 0x49, 0x46, 0x38))).toThrow(/expected a PNG or JPEG/);
  });
});

describe("crop", () => {
  const ramp = picture(40, 30, (x, y) => [4 * x, 8 * y, 2 * x + 4 * y]);

  it("copies an axis-parallel box pixel by pixel", () => {
    const part = crop(ramp, quad(5, 10, 15, 14), 10, 4);
    const direct = picture(10, 4, (x, y) => [4 * (x + 5), 8 * (y + 10), 2 * (x + 5) + 4 * (y + 10)]);
    expect(part).toEqual(direct);
  });

  it("straightens a quadrilateral that perspective bent", () => {
    // The projection u, v -> x = 10 + 20 u / w, y = 5 + 20 v / w with w = 1 + u, sampled at pixel centres.
    const bent: Quad = [
      { x: 10, y: 5 },
      { x: 20, y: 5 },
      { x: 20, y: 15 },
      { x: 10, y: 25 },
    ];
    const part = crop(ramp, bent, 8, 8);
    for (let j = 0; j < 8; j++) {
      for (let i = 0; i < 8; i++) {
        const [u, v] = [(i + 0.5) / 8, (j + 0.5) / 8];
        const [x, y] = [10 + (20 * u) / (1 + u) - 0.5, 5 + (20 * v) / (1 + u) - 0.5];
        expect(Math.abs(part.data[(j * 8 + i) * 3]! - 4 * x)).toBeLessThanOrEqual(0.51);
        expect(Math.abs(part.data[(j * 8 + i) * 3 + 1]! - 8 * y)).toBeLessThanOrEqual(0.51);
      }
    }
  });

  it("repeats the edge outside the picture", () => {
    const part = crop(ramp, quad(-4, 0, 4, 2), 8, 2);
    expect([...part.data.subarray(0, 15)]).toEqual(Array.from({ length: 5 }, () => [0, 0, 0]).flat());
    expect(part.data[15]).toBe(4);
  });
});

describe("rotate180", () => {
  it("turns the picture and, twice, gives it back", () => {
    const image = picture(3, 2, (x, y) => [x, y, 10 * y + x]);
    const turned = rotate180(image);
    expect([...turned.data.subarray(0, 3)]).toEqual([2, 1, 12]);
    expect(rotate180(turned)).toEqual(image);
  });
});

describe("toTensor", () => {
  it("normalizes in the order blue, green, red and fills the rest of the canvas with zeros", () => {
    const image = picture(2, 1, () => [255, 0, 51]);
    const { dims, data } = toTensor(image, 2, 1, { mean: [0.1, 0.5, 0.5], std: [0.5, 0.25, 0.5] }, 3);
    expect(dims).toEqual([1, 3, 1, 3]);
    const expected = [0.2, 0.2, 0, -2, -2, 0, 1, 1, 0];
    for (const [i, value] of expected.entries()) expect(data[i]).toBeCloseTo(value, 6);
  });

  it("resizes with half-pixel centres", () => {
    const image = picture(2, 2, (x, y) => [100 * x + 20 * y, 0, 0]);
    const { data } = toTensor(image, 4, 4, { mean: [0, 0, 0], std: [1 / 255, 1 / 255, 1 / 255] });
    const red = [...data.subarray(32)];
    const at = [0, 0.25, 0.75, 1];
    for (const [i, value] of red.entries())
      expect(value).toBeCloseTo(100 * at[i % 4]! + 20 * at[Math.floor(i / 4)]!, 3);
  });
});
