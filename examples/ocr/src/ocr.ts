/** The OCR pipeline: detection, direction, recognition. What runs the three networks is the caller's choice. */

import { detectedBoxes, detectionInput } from "./detect.js";
import type { Quad } from "./geometry.js";
import { type Image, rotate180, type Tensor } from "./image.js";
import { classifierInput, decodeCtc, isUpsideDown, lineImage, recognizerInput } from "./recognize.js";

type Network = (x: Float32Array, dims: readonly number[]) => Promise<Tensor>;

/** The three networks of PP-OCR. Each takes and gives one float32 tensor. */
export interface OcrModels {
  /** [1, 3, H, W], H and W multiples of 32 -> [1, 1, H, W], the probability that a pixel is text. */
  readonly det: Network;
  /** [1, 3, 48, 192] -> [1, 2], the probabilities of 0 and 180 degrees. */
  readonly cls: Network;
  /** [1, 3, 48, W] -> [1, T, characters], probabilities over the alphabet at each step. */
  readonly rec: Network;
}

export interface TextLine {
  readonly text: string;
  /** Mean probability of the characters, 0..1. */
  readonly score: number;
  /** In pixels of the picture, corners clockwise from the top left one as the picture lies. */
  readonly box: Quad;
  /** The line stood on its head. */
  readonly turned: boolean;
}

/** Lines read with less certainty than this are dropped. */
const MIN_SCORE = 0.5;

/** The lines of text in a picture, in reading order; of a page that lies upside down, in the reader's order. */
export async function readText(image: Image, models: OcrModels, characters: readonly string[]): Promise<TextLine[]> {
  const run = (network: Network, { data, dims }: Tensor): Promise<Tensor> => network(data, dims);
  const map = await run(models.det, detectionInput(image));
  const lines: TextLine[] = [];
  for (const box of detectedBoxes(map, image)) {
    const line = lineImage(image, box);
    const turned = isUpsideDown(await run(models.cls, classifierInput(line)));
    const output = await run(models.rec, recognizerInput(turned ? rotate180(line) : line));
    const { text, score } = decodeCtc(output, characters);
    if (score >= MIN_SCORE) lines.push({ text, score, box, turned });
  }
  const upsideDown = lines.filter((line) => line.turned).length > lines.length / 2;
  return upsideDown ? lines.reverse() : lines;
}
