import { type Attributes, Context, evaluate, findOp, Graph, tensorType, type Value } from "@nimforge/ir";
import { bitsToFloat, floatToBits, sizeOf, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import { describe, expect, test } from "vitest";
import { castToHalf, type HalfType, optimize } from "./index.js";

const halves = ["float16", "bfloat16"] as const;
const tolerance: Record<HalfType, number> = { float16: 4e-3, bfloat16: 3e-2 };

/** Numbers without a pattern, in [-1, 1). */
const numbers = (shape: readonly number[], seed = 1) =>
  tensor(
    "float32",
    shape,
    Array.from({ length: sizeOf(shape) }, (_, k) => (Math.sin(12.9898 * (k + 1) + 78.233 * seed) * 43758.5453) % 1),
  );

class Net {
  readonly context = new Context(findOp);
  readonly inputs: { name: string; value: Value }[] = [];
  input(shape: readonly number[], dtype: Tensor["dtype"] = "float32"): Value {
    const name = `x${this.inputs.length}`;
    this.inputs.push({ name, value: this.context.input(name, tensorType(dtype, shape)) });
    return this.inputs.at(-1)!.value;
  }
  op(name: string, inputs: readonly (Value | undefined)[], attributes: Attributes = {}): Value {
    return this.context.apply(name, inputs, attributes, { name: `/${name}` })[0] as Value;
  }
  weights(shape: readonly number[], seed = 1): Value {
    return this.context.constant(numbers(shape, seed));
  }
  float(...values: number[]): Value {
    return this.context.constant(tensor("float32", [values.length], values));
  }
  graph(...outputs: Value[]): Graph {
    return new Graph(
      this.context,
      this.inputs,
      outputs.map((value, k) => ({ name: `y${k}`, value })),
    );
  }
}

/** Names of a graph's nodes by the type that they give, Casts left out. */
const typed = (graph: Graph, dtype: string): string[] =>
  graph
    .nodes()
    .filter(({ op, outputs }) => !["Cast", "Constant", "Input"].includes(op.name) && outputs[0]!.dtype === dtype)
    .map(({ op }) => op.name)
    .toSorted();

function expectNear(before: Graph, after: Graph, inputs: readonly Tensor[], within: number): void {
  const [a, b] = [evaluate(before, inputs) as Tensor[], evaluate(after, inputs) as Tensor[]];
  expect(b.map(({ dtype, shape }) => ({ dtype, shape }))).toEqual(a.map(({ dtype, shape }) => ({ dtype, shape })));
  a.forEach((want, k) => {
    const [expected, found] = [toNumbers(want), toNumbers(b[k]!)];
    const scale = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 1);
    expected.forEach((x, i) => expect(Math.abs(found[i]! - x) / scale, `output ${k}[${i}]`).toBeLessThan(within));
  });
}

