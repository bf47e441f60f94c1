import { Context, type Dim, evaluate, findOp, Graph, hasReduce, symbol, tensorType, type Value } from "@nimforge/ir";
import { sizeOf, type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, test } from "vitest";
import { foldConstants } from "./fold.js";
import { foldScales } from "./fold-scales.js";
import {
  type AnchorMatch,
  channelsLast,
  chooseLayouts,
  group,
  type Kernel,
  offsetOf,
  optimize,
  pipeline,
  rowMajor,
  stridesOf,
} from "./index.js";
import { dropIdentities, expandComposites, takeBranches } from "./simplify.js";

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
  input(shape: readonly Dim[], dtype: Tensor["dtype"] = "float32"): Value {
    const name = `x${this.inputs.length}`;
    const value = this.context.input(name, tensorType(dtype, shape));
    this.inputs.push({ name, value });
    return value;
  }
  op(name: string, inputs: readonly (Value | undefined)[], attributes = {}): Value {
    return this.context.apply(name, inputs, attributes, { name: name.toLowerCase() })[0] as Value;
  }
  weights(shape: readonly number[], seed = 1): Value {
    return this.context.constant(numbers(shape, seed));
  }
  ints(...values: number[]): Value {
    return this.context.constant(tensor("int64", [values.length], values.map(BigInt)));
  }
  graph(...outputs: Value[]): Graph {
    return new Graph(
      this.context,
      this.inputs,
      outputs.map((value, k) => ({ name: `y${k}`, value })),
    );
  }
}

const ops = (graph: Graph) =>
  graph
    .nodes()
    .map((node) => node.op.name)
    .filter((name) => name !== "Constant" && name !== "Input");
const values = (graph: Graph, inputs: readonly Tensor[]) =>
  (evaluate(graph, inputs) as Tensor[]).map(({ data }) => Array.from(data as Float32Array, Number));
function expectSameValues(before: Graph, after: Graph, inputs: readonly Tensor[]) {
  const [a, b] = [values(before, inputs), values(after, inputs)];
  expect(b.map((list) => list.length)).toEqual(a.map((list) => list.length));
  const worst = Math.max(
    0,
    ...a.flatMap((list, k) => list.map((x, i) => Math.abs(x - (b[k]![i] as number)) / (1 + Math.abs(x)))),
  );
  expect(worst).toBeLessThan(1e-5);
}

describe("fold", () => {
  test("what depends on constants only becomes a constant, the rest stays", () => {
    const net = new Net();
    const x = net.input([4]);
    const scale = net.op("Exp", [net.op("Neg", [net.weights([4])])]);
    const graph = net.graph(net.op("Mul", [x, scale]), scale);
    const folded = foldConstants(graph);
    expect(ops(folded)).toEqual(["Mul"]);
    expect(folded.outputs[1]!.value.constant).toBeDefined();
    expectSameValues(graph, folded, [numbers([4], 2)]);
  });
  test("sizes become numbers as far as they are known", () => {
    const net = new Net();
    const x = net.input([symbol("N", 1), 3]);
    const shape = net.op("Shape", [x]);
    const folded = foldConstants(
      net.graph(net.op("Gather", [shape, net.ints(1)]), net.op("Add", [shape, net.ints(1, 1)])),
    );
    expect(folded.outputs[0]!.value.constant).toEqual(tensor("int64", [1], [3n]));
    expect(ops(folded)).toEqual(["Dims"]);
    expect(values(folded, [numbers([5, 3])])).toEqual([[3], [6, 4]]);
  });
  test("integers that wrap around are folded as they wrap", () => {
    const net = new Net();
    const sum = net.op("Add", [
      net.context.constant(tensor("uint8", [2], [200, 10])),
      net.context.constant(tensor("uint8", [2], [100, 10])),
    ]);
    const graph = net.graph(net.op("Div", [sum, net.context.constant(tensor("uint8", [], [2]))]));
    expect(foldConstants(graph).outputs[0]!.value.constant).toEqual(tensor("uint8", [2], [22, 10]));
    expect(evaluate(graph, [])).toEqual([tensor("uint8", [2], [22, 10])]);
  });
  test("a splat stays a splat, a random number random", () => {
    const net = new Net();
    const wide = net.op("Expand", [net.weights([1, 4]), net.ints(4000, 4)]);
    const noise = net.op("RandomNormal", [], { shape: [2] });
    expect(ops(foldConstants(net.graph(wide, noise))).toSorted()).toEqual(["Expand", "RandomNormal"]);
  });
});

