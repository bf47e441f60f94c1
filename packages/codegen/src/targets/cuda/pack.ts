/** Weight layouts of the CUDA templates: rows of k, each with its columns padded to a multiple of 8 elements, so that 16-byte copies stay aligned. */
import type { Value } from "@nimforge/ir";
import { internalError, type Tensor } from "@nimforge/tensor";
import type { PackedConstant } from "../../cpp/arguments.js";

export const paddedTo8 = (columns: number): number => Math.ceil(columns / 8) * 8;

type Elements = Float32Array | Uint16Array;

function elements(value: Value): { data: Elements; shape: readonly number[] } {
  const constant = value.constant as Tensor | undefined;
  const data = constant?.data;
  if (!(data instanceof Float32Array || data instanceof Uint16Array))
    throw internalError("only float32 and 16-bit float constants are packed");
  return { data, shape: constant!.shape };
}

/** `rows` × `columns` with padded rows; `at` is the element's position in the source. */
function padded(
  source: Elements,
  rows: number,
  columns: number,
  at: (row: number, column: number) => number,
): Uint8Array {
  const pitch = paddedTo8(columns);
  const out = source instanceof Float32Array ? new Float32Array(rows * pitch) : new Uint16Array(rows * pitch);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) out[row * pitch + column] = source[at(row, column)] as number;
  return new Uint8Array(out.buffer);
}

const taps = (shape: readonly number[]): number => shape.slice(2).reduce((a, b) => a * b, 1);

/** Made once for all targets of a build. */
const made = new WeakMap<Value, Map<string, Uint8Array>>();

function packedOnce(name: string, source: Value, bytes: () => Uint8Array): PackedConstant {
  return {
    packed: name,
    source,
    bytes: () => {
      const known = made.get(source) ?? new Map<string, Uint8Array>();
      made.set(source, known);
      let packed = known.get(name);
      if (!packed) known.set(name, (packed = bytes()));
      return packed;
    },
  };
}

/** A matrix [K, N]. */
export const packMatrix = (value: Value): PackedConstant =>
  packedOnce("matrix.rows8", value, () => {
    const { data, shape } = elements(value);
    const [depth, columns] = shape as readonly [number, number];
    return padded(data, depth, columns, (k, n) => k * columns + n);
  });

/** Conv weights [Cout, Cin/groups, k…] as [groups][taps · Cin/groups][Cout/groups]. */
export const packConv = (value: Value, groups: number): PackedConstant =>
  packedOnce(`conv.rows8/${groups}`, value, () => {
    const { data, shape } = elements(value);
    const [out, channels] = shape as readonly [number, number];
    const [area, columns] = [taps(shape), out / groups];
    const depth = area * channels;
    return padded(data, groups * depth, columns, (row, n) => {
      const [g, k] = [Math.floor(row / depth), row % depth];
      return ((g * columns + n) * channels + (k % channels)) * area + Math.floor(k / channels);
    });
  });

/** ConvTranspose weights [Cin, Cout/groups, k…] as [groups][taps · Cin/groups][Cout/groups]. */
export const packConvTranspose = (value: Value, groups: number): PackedConstant =>
  packedOnce(`deconv.rows8/${groups}`, value, () => {
    const { data, shape } = elements(value);
    const [inputs, columns] = shape as readonly [number, number];
    const [area, channels] = [taps(shape), inputs / groups];
    const depth = area * channels;
    return padded(data, groups * depth, columns, (row, n) => {
      const [g, k] = [Math.floor(row / depth), row % depth];
      return ((g * channels + (k % channels)) * columns + n) * area + Math.floor(k / channels);
    });
  });

/** Depthwise weights [C, 1, k…] as [taps][C]. */
export const packDepthwise = (value: Value): PackedConstant =>
  packedOnce("depthwise.taps8", value, () => {
    const { data, shape } = elements(value);
    const [channels, area] = [shape[0] as number, taps(shape)];
    return padded(data, area, channels, (tap, c) => c * area + tap);
  });
