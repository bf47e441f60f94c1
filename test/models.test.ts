/** Published models against what onnxruntime 1.30 recorded of them: on the interpreter, compiled for this machine's CPU, and for emulated GPUs. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { evaluate, importOnnx } from "@nimforge/ir";
import { readNpy, type Tensor } from "@nimforge/tensor";
import { type BuildOptions, build, loadEngine } from "nimforge";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findModel, type RecordedModel, recordedFile, recordedModel } from "../fixtures/onnx-real/models.mjs";
import { compareValue } from "./conformance/compare.js";

const tolerance = { rtol: 1e-3, atol: 1e-4 };
/** Models, and how they are built where sizes are open. */
const models: Record<string, Partial<BuildOptions>> = {
  "ppocr-v4-det": { shapes: { x: [1, 3, "H", "W"] }, ranges: { H: [32, 960], W: [32, 960] } },
  "ppocr-v4-rec": { shapes: { x: ["N", 3, 48, "W"] }, ranges: { N: [1, 4], W: [32, 960] } },
  "ppocr-v2-cls": { shapes: { x: ["N", 3, 48, 192] }, ranges: { N: [1, 8] } },
  "oww-melspectrogram": { shapes: { input: [1, "samples"] }, ranges: { samples: [512, 32000] } },
  "oww-embedding": { shapes: { input_1: ["N", 76, 32, 1] }, ranges: { N: [1, 4] } },
  "owwjs-namaste_deepa": {},
  "blazeface-front": {},
  "mlsd-320x320-tiny": {},
  "mnist-cntk": {},
};
/** Steps whose multiply-adds take the interpreter more than a few seconds. */
const tooLargeForInterpreter = new Set([
  "mlsd-320x320-tiny 0",
  "ppocr-v4-det 1",
  "ppocr-v4-rec 1",
  "oww-melspectrogram 1",
  "oww-embedding 1",
]);

/** What runs on emulated capabilities, and how far half precision may be from the recording (of outputs up to 1 or so). */
const emulated: Record<string, readonly { target: string; precision: "fp32" | "fp16"; atol: number }[]> = {
  "ppocr-v4-rec": [{ target: "emulated-sm_80", precision: "fp32", atol: tolerance.atol }],
  "ppocr-v2-cls": [
    { target: "emulated-sm_80", precision: "fp32", atol: tolerance.atol },
    { target: "emulated-sm_90", precision: "fp16", atol: 1e-2 },
  ],
  "oww-embedding": [
    { target: "emulated-sm_90", precision: "fp32", atol: tolerance.atol },
    { target: "emulated-sm_80", precision: "fp16", atol: 0.25 },
  ],
};

type Step = RecordedModel["steps"][number];
const read = (file: string): Tensor => readNpy(readFileSync(recordedFile(file)), file);
const inputsOf = (step: Step) =>
  Object.fromEntries(Object.entries(step.inputs).map(([name, { file }]) => [name, read(file as string)]));

function expectRecorded(step: Step, outputs: Record<string, Tensor>, least = tolerance.atol): void {
  for (const [name, { file, optVsUnoptMaxDiff }] of Object.entries(step.outputs)) {
    // Where onnxruntime with and without its own optimizations differs by more than the tolerance, twice that.
    const atol = optVsUnoptMaxDiff > least ? 2 * optVsUnoptMaxDiff : least;
    expect(compareValue(outputs[name] as Tensor, read(file), { ...tolerance, atol }), name).toBeUndefined();
  }
}

const folder = mkdtempSync(join(tmpdir(), "nimforge-models-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const [id, options] of Object.entries(models)) {
  const path = findModel(id);
  describe.skipIf(path === undefined)(path === undefined ? `${id} (its npm package cannot be fetched)` : id, () => {
    const model = path as string;
    const { steps } = recordedModel(id);

    steps.forEach((step, k) => {
      it.skipIf(tooLargeForInterpreter.has(`${id} ${k}`))(
        `gives the recorded outputs on the interpreter, step ${k}`,
        { timeout: 60_000 },
        () => {
          const { graph } = importOnnx(model);
          const inputs = inputsOf(step);
          const values = evaluate(
            graph,
            graph.inputs.map(({ name }) => inputs[name] as Tensor),
          );
          expectRecorded(step, Object.fromEntries(graph.outputs.map(({ name }, i) => [name, values[i] as Tensor])));
        },
      );
    });

    describe("compiled for the CPU", () => {
      let engine: string;
      beforeAll(async () => {
        const { engines } = await build({ ...options, model, targets: ["cpu"], out: join(folder, `${id}.engine`) });
        engine = engines[0]!.path;
      }, 120_000);

      steps.forEach((step, k) => {
        it(`gives the recorded outputs, step ${k}`, async () => {
          const session = await loadEngine(engine, { threads: 2 });
          try {
            expectRecorded(step, await session.run(inputsOf(step)));
          } finally {
            await session.close();
          }
        });
      });
    });

    for (const { target, precision, atol } of emulated[id] ?? [])
      it(`gives the recorded outputs on ${target} in ${precision}`, { timeout: 300_000 }, async () => {
        const out = join(folder, `${id}-${target}.engine`);
        const { engines } = await build({ ...options, model, targets: [target], precision, out });
        const session = await loadEngine(engines[0]!.path, { threads: 2 });
        try {
          const [step] = steps as readonly [Step];
          expectRecorded(step, await session.run(inputsOf(step)), atol);
        } finally {
          await session.close();
        }
      });
  });
}
