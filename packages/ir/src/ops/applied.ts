/** One op on tensors, for tests: build-time operands are constants, the others graph inputs. */
import { type Tensor, toNumbers } from "@nimforge/tensor";
import { Context, Graph, type Value } from "../graph.js";
import { evaluate } from "../interpreter/index.js";
import type { Attributes, RuntimeValue } from "../op.js";
import { tensorType } from "../types.js";
import { findOp } from "./index.js";

export interface Applied {
  readonly outputs: readonly Value[];
  readonly graph: Graph;
  run(): RuntimeValue[];
}

/** `data` inputs are known only at run time; `constants` follow them. */
export function applied(
  name: string,
  data: readonly Tensor[],
  constants: readonly (Tensor | undefined)[] = [],
  attributes: Attributes = {},
  outputs = 1,
): Applied {
  const context = new Context(findOp);
  const inputs = data.map((value, k) => ({
    name: `x${k}`,
    value: context.input(`x${k}`, tensorType(value.dtype, value.shape)),
  }));
  const operands = [...inputs.map(({ value }) => value), ...constants.map((value) => value && context.constant(value))];
  const results = context.apply(name, operands, attributes, { outputs });
  const graph = new Graph(
    context,
    inputs,
    results.map((value, k) => ({ name: `y${k}`, value })),
  );
  return { outputs: results, graph, run: () => evaluate(graph, data) };
}

/** The first output's shape and elements. */
export function result(...args: Parameters<typeof applied>): {
  shape: readonly number[];
  values: readonly (number | string)[];
} {
  const [first] = applied(...args).run();
  const value = first as Tensor;
  return {
    shape: value.shape,
    values: value.dtype === "string" ? [...(value.data as string[])] : [...toNumbers(value)],
  };
}
