/** TensorProto and its kin to tensors: every data type, every storage field, with lengths checked before anything is allocated. */
import {
  allocate,
  arrayConstructor,
  type DType,
  dtypeFromOnnx,
  dtypeInfo,
  NimforgeError,
  type Tensor,
  type TensorData,
  tensorFromBytes,
} from "@nimforge/tensor";
import { type ExternalContext, locateExternal, readExternal } from "./external.js";
import type { Int64, OptionalProto, SequenceProto, SparseTensorProto, TensorProto } from "./generated/messages.js";
import { decodeMessage, toBigInt, toInteger } from "./proto.js";
import type { FileView, TensorSource } from "./source.js";

/** External tensors up to this size are read at once. */
const eagerBytes = 4096;
/** A sparse tensor is refused when its dense form is larger. */
const maxDenseElements = 2 ** 28;

export interface TensorContext extends ExternalContext {
  /** The whole model file's bytes, so that raw data can be located in it. */
  readonly bytes?: Uint8Array | undefined;
}
const nowhere: TensorContext = { folder: undefined, file: undefined };

/** The value in a .pb file: a tensor, a list of values, or null for an empty optional. */
export type ProtoValue = Tensor | ProtoValue[] | null;

/** @throws NimforgeError malformed. */
export function readTensorProto(bytes: Uint8Array, file?: string): Tensor {
  return tensorSource(decodeMessage("TensorProto", bytes, file), { ...nowhere, file }).read();
}

/** @throws NimforgeError malformed; unsupported for sequences of maps. */
export function readSequenceProto(bytes: Uint8Array, file?: string): ProtoValue[] {
  return sequenceValue(decodeMessage("SequenceProto", bytes, file), file);
}

/** @throws NimforgeError malformed; unsupported for maps. */
export function readOptionalProto(bytes: Uint8Array, file?: string): ProtoValue {
  return optionalValue(decodeMessage("OptionalProto", bytes, file), file);
}

function sequenceValue(proto: SequenceProto, file: string | undefined): ProtoValue[] {
  const context = { ...nowhere, file };
  switch (proto.elemType) {
    case 0: // An empty sequence need not say of what.
    case 1:
      return proto.tensorValues.map((tensor) => tensorSource(tensor, context).read());
    case 2:
      return proto.sparseTensorValues.map((tensor) => sparseSource(tensor, context).read());
    case 3:
      return proto.sequenceValues.map((sequence) => sequenceValue(sequence, file));
    case 5:
      return proto.optionalValues.map((optional) => optionalValue(optional, file));
    default:
      throw new NimforgeError("unsupported", "proto-map", "a sequence of maps has no plain value", {
        file,
        found: `elem_type ${proto.elemType}`,
      });
  }
}

function optionalValue(proto: OptionalProto, file: string | undefined): ProtoValue {
  const context = { ...nowhere, file };
  if (proto.tensorValue) return tensorSource(proto.tensorValue, context).read();
  if (proto.sparseTensorValue) return sparseSource(proto.sparseTensorValue, context).read();
  if (proto.sequenceValue) return sequenceValue(proto.sequenceValue, file);
  if (proto.optionalValue) return optionalValue(proto.optionalValue, file);
  if (proto.mapValue)
    throw new NimforgeError("unsupported", "proto-map", "an optional map has no plain value", { file });
  return null;
}

/**
 * A checked TensorProto. Raw data stays a view into the decoded bytes until `read`.
 * @throws NimforgeError malformed, naming the tensor, when type, shape and stored length disagree
 */
