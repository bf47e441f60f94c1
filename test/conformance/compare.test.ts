import { tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { compareOutputs, compareValue } from "./compare.js";
import type { Case } from "./suite.js";

const tolerance = { rtol: 1e-3, atol: 1e-7 };
const floats = (values: number[], shape = [values.length]) => tensor("float32", shape, values);

describe("compareValue", () => {
  it("accepts differences up to atol + rtol * |ref| and no larger", () => {
    expect(compareValue(floats([1000.9]), floats([1000]), tolerance)).toBeUndefined();
    expect(compareValue(floats([1001.1]), floats([1000]), tolerance)?.maxError).toBeCloseTo(1.1, 3);
    expect(compareValue(floats([1e-6]), floats([0]), tolerance)).toBeDefined();
  });

  it("takes NaN for equal to NaN only, and infinities by sign", () => {
    expect(
      compareValue(
        floats([Number.NaN, Number.POSITIVE_INFINITY]),
        floats([Number.NaN, Number.POSITIVE_INFINITY]),
        tolerance,
      ),
    ).toBeUndefined();
    expect(compareValue(floats([Number.NaN]), floats([0]), tolerance)).toBeDefined();
    expect(compareValue(floats([0]), floats([Number.NaN]), tolerance)).toBeDefined();
    expect(
      compareValue(floats([Number.NEGATIVE_INFINITY]), floats([Number.POSITIVE_INFINITY]), tolerance),
    ).toBeDefined();
    expect(compareValue(floats([1e30]), floats([Number.POSITIVE_INFINITY]), tolerance)).toBeDefined();
  });

  it("demands equal shapes and element types", () => {
    expect(compareValue(floats([1, 2], [1, 2]), floats([1, 2]), tolerance)?.reason).toBe(
      "float32[1, 2] instead of float32[2]",
    );
    expect(compareValue(tensor("int32", [1], [1]), floats([1]), tolerance)?.reason).toBe(
      "int32[1] instead of float32[1]",
    );
  });

  it("gives bfloat16 its own precision", () => {
    expect(compareValue(tensor("bfloat16", [1], [1.0078125]), tensor("bfloat16", [1], [1]), tolerance)).toBeUndefined();
    expect(compareValue(tensor("float16", [1], [1.0078125]), tensor("float16", [1], [1]), tolerance)).toBeDefined();
  });

  it("compares strings, sequences and empty optionals", () => {
    expect(
      compareValue(tensor("string", [2], ["a", "b"]), tensor("string", [2], ["a", "c"]), tolerance)?.reason,
    ).toContain("element 1");
    expect(compareValue([floats([1]), floats([2])], [floats([1]), floats([3])], tolerance)?.reason).toMatch(
      /^element 1: /,
    );
    expect(compareValue([floats([1])], [floats([1]), floats([3])], tolerance)?.reason).toBe(
      "a sequence of 1 instead of a sequence of 2",
    );
    expect(compareValue(null, null, tolerance)).toBeUndefined();
    expect(compareValue(floats([1]), null, tolerance)).toBeDefined();
  });
});

describe("random outputs", () => {
  const entry = (name: string) => ({ ...tolerance, name, flags: ["nondeterministic"] }) as unknown as Case;
  const ratio = tensor("float32", [], [0.5]);

  it("hold Dropout to 0 or x / (1 - ratio)", () => {
    const data = { inputs: [floats([1, 2, 3]), ratio], outputs: [floats([2, 0, 6])] };
    expect(compareOutputs(entry("test_training_dropout"), data, [floats([0, 4, 6])])).toBeUndefined();
    expect(compareOutputs(entry("test_training_dropout"), data, [floats([0, 2, 6])])).toBeDefined();
  });

  it("hold Bernoulli to zeros and ones", () => {
    const data = { inputs: [floats([0.1, 0.9])], outputs: [floats([0, 1])] };
    expect(compareOutputs(entry("test_bernoulli"), data, [floats([1, 0])])).toBeUndefined();
    expect(compareOutputs(entry("test_bernoulli"), data, [floats([0.5, 1])])).toBeDefined();
  });
});
