/**
 * An engine as plain objects: the schema (schema/engine.fbs) with names for enums and, where the file has segments, a
 * type parameter: the writer takes bytes (`ByteSource`), the reader gives places in the file (`DataRef`).
 * Expressions, symbols, buffers, kernels, images and steps are referred to by their index; absent references are left out.
 */
import type { DType } from "@nimforge/tensor";

/** Bytes that may be too large to hold: `read` gives any range of them, the same each time. */
export interface ByteStream {
  readonly length: number;
  read(offset: number, length: number): Uint8Array;
}
export type ByteSource = Uint8Array | ByteStream;

/** Bytes in an engine file. */
export interface DataRef {
  segment: number;
  /** From the segment's start. */
  offset: number;
}

export const exprOps = [
  "constant",
  "symbol",
  "add",
  "sub",
  "mul",
  "floordiv",
  "ceildiv",
  "mod",
  "min",
  "max",
  "eq",
  "ne",
  "lt",
  "le",
  "and",
  "or",
  "not",
  "select",
] as const;
export type ExprOpName = (typeof exprOps)[number];

/** One node of a program's expression array; operands are earlier indices (for `symbol`, `a` is the symbol's index). */
export interface ExprSpec {
  op: ExprOpName;
  a?: number;
  b?: number;
  c?: number;
  /** For `constant`: a number where it is a safe integer. */
  value?: number | bigint;
}

/** A size known at run time: bound from axis `axis` of input `input`, or written by host step `step`. */
export interface SymbolSpec {
  name: string;
  min: number | bigint;
  max: number | bigint;
  input?: number;
  axis?: number;
  step?: number;
}

export interface TensorInfoSpec {
  name: string;
  dtype: DType;
  /** Expression of each axis. */
  shape: number[];
  buffer: number;
}

export const bufferKinds = ["arena", "input", "output", "constant"] as const;
export type BufferKindName = (typeof bufferKinds)[number];

export interface BufferSpec<Data = ByteSource> {
  name: string;
  kind: BufferKindName;
  dtype: DType;
  /** Expression: size in bytes. */
  bytes: number;
  /** Live over the steps [first, last], both included (arena). */
  first?: number;
  last?: number;
  /** A view that starts `offset` (expression, bytes; 0 when left out) into buffer `alias`. */
  alias?: number;
  offset?: number;
  /** Constant: its bytes; left out when it has none (size 0) or is an alias. */
  data?: Data;
}

export interface VariantSpec {
  /** Expression; taken when not 0. Left out: always. */
  guard?: number;
  kernel: number;
  /** Expressions: items of the grid (1), smallest range worth a worker (1), bytes of scratch for each worker (0). */
  items?: number;
  grain?: number;
  scratch?: number;
}

export interface LaunchSpec {
  variants: VariantSpec[];
  buffers: number[];
  /** Expressions: integer arguments of the kernel. */
  dims: number[];
  /** Text for operand k of the kernel's error word. */
  faults?: string[];
}

export interface HostOpSpec {
  /** `name@version` of a registered host operator. */
  op: string;
  /** JSON. */
  attributes?: string;
  /** Buffers; -1 is an operand that is absent. */
  inputs: number[];
  outputs: number[];
  /** Symbols that the step writes. */
  defines?: number[];
  /** Shape (expressions) of each input, then of each output. */
  shapes: number[][];
}

export type StepSpec = { name: string; origin: string[] } & (
  | { launch: LaunchSpec; host?: undefined }
  | { host: HostOpSpec; launch?: undefined }
);

export interface AssertionSpec {
  /** Expression: 0 ends the run with a usage error. */
  expr: number;
  message: string;
}

export interface ProgramSpec<Data = ByteSource> {
  name: string;
  symbols: SymbolSpec[];
  exprs: ExprSpec[];
  inputs: TensorInfoSpec[];
  outputs: TensorInfoSpec[];
  buffers: BufferSpec<Data>[];
  steps: StepSpec[];
  assertions: AssertionSpec[];
  /** The target it was compiled for; left out: the engine's only one. */
  target?: string;
}

export interface KernelSpec {
  /** The image's exported symbol. */
  name: string;
  image: number;
  /** Threads of a block, on targets that have blocks. */
  threads?: number;
}

export interface ImageSpec<Data = ByteSource> {
  target: string;
  abi: number;
  /** CPU features it needs beyond its target's own. */
  features: string[];
  code: Data;
  /** The same kernels as PTX, for newer GPUs. */
  ptx?: Data;
}

export interface AssetSpec<Data = ByteSource> {
  name: string;
  mediaType: string;
  data: Data;
}

export interface EngineSpec<Data = ByteSource> {
  name: string;
  targets: string[];
  precision: string;
  kernels: KernelSpec[];
  images: ImageSpec<Data>[];
  programs: ProgramSpec<Data>[];
  assets: AssetSpec<Data>[];
  /** JSON. */
  provenance: string;
  /** JSON. */
  report: string;
}

export interface SegmentInfo {
  /** From the file's start. */
  offset: number;
  length: number;
  /** 32 bytes for each 4 MiB. */
  sha256: Uint8Array;
}

/** What a verified table says; its data are places in `segments`. */
export interface EngineTable extends EngineSpec<DataRef> {
  segments: SegmentInfo[];
}