export function tensorSource(proto: TensorProto, context: TensorContext, name = proto.name): TensorSource {
  const bad = (fault: string, expected?: string, found?: string) =>
    new NimforgeError("malformed", "bad-tensor", `tensor "${name}": ${fault}`, { file: context.file, expected, found });
  const dtype = dtypeFromOnnx(proto.dataType);
  if (dtype === undefined)
    throw bad("unknown data type", "a TensorProto.DataType from 1 to 26", String(proto.dataType));
  const shape = shapeOf(proto.dims, bad);
  const count = elementCount(shape, dtype, bad);
  if (proto.segment) throw bad("it is split into segments, which nothing writes");

  const external = proto.dataLocation === 1;
  const raw = proto.rawData ?? undefined;
  const typed = typedField(proto, dtype);
  const stored = storedBytes(dtype, count);
  const others = [
    proto.floatData,
    proto.int32Data,
    proto.int64Data,
    proto.uint64Data,
    proto.doubleData,
    proto.stringData,
  ];
  if (!external && proto.dataLocation !== 0) throw bad("unknown data location", "0 or 1", String(proto.dataLocation));
  if (!external && proto.externalData.length > 0)
    throw bad("external_data is given, but data_location is not EXTERNAL");
  if (others.some((values) => values !== typed.values && values.length > 0))
    throw bad(`its elements are in a field that is not for ${dtype}`, typed.field);

  if (external) {
    if (dtype === "string") throw bad("strings cannot be external data");
    if (typed.values.length > 0 || (raw !== undefined && raw.length > 0))
      throw bad("it has both external and inline data");
    const view = locateExternal(proto.externalData, name, stored, context);
    const read = () => fromStored(dtype, shape, count, readExternal(view, name, context));
    if (stored > eagerBytes) return { name, dtype, shape, location: view, read };
    const tensor = read();
    return { name, dtype, shape, location: view, read: () => tensor };
  }
  if (raw !== undefined && raw.length > 0) {
    if (dtype === "string") throw bad("strings cannot be raw_data", "string_data");
    if (typed.values.length > 0) throw bad(`it has both raw_data and ${typed.field}`);
    if (raw.length !== stored)
      throw bad(`raw_data does not fit ${dtype}[${shape.join(", ")}]`, `${stored} bytes`, `${raw.length} bytes`);
    return { name, dtype, shape, location: locationOf(raw, context), read: () => fromStored(dtype, shape, count, raw) };
  }
  const expected = typedLength(dtype, count);
  if (typed.values.length !== expected)
    throw bad(
      `${typed.field} does not fit ${dtype}[${shape.join(", ")}]`,
      `${expected} elements`,
      `${typed.values.length}`,
    );
  return { name, dtype, shape, read: once(() => ({ dtype, shape, data: fromTyped(dtype, count, typed.values, bad) })) };
}

/** A sparse tensor in dense form; its name is that of its values. */
export function sparseSource(proto: SparseTensorProto, context: TensorContext, fallbackName = ""): TensorSource {
  const name = proto.values?.name || fallbackName;
  const bad = (fault: string, expected?: string, found?: string) =>
    new NimforgeError("malformed", "bad-tensor", `sparse tensor "${name}": ${fault}`, {
      file: context.file,
      expected,
      found,
    });
  if (!proto.values || !proto.indices) throw bad("values or indices are missing");
  const values = tensorSource(proto.values, context, name);
  const indices = tensorSource(proto.indices, context, `${name} (indices)`);
  const shape = shapeOf(proto.dims, bad);
  const count = elementCount(shape, values.dtype, bad);
  if (values.shape.length !== 1) throw bad("values must have one dimension", "[NNZ]", `[${values.shape.join(", ")}]`);
  const stored = values.shape[0] as number;
  const linear = indices.shape.length === 1;
  if (
    indices.dtype !== "int64" ||
    indices.shape[0] !== stored ||
    !(linear || (indices.shape.length === 2 && indices.shape[1] === shape.length))
  )
    throw bad(
      "indices do not fit",
      `int64[${stored}] or int64[${stored}, ${shape.length}]`,
      `${indices.dtype}[${indices.shape.join(", ")}]`,
    );
  if (count > maxDenseElements)
    throw new NimforgeError("limit", "sparse-too-large", `sparse tensor "${name}" is too large in dense form`, {
      file: context.file,
      expected: `at most ${maxDenseElements} elements`,
      found: `${count}`,
    });
  const read = once((): Tensor => {
    const source = values.read().data;
    const at = indices.read().data as BigInt64Array;
    const data = allocate(values.dtype, count) as unknown[];
    const width = dtypeInfo(values.dtype).kind === "complex" ? 2 : 1;
    let last = -1;
    for (let i = 0; i < stored; i++) {
      let position = 0;
      if (linear) position = Number(at[i]);
      else
        for (let d = 0; d < shape.length; d++) {
          const index = Number(at[i * shape.length + d]);
          if (index < 0 || index >= (shape[d] as number))
            throw bad("an index is out of range", `0 to ${(shape[d] as number) - 1}`, `${index}`);
          position = position * (shape[d] as number) + index;
        }
      if (position <= last || position >= count)
        throw bad("indices are out of range or not ascending", `${last + 1} to ${count - 1}`, `${position}`);
      last = position;
      for (let part = 0; part < width; part++) data[position * width + part] = source[i * width + part];
    }
    return { dtype: values.dtype, shape, data: data as unknown as TensorData };
  });
  return { name, dtype: values.dtype, shape, read };
}

type Bad = (fault: string, expected?: string, found?: string) => NimforgeError;

function shapeOf(dims: readonly Int64[], bad: Bad): number[] {
  return dims.map((dim) => {
    const size = toInteger(dim);
    if (typeof size === "bigint" || size < 0)
      throw bad("a dimension is negative or too large", "a size from 0 to 2^53 - 1", String(size));
    return size;
  });
}