describe("simplify", () => {
  test("operations that change nothing go", () => {
    const net = new Net();
    const x = net.input([2, symbol("N", 1)]);
    let y = net.op("Identity", [x]);
    y = net.op("Reshape", [y, net.ints(0, -1)]);
    y = net.op("Transpose", [y], { perm: [0, 1] });
    y = net.op("Slice", [y, net.ints(0), net.ints(2 ** 31), net.ints(1)]);
    y = net.op("Mul", [y, net.context.scalar("float32", 1)]);
    y = net.op("Sub", [y, net.context.scalar("float32", 0)]);
    const simplified = dropIdentities(net.graph(y));
    expect(simplified.outputs[0]!.value).toBe(x);
  });
  test("what only looks like an identity stays", () => {
    const net = new Net();
    const x = net.input([1, 3]);
    const keep = [
      net.op("Transpose", [net.input([2, 2])], { perm: [1, 0] }),
      net.op("Slice", [x, net.ints(1), net.ints(3), net.ints(1)]),
      net.op("Add", [x, net.context.constant(tensor("float32", [2, 1], [0, 0]))]), // broadcasts
      net.op("Mul", [x, net.context.constant(tensor("float32", [3], [1, 1, 2]))]),
      net.op("Sub", [net.context.scalar("float32", 0), x]),
      net.op("Slice", [x, net.ints(-1), net.ints(-9), net.ints(1), net.ints(-1)]), // reverses
    ];
    const graph = net.graph(...keep);
    expect(dropIdentities(graph).outputs.map(({ value }) => value)).toEqual(keep);
  });
  test("composites open until none is left", () => {
    const net = new Net();
    const x = net.input([2, 3, 4]);
    const graph = net.graph(
      net.op("LayerNormalization", [x, net.weights([4])]),
      net.op("LogSoftmax", [x]),
      net.op("Gelu", [x]),
    );
    const open = expandComposites(graph);
    expect(open.nodes().filter((node) => node.expansion)).toEqual([]);
    expectSameValues(graph, open, [numbers([2, 3, 4], 3)]);
    expect(expandComposites(graph, () => true).outputs.map(({ value }) => value)).toEqual(
      graph.outputs.map(({ value }) => value),
    );
  });
  test("the branch of a known condition is taken", () => {
    const net = new Net();
    const x = net.input([3]);
    const branch = (name: string) => {
      const captured = net.context.input("c", tensorType("float32", [3]));
      return new Graph(net.context, [{ name: "c", value: captured }], [{ name: "y", value: net.op(name, [captured]) }]);
    };
    const choose = (condition: number) =>
      net.graph(
        net.op("If", [net.context.constant(tensor("bool", [], [condition])), x], {
          then_branch: branch("Exp"),
          else_branch: branch("Neg"),
        }),
      );
    for (const [condition, name] of [
      [1, "Exp"],
      [0, "Neg"],
    ] as const) {
      const taken = takeBranches(choose(condition));
      expect(ops(taken)).toEqual([name]);
      expectSameValues(choose(condition), taken, [numbers([3])]);
    }
    const open = net.input([], "bool");
    const undecided = net.graph(net.op("If", [open, x], { then_branch: branch("Exp"), else_branch: branch("Neg") }));
    expect(ops(takeBranches(undecided))).toEqual(["If"]);
  });
});

