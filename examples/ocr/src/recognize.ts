/** From a box to its text: the straightened line, its direction (0 or 180 degrees), and CTC decoding (Graves 2006). */

import { type Quad, quadSize } from "./geometry.js";
import { crop, type Image, type Normalization, type Tensor, toTensor } from "./image.js";

const CENTERED: Normalization = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
/** Height of a line in both networks' input, in pixels. */
const LINE_HEIGHT = 48;
const CLASSIFIER_WIDTH = 192;
/** Widths that the recognizer sees are multiples of this, so that few shapes occur. */
const WIDTH_STEP = 160;
const MAX_WIDTH = 960;
/** A line is turned only when the classifier is this sure that it stands on its head. */
const TURN_THRESHOLD = 0.9;

/** The line of text in the box, straightened to 48 pixels in height; a tall box is read from its right side. */
export function lineImage(image: Image, box: Quad): Image {
  const size = quadSize(box);
  const tall = size.height >= 1.5 * size.width;
  const quad: Quad = tall ? [box[1], box[2], box[3], box[0]] : box;
  const aspect = tall ? size.height / size.width : size.width / Math.max(size.height, 1);
  return crop(image, quad, Math.max(1, Math.ceil(LINE_HEIGHT * aspect)), LINE_HEIGHT);
}

/** The direction classifier's input: [1, 3, 48, 192], the line at the left. */
export function classifierInput(line: Image): Tensor {
  return toTensor(line, Math.min(line.width, CLASSIFIER_WIDTH), LINE_HEIGHT, CENTERED, CLASSIFIER_WIDTH);
}

/** Whether the classifier's output [1, 2] (probabilities of 0 and 180 degrees) says that the line is upside down. */
export function isUpsideDown(output: Tensor): boolean {
  return output.data[1]! > TURN_THRESHOLD;
}

/** The recognizer's input: [1, 3, 48, W], W a multiple of 160 up to 960; a longer line is squeezed. */
export function recognizerInput(line: Image): Tensor {
  const width = Math.min(line.width, MAX_WIDTH);
  return toTensor(line, width, LINE_HEIGHT, CENTERED, Math.ceil(width / WIDTH_STEP) * WIDTH_STEP);
}

/** The recognizer's classes from PP-OCR's key file: the CTC blank, one character per line of the file, the space. */
export function alphabet(keyFile: string): string[] {
  return ["", ...keyFile.replace(/\r?\n$/, "").split(/\r?\n/), " "];
}

/**
 * Greedy CTC decoding of [1, T, classes] probabilities: the best class of each step, repetitions merged, blanks
 * (class 0) dropped. `score` is the mean probability of the kept characters, 0 for no text. Throws when the classes do
 * not match the alphabet.
 */
export function decodeCtc(output: Tensor, characters: readonly string[]): { text: string; score: number } {
  const [steps, classes] = output.dims.slice(-2) as [number, number];
  if (classes !== characters.length)
    throw new Error(`recognizer and key file differ: ${classes} classes, ${characters.length} characters`);
  const { data } = output;
  let text = "";
  let sum = 0;
  let count = 0;
  let previous = 0;
  for (let step = 0; step < steps; step++) {
    const row = step * classes;
    let best = 0;
    let probability = data[row]!;
    for (let k = 1; k < classes; k++) {
      if (data[row + k]! <= probability) continue;
      best = k;
      probability = data[row + k]!;
    }
    if (best !== 0 && best !== previous) {
      text += characters[best]!;
      sum += probability;
      count++;
    }
    previous = best;
  }
  return { text, score: count === 0 ? 0 : sum / count };
}