/** The product of the sizes, with the byte count kept exact. */
function elementCount(shape: readonly number[], dtype: DType, bad: Bad): number {
  const count = shape.reduce((product, size) => product * size, 1);
  if (!Number.isSafeInteger(count * 16))
    throw bad("its shape overflows", `fewer than 2^49 elements of ${dtype}`, `[${shape.join(", ")}]`);
  return count;
}

function storedBytes(dtype: DType, count: number): number {
  return Math.ceil((count * dtypeInfo(dtype).bits) / 8);
}

/** Entries that the typed field of a dtype has for `count` elements (TensorProto's comments on int32_data and float_data). */
function typedLength(dtype: DType, count: number): number {
  const { kind, bits } = dtypeInfo(dtype);
  return kind === "complex" ? 2 * count : bits === 4 || bits === 2 ? Math.ceil((count * bits) / 8) : count;
}

function typedField(
  proto: TensorProto,
  dtype: DType,
): { field: string; values: readonly (number | Int64 | Uint8Array)[] } {
  switch (dtype) {
    case "float32":
    case "complex64":
      return { field: "float_data", values: proto.floatData };
    case "float64":
    case "complex128":
      return { field: "double_data", values: proto.doubleData };
    case "int64":
      return { field: "int64_data", values: proto.int64Data };
    case "uint32":
    case "uint64":
      return { field: "uint64_data", values: proto.uint64Data };
    case "string":
      return { field: "string_data", values: proto.stringData };
    default:
      return { field: "int32_data", values: proto.int32Data };
  }
}

function fromTyped(
  dtype: DType,
  count: number,
  values: readonly (number | Int64 | Uint8Array)[],
  bad: Bad,
): TensorData {
  if (dtype === "string")
    return (values as Uint8Array[]).map((bytes) =>
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"),
    );
  const { kind, bits } = dtypeInfo(dtype);
  if (bits === 4 || bits === 2) return unpack(dtype, count, Uint8Array.from(values as number[]));
  const data = new (arrayConstructor(dtype))(values.length);
  if (dtype === "int64" || dtype === "uint64") {
    for (let i = 0; i < values.length; i++) data[i] = toBigInt(values[i] as Int64);
    return data;
  }
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number | Int64;
    data[i] = typeof value === "number" ? value : Number(toInteger(value));
    // Small floats are stored by their bits; a value that the element type cannot hold was not written by a correct writer.
    if (
      kind !== "complex" &&
      bits < 64 &&
      dtype !== "float32" &&
      data[i] !== (typeof value === "number" ? value : Number(toInteger(value)))
    )
      throw bad(
        `an element does not fit ${dtype}`,
        undefined,
        String(typeof value === "number" ? value : toInteger(value)),
      );
  }
  return dtype === "bool" ? normalizeBool(data as Uint8Array) : data;
}

/** Elements of stored bytes: 4- and 2-bit types unpacked to a byte each, bool made 0 or 1, everything else viewed. */
function fromStored(dtype: DType, shape: readonly number[], count: number, bytes: Uint8Array): Tensor {
  const { bits } = dtypeInfo(dtype);
  if (bits === 4 || bits === 2) return { dtype, shape, data: unpack(dtype, count, bytes) };
  // A Buffer's slice() is a view, so tensorFromBytes, which copies misaligned bytes by slice(), must get a plain array.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return tensorFromBytes(dtype, shape, dtype === "bool" ? normalizeBool(plain) : plain);
}

/** The first element is in the least significant bits. */
function unpack(dtype: DType, count: number, bytes: Uint8Array): TensorData {
  const { bits, kind } = dtypeInfo(dtype);
  const out = allocate(dtype, count) as Uint8Array | Int8Array;
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  const sign = kind === "int" ? 2 ** (bits - 1) : 0;
  for (let i = 0; i < count; i++) {
    const value = ((bytes[Math.floor(i / perByte)] as number) >> ((i % perByte) * bits)) & mask;
    out[i] = (value ^ sign) - sign;
  }
  return out;
}

function normalizeBool(bytes: Uint8Array): Uint8Array {
  return bytes.some((byte) => byte > 1) ? bytes.map((byte) => (byte === 0 ? 0 : 1)) : bytes;
}

function locationOf(raw: Uint8Array, { bytes, file }: TensorContext): FileView | undefined {
  if (file === undefined || bytes === undefined || raw.buffer !== bytes.buffer) return undefined;
  return { file, offset: raw.byteOffset - bytes.byteOffset, length: raw.byteLength };
}

function once<T>(make: () => T): () => T {
  let value: T | undefined;
  return () => (value ??= make());
}
