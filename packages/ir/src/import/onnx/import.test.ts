/** Import of valid models: what the graph is, and what it computes (by the interpreter). */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type NimforgeError, type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import { formatType } from "../../index.js";
import { evaluate } from "../../interpreter/index.js";
import { type ImportOptions, importOnnx } from "./index.js";
import { encodeMessage } from "./proto.js";

const fixture = (name: string) => fileURLToPath(new URL(`../../../../../fixtures/onnx/${name}.onnx`, import.meta.url));
const load = (name: string, options?: ImportOptions) => importOnnx(fixture(name), options);
const floats = (shape: number[], data: number[]) => tensor("float32", shape, data);
const types = (name: string, options?: ImportOptions) =>
  load(name, options).graph.inputs.map((input) => `${input.name}: ${formatType(input.value.type)}`);
const run = (name: string, inputs: Tensor[], options?: ImportOptions) =>
  (evaluate(load(name, options).graph, inputs) as Tensor[]).map(({ shape, data }) => ({
    shape: [...shape],
    data: Array.from(data as Float32Array),
  }));
function failure(work: () => unknown): NimforgeError {
  try {
    work();
  } catch (error) {
    return error as NimforgeError;
  }
  throw new Error("nothing was thrown");
}

describe("importOnnx", () => {
  it("reads a model, its sizes and its origin", () => {
    const { graph, meta } = load("add");
    expect(graph.outputs.map(({ name, value }) => `${name}: ${formatType(value.type)}`)).toEqual(["y: float32[N, 4]"]);
    expect(graph.context.originOf(graph.outputs[0]!.value.node)).toEqual(["Add_0"]);
    expect(meta).toMatchObject({
      opsets: { "": 22 },
      irVersion: 10,
      producer: "nimforge-fixtures",
      nodeCount: 1,
      externalFiles: [],
      warnings: [],
    });
    expect(meta.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(run("add", [floats([1, 4], [0, 0, 0, 1])])).toEqual([{ shape: [1, 4], data: [1, 2, 3, 5] }]);
  });

  it("the same from bytes", () => {
    expect(importOnnx(readFileSync(fixture("add"))).graph.toString()).toBe(load("add").graph.toString());
  });

  it("orders nodes, keeps unused inputs, names open sizes", () => {
    expect(types("unsorted")).toEqual(["x: float32[p2o.DynamicDimension.0, x_1, 3]", "unused: float32[2]"]);
    expect(run("unsorted", [floats([1, 1, 3], [-1, 2, -3]), floats([2], [0, 0])])).toEqual([
      { shape: [1, 1, 3], data: [-1, -2, -3] },
    ]);
  });

  it("names are data", () => {
    const { graph } = load("hostile-names");
    expect(graph.outputs[0]!.name).toBe("\u202e\u0000x");
    expect(graph.context.originOf(graph.outputs[0]!.value.node)).toEqual(["\u202e\u0000x"]);
    expect(run("hostile-names", [floats([1], [-3])])).toEqual([{ shape: [1], data: [3] }]);
  });

  it("an initializer that is an input is a constant", () => {
    expect(types("initializer-input")).toEqual(["x: float32[N, 4]"]);
    expect(run("initializer-input", [floats([1, 4], [1, 2, 3, 4])])[0]!.data).toEqual([2, 4, 6, 8]);
  });

  it("inlines functions with attribute references and defaults", () => {
    const { graph, meta } = load("functions");
    expect(meta.nodeCount).toBe(6); // LeakyRelu, Neg, LeakyRelu, Neg, Identity, Add
    expect(graph.nodes().flatMap((node) => graph.context.originOf(node))).toContain("call/Clipped_0/LeakyRelu_0");
    // w = -leaky(-leaky(v, 0.25), 0.5), y = w + v
    expect(run("functions", [floats([1, 4], [-4, 4, 0, 8])])[0]!.data).toEqual([-4 - 1, 4 + 2, 0, 8 + 4]);
  });

  it("subgraphs are closed: captures become inputs, constants are copied", () => {
    const { graph } = load("if-capture");
    const node = graph.outputs[0]!.value.node;
    expect(node.inputs.map((value) => value && formatType(value.type))).toEqual(["bool[]", "float32[N, 4]"]);
    expect(node.attributes.captures).toBe(1);
    const x = floats([1, 4], [10, 10, 10, 10]);
    expect(run("if-capture", [tensor("bool", [], [true]), x])[0]!.data).toEqual([11, 12, 13, 14]);
    expect(run("if-capture", [tensor("bool", [], [false]), x])[0]!.data).toEqual([10, 20, 30, 40]);
  });

  it("an If whose condition is known is its branch", () => {
    expect(
      load("if-known")
        .graph.nodes()
        .map((node) => node.op.name),
    ).toEqual(["Input", "Neg"]);
    const bound = load("if-capture", { bind: { c: false } });
    expect(bound.graph.inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(bound.graph.nodes().map((node) => node.op.name)).not.toContain("If");
  });

  it("loops whose state grows", () => {
    const x = floats([2, 3], [1, 2, 3, 4, 5, 6]);
    const [sum, all] = run("loop", [tensor("int64", [], [2]), x]);
    expect(sum).toEqual({ shape: [2, 3], data: [3, 6, 9, 12, 15, 18] });
    expect(all).toEqual({ shape: [6, 3], data: [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6] });
  });

  it("scans", () => {
    const [last, y] = run("scan", [floats([3], [0, 0, 1]), floats([2, 3], [1, 2, 3, 4, 5, 6])]);
    expect(last).toEqual({ shape: [3], data: [5, 7, 10] });
    expect(y).toEqual({ shape: [2, 3], data: [1, 2, 4, 5, 7, 10] });
  });

  it("external data", () => {
    const { meta } = load("external");
    expect(meta.externalFiles.map((file) => file.split("/").pop())).toEqual(["external.bin"]);
    expect(run("external", [floats([1, 4], [0, 0, 0, 0])])[0]!.data).toEqual([1, 2, 3, 4]);
    const bytes = readFileSync(fixture("external"));
    expect(
      importOnnx(bytes, { folder: fileURLToPath(new URL("../../../../../fixtures/onnx", import.meta.url)) }).graph
        .outputs,
    ).toHaveLength(1);
  });

  it("an op that was renamed twice over", () => {
    const int64 = (low: number) => ({ low, high: 0, unsigned: false });
    const info = (name: string) => ({
      name,
      type: { tensorType: { elemType: 1, shape: { dim: [1, 1, 1, 2].map((size) => ({ dimValue: int64(size) })) } } },
    });
    const node = {
      opType: "Upsample",
      input: ["x"],
      output: ["y"],
      attribute: [{ name: "scales", type: 6, floats: [1, 1, 1, 2] }],
    };
    const bytes = encodeMessage("ModelProto", {
      irVersion: int64(4),
      opsetImport: [{ domain: "", version: int64(7) }],
      graph: { node: [node], input: [info("x")], output: [{ name: "y" }] },
    });
    const [y] = evaluate(importOnnx(bytes).graph, [floats([1, 1, 1, 2], [3, 4])]) as Tensor[];
    expect(y).toMatchObject({ shape: [1, 1, 1, 4], data: Float32Array.of(3, 3, 4, 4) });
  });

  it("old forms compute the same", () => {
    const x = floats(
      [2, 3, 4],
      Array.from({ length: 24 }, (_, k) => k % 5),
    );
    const [y] = run("opset6", [x]);
    const expected: number[] = [];
    for (let n = 0; n < 2; n++) {
      // Softmax over the twelve elements of the flattened row, after b was added along axis 1.
      const row = Array.from({ length: 12 }, (_, k) => Math.exp(((n * 12 + k) % 5) + Math.floor(k / 4) + 1));
      const sum = row.reduce((a, b) => a + b);
      for (let c = 0; c < 3; c++) expected.push(Math.max(row[c * 4]! / sum, 0.25));
    }
    expect(y!.shape).toEqual([2, 3, 1]);
    for (const [k, value] of y!.data.entries()) expect(value).toBeCloseTo(expected[k]!, 6);
  });
});

describe("options", () => {
  it("shapes and ranges", () => {
    expect(types("add", { shapes: { x: ["M", 4] }, ranges: { M: [2, 8] } })).toEqual(["x: float32[M, 4]"]);
    expect(types("add", { shapes: { x: [7, 4] } })).toEqual(["x: float32[7, 4]"]);
    expect(types("add", { ranges: { N: [3, 3] } })).toEqual(["x: float32[3, 4]"]);
    expect(failure(() => load("add", { shapes: { x: ["N", 5] } }))).toMatchObject({
      exitCode: 2,
      code: "input-shape",
      expected: "4",
      found: "5",
    });
    expect(failure(() => load("add", { shapes: { x: [1] } }))).toMatchObject({ exitCode: 2, code: "input-shape" });
    expect(failure(() => load("add", { shapes: { constructor: [1] } }))).toMatchObject({
      exitCode: 2,
      code: "unknown-input",
    });
    expect(failure(() => load("add", { ranges: { Q: [1, 2] } }))).toMatchObject({
      exitCode: 2,
      code: "unknown-symbol",
    });
    expect(failure(() => load("add", { ranges: { N: [5, 2] } }))).toMatchObject({ exitCode: 2, code: "bad-range" });
  });

  it("one declared name is one size at every input", () => {
    const info = (name: string) => ({
      name,
      type: { tensorType: { elemType: 1, shape: { dim: [{ dimParam: "batch" }] } } },
    });
    const bytes = encodeMessage("ModelProto", {
      irVersion: { low: 10, high: 0, unsigned: false },
      opsetImport: [{ domain: "ai.onnx", version: { low: 22, high: 0, unsigned: false } }],
      graph: {
        node: [{ opType: "Add", input: ["a", "b"], output: ["c"] }],
        input: [info("a"), info("b")],
        output: [info("c")],
      },
    });
    const { graph } = importOnnx(bytes, { shapes: { a: ["B"] } });
    expect(graph.inputs.map(({ value }) => formatType(value.type))).toEqual(["float32[B]", "float32[B]"]);
    expect(graph.context.assertions).toEqual([]);
    expect(failure(() => importOnnx(bytes, { shapes: { a: [2], b: [3] } }))).toMatchObject({ code: "input-shape" });
  });

  it("bind", () => {
    const x = floats([1, 4], [1, 1, 1, 1]);
    const { graph } = load("add", { bind: { x } });
    expect(graph.inputs).toEqual([]);
    expect((evaluate(graph, []) as Tensor[])[0]!.data).toEqual(Float32Array.of(2, 3, 4, 5));
    expect(failure(() => load("add", { bind: { x: tensor("int64", [1, 4]) } }))).toMatchObject({
      exitCode: 2,
      code: "bind-type",
    });
    expect(failure(() => load("add", { bind: { z: 1 } }))).toMatchObject({ exitCode: 2, code: "unknown-input" });
  });

  it("outputs cut the graph, at values or nodes", () => {
    expect(
      load("unsorted", { outputs: ["t"] })
        .graph.nodes()
        .map((node) => node.op.name),
    ).toEqual(["Input", "Abs"]);
    expect(load("unsorted", { outputs: ["Abs_1"] }).graph.outputs.map(({ name }) => name)).toEqual(["t"]);
    expect(failure(() => load("unsorted", { outputs: ["ghost"] }))).toMatchObject({
      exitCode: 2,
      code: "unknown-output",
    });
  });
});
