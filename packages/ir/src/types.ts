/** What values are: tensors with symbolic shapes, sequences, optionals. */
import type { DType } from "@nimforge/tensor";
import { type Dim, equalDims, formatShape } from "./dim.js";

export interface TensorType {
  readonly kind: "tensor";
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}
export interface SequenceType {
  readonly kind: "sequence";
  readonly element: ValueType;
}
export interface OptionalType {
  readonly kind: "optional";
  readonly element: ValueType;
}
export type ValueType = TensorType | SequenceType | OptionalType;

export const tensorType = (dtype: DType, shape: readonly Dim[]): TensorType => ({ kind: "tensor", dtype, shape });

export function formatType(type: ValueType): string {
  return type.kind === "tensor"
    ? `${type.dtype}${formatShape(type.shape)}`
    : `${type.kind}(${formatType(type.element)})`;
}

export function equalTypes(a: ValueType, b: ValueType): boolean {
  if (a.kind === "tensor" && b.kind === "tensor")
    return (
      a.dtype === b.dtype &&
      a.shape.length === b.shape.length &&
      a.shape.every((dim, k) => equalDims(dim, b.shape[k] as Dim))
    );
  return a.kind !== "tensor" && a.kind === b.kind && equalTypes(a.element, (b as SequenceType | OptionalType).element);
}
