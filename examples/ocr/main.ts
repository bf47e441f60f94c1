/**
 * Builds PP-OCRv4 for this machine's CPU, reads the pictures in fixtures/ocr and reports what was built. Ends with
 * exit code 1 when a picture's text differs from what ONNX Runtime reads in it.
 */

import { readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { buildEngine, type Engine, KEY_FILE } from "./src/engines.js";
import { decodeImage } from "./src/image.js";
import { type OcrModels, readText } from "./src/ocr.js";
import { alphabet } from "./src/recognize.js";
import { difference, type Expected, type ModelName, maxRelativeError, recordedInput, sample } from "./src/recorded.js";
import { type ModelRow, modelTable, type PictureRow, pictureTable } from "./src/report.js";

const NAMES = ["det", "cls", "rec"] as const satisfies readonly ModelName[];
const THREADS = 2;
/** Timed runs per model, after one that is not timed. */
const RUNS = 7;

const fixture = (name: string): URL => new URL(`../../../fixtures/ocr/${name}`, import.meta.url);
const expected: Expected = JSON.parse(await readFile(fixture("expected.json"), "utf8"));
const characters = alphabet(await readFile(KEY_FILE, "utf8"));

/** Reads every picture; the second value says where a text is not the recorded one. */
async function readPictures(models: OcrModels): Promise<[PictureRow[], string[]]> {
  const rows: PictureRow[] = [];
  const differences: string[] = [];
  for (const { name, lines: recorded } of expected.pictures) {
    const file = await readFile(fixture(name));
    const start = performance.now();
    const lines = await readText(decodeImage(file), models, characters);
    rows.push({ name, lines, milliseconds: performance.now() - start });
    const found = difference(name, lines, recorded);
    if (found) differences.push(found);
  }
  return [rows, differences];
}

/** Runs a network on its recorded input: how long it takes, how far its output is from the recorded one. */
async function measure(name: ModelName, engine: Engine): Promise<ModelRow> {
  const { picture, line, every, file } = expected.outputs[name];
  const recordedLine = expected.pictures.find((entry) => entry.name === picture)?.lines[line ?? 0];
  const input = recordedInput(name, decodeImage(await readFile(fixture(picture))), recordedLine);
  const output = await engine.run(input.data, input.dims);
  const bytes = await readFile(fixture(file));
  const reference = Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    await engine.run(input.data, input.dims);
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const milliseconds = times[Math.floor(RUNS / 2)]!;
  return { ...engine, name, milliseconds, maxRelativeError: maxRelativeError(sample(output, every), reference) };
}

// Where the command was given, also when npm runs this in the example's folder.
const START = process.env.INIT_CWD ?? ".";
const ENGINES = join(START, "engines");
const engines: Partial<Record<ModelName, Engine>> = {};
try {
  for (const name of NAMES) engines[name] = await buildEngine(name, ENGINES, THREADS);
  const { det, cls, rec } = engines as Record<ModelName, Engine>;
  const [pictures, differences] = await readPictures({ det: det.run, cls: cls.run, rec: rec.run });
  console.log(pictureTable(pictures));
  const rows: ModelRow[] = [];
  for (const name of NAMES) rows.push(await measure(name, (engines as Record<ModelName, Engine>)[name]));
  console.log(modelTable(rows));
  console.log(`Next: npx nim-build --help · npx nim-build inspect ${relative(START, det.path)} --html report.html`);
  if (differences.length > 0) {
    console.error(
      `The text differs from fixtures/ocr/expected.json (${expected.recordedWith}):\n${differences.join("\n")}`,
    );
    process.exitCode = 1;
  }
} finally {
  for (const engine of Object.values(engines)) await engine.close();
}
