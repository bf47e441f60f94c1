/** Test support: one op run by the interpreter, and numbers to run it on. */
import { sizeOf, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import { symbol } from "../dim.js";
import { Context, Graph, type Value } from "../graph.js";
import { evaluate } from "../interpreter/index.js";
import type { Attributes } from "../op.js";
import { tensorType } from "../types.js";
import { findOp } from "./index.js";
import { forEachIndex, stridesOf } from "./tensors.js";

export interface RunOptions {
  /** How many outputs to ask for (default 1). */
  readonly outputs?: number;
  /** Inputs whose values the build knows. */
  readonly known?: readonly number[];
  /** Axes whose size only the run knows, by input. */
  readonly open?: Readonly<Record<number, readonly number[]>>;
}

/** Builds a graph of one node and runs it. */
export function runOp(
  name: string,
  inputs: readonly (Tensor | undefined)[],
  attributes: Attributes = {},
  options: RunOptions = {},
): Tensor[] {
  const context = new Context(findOp);
  const declared: { name: string; value: Value; tensor: Tensor }[] = [];
  const values = inputs.map((given, k) => {
    if (!given) return undefined;
    if (options.known?.includes(k)) return context.constant(given);
    const shape = given.shape.map((size, axis) =>
      options.open?.[k]?.includes(axis) ? symbol(`s${k}.${axis}`, 1) : size,
    );
    const value = context.input(`x${k}`, tensorType(given.dtype, shape));
    declared.push({ name: `x${k}`, value, tensor: given });
    return value;
  });
  const results = context.apply(name, values, attributes, { outputs: options.outputs ?? 1 });
  const outputs = results.slice(0, options.outputs ?? 1).map((value, k) => ({ name: `y${k}`, value }));
  return evaluate(
    new Graph(context, declared, outputs),
    declared.map((input) => input.tensor),
  ) as Tensor[];
}

/** A tensor of reproducible numbers in [−1, 1). */
export function random(shape: readonly number[], seed = 1): Tensor {
  let state = seed * 2654435761;
  const next = () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9) | 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 31 - 1;
  };
  return tensor("float32", shape, Array.from({ length: sizeOf(shape) }, next));
}

export const float32 = (shape: readonly number[], values: readonly number[]): Tensor =>
  tensor("float32", shape, values);
export const int64 = (...values: number[]): Tensor => tensor("int64", [values.length], values.map(BigInt));
export const numbersOf = (x: Tensor | undefined): number[] => Array.from(toNumbers(x as Tensor));

/** The element of `x` at an index, or `outside` where there is none. */
export function reader(x: Tensor, outside = 0): (index: readonly number[]) => number {
  const values = toNumbers(x);
  const strides = stridesOf(x.shape);
  return (index) =>
    index.every((i, axis) => i >= 0 && i < (x.shape[axis] as number))
      ? (values[index.reduce((position, i, axis) => position + i * (strides[axis] as number), 0)] as number)
      : outside;
}

/** element(index) for every index of a shape, row-major. */
export function tabulate(shape: readonly number[], element: (index: readonly number[]) => number): number[] {
  const out: number[] = [];
  forEachIndex(shape, (index) => out.push(element([...index])));
  return out;
}

/** Σ element(k) over a shape. */
export const sumOver = (shape: readonly number[], element: (k: readonly number[]) => number): number =>
  tabulate(shape, element).reduce((a, b) => a + b, 0);

/** Largest absolute difference. */
export function distance(actual: Tensor | undefined, expected: readonly number[]): number {
  const values = numbersOf(actual);
  if (values.length !== expected.length) return Number.POSITIVE_INFINITY;
  return Math.max(
    0,
    ...values.map((value, k) => (Object.is(value, expected[k]) ? 0 : Math.abs(value - (expected[k] as number)))),
  );
}
