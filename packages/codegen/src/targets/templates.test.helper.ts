/** Test support: networks around each kind of anchor, of any float type: sizes that fit no tile, epilogues, prologues, strides. */
import { Context, type Dim, findOp, Graph, symbol, tensorType, type Value } from "@nimforge/ir";
import { type DType, sizeOf, type Tensor, tensor } from "@nimforge/tensor";
import type { TestProgram } from "../run.test.helper.js";

const numbers = (dtype: DType, shape: readonly number[], seed: number): Tensor =>
  tensor(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, k) => (Math.sin(12.9898 * (k + 1) + 78.233 * seed) * 43758.5453) % 1),
  );

/** A graph under construction; inputs are filled with numbers, symbolic sizes at two points. */
export class Net {
  readonly context = new Context(findOp);
  readonly inputs: { name: string; value: Value }[] = [];
  #seed = 0;
  constructor(readonly dtype: DType) {}
  input(...shape: Dim[]): Value {
    const value = this.context.input(`x${this.inputs.length}`, tensorType(this.dtype, shape));
    this.inputs.push({ name: `x${this.inputs.length}`, value });
    return value;
  }
  op(name: string, inputs: readonly (Value | undefined)[], attributes = {}): Value {
    return this.context.apply(name, inputs, attributes)[0] as Value;
  }
  weights(...shape: number[]): Value {
    return this.context.constant(numbers(this.dtype, shape, ++this.#seed));
  }
  ints(...values: number[]): Value {
    return this.context.constant(tensor("int64", [values.length], values.map(BigInt)));
  }
  conv(
    x: Value,
    columns: number,
    taps: readonly number[],
    attributes: { group?: number } & Record<string, unknown> = {},
    bias = true,
  ): Value {
    const depth = (x.shape[1] as number) / (attributes.group ?? 1);
    return this.op(
      "Conv",
      [x, this.weights(columns, depth, ...taps), bias ? this.weights(columns) : undefined],
      attributes,
    );
  }
  transposed(
    x: Value,
    columns: number,
    taps: readonly number[],
    attributes: { group?: number } & Record<string, unknown> = {},
  ): Value {
    const groups = attributes.group ?? 1;
    return this.op(
      "ConvTranspose",
      [x, this.weights(x.shape[1] as number, columns / groups, ...taps), this.weights(columns)],
      attributes,
    );
  }
}

const [N, H, W] = [symbol("N", 1, 64), symbol("H", 1, 64), symbol("W", 1, 64)];
const points: Record<string, number>[] = [
  { N: 1, H: 9, W: 13 },
  { N: 3, H: 6, W: 33 },
];

/** name → the anchor's template (undefined: none is promised) and the graph's outputs. */
export const templateCases: Record<string, [string | undefined, (net: Net) => Value | Value[]]> = {
  "conv 3×3": ["conv", (net) => net.conv(net.input(N, 3, H, W), 20, [3, 3], { pads: [1, 1, 1, 1] })],
  "conv 1×1, no bias": ["conv", (net) => net.conv(net.input(N, 17, H, W), 33, [1, 1], {}, false)],
  "conv of one axis": ["conv", (net) => net.conv(net.input(N, 5, W), 16, [3], { pads: [2, 0], strides: [2] })],
  "strides, dilations, uneven pads": [
    "conv",
    (net) => net.conv(net.input(2, 4, 11, 14), 18, [3, 2], { strides: [2, 3], dilations: [2, 1], pads: [1, 0, 2, 3] }),
  ],
  SAME_UPPER: [
    "conv",
    (net) => net.conv(net.input(1, 3, H, W), 16, [4, 3], { strides: [2, 2], auto_pad: "SAME_UPPER" }),
  ],
  SAME_LOWER: [
    "conv",
    (net) => net.conv(net.input(1, 3, H, W), 16, [4, 3], { strides: [2, 2], auto_pad: "SAME_LOWER" }),
  ],
  VALID: ["conv", (net) => net.conv(net.input(1, 3, 7, 8), 16, [3, 3], { auto_pad: "VALID" })],
  groups: ["conv", (net) => net.conv(net.input(N, 8, H, W), 64, [3, 3], { group: 2, pads: [1, 1, 1, 1] })],
  "groups of nine columns": ["conv", (net) => net.conv(net.input(2, 6, 4, 5), 18, [3, 3], { group: 2 })],
  "groups of nine columns, stored as they are": [
    "conv",
    (net) => net.conv(net.conv(net.input(1, 6, 5, 5), 18, [1, 1], { group: 2 }, false), 16, [1, 1]),
  ],
  "transposed, groups of nine columns": [
    "convTranspose",
    (net) => net.transposed(net.input(2, 6, 4, 5), 18, [3, 3], { group: 2 }),
  ],
  "matmul of one row in each batch": ["matmul", (net) => net.op("MatMul", [net.input(N, 1, 40), net.weights(40, 24)])],
  "epilogue: hard-swish and residual": [
    "conv",
    (net) => {
      const x = net.input(N, 16, H, W);
      return net.op("Add", [net.op("HardSwish", [net.conv(x, 16, [3, 3], { pads: [1, 1, 1, 1] })]), x]);
    },
  ],
  "epilogue: per-channel and scalar operands": [
    "conv",
    (net) =>
      net.op("Relu", [
        net.op("Mul", [
          net.op("PRelu", [net.conv(net.input(1, 4, H, W), 24, [1, 1]), net.weights(24, 1, 1)]),
          net.input(1, 24, 1, 1),
        ]),
      ]),
  ],
  "prologue: a gate before a 1×1": [
    "conv",
    (net) => {
      const x = net.conv(net.input(1, 3, 9, 9), 16, [3, 3]);
      const gate = net.op("Sigmoid", [net.op("GlobalAveragePool", [x])]);
      return net.conv(net.op("Mul", [x, gate]), 20, [1, 1]);
    },
  ],
  "strided input: one half of the channels": [
    "conv",
    (net) => net.conv(net.op("Slice", [net.input(1, 32, 7, 5), net.ints(16), net.ints(32), net.ints(1)]), 16, [3, 3]),
  ],
  "strided input: every second pixel, backwards": [
    "conv",
    (net) =>
      net.conv(
        net.op("Slice", [
          net.input(1, 4, 12, 11),
          net.ints(11, -1),
          net.ints(-20, -20),
          net.ints(2, 3),
          net.ints(-2, -1),
        ]),
        16,
        [1, 1],
      ),
  ],
  "two convolutions of one input": [
    "conv",
    (net) => {
      const x = net.op("Relu", [net.conv(net.input(1, 3, 8, 8), 16, [3, 3])]);
      return [net.conv(x, 16, [3, 3]), net.conv(x, 17, [1, 1], { strides: [2, 2] })];
    },
  ],
  depthwise: ["depthwise", (net) => net.conv(net.input(N, 19, H, W), 19, [3, 3], { group: 19, pads: [1, 1, 1, 1] })],
  "depthwise 5×5, stride 2, hard-swish": [
    "depthwise",
    (net) =>
      net.op("HardSwish", [
        net.conv(net.input(1, 33, 14, 17), 33, [5, 5], { group: 33, strides: [2, 2], pads: [2, 2, 2, 2] }),
      ]),
  ],
  "depthwise of one axis, dilated": [
    "depthwise",
    (net) => net.conv(net.input(2, 16, W), 16, [3], { group: 16, dilations: [2], pads: [2, 2] }),
  ],
  "transposed 2×2": [
    "convTranspose",
    (net) => net.op("Relu", [net.transposed(net.input(1, 5, H, W), 18, [2, 2], { strides: [2, 2] })]),
  ],
  "transposed, uneven": [
    "convTranspose",
    (net) =>
      net.transposed(net.input(1, 4, 5, 6), 16, [3, 4], {
        strides: [3, 2],
        pads: [1, 0, 0, 2],
        output_padding: [1, 1],
        dilations: [1, 2],
      }),
  ],
  "transposed, groups": [
    "convTranspose",
    (net) => net.transposed(net.input(2, 6, 4, 5), 32, [3, 3], { group: 2, strides: [2, 1] }),
  ],
  "transposed of one axis": ["convTranspose", (net) => net.transposed(net.input(1, 3, W), 7, [5], { strides: [3] })],
  matmul: ["matmul", (net) => net.op("MatMul", [net.input(N, 17), net.weights(17, 33)])],
  "matmul, three axes, bias and gelu": [
    "matmul",
    (net) =>
      net.op("Gelu", [net.op("Add", [net.op("MatMul", [net.input(N, W, 40), net.weights(40, 48)]), net.weights(48)])]),
  ],
  "matmul, depth 600": ["matmul", (net) => net.op("MatMul", [net.input(5, 600), net.weights(600, 70)])],
  "matmul after layer normalization": [
    "matmul",
    (net) =>
      net.op("MatMul", [
        net.op("LayerNormalization", [net.input(N, 24), net.weights(24), net.weights(24)]),
        net.weights(24, 16),
      ]),
  ],
  "matmul of a transposed operand": [
    "matmul",
    (net) => net.op("MatMul", [net.op("Transpose", [net.input(12, W)], { perm: [1, 0] }), net.weights(12, 20)]),
  ],
  gemm: ["matmul", (net) => net.op("Gemm", [net.input(N, 9), net.weights(9, 10), net.weights(10)])],
  "products of inputs": ["gemm", (net) => net.op("MatMul", [net.input(N, 7), net.input(7, W)])],
  "batched, transposed": [
    "gemm",
    (net) =>
      net.op("MatMul", [net.input(2, 3, W, 8), net.op("Transpose", [net.input(2, 3, W, 8)], { perm: [0, 1, 3, 2] })]),
  ],
  "batch axes that broadcast": ["gemm", (net) => net.op("MatMul", [net.input(3, 1, 5, 17), net.input(2, 17, 19)])],
  "an unknown depth, a scaled result": [
    "gemm",
    (net) =>
      net.op("Mul", [net.op("MatMul", [net.input(5, W), net.input(W, 18)]), net.context.scalar(net.dtype, 0.125)]),
  ],
  attention: [
    "gemm",
    (net) => {
      const [q, k, v] = [net.input(2, N, 16), net.input(2, W, 16), net.input(2, W, 16)];
      return net.op("MatMul", [
        net.op("Softmax", [net.op("MatMul", [q!, net.op("Transpose", [k!], { perm: [0, 2, 1] })])]),
        v!,
      ]);
    },
  ],
};

export const templatePrograms = (dtype: DType): TestProgram[] =>
  Object.entries(templateCases).map(([name, [, build]]) => {
    const net = new Net(dtype);
    const built = build(net);
    const outputs = (Array.isArray(built) ? built : [built]).map((value, k) => ({ name: `y${k}`, value }));
    const symbolic = net.inputs.some(({ value }) => value.shape.some((size) => typeof size !== "number"));
    const inputs = (symbolic ? points : points.slice(0, 1)).map((point) =>
      net.inputs.map(({ value }, k) =>
        numbers(
          dtype,
          value.shape.map((size) => (typeof size === "number" ? size : point[String(size)]!)),
          k + 10,
        ),
      ),
    );
    return { name, graph: new Graph(net.context, net.inputs, outputs), inputs, exact: outputs.map(() => false) };
  });
