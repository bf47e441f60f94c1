/** Seeded inputs: the same seed, type and shape give the same values on every machine. */
import { type DType, dtypeInfo, sizeOf, type Tensor, tensor } from "@nimforge/tensor";

/** Uniform numbers in [0, 1): mulberry32 (public domain, Tommy Ettinger). */
export function randomStream(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Integers are this small so that they are valid where a model takes an index. */
const integerValues = 4;

/** Floats in [-1, 1), integers in [0, 4), bools, or strings of one digit. */
export function randomTensor(dtype: DType, shape: readonly number[], seed = 0): Tensor {
  const next = randomStream(seed);
  const { kind } = dtypeInfo(dtype);
  const value: () => number | boolean | string = {
    float: () => 2 * next() - 1,
    complex: () => 2 * next() - 1,
    int: () => Math.floor(next() * Math.min(integerValues, 2 ** (dtypeInfo(dtype).bits - 1))),
    uint: () => Math.floor(next() * integerValues),
    bool: () => next() < 0.5,
    string: () => String(Math.floor(next() * 10)),
  }[kind];
  const length = sizeOf(shape) * (kind === "complex" ? 2 : 1);
  return tensor(dtype, shape, Array.from({ length }, value));
}