describe("scales fold into convolutions", () => {
  const x = numbers([1, 3, 5, 5], 9);
  const channel = (net: Net, seed: number) => net.weights([4, 1, 1], seed);
  const conv = (net: Net, bias = true) =>
    net.op("Conv", [net.input([1, 3, 5, 5]), net.weights([4, 3, 3, 3], 2), bias ? net.weights([4], 3) : undefined]);
  const builds: [string, (net: Net) => Value][] = [
    [
      "BatchNormalization",
      (net) =>
        net.op("BatchNormalization", [
          conv(net),
          net.weights([4], 4),
          net.weights([4], 5),
          net.weights([4], 6),
          net.context.constant(tensor("float32", [4], [1, 2, 0.5, 3])),
        ]),
    ],
    ["Mul and Add", (net) => net.op("Add", [net.op("Mul", [conv(net), channel(net, 4)]), channel(net, 5)])],
    [
      "without a bias, constants on the left",
      (net) => net.op("Add", [channel(net, 5), net.op("Mul", [channel(net, 4), conv(net, false)])]),
    ],
    [
      "Sub and Div",
      (net) =>
        net.op("Div", [
          net.op("Sub", [conv(net, false), channel(net, 5)]),
          net.context.constant(tensor("float32", [1, 4, 1, 1], [1, 2, -3, 0.5])),
        ]),
    ],
    [
      "scalars",
      (net) =>
        net.op("Add", [
          net.op("Mul", [conv(net), net.context.scalar("float32", 1.5)]),
          net.context.scalar("float32", -0.25),
        ]),
    ],
  ];
  test.each(builds)("%s", (_, build) => {
    const net = new Net();
    const graph = net.graph(build(net));
    const folded = optimize(graph);
    expect(ops(folded)).toEqual(["Conv"]);
    expectSameValues(graph, folded, [x]);
    expect(graph.context.originOf(folded.outputs[0]!.value.node)).toContain("conv");
  });
  test.each<[string, (net: Net) => Value[], string[]]>([
    ["along the width", (net) => [net.op("Mul", [conv(net), net.weights([3], 4)])], ["Conv", "Mul"]],
    ["constant − conv", (net) => [net.op("Sub", [channel(net, 4), conv(net)])], ["Conv", "Sub"]],
    [
      "a convolution with another reader",
      (net) => {
        const c = conv(net);
        return [net.op("Mul", [c, channel(net, 4)]), net.op("Relu", [c])];
      },
      ["Conv", "Mul", "Relu"],
    ],
    [
      "a constant that makes the result larger",
      (net) => [net.op("Add", [conv(net), net.weights([2, 4, 1, 1], 4)])],
      ["Add", "Conv"],
    ],
  ])("not %s", (_, build, expected) => {
    const net = new Net();
    const graph = net.graph(...build(net));
    const kept = foldScales(graph);
    expect(ops(kept).toSorted()).toEqual(expected);
    expectSameValues(graph, kept, [x]);
  });
});

describe("the pipeline", () => {
  test("is checked pass by pass", () => {
    const net = new Net();
    const graph = net.graph(net.op("Softmax", [net.op("Add", [net.input([2, 3]), net.op("Neg", [net.weights([3])])])]));
    const seen: string[] = [];
    const optimized = optimize(graph, {
      checkInputs: [numbers([2, 3])],
      compare: (pass, before, after) => {
        seen.push(pass);
        expect((after[0] as Tensor).shape).toEqual((before[0] as Tensor).shape);
      },
    });
    expect(seen.slice(0, pipeline.length)).toEqual(pipeline.map(({ name }) => name));
    expectSameValues(graph, optimized, [numbers([2, 3])]);
  });
  test("changes nothing the second time", () => {
    const net = new Net();
    const once = optimize(net.graph(net.op("LayerNormalization", [net.input([2, 8]), net.weights([8])])));
    expect(optimize(once).outputs[0]!.value).toBe(once.outputs[0]!.value);
  });
});

