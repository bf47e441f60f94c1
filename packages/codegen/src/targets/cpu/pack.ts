/** Weight layouts of the CPU templates. "f32.panel16": [groups][⌈columns/16⌉][depth][16], zero padded (kernels/conv.hpp). */
import type { Value } from "@nimforge/ir";
import { internalError, type Tensor } from "@nimforge/tensor";
import type { PackedConstant } from "../../cpp/arguments.js";

const panel = 16;

/** Columns × depth as panels; `at(group, column, k)` is the element's position in the source. */
function panels(
  source: Float32Array,
  groups: number,
  columns: number,
  depth: number,
  at: (group: number, column: number, k: number) => number,
): Uint8Array {
  const count = Math.ceil(columns / panel);
  const out = new Float32Array(groups * count * depth * panel);
  for (let g = 0; g < groups; g++)
    for (let column = 0; column < columns; column++) {
      const base = (g * count + Math.floor(column / panel)) * depth * panel + (column % panel);
      for (let k = 0; k < depth; k++) out[base + k * panel] = source[at(g, column, k)] as number;
    }
  return new Uint8Array(out.buffer);
}

function floats(value: Value): { data: Float32Array; shape: readonly number[] } {
  const constant = value.constant as Tensor | undefined;
  if (constant?.dtype !== "float32") throw internalError("only float32 constants are packed");
  return { data: constant.data as Float32Array, shape: constant.shape };
}

/** Conv weights [Cout, Cin/groups, k…]: depth runs over taps, then channels. */
export function packConv(value: Value, groups: number): PackedConstant {
  return {
    packed: `conv.panel16/${groups}`,
    source: value,
    bytes: () => {
      const { data, shape } = floats(value);
      const [out, channels] = shape as readonly [number, number];
      const taps = shape.slice(2).reduce((a, b) => a * b, 1);
      const columns = out / groups;
      return panels(data, groups, columns, taps * channels, (g, column, k) => {
        const channel = k % channels;
        return ((g * columns + column) * channels + channel) * taps + (k - channel) / channels;
      });
    },
  };
}

/** Depthwise weights [C, 1, k…] as [taps][C]. */
export function packDepthwise(value: Value): PackedConstant {
  return {
    packed: "depthwise",
    source: value,
    bytes: () => {
      const { data, shape } = floats(value);
      const channels = shape[0] as number;
      const taps = data.length / channels;
      const out = new Float32Array(data.length);
      for (let c = 0; c < channels; c++)
        for (let t = 0; t < taps; t++) out[t * channels + c] = data[c * taps + t] as number;
      return new Uint8Array(out.buffer);
    },
  };
}

/** ConvTranspose weights [Cin, Cout/groups, k…]: as packConv, with in and out exchanged. */
export function packConvTranspose(value: Value, groups: number): PackedConstant {
  return {
    packed: `deconv.panel16/${groups}`,
    source: value,
    bytes: () => {
      const { data, shape } = floats(value);
      const [inputs, columns] = shape as readonly [number, number];
      const channels = inputs / groups;
      const taps = shape.slice(2).reduce((a, b) => a * b, 1);
      return panels(data, groups, columns, taps * channels, (g, column, k) => {
        const channel = k % channels;
        return ((g * channels + channel) * columns + column) * taps + (k - channel) / channels;
      });
    },
  };
}

/** A matrix [K, N] as one group of panels over N. */
export function packMatrix(value: Value): PackedConstant {
  return {
    packed: "matrix.panel16",
    source: value,
    bytes: () => {
      const { data, shape } = floats(value);
      const [depth, columns] = shape as readonly [number, number];
      return panels(data, 1, columns, depth, (_, column, k) => k * columns + column);
    },
  };
}
