/** One-operator models whose time says how near a kernel comes to the device's limits. */
import { encode, graph, info, model, node, tensor } from "../../fixtures/onnx/model.mjs";

const width = { float: 4, float16: 2, bfloat16: 2, int8: 1, int32: 4 };
const onnxTypes = { bfloat16: 16 };
const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** Numbers in [-1, 1) in the bits of a type, from a table that repeats: what is in them does not matter for time. */
export function randomBytes(type, shape) {
  const table = new Uint16Array(4093);
  let state = 1;
  for (let k = 0; k < table.length; k++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const [sign, mantissa] = [(state >>> 16) & 0x8000, (state >>> 8) & 0x3ff];
    // Exponents from 2^-4 to 2^-1.
    if (type === "float16") table[k] = sign | ((11 + ((state >>> 3) & 3)) << 10) | mantissa;
    else if (type === "bfloat16") table[k] = sign | ((123 + ((state >>> 3) & 3)) << 7) | (mantissa >>> 3);
    else table[k] = mantissa;
  }
  const count = size(shape);
  if (type === "float") {
    const data = new Float32Array(count);
    for (let k = 0; k < count; k++) data[k] = (table[k % table.length] - 512) / 512;
    return new Uint8Array(data.buffer);
  }
  if (type === "int8") {
    const data = new Int8Array(count);
    for (let k = 0; k < count; k++) data[k] = table[k % table.length];
    return new Uint8Array(data.buffer);
  }
  const data = new Uint16Array(count);
  for (let k = 0; k < count; k++) data[k] = table[k % table.length];
  return new Uint8Array(data.buffer);
}

const typeOf = (type) => onnxTypes[type] ?? type;
const given = (name, type, shape) => ({ name, type, shape });

/** @param operands of the node: `given` inputs, or constants when marked so */
function single(op, operands, result, attributes = {}, after = []) {
  const inputs = operands.filter(({ constant }) => !constant);
  const constants = operands
    .filter(({ constant }) => constant)
    .map(({ name, type, shape, data }) => tensor(name, typeOf(type), shape, data ?? randomBytes(type, shape)));
  const last = after.length === 0 ? result.name : "t0";
  const nodes = [
    node(
      op,
      operands.map(({ name }) => name),
      [last],
      attributes,
    ),
    ...after,
  ];
  const onnx = () =>
    encode(
      model(
        graph(
          nodes,
          inputs.map(({ name, type, shape }) => info(name, typeOf(type), shape)),
          [info(result.name, typeOf(result.type), result.shape)],
          constants,
        ),
        { opset: 23, ir: 11 },
      ),
    );
  const bytes = [...operands, result].reduce((sum, { type, shape }) => sum + (width[type] ?? 8) * size(shape), 0);
  return { inputs, onnx, bytes };
}

const constant = (name, type, shape, data) => ({ ...given(name, type, shape), constant: true, data });
const int64s = (...values) => new Uint8Array(new BigInt64Array(values.map(BigInt)).buffer);

/**
 * @param full the sizes that are measured; otherwise small ones, to see that everything runs
 * @returns cases: `limit` is what bounds the time: "memory", or the type of the multiplications
 */
