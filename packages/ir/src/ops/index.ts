/** Every op of the vocabulary, family by family, and the lookup by domain and name. */
import { constantOp, type OpLookup } from "../graph.js";
import type { Op } from "../op.js";
import { activation } from "./activation.js";
import { attention } from "./attention.js";
import { control } from "./control.js";
import { conv } from "./conv.js";
import { indexing } from "./indexing.js";
import { loss } from "./loss.js";
import { matmul } from "./matmul.js";
import { ml } from "./ml.js";
import { movement } from "./movement.js";
import { normalization } from "./normalization.js";
import { pointwise } from "./pointwise.js";
import { pool } from "./pool.js";
import { quantize } from "./quantize.js";
import { random } from "./random.js";
import { recurrent } from "./recurrent.js";
import { reduction } from "./reduction.js";
import { resize } from "./resize.js";
import { runtimeSizes } from "./runtime-sizes.js";
import { sequence } from "./sequence.js";
import { shape } from "./shape.js";
import { signal } from "./signal.js";
import { text } from "./text.js";
import { training } from "./training.js";

export const families: Readonly<Record<string, readonly Op[]>> = {
  pointwise,
  activation,
  reduction,
  matmul,
  conv,
  pool,
  normalization,
  quantize,
  movement,
  runtimeSizes,
  shape,
  indexing,
  resize,
  control,
  sequence,
  text,
  random,
  ml,
  attention,
  recurrent,
  signal,
  loss,
  training,
  constants: [constantOp],
};

const table = new Map<string, Op>(
  Object.values(families).flatMap((ops) => ops.map((op) => [`${op.domain}:${op.name}`, op] as const)),
);

export const findOp: OpLookup = (domain, name) => table.get(`${domain === "ai.onnx" ? "" : domain}:${name}`);
