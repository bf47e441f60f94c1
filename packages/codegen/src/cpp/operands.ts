/** What a printed kernel reads and writes: buffers, pointers, positions. */
import type { Dim, LoadExpr, Value } from "@nimforge/ir";
import { type Kernel, type Layout, offsetOf } from "@nimforge/passes";
import type { Arguments } from "./arguments.js";
import { type OperandAccess, storageType } from "./printer.js";

export type LayoutOf = (value: Value) => Layout;

/** The printed function and what the step passes to it. */
export interface PrintedFunction {
  readonly source: string;
  readonly args: Arguments;
  readonly items: Dim;
  readonly scratch: Dim;
  readonly kind: string;
  readonly headers: readonly string[];
}

export function operandAccess(kernel: Kernel, layoutOf: LayoutOf) {
  return (load: LoadExpr): OperandAccess => {
    const value = kernel.inputs[load.operand] as Value;
    return {
      pointer: `x${load.operand}`,
      shape: value.shape,
      name: `${kernel.nodes[kernel.nodes.length - 1]?.op.name ?? "kernel"}`,
      offset: (index) => offsetOf(value.shape, layoutOf(value), index),
    };
  };
}

export function shapeOfLoad(kernel: Kernel) {
  return (load: LoadExpr) => (load.operand < 0 ? undefined : kernel.inputs[load.operand]?.shape);
}

/** `const T* __restrict xK = …` for every buffer; the output is the last. */
export function bindBuffers(kernel: Kernel, args: Arguments): string[] {
  args.buffers.push(...kernel.inputs, kernel.output);
  const inputs = kernel.inputs.map(
    (value, k) =>
      `const ${storageType[value.dtype]}* __restrict x${k} = (const ${storageType[value.dtype]}*)L->buffers[${k}];`,
  );
  return [
    ...inputs,
    `${storageType[kernel.output.dtype]}* __restrict out = (${storageType[kernel.output.dtype]}*)L->buffers[${kernel.inputs.length}];`,
  ];
}
