/**
 * Text detection around a DB network ("Real-time Scene Text Detection with Differentiable Binarization", Liao et al.
 * 2019): the picture becomes the network's input, the probability map it gives becomes one box per line of text.
 */

import { corners, minAreaRect, type Point, type Quad, unclip } from "./geometry.js";
import { type Image, type Normalization, type Tensor, toTensor } from "./image.js";

const IMAGENET: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/** The network halves its input five times, so both sides are multiples of 32. */
const STRIDE = 32;
/** The longer side of the network's input, in pixels: small pictures grow, large ones shrink. */
const LONGER_SIDE = { min: 640, max: 960 };
/** A pixel is text above this probability. */
const PIXEL_THRESHOLD = 0.3;
/** A component is text when the mean probability of its pixels reaches this. */
const TEXT_THRESHOLD = 0.6;
const UNCLIP_RATIO = 1.5;
/** Least side of a component, in pixels of the map. */
const MIN_SIDE = 3;

/** The detector's input: [1, 3, H, W] with H and W multiples of 32. */
export function detectionInput(image: Image): Tensor {
  const longer = Math.max(image.width, image.height);
  const scale = Math.min(Math.max(longer, LONGER_SIDE.min), LONGER_SIDE.max) / longer;
  const side = (pixels: number): number => Math.max(STRIDE, Math.round((pixels * scale) / STRIDE) * STRIDE);
  return toTensor(image, side(image.width), side(image.height), IMAGENET);
}

/**
 * Boxes in the picture's pixels (whole numbers) from the detector's output [1, 1, H, W], probabilities 0..1, in
 * reading order: rows from top to bottom, each from left to right.
 */
export function detectedBoxes(map: Tensor, image: Image): Quad[] {
  const [height, width] = map.dims.slice(-2) as [number, number];
  const toImage = ({ x, y }: Point): Point => ({
    x: Math.min(Math.max(Math.round((x * image.width) / width), 0), image.width),
    y: Math.min(Math.max(Math.round((y * image.height) / height), 0), image.height),
  });
  const boxes: Quad[] = [];
  for (const { outline, mean } of components(map.data, width, height)) {
    const rect = minAreaRect(outline);
    if (mean < TEXT_THRESHOLD || Math.min(rect.width, rect.height) < MIN_SIDE) continue;
    const [p0, p1, p2, p3] = corners(unclip(rect, UNCLIP_RATIO));
    boxes.push([toImage(p0), toImage(p1), toImage(p2), toImage(p3)]);
  }
  return readingOrder(boxes);
}

export interface Component {
  /** Centres of the first and last pixel of its runs in each row: all that its convex hull depends on. */
  readonly outline: readonly Point[];
  /** Mean probability of its pixels. */
  readonly mean: number;
}

/** The 8-connected components of the pixels above the threshold, found by filling runs of a row from a stack. */
export function components(map: Float32Array, width: number, height: number): Component[] {
  const fresh = new Uint8Array(map.length);
  for (let pixel = 0; pixel < map.length; pixel++) if (map[pixel]! > PIXEL_THRESHOLD) fresh[pixel] = 1;
  const stack: number[] = [];
  const found: Component[] = [];
  for (let start = fresh.indexOf(1); start >= 0; start = fresh.indexOf(1, start + 1)) {
    const outline: Point[] = [];
    let sum = 0;
    let count = 0;
    stack.push(start);
    while (stack.length > 0) {
      const pixel = stack.pop()!;
      if (fresh[pixel] === 0) continue;
      const y = Math.floor(pixel / width);
      let first = pixel;
      let last = pixel;
      while (first > y * width && fresh[first - 1] === 1) first--;
      while (last < (y + 1) * width - 1 && fresh[last + 1] === 1) last++;
      fresh.fill(0, first, last + 1);
      for (let member = first; member <= last; member++) sum += map[member]!;
      count += last - first + 1;
      outline.push({ x: first - y * width + 0.5, y: y + 0.5 }, { x: last - y * width + 0.5, y: y + 0.5 });
      const from = Math.max(first - 1, y * width);
      const to = Math.min(last + 1, (y + 1) * width - 1);
      if (y > 0) pushRuns(from - width, to - width);
      if (y < height - 1) pushRuns(from + width, to + width);
    }
    found.push({ outline, mean: sum / count });
  }
  return found;

  /** Pushes one pixel of each run between two pixels of a row. */
  function pushRuns(from: number, to: number): void {
    for (let pixel = from; pixel <= to; pixel++)
      if (fresh[pixel] === 1 && (pixel === to || fresh[pixel + 1] === 0)) stack.push(pixel);
  }
}

/** Boxes whose centres are less than half a line apart vertically form a row. */
export function readingOrder(boxes: readonly Quad[]): Quad[] {
  const entries = boxes.map((box) => ({
    box,
    x: (box[0].x + box[1].x + box[2].x + box[3].x) / 4,
    y: (box[0].y + box[1].y + box[2].y + box[3].y) / 4,
    height: (box[3].y - box[0].y + box[2].y - box[1].y) / 2,
  }));
  entries.sort((a, b) => a.y - b.y);
  const rows: (typeof entries)[] = [];
  for (const entry of entries) {
    const row = rows.at(-1);
    const first = row?.[0];
    if (row && first && entry.y - first.y < Math.min(first.height, entry.height) / 2) row.push(entry);
    else rows.push([entry]);
  }
  return rows.flatMap((row) => row.sort((a, b) => a.x - b.x).map((entry) => entry.box));
}
