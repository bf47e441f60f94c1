import { type DType, type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, test } from "vitest";
import { Context, evaluate, findOp, Graph, inputOp, symbol, tensorType, type Value } from "../index.js";

/** Runs one node, or a few, on constants. */
function run(
  build: (apply: (name: string, ...inputs: Value[]) => Value, given: readonly Value[]) => Value,
  ...inputs: Tensor[]
): Tensor {
  const context = new Context(findOp);
  const given = inputs.map((input, k) => ({
    name: `x${k}`,
    value: context.input(`x${k}`, tensorType(input.dtype, input.shape)),
  }));
  const value = build(
    (name, ...operands) => context.apply(name, operands)[0]!,
    given.map((input) => input.value),
  );
  return evaluate(new Graph(context, given, [{ name: "y", value }]), inputs)[0] as Tensor;
}
const binary = (name: string, dtype: DType, a: (number | bigint)[], b: (number | bigint)[]) => [
  ...run((apply, [x, y]) => apply(name, x!, y!), tensor(dtype, [a.length], a), tensor(dtype, [b.length], b)).data,
];

describe("integers wrap around", () => {
  const [least, most] = [-(2n ** 63n), 2n ** 63n - 1n];
  test("int64", () => {
    expect(binary("Add", "int64", [most, least], [1n, -1n])).toEqual([least, most]);
    expect(binary("Mul", "int64", [most, 2n ** 62n], [2n, 4n])).toEqual([-2n, 0n]);
    expect(binary("Sub", "int64", [least], [1n])).toEqual([most]);
    expect(run((apply, [x]) => apply("Neg", x!), tensor("int64", [1], [least])).data[0]).toBe(least);
    expect(run((apply, [x]) => apply("Abs", x!), tensor("int64", [1], [least])).data[0]).toBe(least);
  });
  test("uint64 and the narrow types", () => {
    expect(binary("Sub", "uint64", [0n], [1n])).toEqual([2n ** 64n - 1n]);
    expect(binary("Mul", "int32", [65536], [65536])).toEqual([0]);
    expect(binary("Mul", "int32", [2147483647], [2147483647])).toEqual([1]);
    expect(binary("Add", "uint32", [4294967295], [2])).toEqual([1]);
    expect(binary("Add", "int8", [127], [1])).toEqual([-128]);
    expect(binary("Mul", "uint16", [65535], [65535])).toEqual([1]);
  });
  test("division truncates and refuses zero", () => {
    expect(binary("Div", "int64", [-7n, 7n], [2n, -2n])).toEqual([-3n, -3n]);
    expect(binary("Mod", "int64", [-7n, 7n], [3n, -3n])).toEqual([2n, -2n]);
    expect(() => binary("Div", "int32", [1], [0])).toThrow(/division by zero/);
  });
});

describe("floats", () => {
  const NaN = Number.NaN;
  test("NaN passes through Min and Max, in either place", () => {
    for (const name of ["Min", "Max"])
      expect(binary(name, "float32", [NaN, 1, NaN], [1, NaN, NaN])).toEqual([NaN, NaN, NaN]);
  });
  test("NaN passes through reductions and wins ArgMax", () => {
    const x = tensor("float32", [4], [1, NaN, 3, NaN]);
    expect(run((apply, [a]) => apply("ReduceMax", a!), x).data[0]).toBeNaN();
    expect(run((apply, [a]) => apply("ReduceMin", a!), x).data[0]).toBeNaN();
    expect(run((apply, [a]) => apply("ArgMax", a!), x).data[0]).toBe(1n);
  });
  test("each operation rounds to its type", () => {
    expect(binary("Add", "float32", [16777216], [1])).toEqual([16777216]);
    expect(binary("Add", "float64", [16777216], [1])).toEqual([16777217]);
    expect(
      run(
        (apply, [x, y]) => apply("Sub", apply("Add", x!, y!), x!),
        tensor("float16", [1], [2048]),
        tensor("float16", [1], [1]),
      ).data[0],
    ).toBe(0);
  });
  test("Round goes to even and keeps the sign of zero", () => {
    expect([
      ...run((apply, [x]) => apply("Round", x!), tensor("float32", [6], [-2.5, -0.5, -0.2, 0.5, 1.5, 2.5])).data,
    ]).toEqual([-2, -0, -0, 0, 2, 2]);
  });
});

test("only the branch that is taken is evaluated: padding reads nothing outside", () => {
  const x = tensor("float32", [2], [1, 2]);
  const context = new Context(findOp);
  const value = context.input("x", tensorType("float32", [2]));
  const pads = context.constant(tensor("int64", [2], [3n, 2n]));
  const fill = context.constant(tensor("float32", [], [9]));
  const padded = context.apply("Pad", [value, pads, fill])[0]!;
  expect([
    ...(evaluate(new Graph(context, [{ name: "x", value }], [{ name: "y", value: padded }]), [x])[0] as Tensor).data,
  ]).toEqual([9, 9, 9, 1, 2, 9, 9]);
});

