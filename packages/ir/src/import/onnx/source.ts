/**
 * An ONNX model as plain values, still by name: what decoding gives, functions and opset conversion rewrite, and the graph is
 * built from. Names are data and may hold anything, so they are only ever keys of Maps.
 */
import type { DType, Tensor } from "@nimforge/tensor";

/** A constant whose elements are read on demand. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Where the bytes lie if they are in a file as they are stored (4- and 2-bit types packed, little endian). */
  readonly location?: FileView | undefined;
  read(): Tensor;
}

export interface FileView {
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

export type SourceDim = number | string | undefined;

/** The declared type of a value; a shape that is undefined has unknown rank. */
export type SourceType =
  | { readonly kind: "tensor"; readonly dtype: DType; readonly shape: readonly SourceDim[] | undefined }
  | { readonly kind: "sequence"; readonly element: SourceType | undefined }
  | { readonly kind: "optional"; readonly element: SourceType | undefined }
  | { readonly kind: "map" | "sparse" | "opaque" };

export interface SourceValueInfo {
  readonly name: string;
  readonly type: SourceType | undefined;
}

/** Integers are numbers where exact, else bigints. */
export type AttributeValue =
  | number
  | bigint
  | string
  | TensorSource
  | SourceGraph
  | SourceType
  | readonly (number | bigint)[]
  | readonly string[]
  | readonly TensorSource[]
  | readonly SourceGraph[]
  | readonly SourceType[];

export type AttributeKind =
  | "float"
  | "int"
  | "string"
  | "tensor"
  | "graph"
  | "floats"
  | "ints"
  | "strings"
  | "tensors"
  | "graphs"
  | "type"
  | "types";

export interface SourceAttribute {
  readonly kind: AttributeKind;
  readonly value: AttributeValue;
  /** Inside a function: the function's attribute that this one takes its value from (the value is then meaningless). */
  readonly ref?: string | undefined;
}

export interface SourceNode {
  /** The source model's name, or `op_index`. */
  readonly name: string;
  readonly op: string;
  /** "" for ai.onnx. */
  readonly domain: string;
  readonly overload: string;
  /** The opset version of the domain that this node is written in. */
  readonly version: number;
  /** "" where an optional input or output is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, SourceAttribute>;
}

export interface SourceGraph {
  readonly name: string;
  readonly inputs: readonly SourceValueInfo[];
  readonly outputs: readonly SourceValueInfo[];
  readonly constants: ReadonlyMap<string, TensorSource>;
  /** In an order in which every value is made before it is used. */
  readonly nodes: readonly SourceNode[];
}

export interface SourceFunction {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes with their default, or undefined where the caller must give them or they may stay out. */
  readonly attributes: ReadonlyMap<string, SourceAttribute | undefined>;
  readonly nodes: readonly SourceNode[];
}

export interface SourceModel {
  readonly irVersion: number;
  readonly producer: string;
  /** Domain ("" for ai.onnx) to version. */
  readonly opsets: ReadonlyMap<string, number>;
  readonly graph: SourceGraph;
  readonly functions: readonly SourceFunction[];
  readonly warnings: readonly string[];
}
