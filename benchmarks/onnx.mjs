/**
 * Our engines against onnxruntime-node on published models: both in this process, on the same inputs and as many threads, their runs
 * interleaved so that a busy moment of the machine hits both; medians. A row's outputs are compared before it is timed.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { evaluate } from "mathjs";
import { build, inspectEngine, loadEngine, tensor } from "nimforge";
import { findModel } from "../fixtures/onnx-real/models.mjs";
import { machine, probe } from "./probe.mjs";

const peerName = "onnxruntime-node 1.30.0";

/** Models, the shapes that their engine takes, and the inputs that are timed. */
const models = [
  {
    id: "ppocr-v4-det",
    group: "ocr",
    input: "x",
    shape: [1, 3, "H", "W"],
    options: { ranges: { H: [32, 960], W: [32, 960] }, opt: { H: 640, W: 640 } },
    runs: { "640x640": [1, 3, 640, 640], "960x640": [1, 3, 960, 640] },
  },
  {
    id: "ppocr-v4-rec",
    group: "ocr",
    input: "x",
    shape: [1, 3, 48, "W"],
    options: { ranges: { W: [32, 960] }, opt: { W: 320 } },
    runs: { "W=320": [1, 3, 48, 320] },
  },
  {
    id: "ppocr-v2-cls",
    group: "ocr",
    input: "x",
    shape: [1, 3, 48, 192],
    options: {},
    runs: { "48x192": [1, 3, 48, 192] },
  },
  {
    id: "oww-melspectrogram",
    group: "wakeword",
    input: "input",
    shape: [1, "samples"],
    options: { ranges: { samples: [512, 32000] }, opt: { samples: 1760 } },
    runs: { "110 ms": [1, 1760], "1 s": [1, 16000] },
  },
  {
    id: "oww-embedding",
    group: "wakeword",
    input: "input_1",
    shape: [1, 76, 32, 1],
    options: {},
    runs: { "batch 1": [1, 76, 32, 1] },
  },
];

/** @returns the report that `--json` prints; `ratio` above 1 means that ours is faster */
export async function run({ threads, only = "", rounds }) {
  const ort = createRequire(new URL("peers/package.json", import.meta.url))("onnxruntime-node");
  const probes = probe(threads);
  const folder = mkdtempSync(join(tmpdir(), "nimforge-bench-"));
  const rows = [];
  try {
    for (const { id, group, input, shape, options, runs } of models.filter(({ id }) => id.includes(only))) {
      const path = findModel(id);
      if (path === undefined) {
        console.error(`${id} is left out: its npm package cannot be fetched`);
        continue;
      }
      const { engines } = await build({
        model: path,
        targets: ["cpu"],
        shapes: { [input]: shape },
        out: join(folder, `${id}.engine`),
        ...options,
      });
      const { path: engine, target } = engines[0];
      const { kernels } = inspectEngine(engine).explain();
      const session = await loadEngine(engine, { threads });
      const peer = await ort.InferenceSession.create(path, { intraOpNumThreads: threads, interOpNumThreads: 1 });
      for (const [name, sizes] of Object.entries(runs)) {
        const values = randomValues(sizes);
        const ourInput = { [input]: tensor("float32", sizes, values) };
        const peerInput = { [input]: new ort.Tensor("float32", values, sizes) };
        requireEqual(`${id} ${name}`, await session.run(ourInput), await peer.run(peerInput));
        const [ours, theirs] = await interleaved(
          rounds,
          () => session.run(ourInput),
          () => peer.run(peerInput),
        );
        const scope = Object.fromEntries(
          shape.flatMap((dim, axis) => (typeof dim === "string" ? [[dim, sizes[axis]]] : [])),
        );
        const flops = kernels.reduce((sum, kernel) => sum + Number(evaluate(kernel.flops, scope)), 0);
        const share = round(flops / (ours / 1000) / (probes.fmaGFlops * 1e9));
        rows.push({
          model: `${id} ${name}`,
          group,
          target,
          threads,
          ours: round(ours),
          peer: round(theirs),
          peerName,
          ratio: round(theirs / ours),
          unit: "ms",
          share,
        });
      }
      await session.close();
      await peer.release();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const groups = [...new Set(rows.map(({ group }) => group))];
  const geomean = Object.fromEntries(
    groups.map((group) => [
      group,
      round(geometricMean(rows.filter((row) => row.group === group).map(({ ratio }) => ratio))),
    ]),
  );
  return { schemaVersion: 1, set: "onnx", machine: machine(), probes, rows, geomean };
}

export function table({ machine: { cpu, cores }, probes, rows, geomean }) {
  const line = (cells) =>
    cells.map((cell, k) => (k === 0 ? String(cell).padEnd(28) : String(cell).padStart(10))).join("");
  return [
    `${cpu}, ${cores} cores; reads ${probes.readGBs} GB/s, multiply-adds ${probes.fmaGFlops} GFLOP/s`,
    "",
    line(["model", "ours ms", "peer ms", "ratio", "of peak"]),
    ...rows.map((row) => line([row.model, row.ours, row.peer, row.ratio, `${Math.round(100 * row.share)} %`])),
    "",
    ...Object.entries(geomean).map(([group, mean]) => `${group}: ${mean} x ${peerName} (above 1: ours is faster)`),
  ].join("\n");
}

/** Medians, in ms, of two functions that are run in turn. */
async function interleaved(rounds, ...functions) {
  const times = functions.map(() => []);
  for (const work of functions) for (let k = 0; k < 3; k++) await work();
  for (let k = 0; k < rounds; k++)
    for (const [which, work] of functions.entries()) {
      const start = performance.now();
      await work();
      times[which].push(performance.now() - start);
    }
  return times.map((list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]);
}

/** Seeded values in [-1, 1) (mulberry32). */
function randomValues(shape) {
  let state = 12345;
  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}

/** A fast wrong answer is no result. */
function requireEqual(what, ours, theirs) {
  for (const [name, { data }] of Object.entries(theirs)) {
    const found = ours[name]?.data;
    let largest = 0;
    let error = found?.length === data.length ? 0 : Number.POSITIVE_INFINITY;
    for (let i = 0; i < data.length && error < Number.POSITIVE_INFINITY; i++) {
      largest = Math.max(largest, Math.abs(data[i]));
      error = Math.max(error, Math.abs(data[i] - found[i]));
    }
    if (!(error <= 2e-3 * largest))
      throw new Error(`${what}: output ${name} differs from ${peerName} by ${error}, with values up to ${largest}`);
  }
}

const round = (value) => Number(value.toPrecision(4));
const geometricMean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