describe("indices that come as data", () => {
  const gather = (...at: number[]) =>
    run(
      (apply, [x, k]) => apply("Gather", x!, k!),
      tensor("float32", [3], [10, 20, 30]),
      tensor("int64", [at.length], at.map(BigInt)),
    );
  test("count from the end when negative", () => {
    expect([...gather(0, -1, 2, -3).data]).toEqual([10, 30, 30, 10]);
  });
  test.each([3, -4, 1e15])("%d is out of range", (at) => {
    expect(() => gather(at)).toThrow(
      expect.objectContaining({
        kind: "malformed",
        code: "index-out-of-range",
        op: "Gather",
        expected: "[-3, 2]",
        found: String(at),
      }),
    );
  });
});

describe("sizes that the run brings", () => {
  const context = new Context(findOp);
  const n = symbol("n", 1, 8);
  const x = context.input("x", tensorType("float32", [n, 2]));
  const y = context.input("y", tensorType("float32", [symbol("m"), 2]));
  const inputs = [
    { name: "x", value: x },
    { name: "y", value: y },
  ];
  const graph = (value: Value) => new Graph(context, inputs, [{ name: "z", value }]);
  const zeros = (rows: number, dtype: DType = "float32") => tensor(dtype, [rows, 2]);

  test("are learnt from the inputs, and may be 0", () => {
    const joined = context.apply("Concat", [x, y, x], { axis: 0 })[0]!;
    for (const [a, b] of [
      [1, 0],
      [3, 2],
    ] as const)
      expect(evaluate(graph(joined), [zeros(a), zeros(b)])[0]).toMatchObject({ shape: [2 * a + b, 2] });
  });
  test("must be within their bounds", () => {
    const relu = graph(context.apply("Relu", [x])[0]!);
    expect(() => evaluate(relu, [zeros(9), zeros(1)])).toThrow(/out of range at axis 0: n must be in \[1, 8\]/);
    expect(() => evaluate(relu, [zeros(0), zeros(1)])).toThrow(/out of range/);
  });
  test("that had to be equal are checked", () => {
    const other = new Context(findOp);
    const a = other.input("a", tensorType("float32", [symbol("p")]));
    const b = other.input("b", tensorType("float32", [symbol("q")]));
    const sum = other.apply("Add", [a, b], {}, { name: "sum" })[0]!;
    const checked = new Graph(
      other,
      [
        { name: "a", value: a },
        { name: "b", value: b },
      ],
      [{ name: "c", value: sum }],
    );
    expect(evaluate(checked, [tensor("float32", [2], [1, 2]), tensor("float32", [2], [3, 4])])[0]).toEqual(
      tensor("float32", [2], [4, 6]),
    );
    expect(() => evaluate(checked, [tensor("float32", [2]), tensor("float32", [3])])).toThrow(
      /sum: broadcast sizes must match/,
    );
  });
  test("what does not fit the signature is refused by name", () => {
    const relu = graph(context.apply("Relu", [x])[0]!);
    expect(() => evaluate(relu, [zeros(1)])).toThrow(/input "y" is missing/);
    expect(() => evaluate(relu, [zeros(1, "float64"), zeros(1)])).toThrow(/input "x" has the wrong element type/);
    expect(() => evaluate(relu, [tensor("float32", [2]), zeros(1)])).toThrow(/input "x" has the wrong rank/);
  });
});

test("a chain of 50,000 nodes", () => {
  const context = new Context(findOp);
  const x = context.input("x", tensorType("float64", []));
  let value = x;
  const step = context.scalar("float64", 1);
  for (let k = 0; k < 50_000; k++) value = context.apply("Add", [value, step])[0]!;
  const graph = new Graph(context, [{ name: "x", value: x }], [{ name: "y", value }]);
  expect(graph.nodes().length).toBe(50_002);
  expect(graph.nodes()[0]!.op).toBe(inputOp);
  const same = graph.rewrite(() => undefined);
  expect(same.outputs[0]!.value).toBe(value);
  const other = graph.rewrite((node, inputs) =>
    node.op.name === "Add" ? context.apply("Sub", inputs as Value[]) : undefined,
  );
  expect(evaluate(graph, [tensor("float64", [], [0.5])])[0]).toMatchObject({ data: Float64Array.of(50_000.5) });
  expect(evaluate(other, [tensor("float64", [], [0.5])])[0]).toMatchObject({ data: Float64Array.of(-49_999.5) });
  expect(String(graph).split("\n").length).toBe(50_003);
}, 60_000);