describe.each(halves)("%s", (half) => {
  test("products and what is pointwise are small, norms and softmax float32 inside, inputs and outputs as they were", () => {
    const net = new Net();
    const x = net.input([2, 8]);
    const hidden = net.op("Relu", [net.op("Add", [net.op("MatMul", [x, net.weights([8, 8])]), net.weights([8], 2)])]);
    const norm = net.op("LayerNormalization", [net.op("Add", [hidden, x]), net.weights([8], 3), net.weights([8], 4)]);
    const graph = net.graph(net.op("Softmax", [net.op("MatMul", [norm, net.weights([8, 5], 5)])]));
    const whole = optimize(graph, { half, keep: () => true });
    expect(typed(whole, half)).toEqual(["Add", "Add", "MatMul", "MatMul", "Relu"]);
    expect(typed(whole, "float32")).toEqual(["LayerNormalization", "Softmax"]);
    // The last softmax is not rounded on its way to the float32 output.
    expect(whole.outputs[0]!.value.node.op.name).toBe("Softmax");
    const open = optimize(graph, { half });
    expect(open.nodes().filter((node) => node.expansion)).toEqual([]);
    expect(open.inputs).toEqual(graph.inputs);
    expectNear(graph, open, [numbers([2, 8], 7)], tolerance[half]);
  });

  test("a convolution takes up its scales before the types change", () => {
    const net = new Net();
    const conv = net.op("Conv", [net.input([1, 3, 6, 6]), net.weights([4, 3, 3, 3], 2)]);
    const variance = net.context.constant(tensor("float32", [4], [1, 2, 0.5, 3]));
    const vectors = [4, 5, 6].map((seed) => net.weights([4], seed));
    const graph = net.graph(net.op("Relu", [net.op("BatchNormalization", [conv, ...vectors, variance])]));
    const cast = optimize(graph, { half });
    expect(typed(cast, half)).toEqual(["Conv", "Relu"]);
    expect(typed(cast, "float32")).toEqual([]);
    expectNear(graph, cast, [numbers([1, 3, 6, 6], 7)], tolerance[half]);
  });

  test("a norm that is written out keeps float32 from the mean to the quotient", () => {
    const net = new Net();
    const x = net.op("MatMul", [net.input([3, 8]), net.weights([8, 8])]);
    const axes = net.context.constant(tensor("int64", [1], [-1n]));
    const centred = net.op("Sub", [x, net.op("ReduceMean", [x, axes])]);
    const variance = net.op("ReduceMean", [net.op("Pow", [centred, net.float(2)]), axes]);
    const deviation = net.op("Sqrt", [net.op("Add", [variance, net.float(1e-7)])]);
    const normal = net.op("Mul", [net.op("Div", [centred, deviation]), net.weights([8], 3)]);
    const graph = net.graph(net.op("MatMul", [normal, net.weights([8, 8], 4)]));
    const cast = optimize(graph, { half });
    expect(typed(cast, half)).toEqual(["MatMul", "MatMul", "Mul"]);
    expectNear(graph, cast, [numbers([3, 8], 7)], tolerance[half]);
  });

  test("integers, conditions and what is made of them are not touched", () => {
    const net = new Net();
    const x = net.input([4]);
    const ids = net.input([2], "int64");
    const rows = net.op("Gather", [net.weights([5, 3]), ids]);
    const numbersOfIds = net.op("Cast", [ids], { to: 1 });
    const graph = net.graph(net.op("Add", [ids, ids]), net.op("Less", [x, net.float(0.1)]), rows, numbersOfIds);
    const cast = optimize(graph, { half });
    expect(cast.outputs.map(({ value }) => value.dtype)).toEqual(["int64", "bool", "float32", "float32"]);
    const run = [numbers([4]), tensor("int64", [2], [3n, 16777217n % 5n])];
    const [sum, less, , wide] = evaluate(cast, run) as Tensor[];
    const [wantSum, wantLess, , wantWide] = evaluate(graph, run) as Tensor[];
    expect([sum, less, wide]).toEqual([wantSum, wantLess, wantWide]);
    expectNear(graph, cast, run, tolerance[half]);
  });

  test("rounds weights as the interpreter rounds", () => {
    const bits = new Uint32Array(20_000);
    for (let k = 0; k < bits.length; k++) bits[k] = Math.imul(k, 0x9e3779b1) ^ (k * 61_356);
    const edges = [
      0,
      -0,
      65503.9,
      65504,
      2 ** -24,
      2 ** -25,
      3 * 2 ** -25,
      2 ** -14,
      6.1e-5,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
    ];
    const large = half === "float16" ? 65504 : 3.38e38;
    const values = [...new Float32Array(bits.buffer), ...edges, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const kept = values.filter((x) => !(Math.abs(x) > large && Number.isFinite(x)));
    const net = new Net();
    const sum = net.op("Add", [net.input([kept.length]), net.float(...kept)]);
    const { graph } = castToHalf(net.graph(sum), half);
    const weights = graph.nodes().find(({ op }) => op.name === "Add")!.inputs[1]!.constant!;
    const [given, found] = [new Float32Array(kept), weights.data as Uint16Array];
    const wrong = found.findIndex((b, i) => b !== floatToBits(half, given[i] as number) && !Number.isNaN(given[i]));
    expect(wrong < 0 ? undefined : [given[wrong], bitsToFloat(half, found[wrong] as number)]).toBeUndefined();
    const nans = (isNaNAt: (i: number) => boolean) => kept.map((_, i) => i).filter(isNaNAt);
    expect(nans((i) => Number.isNaN(bitsToFloat(half, found[i] as number)))).toEqual(
      nans((i) => Number.isNaN(given[i])),
    );
  });

  const image = [1, 4, 6, 6];
  const int64s = (...values: number[]) => tensor("int64", [values.length], values.map(BigInt));
  const forms: [op: string, inputs: (readonly number[] | Tensor | undefined)[], attributes?: Attributes][] = [
    ["Gemm", [[3, 4], [5, 4], [5]], { transB: 1, alpha: 0.5 }],
    [
      "Einsum",
      [
        [2, 3, 4],
        [2, 4, 5],
      ],
      { equation: "bij,bjk->bik" },
    ],
    ["ConvTranspose", [image, [4, 2, 3, 3]], { strides: [2, 2] }],
    ["MaxPool", [image], { kernel_shape: [2, 2] }],
    ["AveragePool", [image], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }],
    ["GlobalAveragePool", [image]],
    ["LpPool", [image], { kernel_shape: [2, 2] }],
    ["Resize", [image, undefined, tensor("float32", [4], [1, 1, 2, 1.5])], { mode: "linear" }],
    ["Resize", [image, undefined, tensor("float32", [4], [1, 1, 2, 2])], { mode: "nearest" }],
    ["InstanceNormalization", [image, [4], [4]]],
    ["GroupNormalization", [image, [4], [4]], { num_groups: 2 }],
    ["RMSNormalization", [[3, 8], [8]]],
    ["LRN", [image], { size: 3 }],
    ["LogSoftmax", [[3, 8]]],
    ["Gelu", [[3, 8]], { approximate: "tanh" }],
    ["HardSwish", [[3, 8]]],
    ["PRelu", [[3, 8], [8]]],
    ["Clip", [[3, 8], tensor("float32", [], [-0.5]), tensor("float32", [], [0.5])]],
    ["CumSum", [[3, 8], tensor("int64", [], [1n])]],
    ["ReduceL2", [[3, 8], int64s(1)]],
    ["ReduceLogSumExp", [[3, 8], int64s(0)]],
    [
      "Concat",
      [
        [3, 4],
        [3, 5],
      ],
      { axis: 1 },
    ],
    ["Pad", [[3, 4], int64s(1, 0, 0, 2), tensor("float32", [], [0.25])]],
    ["Where", [tensor("bool", [3, 1], [1, 0, 1]), [3, 4], [4]]],
    ["GridSample", [image, [1, 3, 3, 2]]],
    [
      "Attention",
      [
        [1, 2, 3, 4],
        [1, 2, 5, 4],
        [1, 2, 5, 4],
      ],
    ],
    [
      "LSTM",
      [
        [3, 1, 4],
        [1, 8, 4],
        [1, 8, 2],
      ],
      { hidden_size: 2 },
    ],
    ["Dropout", [[3, 4]]],
  ];
  test.each(forms)("%s keeps its types and comes near its values", (op, operands, attributes) => {
    const net = new Net();
    const values = operands.map((operand) =>
      operand === undefined || !("dtype" in operand) ? operand && net.input(operand) : net.context.constant(operand),
    );
    // What stands before and after is small.
    const [first, ...rest] = values as [Value, ...(Value | undefined)[]];
    const small = first.dtype === "float32" ? net.op("Add", [first, first]) : first;
    const result = net.op(op, [small, ...rest], attributes);
    const graph = net.graph(net.op("Mul", [result, net.float(0.5)]));
    const inputs = net.inputs.map(({ value }, k) => numbers(value.shape as number[], k + 1));
    expectNear(graph, optimize(graph, { half }), inputs, 4 * tolerance[half]);
  });
});

test("a constant that float16 cannot hold keeps its readers float32, by name; bfloat16 holds it", () => {
  const net = new Net();
  const scores = net.op("MatMul", [net.input([2, 4]), net.weights([4, 4])]);
  const mask = net.float(0, 0, -1e9, -1e9);
  const graph = net.graph(
    net.op("MatMul", [net.op("Softmax", [net.op("Add", [scores, mask])]), net.weights([4, 3], 2)]),
  );
  for (const half of halves) {
    const named: string[] = [];
    const cast = optimize(graph, { half, onOutOfRange: (names) => named.push(...names) });
    expect(named).toEqual(half === "float16" ? ["/Add"] : []);
    expectNear(graph, cast, [numbers([2, 4], 7)], tolerance[half]);
  }
});