describe("grouping", () => {
  /** A target with a template for convolutions: operands from memory, any epilogue without a reduction. */
  const match: AnchorMatch = {
    template: "conv",
    streamed: [0],
    prologue: false,
    weights: [1],
    bias: { input: 2, axis: 1 },
  };
  const grouped = (graph: Graph) =>
    group(optimize(graph), {
      matchAnchor: (node) => (node.op.name === "Conv" ? match : undefined),
      refuses: ({ anchor, body }: Kernel) => {
        if (anchor?.operands.some(({ element }) => element.kind !== "load")) return "an operand is not in memory";
        return anchor && hasReduce(body) ? "a reduction in an epilogue" : undefined;
      },
      sizeHint: () => 16,
      layoutOf: (value) => rowMajor(value.shape.length),
    });
  const conv = (net: Net, x: Value, channels = 8, size = 1) =>
    net.op(
      "Conv",
      [x, net.weights([channels, x.shape[1] as number, size, size], channels), net.weights([channels], 7)],
      { pads: Array(4).fill((size - 1) / 2) },
    );

  test("convolution, hard-swish and residual are one kernel", () => {
    const net = new Net();
    const x = net.input([1, 8, 6, 6]);
    const { kernels, hostNodes } = grouped(net.graph(net.op("Add", [net.op("HardSwish", [conv(net, x, 8, 3)]), x])));
    expect(hostNodes).toEqual([]);
    expect(kernels.map((kernel) => kernel.anchor?.node.op.name)).toEqual(["Conv"]);
    expect(kernels[0]!.reason).toBe("graph output");
    expect(kernels[0]!.nodes.map((node) => node.op.name)).toContain("Add");
  });
  test("softmax is one kernel, whatever the axis", () => {
    for (const axis of [-1, 1]) {
      const net = new Net();
      expect(grouped(net.graph(net.op("Softmax", [net.input([2, 5, symbol("N", 1)])], { axis }))).kernels.length).toBe(
        1,
      );
    }
  });
  test("layer normalization with its statistics is one kernel", () => {
    const net = new Net();
    const y = net.op("LayerNormalization", [
      net.op("Add", [net.input([2, 7, 32]), net.input([2, 7, 32])]),
      net.weights([32]),
      net.weights([32], 2),
    ]);
    const { kernels } = grouped(net.graph(y));
    expect(kernels.map((kernel) => kernel.output.shape)).toEqual([[2, 7, 32]]);
  });
  test("a squeeze-and-excite block is a pooling, two products and at most the scaling", () => {
    const net = new Net();
    const x = net.input([1, 16, 8, 8]);
    const squeezed = net.op("GlobalAveragePool", [x]);
    const gate = net.op("HardSigmoid", [conv(net, net.op("Relu", [conv(net, squeezed, 4)]), 16)]);
    const { kernels } = grouped(net.graph(net.op("Mul", [x, gate])));
    expect(kernels.length).toBe(4);
    expect(kernels.filter((kernel) => kernel.anchor).length).toBe(2);
  });
  test("movement is an index map, not a kernel", () => {
    const net = new Net();
    const x = net.input([2, 3, 4]);
    const y = net.op("Exp", [
      net.op("Reshape", [net.op("Transpose", [net.op("Relu", [x])], { perm: [2, 0, 1] }), net.ints(4, 6)]),
    ]);
    expect(grouped(net.graph(y)).kernels.length).toBe(1);
  });
  test("every kernel says why it ends, and reads only what is in memory", () => {
    const net = new Net();
    const x = net.input([1, 8, 6, 6]);
    const shared = net.op("Exp", [conv(net, x, 8, 3)]);
    const graph = net.graph(
      net.op("ReduceMax", [conv(net, shared, 8, 3), net.ints(1)]),
      conv(net, shared, 4),
      net.op("Unique", [net.op("Reshape", [net.op("Neg", [x]), net.ints(-1)])]),
    );
    const { kernels, hostNodes } = grouped(graph);
    expect(hostNodes.map((node) => node.op.name)).toEqual(["Unique"]);
    const made = new Set<Value>();
    for (const kernel of kernels) {
      expect(kernel.reason).not.toBe("");
      for (const input of kernel.inputs)
        expect(input.constant !== undefined || input.node.op.name === "Input" || made.has(input)).toBe(true);
      made.add(kernel.output);
    }
    expect(kernels.find((kernel) => kernel.output === shared || kernel.nodes.includes(shared.node))?.reason).toMatch(
      /read by|computed .* times|two of/,
    );
    expect(kernels.some((kernel) => kernel.reason === "read by a host operator")).toBe(true);
  });
});

describe("layout", () => {
  test("convolution regions are channels-last, inputs, outputs and the rest row-major", () => {
    const net = new Net();
    const x = net.input([1, 3, 8, 8]);
    const first = net.op("Conv", [x, net.weights([4, 3, 3, 3])]);
    const relu = net.op("Relu", [first]);
    const turned = net.op("Transpose", [relu], { perm: [0, 2, 3, 1] });
    const last = net.op("MaxPool", [relu], { kernel_shape: [2, 2] });
    const layoutOf = chooseLayouts(net.graph(last, net.op("Exp", [turned])));
    expect(layoutOf(first)).toEqual([0, 2, 3, 1]);
    expect(layoutOf(relu)).toEqual(channelsLast(4));
    for (const value of [x, turned, last]) expect(layoutOf(value)).toEqual(rowMajor(4));
    expect(layoutOf(net.weights([4, 3, 3, 3]))).toEqual(rowMajor(4));
  });
  test("offsets are positions in memory: each element has its own, dense", () => {
    const shape = [2, 3, 4, 5];
    for (const layout of [rowMajor(4), channelsLast(4), [3, 1, 0, 2]]) {
      const seen = new Set<number>();
      for (let n = 0; n < 2; n++)
        for (let c = 0; c < 3; c++)
          for (let h = 0; h < 4; h++)
            for (let w = 0; w < 5; w++) seen.add(offsetOf(shape, layout, [n, c, h, w]) as number);
      expect(seen.size).toBe(120);
      expect(Math.max(...seen)).toBe(119);
    }
    expect(stridesOf(shape, rowMajor(4))).toEqual([60, 20, 5, 1]);
    expect(stridesOf(shape, channelsLast(4))).toEqual([60, 1, 15, 3]);
    expect(stridesOf([2, 3, symbol("W")], channelsLast(3)).slice(1)).toEqual([1, 3]);
  });
});
