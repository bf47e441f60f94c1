/** Pieces of run-time tensors, for the references of opaque ops. */
import { allocate, isSmallFloat, sizeOf, type Tensor, type TensorData, toNumbers } from "@nimforge/tensor";
import type { RuntimeValue } from "../op.js";

type Elements = { [position: number]: number | bigint | string };

export const isTensor = (value: RuntimeValue | undefined): value is Tensor =>
  value !== null && value !== undefined && "dtype" in value;

/** Distance, in elements, between neighbours along each axis. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--)
    strides[axis] = (strides[axis + 1] as number) * (shape[axis + 1] as number);
  return strides;
}

/** Calls `visit` with every index of a shape in row-major order; the array is reused. */
export function forEachIndex(
  shape: readonly number[],
  visit: (index: readonly number[], position: number) => void,
): void {
  const index = new Array<number>(shape.length).fill(0);
  const count = sizeOf(shape);
  for (let position = 0; position < count; position++) {
    visit(index, position);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis] = 0;
    }
  }
}

/** A tensor of the elements of `source` at the given row-major positions. */
export function take(source: Tensor, shape: readonly number[], positions: ArrayLike<number>): Tensor {
  const data = allocate(source.dtype, positions.length) as Elements & TensorData;
  for (let k = 0; k < positions.length; k++) data[k] = source.data[positions[k] as number] as never;
  return { dtype: source.dtype, shape: [...shape], data };
}

/** Whole slices along one axis, in the given order. */
export function takeAlong(source: Tensor, axis: number, at: readonly number[]): Tensor {
  const outer = sizeOf(source.shape.slice(0, axis));
  const inner = sizeOf(source.shape.slice(axis + 1));
  const size = source.shape[axis] as number;
  const shape = source.shape.map((own, k) => (k === axis ? at.length : own));
  const data = allocate(source.dtype, sizeOf(shape)) as Elements & TensorData;
  let next = 0;
  for (let o = 0; o < outer; o++)
    for (const position of at)
      for (let i = 0, from = (o * size + position) * inner; i < inner; i++)
        data[next++] = source.data[from + i] as never;
  return { dtype: source.dtype, shape, data };
}

export const range = (length: number, start = 0): number[] => Array.from({ length }, (_, k) => start + k);

export const sliceAlong = (source: Tensor, axis: number, start: number, length: number): Tensor =>
  takeAlong(source, axis, range(length, start));

export const withShape = (source: Tensor, shape: readonly number[]): Tensor => ({ ...source, shape: [...shape] });

/** The tensor at one position of an axis, without that axis. */
export function selectAlong(source: Tensor, axis: number, position: number): Tensor {
  const slice = sliceAlong(source, axis, position, 1);
  return withShape(
    slice,
    slice.shape.filter((_, k) => k !== axis),
  );
}

/** Tensors of one type laid end to end along an axis; at least one. */
export function concatAlong(parts: readonly Tensor[], axis: number): Tensor {
  const [first] = parts as readonly [Tensor];
  const outer = sizeOf(first.shape.slice(0, axis));
  const inner = sizeOf(first.shape.slice(axis + 1));
  const sizes = parts.map((part) => part.shape[axis] as number);
  const shape = first.shape.map((own, k) => (k === axis ? sizes.reduce((a, b) => a + b, 0) : own));
  const data = allocate(first.dtype, sizeOf(shape)) as Elements & TensorData;
  let next = 0;
  for (let o = 0; o < outer; o++)
    parts.forEach((part, k) => {
      const length = (sizes[k] as number) * inner;
      for (let i = 0, from = o * length; i < length; i++) data[next++] = part.data[from + i] as never;
    });
  return { dtype: first.dtype, shape, data };
}

/** Tensors of one shape laid along a new axis; at least one. */
export const stackAlong = (parts: readonly Tensor[], axis: number): Tensor =>
  concatAlong(
    parts.map((part) => withShape(part, [...part.shape.slice(0, axis), 1, ...part.shape.slice(axis)])),
    axis,
  );

/** Elements that compare as values: small floats decoded, BigInt and strings as they are. */
export const comparable = (source: Tensor): ArrayLike<number | bigint | string> =>
  isSmallFloat(source.dtype) ? toNumbers(source) : (source.data as ArrayLike<number | bigint | string>);

/** Order of numpy's sort: ascending, NaN last. */
export function compareElements(a: number | bigint | string, b: number | bigint | string): number {
  if (a !== a || b !== b) return Number(a !== a) - Number(b !== b);
  return a < b ? -1 : a > b ? 1 : 0;
}

/** An integer tensor as numbers. */
export const integers = (source: Tensor): number[] => Array.from(source.data as ArrayLike<number | bigint>, Number);
