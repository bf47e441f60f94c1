/** Pictures as packed 8-bit RGB: decoding, cropping a quadrilateral, and the float tensors that the models take. */

import { decode as decodePng } from "fast-png";
import jpeg from "jpeg-js";
import { project, type Quad, squareToQuad } from "./geometry.js";

/** `data` holds width * height * 3 bytes, row by row, red first. */
export interface Image {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** A float32 tensor, row-major. */
export interface Tensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/** Decodes a PNG (8 or 16 bit, grey, palette or colour; alpha over white) or a JPEG. Throws on any other file. */
export function decodeImage(file: Uint8Array): Image {
  if (file[0] === 0x89 && file[1] === 0x50) return fromPng(file);
  if (file[0] === 0xff && file[1] === 0xd8) return fromJpeg(file);
  throw new Error("not a picture: expected a PNG or JPEG signature; convert the file to one of them");
}

function fromJpeg(file: Uint8Array): Image {
  const { width, height, data } = jpeg.decode(file, { useTArray: true, formatAsRGBA: false, tolerantDecoding: false });
  return { width, height, data };
}

function fromPng(file: Uint8Array): Image {
  const { width, height, channels, depth, data, palette } = decodePng(file);
  if (depth < 8) throw new Error(`PNG of ${depth} bits per channel: expected 8 or 16; save the picture with 8 bits`);
  const scale = depth === 16 ? 1 / 257 : 1;
  const step = channels < 3 ? 0 : 1;
  const hasAlpha = channels === 2 || channels === 4;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
    const entry = palette?.[data[from]!];
    const alpha = (entry ? (entry[3] ?? 255) : hasAlpha ? data[from + channels - 1]! * scale : 255) / 255;
    for (let c = 0; c < 3; c++) {
      const value = entry ? entry[c]! : data[from + c * step]! * scale;
      rgb[to + c] = value * alpha + 255 * (1 - alpha) + 0.5;
    }
  }
  return { width, height, data: rgb };
}

/** The part of the picture inside `quad`, straightened to width x height pixels (bilinear, edges repeated). */
export function crop(image: Image, quad: Quad, width: number, height: number): Image {
  const map = squareToQuad(quad);
  const source = image.data;
  const stride = image.width * 3;
  const lastX = image.width - 1;
  const lastY = image.height - 1;
  const data = new Uint8Array(width * height * 3);
  for (let j = 0, to = 0; j < height; j++) {
    for (let i = 0; i < width; i++, to += 3) {
      const at = project(map, (i + 0.5) / width, (j + 0.5) / height);
      const x = Math.min(Math.max(at.x - 0.5, 0), lastX);
      const y = Math.min(Math.max(at.y - 0.5, 0), lastY);
      const x0 = Math.floor(x);
      const y0 = Math.floor(y);
      const fx = x - x0;
      const fy = y - y0;
      const from = y0 * stride + x0 * 3;
      const right = x0 < lastX ? 3 : 0;
      const down = y0 < lastY ? stride : 0;
      for (let c = from; c < from + 3; c++) {
        const top = source[c]! + (source[c + right]! - source[c]!) * fx;
        const bottom = source[c + down]! + (source[c + down + right]! - source[c + down]!) * fx;
        data[to + c - from] = top + (bottom - top) * fy + 0.5;
      }
    }
  }
  return { width, height, data };
}

/** The picture turned by half a turn. */
export function rotate180({ width, height, data }: Image): Image {
  const turned = new Uint8Array(data.length);
  for (let from = 0, to = data.length - 3; to >= 0; from += 3, to -= 3) {
    turned[to] = data[from]!;
    turned[to + 1] = data[from + 1]!;
    turned[to + 2] = data[from + 2]!;
  }
  return { width, height, data: turned };
}

/** Per-channel mean and standard deviation of pixel values scaled to 0..1, in the tensor's channel order. */
export interface Normalization {
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** For a bilinear resize along one axis (half-pixel centres, edges repeated): the lower neighbour and the upper's weight. */
function neighbours(from: number, to: number): { low: Int32Array; weight: Float32Array } {
  const low = new Int32Array(to);
  const weight = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const at = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    low[i] = Math.floor(at);
    weight[i] = at - low[i]!;
  }
  return { low, weight };
}

/**
 * [1, 3, height, canvasWidth] float32: the picture resized to width x height in the left part, zeros right of it,
 * channels in the order blue, green, red, in which PP-OCR's models were trained.
 */
export function toTensor(
  image: Image,
  width: number,
  height: number,
  { mean, std }: Normalization,
  canvasWidth: number = width,
): Tensor {
  const { data: source } = image;
  const stride = image.width * 3;
  const xs = neighbours(image.width, width);
  const ys = neighbours(image.height, height);
  const plane = height * canvasWidth;
  const out = new Float32Array(3 * plane);
  const scale = std.map((deviation) => 1 / (255 * deviation));
  const shift = mean.map((value, c) => -value / std[c]!);
  const [scale0, scale1, scale2] = [scale[0]!, scale[1]!, scale[2]!];
  const [shift0, shift1, shift2] = [shift[0]!, shift[1]!, shift[2]!];
  // One source row at the target's y, its last pixel twice so that each pixel has a right neighbour.
  const row = new Float32Array(stride + 3);
  for (let j = 0; j < height; j++) {
    const upper = ys.low[j]! * stride;
    const lower = Math.min(upper + stride, source.length - stride);
    const fy = ys.weight[j]!;
    for (let k = 0; k < stride; k++) row[k] = source[upper + k]! + (source[lower + k]! - source[upper + k]!) * fy;
    row.copyWithin(stride, stride - 3, stride);
    for (let i = 0, to = j * canvasWidth; i < width; i++, to++) {
      const from = xs.low[i]! * 3;
      const fx = xs.weight[i]!;
      const red = row[from]!;
      const green = row[from + 1]!;
      const blue = row[from + 2]!;
      out[to] = (blue + (row[from + 5]! - blue) * fx) * scale0 + shift0;
      out[to + plane] = (green + (row[from + 4]! - green) * fx) * scale1 + shift1;
      out[to + 2 * plane] = (red + (row[from + 3]! - red) * fx) * scale2 + shift2;
    }
  }
  return { dims: [1, 3, height, canvasWidth], data: out };
}
