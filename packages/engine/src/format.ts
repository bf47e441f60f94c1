/** The file's frame: a header of 128 bytes, the table, then segments at multiples of 4096 with zeros between. */
import { createHash } from "node:crypto";

export const formatVersion = { major: 1, minor: 0 } as const;
/** First byte not ASCII, then line ends: a transfer as text damages it visibly. */
export const magic = Uint8Array.of(0x89, 0x4e, 0x46, 0x45, 0x0d, 0x0a, 0x1a, 0x0a);
export const headerBytes = 128;
export const pageBytes = 4096;
/** Segments are hashed in pieces of this size. */
export const hashChunkBytes = 4 * 1024 * 1024;

export const alignUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/**
 * magic 8 · major u16 · minor u16 · header bytes u32 · table offset u64 · table length u64 · file length u64 ·
 * table SHA-256 32 · zeros 24 · SHA-256 of the 96 bytes before; little endian.
 */
export function encodeHeader(table: Uint8Array, fileLength: number): Uint8Array {
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  header.set(magic, 0);
  view.setUint16(8, formatVersion.major, true);
  view.setUint16(10, formatVersion.minor, true);
  view.setUint32(12, headerBytes, true);
  view.setBigUint64(16, BigInt(headerBytes), true);
  view.setBigUint64(24, BigInt(table.length), true);
  view.setBigUint64(32, BigInt(fileLength), true);
  header.set(sha256(table), 40);
  header.set(sha256(header.subarray(0, 96)), 96);
  return header;
}
