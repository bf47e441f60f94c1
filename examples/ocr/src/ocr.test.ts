import { describe, expect, it } from "vitest";
import type { Image } from "./image.js";
import { type OcrModels, readText } from "./ocr.js";

/**
 * Networks that read a page of two lines, "a" above "b": text is where the page is white, a line's brightness says
 * which letter it is, and `upsideDown` is what the classifier believes.
 */
function models(upsideDown: boolean, recognizerScore = 0.9): OcrModels {
  return {
    async det(x, dims) {
      const [height, width] = [dims[2]!, dims[3]!];
      return { dims: [1, 1, height, width], data: x.slice(0, height * width).map((value) => (value > 0 ? 0.9 : 0)) };
    },
    async cls() {
      return { dims: [1, 2], data: upsideDown ? Float32Array.of(0.01, 0.99) : Float32Array.of(0.99, 0.01) };
    },
    async rec(x, dims) {
      const letter = x[24 * dims[3]! + 100]! > 0.8 ? 1 : 2;
      const data = new Float32Array(4);
      data[letter] = recognizerScore;
      return { dims: [1, 1, 4], data };
    },
  };
}

const page: Image = { width: 640, height: 640, data: new Uint8Array(640 * 640 * 3) };
for (let y = 100; y < 140; y++) page.data.fill(255, (y * 640 + 100) * 3, (y * 640 + 500) * 3);
for (let y = 300; y < 340; y++) page.data.fill(200, (y * 640 + 100) * 3, (y * 640 + 500) * 3);

describe("readText", () => {
  const characters = ["", "a", "b", " "];

  it("reads from top to bottom", async () => {
    const lines = await readText(page, models(false), characters);
    expect(lines.map(({ text, turned }) => [text, turned])).toEqual([
      ["a", false],
      ["b", false],
    ]);
  });

  it("reads a page that lies upside down from its end", async () => {
    const lines = await readText(page, models(true), characters);
    expect(lines.map(({ text, turned }) => [text, turned])).toEqual([
      ["b", true],
      ["a", true],
    ]);
  });

  it("drops lines that it is not sure of", async () => {
    expect(await readText(page, models(false, 0.4), characters)).toEqual([]);
  });
});
