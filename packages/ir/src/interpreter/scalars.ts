/** What printed loops call: functions of one or two numbers, in double precision; the printer rounds. */
import {
  bitsToFloat,
  type DType,
  dtypeInfo,
  floatTable,
  floatToBits,
  NimforgeError,
  roundHalfEven,
} from "@nimforge/tensor";

const smallFloats = [
  "float16",
  "bfloat16",
  "float8e4m3fn",
  "float8e4m3fnuz",
  "float8e5m2",
  "float8e5m2fnuz",
  "float8e8m0",
  "float4e2m1",
] as const;

/** Rounds a double to the nearest value of a float dtype (float32: Math.fround). */
function round(dtype: DType, x: number, saturate = false): number {
  if (dtype === "float64") return x;
  if (dtype === "float32") return Math.fround(x);
  return bitsToFloat(dtype, floatToBits(dtype, x, saturate));
}

/** erf by its Taylor series for small |x|, a continued fraction of erfc for large (Abramowitz & Stegun 7.1.5, 7.1.14). */
function erf(x: number): number {
  const a = Math.abs(x);
  if (Number.isNaN(x)) return x;
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 80; n++) {
      term *= (-x * x) / n;
      const next = term / (2 * n + 1);
      sum += next;
      if (Math.abs(next) < 1e-17 * Math.abs(sum)) break;
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 60; n >= 1; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}

/** NaN-propagating, as numpy's minimum and maximum. */
const minimum = (a: number, b: number) => (a !== a ? a : b !== b ? b : Math.min(a, b));
const maximum = (a: number, b: number) => (a !== a ? a : b !== b ? b : Math.max(a, b));

const float: Record<string, (a: number, b: number) => number> = {
  ...Object.fromEntries(
    [
      "abs",
      "sign",
      "floor",
      "ceil",
      "trunc",
      "sqrt",
      "exp",
      "log",
      "sin",
      "cos",
      "tan",
      "asin",
      "acos",
      "atan",
      "sinh",
      "cosh",
      "tanh",
      "asinh",
      "acosh",
      "atanh",
      "expm1",
      "log1p",
      "atan2",
    ].map((name) => [name, (Math as unknown as Record<string, (a: number, b: number) => number>)[name]!]),
  ),
  div: (a, b) => a / b,
  // IEEE 754 pow, which C and numpy follow: 1 ** y = 1 and (-1) ** ±∞ = 1 even where JavaScript says NaN.
  pow: (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY) ? 1 : a ** b),
  fmod: (a, b) => a % b,
  mod: floorModulo,
  min: minimum,
  max: maximum,
  round: roundHalfEven,
  erf,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
};

/** Python's and numpy's %: the remainder has the divisor's sign, a zero remainder too. */
function floorModulo(a: number, b: number): number {
  const rest = a % b;
  if (rest === 0) return b < 0 || Object.is(b, -0) ? -0 : 0;
  return rest < 0 !== b < 0 ? rest + b : rest;
}

function nonZero<T extends number | bigint>(b: T): T {
  if (!b)
    throw new NimforgeError("malformed", "division-by-zero", "integer division by zero", {
      fix: "the divisor comes as data; keep it from being 0",
    });
  return b;
}

const int: Record<string, (a: number, b: number, bits: number) => number> = {
  div: (a, b) => Math.trunc(a / nonZero(b)),
  mod: (a, b) => a - nonZero(b) * Math.floor(a / b),
  fmod: (a, b) => a % nonZero(b),
  min: Math.min,
  max: Math.max,
  abs: Math.abs,
  sign: Math.sign,
  // Shifts by a negative or too large amount leave only zeros, or, to the right, only the sign.
  shl: (a, b, bits) => (b < 0 || b >= bits ? 0 : a << b),
  shr: (a, b, bits) => (b < 0 || b >= bits ? (a < 0 ? -1 : 0) : a < 0 ? a >> b : a >>> b),
};

const floorDivide = (a: bigint, b: bigint) => (a % b !== 0n && a < 0n !== b < 0n ? a / b - 1n : a / b);
const big: Record<string, (a: bigint, b: bigint) => bigint> = {
  div: (a, b) => a / nonZero(b),
  mod: (a, b) => a - nonZero(b) * floorDivide(a, b),
  fmod: (a, b) => a % nonZero(b),
  min: (a, b) => (a < b ? a : b),
  max: (a, b) => (a > b ? a : b),
  abs: (a) => (a < 0n ? -a : a),
  sign: (a) => (a > 0n ? 1n : a < 0n ? -1n : 0n),
  shl: (a, b) => (b < 0n || b >= 64n ? 0n : a << b),
  shr: (a, b) => (b < 0n || b >= 64n ? (a < 0n ? -1n : 0n) : a >> b),
  pow: (a, b) => (b < 0n ? (a === 1n ? 1n : a === -1n ? (b % 2n === 0n ? 1n : -1n) : 0n) : a ** b),
};

function limits(dtype: DType): { low: number; high: number } {
  const { min, max } = dtypeInfo(dtype);
  return { low: Number(min), high: Number(max) };
}

export const runtime = {
  decode: Object.fromEntries(smallFloats.map((name) => [name, floatTable(name)])) as Record<string, Float32Array>,
  encode: (dtype: DType, x: number) => floatToBits(dtype, x),
  round,
  float,
  int,
  big,
  floorMod: (a: number, b: number) => a - b * Math.floor(a / b),
  /** Float → integer: truncation, then the low bits (two's complement), as ONNX's reference does; NaN is 0, infinities saturate. */
  toInt: (dtype: DType, x: number): number => {
    const { bits, kind } = dtypeInfo(dtype);
    if (Number.isNaN(x)) return 0;
    const t = Math.trunc(x);
    if (!Number.isFinite(t)) return t > 0 ? limits(dtype).high : limits(dtype).low;
    const wrapped = Number(BigInt.asUintN(bits, BigInt(t)));
    return kind === "int" && wrapped >= 2 ** (bits - 1) ? wrapped - 2 ** bits : wrapped;
  },
  toBig: (dtype: DType, x: number): bigint => {
    if (Number.isNaN(x)) return 0n;
    const { min, max } = dtypeInfo(dtype);
    if (!Number.isFinite(x)) return BigInt(x > 0 ? max : min);
    const t = BigInt(Math.trunc(x));
    return dtype === "int64"
      ? t > BigInt(max)
        ? BigInt(max)
        : t < BigInt(min)
          ? BigInt(min)
          : t
      : BigInt.asUintN(64, t);
  },
  /** A data index with negatives counted from the end. */
  at: (value: number, extent: number): number => {
    const position = value < 0 ? value + extent : value;
    if (!(position >= 0 && position < extent))
      throw new NimforgeError("malformed", "index-out-of-range", `an index that comes as data is out of range`, {
        expected: `[${-extent}, ${extent - 1}]`,
        found: String(value),
        fix: "correct the input that holds the indices",
      });
    return position;
  },
};
