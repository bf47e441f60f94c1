/** Every row of the conversion table: the old form in, the newest form out. */
import { dtypes, NimforgeError, type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, it } from "vitest";
import type { SourceAttribute, SourceNode, TensorSource } from "./source.js";
import { type ConversionContext, conversionFor, conversions, convertNode } from "./versions.js";

type Plain = number | string | readonly number[] | { f: number } | { fs: readonly number[] };

function attribute(value: Plain): SourceAttribute {
  if (typeof value === "number") return { kind: "int", value };
  if (typeof value === "string") return { kind: "string", value };
  if (Array.isArray(value)) return { kind: "ints", value: value as number[] };
  return "f" in (value as object)
    ? { kind: "float", value: (value as { f: number }).f }
    : { kind: "floats", value: (value as { fs: number[] }).fs };
}

const shapes: Record<string, { dtype: "float32" | "int64"; shape: number[] }> = {
  x: { dtype: "float32", shape: [2, 6, 4] },
  b: { dtype: "float32", shape: [6] },
  empty: { dtype: "float32", shape: [0] },
};
const constants: Record<string, Tensor> = {
  two: tensor("int64", [], [2]),
  one: tensor("int64", [], [1]),
  halve: tensor("float32", [3], [1, 1, 0.5]),
  double: tensor("float32", [3], [1, 1, 2]),
};

/** Converts a node to the newest form and prints the result, constants by value: `y = Op(x, [1, 2]) {axis=1}`. */
function convert(
  op: string,
  version: number,
  inputs: string[],
  attributes: Record<string, Plain> = {},
  outputs = ["y"],
  used = outputs,
): string[] {
  const made = new Map<string, Tensor>();
  let count = 0;
  const context: ConversionContext = {
    type: (name) => shapes[name] ?? constants[name] ?? made.get(name),
    constant: (name) => constants[name] ?? made.get(name),
    used: (name) => used.includes(name),
    fresh: () => `t${count++}`,
  };
  const lines: string[] = [];
  const format = (value: unknown): string => (Array.isArray(value) ? `[${value.join(", ")}]` : String(value));
  const visit = (node: SourceNode) => {
    const next = convertNode(node, context);
    if (next) return next.forEach(visit);
    if (node.op === "Constant")
      return void made.set(node.outputs[0]!, (node.attributes.get("value")!.value as TensorSource).read());
    const operand = (name: string) => {
      const value = made.get(name);
      return value
        ? `${value.dtype === "int64" ? "" : `${value.dtype} `}${value.shape.length === 0 ? value.data[0] : `[${Array.from(value.data as ArrayLike<unknown>).join(", ")}]`}`
        : name || "-";
    };
    const list = [...node.attributes].map(([name, { value }]) => `${name}=${format(value)}`).sort();
    lines.push(
      `${node.outputs.join(", ")} = ${node.op}(${node.inputs.map(operand).join(", ")})${list.length > 0 ? ` {${list.join(" ")}}` : ""}`,
    );
  };
  const map = new Map(Object.entries(attributes).map(([name, value]) => [name, attribute(value)]));
  visit({ name: "node", op, domain: "", overload: "", version, inputs, outputs, attributes: map });
  return lines;
}

const tested = new Set<string>();
function row(from: number, op: string, ...rest: [string[], Record<string, Plain>?, string[]?, string[]?]): string[] {
  for (
    let at: number = from, found = conversionFor("", op, at);
    found;
    at = found.to, found = conversionFor("", op, at)
  )
    tested.add(`${found.op}@${found.from}`);
  return convert(op, from, ...rest);
}

