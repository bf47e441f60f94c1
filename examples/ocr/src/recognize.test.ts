import { describe, expect, it } from "vitest";
import type { Image, Tensor } from "./image.js";
import { alphabet, classifierInput, decodeCtc, isUpsideDown, lineImage, recognizerInput } from "./recognize.js";

const characters = alphabet("a\nb\nc\n");

/** Probabilities [1, T, 5] whose best class at each step is the given one. */
function output(...steps: [best: number, probability: number][]): Tensor {
  const data = new Float32Array(steps.length * 5);
  for (const [step, [best, probability]] of steps.entries()) {
    data.fill((1 - probability) / 4, step * 5, step * 5 + 5);
    data[step * 5 + best] = probability;
  }
  return { dims: [1, steps.length, 5], data };
}

describe("alphabet", () => {
  it("puts the blank first and the space last", () => {
    expect(characters).toEqual(["", "a", "b", "c", " "]);
    expect(alphabet("a\nb\nc")).toEqual(characters);
    expect(alphabet("a\r\nb\r\nc\r\n")).toEqual(characters);
  });

  it("keeps a line that is itself white space", () => {
    expect(alphabet("a\n\u3000\nb")).toEqual(["", "a", "\u3000", "b", " "]);
  });
});

describe("decodeCtc", () => {
  it("merges repetitions, drops blanks and keeps letters that a blank parts", () => {
    const steps = [0, 1, 1, 0, 1, 2, 2, 4, 3, 0].map((best): [number, number] => [best, 0.9]);
    expect(decodeCtc(output(...steps), characters).text).toBe("aab c");
  });

  it("scores the kept characters by the first step of each", () => {
    const { text, score } = decodeCtc(output([0, 0.99], [1, 0.6], [1, 0.9], [0, 0.5], [2, 0.8]), characters);
    expect(text).toBe("ab");
    expect(score).toBeCloseTo(0.7, 6);
  });

  it("gives no text and no certainty for blanks alone", () => {
    expect(decodeCtc(output([0, 0.9], [0, 0.9]), characters)).toEqual({ text: "", score: 0 });
  });

  it("refuses an output of another alphabet", () => {
    expect(() => decodeCtc(output([0, 1]), alphabet("a"))).toThrow("5 classes, 3 characters");
  });
});

describe("inputs", () => {
  const line = (width: number): Image => ({ width, height: 48, data: new Uint8Array(width * 48 * 3).fill(255) });

  it.each([
    [20, 160],
    [160, 160],
    [161, 320],
    [900, 960],
    [2000, 960],
  ])("pads or squeezes a line of width %i to %i for the recognizer", (width, canvas) => {
    const { dims, data } = recognizerInput(line(width));
    expect(dims).toEqual([1, 3, 48, canvas]);
    const white = data.findIndex((value) => value !== 1);
    expect(white).toBe(width < canvas ? width : -1);
  });

  it("gives the classifier 192 columns", () => {
    expect(classifierInput(line(100)).dims).toEqual([1, 3, 48, 192]);
    expect(classifierInput(line(500)).dims).toEqual([1, 3, 48, 192]);
  });

  it("turns a line only when the classifier is sure", () => {
    const verdict = (p: number): boolean => isUpsideDown({ dims: [1, 2], data: Float32Array.of(1 - p, p) });
    expect([0.1, 0.6, 0.89, 0.95].map(verdict)).toEqual([false, false, false, true]);
  });
});

describe("lineImage", () => {
  // The upper half is red, the lower half blue.
  const data = new Uint8Array(100 * 100 * 3);
  for (let pixel = 0; pixel < 10000; pixel++) data[pixel * 3 + (pixel < 5000 ? 0 : 2)] = 255;
  const image: Image = { width: 100, height: 100, data };

  it("keeps the proportions at 48 pixels in height", () => {
    const box = [
      { x: 10, y: 40 },
      { x: 90, y: 40 },
      { x: 90, y: 60 },
      { x: 10, y: 60 },
    ] as const;
    expect(lineImage(image, box)).toMatchObject({ width: 192, height: 48 });
  });

  it("lays a tall box on its left side, so that its top comes first or last, never across", () => {
    const box = [
      { x: 40, y: 0 },
      { x: 60, y: 0 },
      { x: 60, y: 100 },
      { x: 40, y: 100 },
    ] as const;
    const { width, height, data } = lineImage(image, box);
    expect([width, height]).toEqual([240, 48]);
    expect([...data.subarray(0, 3)]).toEqual([255, 0, 0]);
    expect([...data.subarray(width * 3 - 3, width * 3)]).toEqual([0, 0, 255]);
  });
});