export function cases(full) {
  const s = (large, small) => (full ? large : small);
  const list = [];
  const add = (name, limit, flops, made) => list.push({ name, limit, flops, ...made });

  const rows = [s(16384, 8), s(4096, 160)];
  const wide = [s(8192, 16), s(8192, 64)];
  const f16 = (name, shape) => given(name, "float16", shape);
  add("gelu_f16", "memory", 0, single("Gelu", [f16("x", wide)], f16("y", wide)));
  add(
    "add_relu_f16",
    "memory",
    0,
    single("Add", [f16("x", wide), f16("z", wide)], f16("y", wide), {}, [node("Relu", ["t0"], ["y"])]),
  );
  add(
    "add_f32",
    "memory",
    0,
    single("Add", [given("x", "float", rows), given("z", "float", rows)], given("y", "float", rows)),
  );
  add("softmax_f16", "memory", 0, single("Softmax", [f16("x", rows)], f16("y", rows)));
  const vector = (name) => constant(name, "float16", [rows[1]]);
  add(
    "layernorm_f16",
    "memory",
    0,
    single("LayerNormalization", [f16("x", rows), vector("g"), vector("b")], f16("y", rows)),
  );
  add("rmsnorm_f16", "memory", 0, single("RMSNormalization", [f16("x", rows), vector("g")], f16("y", rows)));
  add(
    "reduce_sum_f16",
    "memory",
    0,
    single("ReduceSum", [f16("x", rows), constant("a", "int64", [1], int64s(1))], f16("y", [rows[0], 1])),
  );
  add(
    "transpose_f16",
    "memory",
    0,
    single("Transpose", [f16("x", wide)], f16("y", [wide[1], wide[0]]), { perm: [1, 0] }),
  );

  const gemm = (name, type, m, n, k, limit) => {
    const out = given("y", type, [m, n]);
    add(name, limit, 2 * m * n * k, single("MatMul", [given("x", type, [m, k]), constant("w", type, [k, n])], out));
  };
  const n = s(4096, 96);
  gemm("gemm_f16", "float16", n, n, n, "f16");
  gemm("gemm_bf16", "bfloat16", n, n, n, "f16");
  gemm("gemm_f32", "float", s(2048, 64), s(2048, 64), s(2048, 64), "f32");
  gemm("gemm_f16_m16", "float16", 16, n, n, "memory");
  gemm("gemm_f16_m1", "float16", 1, n, n, "memory");
  const bytes8 = [given("x", "int8", [n, n]), constant("w", "int8", [n, n])];
  add("gemm_int8", "s8", 2 * n ** 3, single("MatMulInteger", bytes8, given("y", "int32", [n, n])));

  const [c, h] = [s(256, 16), s(64, 9)];
  const image = [s(8, 1), c, h, h];
  const conv = (name, kernel, group, limit) => {
    const weights = constant("w", "float16", [c, c / group, kernel, kernel]);
    const pad = (kernel - 1) / 2;
    const attributes = { kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], group };
    // Channels last inside: inputs and outputs of a graph are not, so both ends are a pointwise node of their own.
    const flops = 2 * size(image) * (c / group) * kernel * kernel;
    add(name, limit, flops, single("Conv", [f16("x", image), weights], f16("y", image), attributes));
  };
  conv("conv3x3_f16", 3, 1, "f16");
  conv("conv1x1_f16", 1, 1, "f16");
  conv("depthwise3x3_f16", 3, c, "memory");

  const heads = [1, s(32, 2), s(4096, 40), s(128, 16)];
  const attention = (name, causal) => {
    const operands = ["q", "k", "v"].map((operand) => f16(operand, heads));
    const flops = (4 * size(heads) * heads[2]) / (causal ? 2 : 1);
    add(name, "f16", flops, single("Attention", operands, f16("y", heads), { is_causal: causal }));
  };
  attention("attention_f16", 0);
  attention("attention_causal_f16", 1);
  return list;
}

/**
 * Operations of one multiprocessor in a clock (multiply and add are two), dense, accumulated in 32 bits; from the peak figures of NVIDIA's
 * architecture whitepapers and data sheets, divided by multiprocessors and boost clock.
 */
const operationsPerClock = {
  75: { f16: 1024, f32: 128, s8: 2048 },
  80: { f16: 2048, f32: 128, s8: 4096 },
  86: { f16: 512, f32: 256, s8: 2048 },
  87: { f16: 512, f32: 256, s8: 2048 },
  88: { f16: 512, f32: 256, s8: 2048 },
  89: { f16: 512, f32: 256, s8: 2048 },
  90: { f16: 4096, f32: 256, s8: 8192 },
  100: { f16: 8192, f32: 256, s8: 16384 },
  103: { f16: 8192, f32: 256 },
  110: { f16: 8192, f32: 256, s8: 16384 },
  120: { f16: 512, f32: 256, s8: 2048 },
  121: { f16: 512, f32: 256, s8: 2048 },
};

/** Operations per second at the device's clock; undefined where it is not known. */
export function peak({ target, multiprocessors, clockHz }, limit) {
  const perClock = operationsPerClock[target.replace(/^sm_|a$/g, "")]?.[limit];
  return perClock === undefined ? undefined : perClock * multiprocessors * clockHz;
}