describe("conversions", () => {
  it("rows of one op do not overlap and end at the newest form", () => {
    for (const op of new Set(conversions.map((item) => item.op))) {
      const rows = conversions.filter((item) => item.op === op);
      for (const [k, item] of rows.slice(1).entries()) expect(item.from).toBeGreaterThanOrEqual(rows[k]!.to);
    }
    expect(conversionFor("", "Softmax", 13)).toBeUndefined();
    expect(conversionFor("com.example", "Softmax", 1)).toBeUndefined();
  });

  it("attributes that were dropped", () => {
    for (const op of [
      "Abs",
      "Ceil",
      "Elu",
      "Exp",
      "Floor",
      "HardSigmoid",
      "InstanceNormalization",
      "LeakyRelu",
      "Log",
      "Max",
      "Mean",
      "Min",
    ])
      expect(row(1, op, ["x"], { consumed_inputs: [0] })).toEqual([`y = ${op}(x)`]);
    for (const op of ["Neg", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Sum", "Tanh"])
      expect(row(1, op, ["x"], { consumed_inputs: [0] })).toEqual([`y = ${op}(x)`]);
    expect(row(6, "Gemm", ["a", "b", "c"], { broadcast: 1, alpha: { f: 2 } })).toEqual(["y = Gemm(a, b, c) {alpha=2}"]);
    for (const op of ["RNN", "GRU", "LSTM"])
      expect(row(1, op, ["x", "w", "r"], { output_sequence: 1, hidden_size: 3 })).toEqual([
        `y = ${op}(x, w, r) {hidden_size=3}`,
      ]);
    expect(
      row(
        1,
        "BatchNormalization",
        ["x", "s", "b", "m", "v"],
        { spatial: 1, is_test: 1, consumed_inputs: [0, 0] },
        ["y", "mean", "var", "sm", "sv"],
        ["y"],
      ),
    ).toEqual(["y = BatchNormalization(x, s, b, m, v)"]);
    expect(() => convert("BatchNormalization", 7, ["x", "s", "b", "m", "v"], { spatial: 0 })).toThrow(NimforgeError);
    expect(convert("BatchNormalization", 9, ["x", "s", "b", "m", "v"], {}, ["y", "mean", "var"])).toEqual([
      "y, mean, var = BatchNormalization(x, s, b, m, v) {training_mode=1}",
    ]);
  });

  it("defaults that changed", () => {
    expect(row(1, "Selu", ["x"])).toEqual(["y = Selu(x) {alpha=1.6732 gamma=1.0507}"]);
    expect(row(1, "Concat", ["x", "x"])).toEqual(["y = Concat(x, x) {axis=1}"]);
    expect(row(10, "RoiAlign", ["x", "r", "i"])).toEqual([
      "y = RoiAlign(x, r, i) {coordinate_transformation_mode=output_half_pixel}",
    ]);
    for (const op of ["LpPool", "GlobalLpPool"])
      expect(row(1, op, ["x"], { p: { f: 3 } })).toEqual([`y = ${op}(x) {p=3}`]);
    expect(row(16, "GridSample", ["x", "g"], { mode: "bicubic" })).toEqual(["y = GridSample(x, g) {mode=cubic}"]);
    expect(convert("GridSample", 16, ["x", "g"])).toEqual(["y = GridSample(x, g) {mode=linear}"]);
    expect(row(1, "Cast", ["x"], { to: "FLOAT16" })).toEqual([`y = Cast(x) {to=${dtypes.float16.onnx}}`]);
    expect(() => convert("Cast", 1, ["x"], { to: "constructor" })).toThrow("unknown element type");
  });

  it("broadcasting with an axis", () => {
    for (const op of ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"]) {
      expect(row(6, op, ["x", "b"], { axis: 1, broadcast: 1 })).toEqual(["t1 = Unsqueeze(b, [1])", `y = ${op}(x, t1)`]);
      expect(convert(op, 6, ["x", "x"], { broadcast: 0 })).toEqual([`y = ${op}(x, x)`]);
    }
    expect(row(6, "PRelu", ["x", "b"])).toEqual(["t1 = Unsqueeze(b, [1])", "y = PRelu(x, t1)"]);
  });

  it("attributes that became inputs", () => {
    for (const op of ["Squeeze", "Unsqueeze", "ReduceSum"])
      expect(row(11, op, ["x"], { axes: [0] })).toEqual([`y = ${op}(x, [0])`]);
    for (const op of [
      "ReduceL1",
      "ReduceL2",
      "ReduceLogSum",
      "ReduceLogSumExp",
      "ReduceMax",
      "ReduceMean",
      "ReduceMin",
      "ReduceProd",
      "ReduceSumSquare",
    ]) {
      expect(row(13, op, ["x"], { axes: [-1], keepdims: 0 })).toEqual([`y = ${op}(x, [-1]) {keepdims=0}`]);
      expect(convert(op, 13, ["x"])).toEqual([`y = ${op}(x)`]);
    }
    expect(row(1, "Reshape", ["x"], { shape: [0, -1] })).toEqual(["y = Reshape(x, [0, -1])"]);
    expect(row(1, "Slice", ["x"], { starts: [1], ends: [3], axes: [2] })).toEqual(["y = Slice(x, [1], [3], [2])"]);
    expect(convert("Slice", 9, ["x"], { starts: [1], ends: [3] })).toEqual(["y = Slice(x, [1], [3])"]);
    expect(row(1, "Pad", ["x"], { paddings: [0, 0, 1, 0, 0, 1], mode: "constant", value: { f: 2 } })).toEqual([
      "y = Pad(x, [0, 0, 1, 0, 0, 1], float32 2) {mode=constant}",
    ]);
    expect(row(1, "TopK", ["x"], { k: 3, axis: 1 }, ["y", "i"])).toEqual(["y, i = TopK(x, [3]) {axis=1}"]);
    expect(row(1, "Clip", ["x"], { min: { f: 0 }, max: { f: 6 }, consumed_inputs: [0] })).toEqual([
      "y = Clip(x, float32 0, float32 6)",
    ]);
    expect(convert("Clip", 6, ["x"], { max: { f: 6 } })).toEqual(["y = Clip(x, -, float32 6)"]);
    expect(row(1, "Split", ["x"], { axis: 1, split: [2, 4] }, ["p", "q"])).toEqual([
      "p, q = Split(x, [2, 4]) {axis=1}",
    ]);
    expect(convert("Split", 13, ["x"], { axis: 1 }, ["p", "q"])).toEqual(["p, q = Split(x) {axis=1 num_outputs=2}"]);
    expect(row(17, "DFT", ["x"], { axis: 2 })).toEqual(["y = DFT(x, -, 2)"]);
    expect(row(1, "Tile", ["x", "two", "one"])).toEqual(["y = Tile(x, [1, 2, 1])"]);
    expect(() => convert("Tile", 1, ["x", "x", "b"])).toThrow("must be constants");
  });

  it("dropout", () => {
    expect(row(7, "Dropout", ["x"], { ratio: { f: 0.25 } })).toEqual(["y = Dropout(x, float32 0.25)"]);
    expect(convert("Dropout", 7, ["x"], {}, ["y", "m"])).toEqual([
      "y, t1 = Dropout(x, float32 0.5)",
      `m = Cast(t1) {to=${dtypes.float32.onnx}}`,
    ]);
    expect(convert("Dropout", 10, ["x"], {}, ["y", "m"])).toEqual(["y, m = Dropout(x, float32 0.5)"]);
  });

  it("flattened softmax", () => {
    for (const op of ["Softmax", "LogSoftmax", "Hardmax"]) {
      expect(row(11, op, ["x"], { axis: 2 })).toEqual([`y = ${op}(x) {axis=-1}`]);
      expect(convert(op, 1, ["x"])).toEqual([
        "t0 = Flatten(x) {axis=1}",
        `t1 = ${op}(t0) {axis=1}`,
        "t2 = Shape(x)",
        "y = Reshape(t1, t2)",
      ]);
    }
  });

  it("Upsample and Resize", () => {
    const fixed = "{coordinate_transformation_mode=asymmetric mode=linear nearest_mode=floor}";
    expect(row(1, "Upsample", ["x"], { height_scale: { f: 2 }, width_scale: { f: 3 }, mode: "bilinear" })).toEqual([
      `y = Resize(x, -, float32 [1, 1, 2, 3]) ${fixed}`,
    ]);
    expect(row(7, "Upsample", ["x"], { scales: { fs: [1, 1, 2] }, mode: "linear" })).toEqual([
      `y = Resize(x, -, float32 [1, 1, 2]) ${fixed}`,
    ]);
    expect(row(9, "Upsample", ["x", "double"], { mode: "linear" })).toEqual([`y = Resize(x, -, double) ${fixed}`]);
    expect(row(10, "Resize", ["x", "double"], { mode: "nearest" })).toEqual([
      "y = Resize(x, -, double) {coordinate_transformation_mode=asymmetric mode=nearest nearest_mode=floor}",
    ]);
    expect(convert("Resize", 10, ["x", "halve"])).toEqual([
      "y = Resize(x, -, halve) {coordinate_transformation_mode=asymmetric nearest_mode=ceil}",
    ]);
    expect(row(11, "Resize", ["x", "empty", "empty", "sizes"])).toEqual(["y = Resize(x, -, -, sizes)"]);
  });

  it("GroupNormalization by channel", () => {
    expect(row(18, "GroupNormalization", ["x", "s", "c"], { num_groups: 2 })).toEqual([
      "t1 = Reshape(s, [2, 1])",
      "t3 = Expand(t1, [2, 3])",
      "t5 = Reshape(t3, [6])",
      "t7 = Reshape(c, [2, 1])",
      "t9 = Expand(t7, [2, 3])",
      "t11 = Reshape(t9, [6])",
      "y = GroupNormalization(x, t5, t11) {num_groups=2}",
    ]);
    expect(() => convert("GroupNormalization", 18, ["x", "s", "c"], { num_groups: 4 })).toThrow("must divide");
  });

  it("renamed and refused forms", () => {
    expect(row(9, "Scatter", ["x", "i", "u"], { axis: 1 })).toEqual(["y = ScatterElements(x, i, u) {axis=1}"]);
    expect(() => row(8, "Scan", ["", "s", "x"])).toThrow("opset 8");
  });

  it("leaves no row untested", () => {
    expect(conversions.map(({ op, from }) => `${op}@${from}`).filter((id) => !tested.has(id))).toEqual([]);
  });
});
