/**
 * Conversions between float32/float64 numbers and the small float formats, which are kept as raw bits.
 * Rounding is to nearest, ties to even. Overflow: float16, bfloat16 and float8e5m2 give infinity or, saturating, the
 * largest finite value; formats without infinity give NaN or, saturating, the largest finite value (ONNX Cast, spec
 * tables "Cast to float 8"; OCP 8-bit Floating Point Specification; OCP Microscaling Formats 1.0 for e8m0 and e2m1).
 */
import type { DType } from "./dtype.js";

interface SmallFloat {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /** Bits of the largest finite magnitude. */
  readonly maxBits: number;
  readonly infinity: number | undefined;
  readonly nan: number | undefined;
  /** No negative zero: its bits mean NaN. */
  readonly unsignedZero?: boolean;
}

const formats: Partial<Record<DType, SmallFloat>> = {
  float16: { exponentBits: 5, mantissaBits: 10, bias: 15, maxBits: 0x7bff, infinity: 0x7c00, nan: 0x7e00 },
  bfloat16: { exponentBits: 8, mantissaBits: 7, bias: 127, maxBits: 0x7f7f, infinity: 0x7f80, nan: 0x7fc0 },
  float8e4m3fn: { exponentBits: 4, mantissaBits: 3, bias: 7, maxBits: 0x7e, infinity: undefined, nan: 0x7f },
  float8e4m3fnuz: {
    exponentBits: 4,
    mantissaBits: 3,
    bias: 8,
    maxBits: 0x7f,
    infinity: undefined,
    nan: 0x80,
    unsignedZero: true,
  },
  float8e5m2: { exponentBits: 5, mantissaBits: 2, bias: 15, maxBits: 0x7b, infinity: 0x7c, nan: 0x7f },
  float8e5m2fnuz: {
    exponentBits: 5,
    mantissaBits: 2,
    bias: 16,
    maxBits: 0x7f,
    infinity: undefined,
    nan: 0x80,
    unsignedZero: true,
  },
  float4e2m1: { exponentBits: 2, mantissaBits: 1, bias: 1, maxBits: 0x7, infinity: undefined, nan: undefined },
};

const f64 = new Float64Array(1);
const u64 = new BigUint64Array(f64.buffer);

/** |x| (finite, not zero) as the magnitude bits of a format, rounded to nearest even; may exceed maxBits. */
function roundMagnitude(x: number, format: SmallFloat): number {
  f64[0] = x;
  const bits = u64[0] as bigint;
  const exponent = Number((bits >> 52n) & 0x7ffn) - 1023;
  const minExponent = 1 - format.bias;
  // The spacing of the target at x; scaling by it is exact, and Math.round-to-even of the quotient is the mantissa.
  const ulp = Math.max(exponent, minExponent) - format.mantissaBits;
  const quotient = roundHalfEven(x * 2 ** -ulp);
  const biased = Math.max(exponent, minExponent) + format.bias;
  const hidden = 2 ** format.mantissaBits;
  return (biased - 1) * hidden + quotient; // subnormals have biased = 1 and no hidden bit: the same formula
}

/** Round to the nearest integer, ties to even; the sign of zero stays. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const difference = x - floor;
  const up = difference > 0.5 || (difference === 0.5 && floor % 2 !== 0);
  const rounded = up ? floor + 1 : floor;
  return rounded === 0 && x < 0 ? -0 : rounded;
}

/** Bits of `x` in a small float format. `saturate` clamps overflow to the largest finite value. */
export function floatToBits(dtype: DType, x: number, saturate = false): number {
  if (dtype === "float8e8m0") return toE8M0(x, saturate);
  const format = formats[dtype];
  if (!format) throw new TypeError(`floatToBits: ${dtype} is not a small float format`);
  const width = format.exponentBits + format.mantissaBits;
  const negative = x < 0 || Object.is(x, -0);
  const sign = negative ? 2 ** width : 0;
  if (Number.isNaN(x)) return format.nan ?? 0x8; // e2m1 has no NaN; the reference converter gives -0
  if (x === 0) return format.unsignedZero ? 0 : sign;
  const infinite = !Number.isFinite(x);
  const magnitude = infinite ? Number.POSITIVE_INFINITY : roundMagnitude(Math.abs(x), format);
  if (magnitude > format.maxBits) {
    if (saturate || format.nan === undefined) {
      // Infinity saturates in the float8 formats; where there is neither infinity nor NaN it must.
      return sign + format.maxBits;
    }
    if (format.infinity !== undefined) return sign + format.infinity;
    return format.unsignedZero ? (format.nan as number) : sign + (format.nan as number);
  }
  if (magnitude === 0 && format.unsignedZero) return 0;
  return sign + magnitude;
}

/** The number that the bits of a small float format mean. */
export function bitsToFloat(dtype: DType, bits: number): number {
  if (dtype === "float8e8m0") return bits === 255 ? Number.NaN : 2 ** (bits - 127);
  const format = formats[dtype];
  if (!format) throw new TypeError(`bitsToFloat: ${dtype} is not a small float format`);
  const width = format.exponentBits + format.mantissaBits;
  if (format.unsignedZero && bits === format.nan) return Number.NaN;
  const sign = bits >= 2 ** width ? -1 : 1;
  const magnitude = bits % 2 ** width;
  if (magnitude > format.maxBits) return magnitude === format.infinity ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  const hidden = 2 ** format.mantissaBits;
  const exponent = Math.floor(magnitude / hidden);
  const mantissa = magnitude % hidden;
  return exponent === 0
    ? sign * mantissa * 2 ** (1 - format.bias - format.mantissaBits)
    : sign * (hidden + mantissa) * 2 ** (exponent - format.bias - format.mantissaBits);
}

/** float8e8m0: an unsigned power of two; rounding is up when the fraction exceeds half ("nearest" in ONNX's round_mode). */
function toE8M0(x: number, saturate: boolean): number {
  if (Number.isNaN(x) || x < 0) return 255;
  if (x === 0) return 0;
  if (x === Number.POSITIVE_INFINITY) return saturate ? 254 : 255;
  const exponent = Math.floor(Math.log2(x));
  const low = 2 ** exponent > x ? exponent - 1 : exponent;
  const fraction = x / 2 ** low; // in [1, 2)
  const rounded = low + (fraction >= 1.5 ? 1 : 0);
  return rounded > 127 ? (saturate ? 254 : 255) : Math.max(0, rounded + 127);
}

const tables = new Map<DType, Float32Array>();

/** All values of an 8- or 16-bit format by their bits; built once. */
export function floatTable(dtype: DType): Float32Array {
  let table = tables.get(dtype);
  if (!table) {
    const size = dtype === "float16" || dtype === "bfloat16" ? 65536 : dtype === "float4e2m1" ? 16 : 256;
    table = Float32Array.from({ length: size }, (_, bits) => bitsToFloat(dtype, bits));
    tables.set(dtype, table);
  }
  return table;
}
