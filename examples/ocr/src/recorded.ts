/**
 * What fixtures/ocr/expected.json holds: the lines that ONNX Runtime reads from each picture with this same pre- and
 * post-processing, and for each network one raw output, of which every n-th value is kept in a file of its own.
 */

import { detectionInput } from "./detect.js";
import type { Quad } from "./geometry.js";
import { type Image, rotate180, type Tensor } from "./image.js";
import type { OcrModels, TextLine } from "./ocr.js";
import { classifierInput, lineImage, recognizerInput } from "./recognize.js";

export type ModelName = keyof OcrModels;

export interface RecordedLine {
  readonly text: string;
  readonly score: number;
  /** [x, y] of the four corners, in the order of Quad. */
  readonly box: readonly (readonly [number, number])[];
  readonly turned: boolean;
}

/** One raw output: `file` holds its values at the flat indices 0, every, 2 every, … as little-endian float32. */
export interface RecordedOutput {
  readonly picture: string;
  /** The line of the picture that classifier or recognizer were given. */
  readonly line?: number;
  readonly dims: readonly number[];
  readonly every: number;
  readonly file: string;
}

export interface Expected {
  readonly recordedWith: string;
  readonly pictures: readonly { readonly name: string; readonly lines: readonly RecordedLine[] }[];
  readonly outputs: Readonly<Record<ModelName, RecordedOutput>>;
}

/** The JSON form of a line; scores to four digits. */
export function toRecorded({ text, score, box, turned }: TextLine): RecordedLine {
  return { text, score: Number(score.toFixed(4)), box: box.map(({ x, y }) => [x, y] as const), turned };
}

/** The input that a recorded output belongs to. It depends on the picture and the recorded box alone. */
export function recordedInput(model: ModelName, image: Image, line?: RecordedLine): Tensor {
  if (model === "det") return detectionInput(image);
  if (!line) throw new Error(`the recorded output of ${model} names no line of its picture`);
  const box = line.box.map(([x, y]) => ({ x, y })) as unknown as Quad;
  const straight = lineImage(image, box);
  if (model === "cls") return classifierInput(straight);
  return recognizerInput(line.turned ? rotate180(straight) : straight);
}

/** Every n-th value of a tensor, from the first on. */
export function sample({ data }: Tensor, every: number): Float32Array {
  return Float32Array.from({ length: Math.ceil(data.length / every) }, (_, i) => data[i * every]!);
}

/** Largest |value - reference| over the largest |reference|; NaN when a value is. Throws when the lengths differ. */
export function maxRelativeError(values: Float32Array, reference: Float32Array): number {
  if (values.length !== reference.length)
    throw new Error(`the output has ${values.length} sampled values, the recorded one ${reference.length}`);
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    difference = Math.max(difference, Math.abs(values[i]! - reference[i]!)); // NaN stays NaN
    largest = Math.max(largest, Math.abs(reference[i]!));
  }
  return difference === 0 ? 0 : difference / largest;
}

/** Where the lines read from a picture differ from the recorded ones, in words; undefined when they do not. */
export function difference(
  name: string,
  lines: readonly TextLine[],
  recorded: readonly RecordedLine[],
): string | undefined {
  for (let i = 0; i < Math.max(lines.length, recorded.length); i++) {
    const [found, expected] = [lines[i]?.text, recorded[i]?.text];
    if (found === expected) continue;
    const quoted = (text: string | undefined): string => (text === undefined ? "no such line" : JSON.stringify(text));
    return `${name}, line ${i + 1}: expected ${quoted(expected)}, found ${quoted(found)}`;
  }
  return undefined;
}
