/**
 * Content-addressed segments: equal bytes are stored once. Constants below 64 KiB share segments (each at a multiple of
 * 64 bytes), so that a file of many small ones does not pay a page for each; other bytes have a segment of their own.
 */
import { createHash } from "node:crypto";
import { alignUp, hashChunkBytes } from "./format.js";
import type { ByteSource, ByteStream, DataRef } from "./spec.js";

const smallBytes = 64 * 1024;
const constantAlignment = 64;

export interface Segment {
  readonly data: ByteStream;
  /** 32 bytes for each 4 MiB. */
  readonly sha256: Uint8Array;
}

export class SegmentStore {
  private readonly large: Segment[] = [];
  private readonly small: Uint8Array[] = [];
  private smallLength = 0;
  private readonly seen = new Map<string, { small: boolean; index: number; offset: number }>();

  /** A segment of its own (code, assets). */
  addWhole(source: ByteSource): number {
    return this.add(source, false).index;
  }

  /** A constant; where it lies is known after `finish`. */
  addConstant(source: ByteSource): (packed: number) => DataRef {
    const place = this.add(source, source.length < smallBytes);
    return (packed) => (place.small ? { segment: packed, offset: place.offset } : { segment: place.index, offset: 0 });
  }

  private add(source: ByteSource, small: boolean): { small: boolean; index: number; offset: number } {
    const hash = hashOf(source);
    const id = `${small ? "small" : "whole"}:${source.length}:${Buffer.from(hash).toString("base64")}`;
    const known = this.seen.get(id);
    if (known !== undefined) return known;
    const place = { small, index: this.large.length, offset: this.smallLength };
    if (small) {
      this.small.push(asStream(source).read(0, source.length));
      this.smallLength += alignUp(source.length, constantAlignment);
    } else {
      const data = asStream(source);
      this.large.push({ data, sha256: hash });
    }
    this.seen.set(id, place);
    return place;
  }

  /** All segments; the small constants' is the last, at index `packed`. */
  finish(): { segments: Segment[]; packed: number } {
    const segments = [...this.large];
    if (this.small.length > 0) {
      const bytes = new Uint8Array(this.smallLength);
      let offset = 0;
      for (const part of this.small) {
        bytes.set(part, offset);
        offset += alignUp(part.length, constantAlignment);
      }
      const data = asStream(bytes);
      segments.push({ data, sha256: hashChunks(data) });
    }
    return { segments, packed: this.large.length };
  }
}

export function asStream(source: ByteSource): ByteStream {
  if (!(source instanceof Uint8Array)) return source;
  return { length: source.length, read: (offset, length) => source.subarray(offset, offset + length) };
}

/** Ranges of at most 4 MiB, in order. */
export function* chunksOf(data: ByteStream): Generator<Uint8Array> {
  for (let offset = 0; offset < data.length; offset += hashChunkBytes)
    yield data.read(offset, Math.min(hashChunkBytes, data.length - offset));
}

/** By source: the engines of several targets are made of the same weights. */
const hashes = new WeakMap<ByteSource, Uint8Array>();

function hashOf(source: ByteSource): Uint8Array {
  let hash = hashes.get(source);
  if (!hash) hashes.set(source, (hash = hashChunks(asStream(source))));
  return hash;
}

function hashChunks(data: ByteStream): Uint8Array {
  const hashes: Uint8Array[] = [];
  for (const chunk of chunksOf(data)) hashes.push(createHash("sha256").update(chunk).digest());
  return Buffer.concat(hashes);
}
