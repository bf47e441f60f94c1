import { describe, expect, it } from "vitest";
import { difference, maxRelativeError, sample } from "./recorded.js";

describe("maxRelativeError", () => {
  it("is the largest difference over the largest reference value", () => {
    expect(maxRelativeError(Float32Array.of(1, -3.5, 2), Float32Array.of(1, -4, 1.75))).toBe(0.125);
    expect(maxRelativeError(Float32Array.of(0, 0), Float32Array.of(0, 0))).toBe(0);
  });

  it("does not hide NaN or a missing value", () => {
    expect(maxRelativeError(Float32Array.of(1, Number.NaN, 1), Float32Array.of(1, 1, 1))).toBeNaN();
    expect(() => maxRelativeError(Float32Array.of(1), Float32Array.of(1, 2))).toThrow(
      "1 sampled values, the recorded one 2",
    );
  });
});

describe("sample", () => {
  it("takes every n-th value, the first included", () => {
    const tensor = { dims: [7], data: Float32Array.of(0, 1, 2, 3, 4, 5, 6) };
    expect([...sample(tensor, 3)]).toEqual([0, 3, 6]);
    expect([...sample(tensor, 1)]).toEqual([...tensor.data]);
  });
});

describe("difference", () => {
  const lines = (...texts: string[]) => texts.map((text) => ({ text, score: 1, box: [] as never, turned: false }));

  it("names picture, line, what was expected and what was found", () => {
    expect(difference("a.png", lines("x", "y"), lines("x", "y"))).toBeUndefined();
    expect(difference("a.png", lines("x", "z"), lines("x", "y"))).toBe('a.png, line 2: expected "y", found "z"');
    expect(difference("a.png", lines("x"), lines("x", "y"))).toBe('a.png, line 2: expected "y", found no such line');
    expect(difference("a.png", lines("x"), [])).toBe('a.png, line 1: expected no such line, found "x"');
  });
});
