/** NumPy's .npy files (format 1.0 to 3.0, C order, little endian): https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
import type { DType } from "./dtype.js";
import { NimforgeError } from "./errors.js";
import { bytesOf, type Tensor, tensorFromBytes } from "./tensor.js";

const descriptors: Partial<Record<DType, string>> = {
  float32: "<f4",
  float64: "<f8",
  float16: "<f2",
  int8: "|i1",
  int16: "<i2",
  int32: "<i4",
  int64: "<i8",
  uint8: "|u1",
  uint16: "<u2",
  uint32: "<u4",
  uint64: "<u8",
  bool: "|b1",
  complex64: "<c8",
  complex128: "<c16",
};

const magic = "\x93NUMPY";

/** @throws NimforgeError malformed when the bytes are not a .npy file of a supported type. */
export function readNpy(bytes: Uint8Array, file?: string): Tensor {
  const bad = (fault: string, found?: string) =>
    new NimforgeError("malformed", "bad-npy", `not a readable .npy file: ${fault}`, { file, found });
  const text = (from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes.length < 10 || text(0, 6) !== magic) throw bad("no NUMPY magic");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = (bytes[6] as number) >= 2;
  if (wide && bytes.length < 12) throw bad("truncated header");
  const start = wide ? 12 : 10;
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (end > bytes.length || end - start > 65536) throw bad("truncated header");
  const header = text(start, end);
  const descriptor = /'descr': *'([^']+)'/.exec(header)?.[1];
  const order = /'fortran_order': *(True|False)/.exec(header)?.[1];
  const shapeText = /'shape': *\(([^)]*)\)/.exec(header)?.[1];
  if (descriptor === undefined || order === undefined || shapeText === undefined)
    throw bad("unreadable header", header.slice(0, 100));
  if (order === "True") throw bad("Fortran order is not supported");
  const shape = shapeText
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map(Number);
  if (shape.some((size) => !Number.isSafeInteger(size) || size < 0)) throw bad("bad shape", shapeText);
  const dtype = (Object.keys(descriptors) as DType[]).find(
    (name) => descriptors[name]?.slice(1) === descriptor.slice(1),
  );
  if (dtype === undefined || descriptor.startsWith(">")) throw bad("unsupported element type", descriptor);
  try {
    return tensorFromBytes(dtype, shape, bytes.slice(end));
  } catch (error) {
    throw error instanceof NimforgeError ? error.at({ file }) : error;
  }
}

/** @throws NimforgeError unsupported for types that NumPy has no name for (bfloat16, float8, 4- and 2-bit, strings). */
export function writeNpy(source: Tensor): Uint8Array {
  const descriptor = descriptors[source.dtype];
  if (descriptor === undefined)
    throw new NimforgeError("unsupported", "npy-dtype", `.npy has no element type for ${source.dtype}`, {
      fix: "cast the output to float32 in the model",
    });
  const shape = source.shape.length === 1 ? `${source.shape[0]},` : source.shape.join(", ");
  let header = `{'descr': '${descriptor}', 'fortran_order': False, 'shape': (${shape}), }`;
  header += `${" ".repeat((64 - ((10 + header.length + 1) % 64)) % 64)}\n`;
  const data = bytesOf(source);
  const out = new Uint8Array(10 + header.length + data.length);
  out.set([...magic].map((c) => c.charCodeAt(0)));
  out.set([1, 0, header.length & 255, header.length >> 8], 6);
  out.set(
    [...header].map((c) => c.charCodeAt(0)),
    10,
  );
  out.set(data, 10 + header.length);
  return out;
}
