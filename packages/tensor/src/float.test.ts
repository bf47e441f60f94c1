import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bitsToFloat, type DType, floatTable, floatToBits, roundHalfEven, tensor, toNumbers } from "./index.js";

/** A format as its standard words it; values are found by search, not by arithmetic on bits. */
interface Oracle {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** What the bits above the largest finite magnitude mean. */
  readonly special: "ieee" | "nan only" | "none";
  /** Overflow without saturation; "finite" where the format has neither infinity nor NaN. */
  readonly overflow: "infinity" | "nan" | "finite";
  readonly largest: number;
  readonly smallest: number;
}

// Largest and smallest positive values as the standards' tables print them.
const oracles: Partial<Record<DType, Oracle>> = {
  float16: {
    exponentBits: 5,
    mantissaBits: 10,
    bias: 15,
    special: "ieee",
    overflow: "infinity",
    largest: 65504,
    smallest: 2 ** -24,
  },
  bfloat16: {
    exponentBits: 8,
    mantissaBits: 7,
    bias: 127,
    special: "ieee",
    overflow: "infinity",
    largest: 3.3895313892515355e38,
    smallest: 2 ** -133,
  },
  float8e4m3fn: {
    exponentBits: 4,
    mantissaBits: 3,
    bias: 7,
    special: "nan only",
    overflow: "nan",
    largest: 448,
    smallest: 2 ** -9,
  },
  float8e4m3fnuz: {
    exponentBits: 4,
    mantissaBits: 3,
    bias: 8,
    special: "none",
    overflow: "nan",
    largest: 240,
    smallest: 2 ** -10,
  },
  float8e5m2: {
    exponentBits: 5,
    mantissaBits: 2,
    bias: 15,
    special: "ieee",
    overflow: "infinity",
    largest: 57344,
    smallest: 2 ** -16,
  },
  float8e5m2fnuz: {
    exponentBits: 5,
    mantissaBits: 2,
    bias: 16,
    special: "none",
    overflow: "nan",
    largest: 57344,
    smallest: 2 ** -17,
  },
  float4e2m1: {
    exponentBits: 2,
    mantissaBits: 1,
    bias: 1,
    special: "none",
    overflow: "finite",
    largest: 6,
    smallest: 0.5,
  },
};
const names = Object.keys(oracles) as DType[];

/** Non-negative finite values in ascending order: the position is the magnitude's bits. */
function magnitudes({ exponentBits, mantissaBits, bias, special }: Oracle): number[] {
  const values: number[] = [];
  for (let e = 0; e < 2 ** exponentBits; e++)
    for (let m = 0; m < 2 ** mantissaBits; m++) {
      const top = e === 2 ** exponentBits - 1;
      if (top && (special === "ieee" || (special === "nan only" && m === 2 ** mantissaBits - 1))) continue;
      const fraction = m / 2 ** mantissaBits;
      values.push(e === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (e - bias));
    }
  return values;
}

/** The nearest magnitude's position, ties to the even one; `length` stands for overflow. */
function nearest(values: readonly number[], x: number): number {
  const last = values.length - 1;
  const beyond = (values[last] as number) + ((values[last] as number) - (values[last - 1] as number));
  const all = [...values.slice(-1), beyond];
  let low = 0;
  let high = last;
  if (x > (values[last] as number))
    return x > (all[0]! + beyond) / 2 || (x === (all[0]! + beyond) / 2 && last % 2 === 1) ? values.length : last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) <= x) low = middle;
    else high = middle;
  }
  const [down, up] = [x - (values[low] as number), (values[high] as number) - x];
  return down < up || (down === up && low % 2 === 0) ? low : high;
}

