/** Writes engines. The same spec gives the same bytes. */
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { internalError, NimforgeError } from "@nimforge/tensor";
import { alignUp, encodeHeader, headerBytes, pageBytes } from "./format.js";
import { chunksOf, type Segment, SegmentStore } from "./segments.js";
import type { DataRef, EngineSpec } from "./spec.js";
import { encodeTable } from "./table.js";

export interface EncodedEngine {
  /** The file's first 128 bytes. */
  header: Uint8Array;
  table: Uint8Array;
  /** In file order; `offset` is from the file's start. */
  segments: (Segment & { offset: number })[];
  fileLength: number;
}

/** Encodes everything but the segments' bytes, which stay where they are until they are written. */
export function writeEngine(spec: EngineSpec): EncodedEngine {
  const { engine, segments } = placeData(spec);
  // The table holds the offsets, which depend on its length; the length does not depend on the offsets.
  const length = encodeTable(
    engine,
    segments,
    segments.map(() => 1),
  ).length;
  const offsets: number[] = [];
  let end = headerBytes + length;
  for (const segment of segments) {
    const offset = alignUp(end, pageBytes);
    offsets.push(offset);
    end = offset + segment.data.length;
  }
  const table = encodeTable(engine, segments, offsets);
  if (table.length !== length) throw internalError("the engine table's length depends on its offsets");
  const placed = segments.map((segment, i) => ({ ...segment, offset: offsets[i] as number }));
  return { header: encodeHeader(table, end), table, segments: placed, fileLength: end };
}

/** The whole file in memory. */
export function engineBytes(spec: EngineSpec): Uint8Array {
  const engine = writeEngine(spec);
  const bytes = new Uint8Array(engine.fileLength);
  for (const [offset, part] of fileParts(engine)) bytes.set(part, offset);
  return bytes;
}

/**
 * Writes the file beside `path`, then renames it: `path` is complete or as it was.
 * @throws NimforgeError io when the file cannot be written.
 * @returns The file's length in bytes.
 */
export function writeEngineFile(path: string, spec: EngineSpec, options: { signal?: AbortSignal } = {}): number {
  const engine = writeEngine(spec);
  const partial = `${path}.${randomBytes(6).toString("hex")}.partial`;
  const removePartial = () => rmSync(partial, { force: true });
  process.once("exit", removePartial);
  try {
    const file = openSync(partial, "wx");
    try {
      for (const [offset, part] of fileParts(engine)) {
        options.signal?.throwIfAborted();
        writeAll(file, part, offset);
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(partial, path);
  } catch (cause) {
    removePartial();
    if (cause instanceof Error && "syscall" in cause)
      throw new NimforgeError("io", "write-failed", `cannot write the engine: ${cause.message}`, { file: path, cause });
    throw cause;
  } finally {
    process.off("exit", removePartial);
  }
  return engine.fileLength;
}

function writeAll(file: number, part: Uint8Array, offset: number): void {
  for (let done = 0; done < part.length; ) done += writeSync(file, part, done, part.length - done, offset + done);
}

/** The file's bytes in order; what lies between parts is zero. */
function* fileParts(engine: EncodedEngine): Generator<[offset: number, part: Uint8Array]> {
  yield [0, engine.header];
  yield [headerBytes, engine.table];
  for (const { data, offset } of engine.segments) {
    let at = offset;
    for (const chunk of chunksOf(data)) {
      yield [at, chunk];
      at += chunk.length;
    }
  }
}

/** Moves every byte source into a segment. */
function placeData(spec: EngineSpec): { engine: EngineSpec<DataRef>; segments: Segment[] } {
  const store = new SegmentStore();
  const whole = <T extends { length: number }>(source: T & EngineSpec["assets"][number]["data"]): DataRef => ({
    segment: store.addWhole(source),
    offset: 0,
  });
  const images = spec.images.map((image) => ({
    ...image,
    code: whole(image.code),
    ptx: image.ptx && whole(image.ptx),
  }));
  const assets = spec.assets.map((asset) => ({ ...asset, data: whole(asset.data) }));
  const constants = spec.programs.map((program) =>
    program.buffers.map((buffer) =>
      buffer.data === undefined || buffer.data.length === 0 ? undefined : store.addConstant(buffer.data),
    ),
  );
  const { segments, packed } = store.finish();
  const programs = spec.programs.map((program, p) => ({
    ...program,
    buffers: program.buffers.map(({ data: _, ...buffer }, i) => {
      const place = constants[p]?.[i];
      return place === undefined ? buffer : { ...buffer, data: place(packed) };
    }),
  }));
  return { engine: { ...spec, images, assets, programs }, segments };
}
