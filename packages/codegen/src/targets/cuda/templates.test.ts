import { Context, findOp, Graph, symbol, tensorType, type Value } from "@nimforge/ir";
import { optimize } from "@nimforge/passes";
import { type DType, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { emulatedTargets, generate, type Target } from "../../index.js";
import { mismatches } from "../../run.test.helper.js";
import { templateCases, templatePrograms } from "../templates.test.helper.js";

const target = (name: string): Target => emulatedTargets.find((one) => one.name === name) as Target;

test.each<[string, DType]>([
  ["emulated-sm_75", "float16"],
  ["emulated-sm_80", "float32"],
  ["emulated-sm_80", "float16"],
  ["emulated-sm_80", "bfloat16"],
  ["emulated-sm_90", "float16"],
  ["emulated-sm_90a", "float16"],
])("templates give what the interpreter gives: %s, %s", { timeout: 240_000 }, async (name, dtype) => {
  expect(await mismatches(templatePrograms(dtype), target(name))).toEqual([]);
});

test("each case runs through its template", async () => {
  const printing: Target = {
    ...target("emulated-sm_80"),
    compile: async (sources) => [{ code: new Uint8Array(), kernels: sources.map(({ name }) => name) }],
  };
  const missed: string[] = [];
  for (const { name, graph } of templatePrograms("float16")) {
    const expected = templateCases[name]![0];
    const { kernels } = await generate([{ name, graph: optimize(graph) }], printing);
    if (expected !== undefined && !kernels.some(({ kind }) => kind === expected))
      missed.push(`${name}: ${kernels.map(({ kind }) => kind).join(", ")}`);
  }
  expect(missed).toEqual([]);
});

test("a unit of nothing but depthwise convolutions compiles", { timeout: 60_000 }, async () => {
  const alone = templatePrograms("float16").filter(({ name }) => name === "depthwise");
  expect(await mismatches(alone, target("emulated-sm_80"))).toEqual([]);
});

test("kernels of equal text but other index types are apart", async () => {
  const context = new Context(findOp);
  const [few, many] = [symbol("N", 1, 1000), symbol("M", 1, 2 ** 33)].map((size, k) =>
    context.input(`x${k}`, tensorType("float32", [size])),
  ) as [Value, Value];
  const outputs = [few, many].map((x, k) => ({ name: `y${k}`, value: context.apply("Relu", [x], {})[0] as Value }));
  const inputs = [few, many].map((value, k) => ({ name: `x${k}`, value }));
  const { spec } = await generate([{ name: "main", graph: new Graph(context, inputs, outputs) }], {
    ...target("emulated-sm_80"),
    compile: async (sources) => [{ code: new Uint8Array(), kernels: sources.map(({ name }) => name) }],
  });
  expect(spec.kernels).toHaveLength(2);
});

test("attention reads lengths by their stride", { timeout: 60_000 }, async () => {
  const context = new Context(findOp);
  const make = (name: string, dtype: DType, shape: number[]) => context.input(name, tensorType(dtype, shape));
  const [q, k, v] = [
    make("q", "float16", [4, 2, 5, 16]),
    make("k", "float16", [4, 2, 12, 16]),
    make("v", "float16", [4, 2, 12, 16]),
  ];
  const lengths = make("lengths", "int64", [8]);
  const ints = (...values: number[]) => context.constant(tensor("int64", [values.length], values.map(BigInt)));
  const every = context.apply("Slice", [lengths, ints(0), ints(8), ints(0), ints(2)], {})[0] as Value;
  const y = context.apply("Attention", [q, k, v, undefined, undefined, undefined, every], {})[0] as Value;
  const values = (shape: number[], seed: number) =>
    tensor(
      "float16",
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(seed + 0.7 * i)),
    );
  const inputs = [q, k, v, lengths].map((value, i) => ({ name: `x${i}`, value }));
  const program = {
    name: "attention",
    graph: new Graph(context, inputs, [{ name: "y", value: y }]),
    inputs: [
      [
        values([4, 2, 5, 16], 1),
        values([4, 2, 12, 16], 2),
        values([4, 2, 12, 16], 3),
        tensor("int64", [8], [12n, 1n, 5n, 1n, 9n, 1n, 7n, 1n]),
      ],
    ],
    exact: [false],
  };
  expect(await mismatches([program], target("emulated-sm_80"))).toEqual([]);
});