describe.each(names)("%s", (dtype) => {
  const oracle = oracles[dtype] as Oracle;
  const values = magnitudes(oracle);
  const signBit = 2 ** (oracle.exponentBits + oracle.mantissaBits);
  const unsignedZero = dtype.endsWith("uz");

  const expected = (x: number, saturate: boolean): number => {
    const negative = x < 0 || Object.is(x, -0);
    const at = nearest(values, Math.abs(x));
    if (at < values.length) return at === 0 && unsignedZero ? 0 : (negative ? -1 : 1) * (values[at] as number);
    if (saturate || oracle.overflow === "finite") return (negative ? -1 : 1) * oracle.largest;
    return oracle.overflow === "nan" ? Number.NaN : negative ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  };
  const converted = (x: number, saturate = false) => bitsToFloat(dtype, floatToBits(dtype, x, saturate));

  test("range", () => {
    expect(values[1]).toBe(oracle.smallest);
    expect(values[values.length - 1]).toBe(oracle.largest);
    expect(values.every((value, bits) => bitsToFloat(dtype, bits) === value)).toBe(true);
  });

  test("all bits survive a round trip", () => {
    const table = floatTable(dtype);
    expect(table.length).toBe(2 * signBit);
    for (let bits = 0; bits < table.length; bits++) {
      const value = table[bits] as number;
      if (Number.isNaN(value) ? !Number.isNaN(converted(value)) : floatToBits(dtype, value) !== bits)
        expect.fail(`bits ${bits} are ${value}`);
    }
  });

  test("ties go to even, neighbours of a tie to the nearest", () => {
    // float64 holds every midpoint of these formats exactly.
    const step = Math.max(1, Math.floor(values.length / 500));
    for (let k = 0; k + 1 < values.length; k += step) {
      const [a, b] = [values[k] as number, values[k + 1] as number];
      const tie = (a + b) / 2;
      const even = k % 2 === 0 ? a : b;
      expect(converted(tie)).toBe(even);
      expect(converted(-tie)).toBe(even === 0 && unsignedZero ? 0 : -even);
      expect(converted(tie - (b - a) * 2 ** -20)).toBe(a);
      expect(converted(tie + (b - a) * 2 ** -20)).toBe(b);
    }
  });

  test("any double, saturating or not", () => {
    const magnitude = fc.oneof(
      fc.double({ noNaN: true }),
      fc.double({ noNaN: true, min: -2 * oracle.largest, max: 2 * oracle.largest }),
      fc.double({ noNaN: true, min: -4 * oracle.smallest, max: 4 * oracle.smallest }),
      fc.nat({ max: values.length - 1 }).map((k) => values[k] as number),
    );
    fc.assert(
      fc.property(magnitude, fc.boolean(), (x, saturate) => {
        expect(converted(x, saturate)).toBe(expected(x, saturate));
      }),
      { numRuns: 500 },
    );
  });

  test("infinities, NaN, zeros", () => {
    for (const saturate of [false, true]) {
      expect(converted(Number.POSITIVE_INFINITY, saturate)).toBe(expected(Number.MAX_VALUE, saturate));
      expect(converted(Number.NEGATIVE_INFINITY, saturate)).toBe(expected(-Number.MAX_VALUE, saturate));
    }
    if (dtype === "float4e2m1") expect(converted(Number.NaN)).toBe(-0);
    else expect(converted(Number.NaN)).toBeNaN();
    expect(converted(-0)).toBe(unsignedZero ? 0 : -0);
    expect(converted(0)).toBe(0);
  });
});

test("bfloat16 is the upper half of a float32", () => {
  const f32 = new Float32Array(1);
  const u32 = new Uint32Array(f32.buffer);
  fc.assert(
    fc.property(fc.nat({ max: 0xffff }), (bits) => {
      u32[0] = bits * 65536;
      expect(bitsToFloat("bfloat16", bits)).toBe(f32[0]);
    }),
  );
});

describe("float8e8m0", () => {
  test("every power of two is itself", () => {
    for (let bits = 0; bits < 255; bits++) {
      expect(bitsToFloat("float8e8m0", bits)).toBe(2 ** (bits - 127));
      expect(floatToBits("float8e8m0", 2 ** (bits - 127))).toBe(bits);
    }
    expect(bitsToFloat("float8e8m0", 255)).toBeNaN();
  });
  test("rounding, overflow and what has no power", () => {
    expect(floatToBits("float8e8m0", 1.49)).toBe(127);
    expect(floatToBits("float8e8m0", 1.5)).toBe(128);
    expect(floatToBits("float8e8m0", 2 ** 127 * 1.6)).toBe(255);
    expect(floatToBits("float8e8m0", 2 ** 127 * 1.6, true)).toBe(254);
    expect(floatToBits("float8e8m0", 1e-300)).toBe(0);
    expect(floatToBits("float8e8m0", 0)).toBe(0);
    expect(floatToBits("float8e8m0", -1)).toBe(255);
    expect(floatToBits("float8e8m0", Number.NaN)).toBe(255);
    expect(floatToBits("float8e8m0", Number.POSITIVE_INFINITY)).toBe(255);
  });
  test("the nearest power of two, halfway up", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -126, max: 126 }),
        fc.double({ min: 1, max: 2, maxExcluded: true, noNaN: true }),
        (exponent, fraction) => {
          expect(floatToBits("float8e8m0", fraction * 2 ** exponent)).toBe(exponent + 127 + (fraction >= 1.5 ? 1 : 0));
        },
      ),
    );
  });
});

test("roundHalfEven", () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.500001, 1e300].map(roundHalfEven)).toEqual([
    -2, -2, -0, 0, 2, 2, 3, 1e300,
  ]);
});

test("only small float formats have bits", () => {
  expect(() => floatToBits("float32", 1)).toThrow(/float32 is not a small float/);
  expect(() => bitsToFloat("int8", 1)).toThrow(/int8 is not a small float/);
});

test("a tensor of numbers is rounded to its dtype and read back", () => {
  for (const dtype of names) expect([...toNumbers(tensor(dtype, [3], [1, -2, 0.5]))]).toEqual([1, -2, 0.5]);
});
