/** The example's report: one row per picture, one per model, in aligned columns. */

import type { TextLine } from "./ocr.js";

export interface PictureRow {
  readonly name: string;
  readonly lines: readonly TextLine[];
  readonly milliseconds: number;
}

export interface ModelRow {
  readonly name: string;
  readonly nodes: number;
  readonly kernels: number;
  /** Arena over its lower bound. */
  readonly ratio: number;
  readonly bytes: number;
  readonly buildSeconds: number;
  /** Median of one run. */
  readonly milliseconds: number;
  readonly maxRelativeError: number;
}

/** name, first line in quotes, number of lines, time. */
export function pictureTable(rows: readonly PictureRow[]): string {
  return table(
    rows.map(({ name, lines, milliseconds }) => [
      name,
      lines[0] ? `"${lines[0].text}"${lines.length > 1 ? " …" : ""}` : "no text",
      `${String(lines.length).padStart(2)} lines · ${milliseconds.toFixed(0)} ms`,
    ]),
    "   ",
  );
}

export function modelTable(rows: readonly ModelRow[]): string {
  return table(
    [
      ["model", "nodes→kernels", "arena/bound", "engine", "build", "ms", "vs recorded"],
      ...rows.map((row) => [
        row.name,
        `${row.nodes}→${row.kernels}`,
        row.ratio.toFixed(2),
        `${(row.bytes / 1e6).toFixed(1)} MB`,
        `${row.buildSeconds.toFixed(0)} s`,
        row.milliseconds.toFixed(row.milliseconds < 10 ? 1 : 0),
        `max rel ${row.maxRelativeError.toExponential(0)}`,
      ]),
    ],
    "  ",
  );
}

/** Columns as wide as their widest cell; the last one is not padded. */
function table(rows: readonly (readonly string[])[], gap: string): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => displayWidth(row[column]!))));
  return rows
    .map((row) =>
      row.map((cell, i) => (i < row.length - 1 ? cell + " ".repeat(widths[i]! - displayWidth(cell)) : cell)),
    )
    .map((cells) => cells.join(gap))
    .join("\n");
}

/** Terminal columns: East Asian wide and full-width characters take two (Unicode Standard Annex 11). */
function displayWidth(text: string): number {
  return [...text].reduce(
    (sum, character) =>
      sum + (/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]/.test(character) ? 2 : 1),
    0,
  );
}
