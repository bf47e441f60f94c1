/** Element types: one table that everything else is derived from. */

export interface DTypeInfo {
  /** Bits of one element in ONNX's raw_data and in packed constants (string: 0). */
  readonly bits: number;
  readonly kind: "float" | "int" | "uint" | "bool" | "string" | "complex";
  /** TensorProto.DataType. */
  readonly onnx: number;
  /** Smallest and largest finite value. */
  readonly min: number | bigint;
  readonly max: number | bigint;
}

const float = (bits: number, onnx: number, max: number, min = -max) =>
  ({ bits, kind: "float", onnx, min, max }) as const;
const int = (bits: number, onnx: number) =>
  ({ bits, kind: "int", onnx, ...range(-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n) }) as const;
const uint = (bits: number, onnx: number) =>
  ({ bits, kind: "uint", onnx, ...range(0n, 2n ** BigInt(bits) - 1n) }) as const;

function range(min: bigint, max: bigint): { min: number | bigint; max: number | bigint } {
  return max > BigInt(Number.MAX_SAFE_INTEGER) ? { min, max } : { min: Number(min), max: Number(max) };
}

export const dtypes = {
  float32: float(32, 1, 3.4028234663852886e38),
  float64: float(64, 11, Number.MAX_VALUE),
  float16: float(16, 10, 65504),
  bfloat16: float(16, 16, 3.3895313892515355e38),
  float8e4m3fn: float(8, 17, 448),
  float8e4m3fnuz: float(8, 18, 240),
  float8e5m2: float(8, 19, 57344),
  float8e5m2fnuz: float(8, 20, 57344),
  float8e8m0: float(8, 24, 2 ** 127, 2 ** -127),
  float4e2m1: float(4, 23, 6),
  int8: int(8, 3),
  int16: int(16, 5),
  int32: int(32, 6),
  int64: int(64, 7),
  uint8: uint(8, 2),
  uint16: uint(16, 4),
  uint32: uint(32, 12),
  uint64: uint(64, 13),
  int4: int(4, 22),
  uint4: uint(4, 21),
  int2: int(2, 26),
  uint2: uint(2, 25),
  bool: { bits: 8, kind: "bool", onnx: 9, min: 0, max: 1 },
  string: { bits: 0, kind: "string", onnx: 8, min: 0, max: 0 },
  complex64: { bits: 64, kind: "complex", onnx: 14, min: 0, max: 0 },
  complex128: { bits: 128, kind: "complex", onnx: 15, min: 0, max: 0 },
} as const satisfies Record<string, DTypeInfo>;

export type DType = keyof typeof dtypes;
export const dtypeNames = Object.keys(dtypes) as DType[];

export function dtypeInfo(dtype: DType): DTypeInfo {
  return dtypes[dtype];
}

const byOnnx = new Map<number, DType>(dtypeNames.map((name) => [dtypes[name].onnx, name]));

/** The dtype of a TensorProto.DataType number, or undefined. */
export function dtypeFromOnnx(code: number): DType | undefined {
  return byOnnx.get(code);
}

export const isFloat = (dtype: DType): boolean => dtypes[dtype].kind === "float";
/** Signed or unsigned integer (not bool). */
export const isInteger = (dtype: DType): boolean => dtypes[dtype].kind === "int" || dtypes[dtype].kind === "uint";
export const isNumeric = (dtype: DType): boolean => isFloat(dtype) || isInteger(dtype);
/** Elements are BigInt in JavaScript. */
export const isBig = (dtype: DType): boolean => dtype === "int64" || dtype === "uint64";

/** Bytes of one element in memory while a program runs: sub-byte types take a byte each. */
export function elementBytes(dtype: DType): number {
  return Math.max(8, dtypes[dtype].bits) / 8;
}
