/** The tiles of kernels/tile.cuh: their figures, and which of them suits a product. */
import { ceildiv, type Dim, evaluateDim, max, mul, rangeOf, sub } from "@nimforge/ir";
import type { DType } from "@nimforge/tensor";
import type { Choices } from "../../target.js";
import type { Capability } from "./capabilities.js";

export interface Tile {
  /** The alias in tile.cuh. */
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly warps: readonly [m: number, n: number];
  readonly stages: number;
  /** Bytes of an element in shared memory. */
  readonly bytes: number;
  /** The header that defines it, where that is not tile.cuh. */
  readonly header?: string;
}

const tile = (
  name: string,
  bytes: number,
  [rows, columns, depth]: readonly [number, number, number],
  warps: readonly [number, number],
  stages: number,
): Tile => ({ name, rows, columns, depth, warps, stages, bytes });

/** Largest first. */
const half = (prefix: string): readonly Tile[] => [
  tile(`${prefix}_128x256`, 2, [128, 256, 32], [2, 4], 4),
  tile(`${prefix}_128x128`, 2, [128, 128, 32], [2, 4], 3),
  tile(`${prefix}_128x64`, 2, [128, 64, 32], [2, 2], 4),
  tile(`${prefix}_64x64`, 2, [64, 64, 64], [2, 2], 3),
  tile(`${prefix}_32x64`, 2, [32, 64, 64], [1, 4], 4),
  tile(`${prefix}_16x64`, 2, [16, 64, 64], [1, 4], 4),
  tile(`${prefix}_16x32`, 2, [16, 32, 128], [1, 2], 4),
];
const simtHalf = (prefix: string): readonly Tile[] => [
  tile(`${prefix}_64x64`, 2, [64, 64, 32], [2, 2], 3),
  tile(`${prefix}_16x64`, 2, [16, 64, 32], [1, 2], 4),
];
const single: readonly Tile[] = [
  tile("f32_128x128", 4, [128, 128, 16], [4, 2], 3),
  tile("f32_128x64", 4, [128, 64, 16], [4, 1], 3),
  tile("f32_64x64", 4, [64, 64, 16], [2, 2], 3),
  tile("f32_16x64", 4, [16, 64, 32], [1, 2], 4),
];

/** Warpgroups (gemm_sm90a.cuh): one for each 64 rows. */
const warpgroup = (prefix: string): readonly Tile[] =>
  (
    [
      [128, 256, 4],
      [128, 128, 6],
      [64, 128, 4],
      [64, 64, 6],
    ] as const
  ).map(([rows, columns, stages]) => ({
    ...tile(`wgmma_${prefix}_${rows}x${columns}`, 2, [rows, columns, 64], [rows / 16, 1], stages),
    header: "gemm_sm90a.cuh",
  }));

/** Tiles that multiply elements of a type on a capability, largest first; none: the type has no template there. */
export function tilesFor(dtype: DType, { mma, wgmma, wideMma }: Capability): readonly Tile[] {
  if (dtype === "float32") return single;
  // One family for all sizes of a product: warpgroups may round otherwise than warps.
  if (wgmma && (dtype === "float16" || dtype === "bfloat16")) return warpgroup(dtype === "float16" ? "f16" : "bf16");
  // Two stages of the widest tile leave sm_75 nothing to gain from it.
  if (dtype === "float16") return half("f16").filter(({ columns }) => wideMma || columns < 256);
  if (dtype === "bfloat16") return mma.includes("bf16") ? half("bf16") : simtHalf("simt_bf16");
  return [];
}

export const threadsOf = ({ warps: [m, n] }: Tile): number => 32 * m * n;

/** Dynamic shared memory: the ring of stages, or after it what the epilogue puts there. */
export function sharedBytes(
  { rows, columns, depth, warps: [m, n], stages, bytes, header }: Tile,
  { cpAsync }: Capability,
): number {
  const ring = (cpAsync ? stages : 2) * (rows + columns) * depth * bytes;
  return Math.max(ring, header ? rows * (columns + 8) * 4 : m * n * 16 * (columns / n + 8) * 4);
}

export interface TileChoice {
  readonly guard?: Dim;
  readonly tile: Tile;
}

export interface ProductSize {
  readonly count: Dim;
  readonly rows: Dim;
  readonly columns: Dim;
  /** Columns of a tile at most: a loader of many registers leaves no room for more. */
  readonly widest?: number;
}

/** Blocks that keep a large GPU busy. */
const enoughBlocks = 128;
/** A product with so few rows is bound by reading the weights. */
const fewRows = 16;

/**
 * Which tiles to take for `count` products of `rows` × `columns`: the largest that still makes enough blocks at the typical sizes; where the number
 * of rows varies around a decoder's step, a tile for few rows as well. Every tile gives the same bits, so sizes may choose freely.
 */
export function chooseTiles(
  dtype: DType,
  capability: Capability,
  { count, rows, columns, widest = Number.POSITIVE_INFINITY }: ProductSize,
  { sizeHint, avoid }: Choices,
): readonly TileChoice[] {
  const possible = tilesFor(dtype, capability).filter(
    (one) => one.columns <= widest && sharedBytes(one, capability) <= capability.sharedPerBlockOptIn,
  );
  const kept = possible.filter((one) => !avoid.has(one.name));
  const tiles = kept.length > 0 ? kept : possible.slice(-1);
  const at = (dim: Dim) => Math.max(1, evaluateDim(dim, sizeHint));
  const [n, m, k] = [at(count), at(rows), at(columns)];
  const least = Math.min(...tiles.map((one) => one.rows));
  const fits = (one: Tile) => (one.rows <= least || m > one.rows / 2) && (one.columns <= 64 || k > one.columns / 2);
  const blocks = (one: Tile) => n * Math.ceil(m / one.rows) * Math.ceil(k / one.columns);
  const suitable = tiles.filter(fits);
  const usual =
    suitable.find((one) => blocks(one) >= enoughBlocks) ??
    suitable[suitable.length - 1] ??
    (tiles[tiles.length - 1] as Tile);
  const small = tiles.find((one) => one.rows === fewRows);
  const { low, high } = rangeOf(rows);
  const varies = low <= fewRows && high > fewRows && typeof rows !== "number";
  return varies && small && usual !== small
    ? [{ guard: max(0, sub(fewRows + 1, rows)), tile: small }, { tile: usual }]
    : [{ tile: usual }];
}

export const tileBlocks = ({ rows, columns }: Tile, size: ProductSize): Dim =>
  mul(size.count, ceildiv(size.rows, rows), ceildiv(size.columns, columns));
