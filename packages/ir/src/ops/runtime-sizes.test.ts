import { dtypes, type Tensor, tensor } from "@nimforge/tensor";
import { describe, expect, test } from "vitest";
import { formatShape } from "../dim.js";
import type { Attributes } from "../op.js";
import { applied } from "./applied.js";
import { families } from "./index.js";

const x = tensor("float32", [2, 3], [0, 1, 2, 3, 4, 5]);
const ints = (...values: number[]): Tensor => tensor("int64", [values.length], values.map(BigInt));
const int = (value: number): Tensor => tensor("int64", [], [BigInt(value)]);

/** A node whose inputs are all data: the twin that it became, its shape and its value. */
function atRunTime(name: string, inputs: readonly Tensor[], attributes: Attributes = {}) {
  const node = applied(name, inputs, [], attributes);
  const { op } = node.outputs[0]!.node;
  return {
    op: `${op.domain}:${op.name}`,
    shape: formatShape(node.outputs[0]!.shape),
    dtype: node.outputs[0]!.dtype,
    value: node.run()[0] as Tensor,
  };
}

test("a Reshape to a run-time shape has new sizes and the op's own values", () => {
  const reshape = applied("nim:ReshapeOfData", [x, ints(3, -1)]);
  expect(formatShape(reshape.outputs[0]!.shape)).toMatch(/^\[reshape\.\d+, reshape\.\d+\]$/);
  expect(reshape.run()[0]).toMatchObject({ shape: [3, 2], data: x.data });
});

test("a Slice at run-time positions keeps the axes that it does not name", () => {
  const slice = applied("nim:SliceOfData", [x, ints(1), ints(3)], [ints(1)]);
  expect(formatShape(slice.outputs[0]!.shape)).toMatch(/^\[2, slice/);
  expect(slice.run()[0]).toMatchObject({ shape: [2, 2], data: Float32Array.of(1, 2, 4, 5) });
});

test("ConstantOfShape of a run-time shape takes the value's type", () => {
  const made = applied("nim:ConstantOfShapeOfData", [ints(2, 0, 1)], [], { value: tensor("int32", [1], [4]) });
  expect(made.outputs[0]!.dtype).toBe("int32");
  expect(made.run()[0]).toMatchObject({ shape: [2, 0, 1] });
});

test("Split by run-time sizes gives each part", () => {
  expect(applied("nim:SplitOfData", [x, ints(1, 2)], [], { axis: 1 }, 2).run()).toMatchObject([
    { shape: [2, 1] },
    { shape: [2, 2], data: Float32Array.of(1, 2, 4, 5) },
  ]);
});

describe("reductions along run-time axes", () => {
  test("keep the rank with keepdims, and lose as many axes as are named without", () => {
    const kept = atRunTime("ReduceSum", [x, ints(1)]);
    expect(kept.op).toBe("nim:ReduceSumOfData");
    expect(kept.shape).toMatch(/^\[reducesum\.\d+, reducesum\.\d+\]$/);
    expect(kept.value).toMatchObject({ shape: [2, 1], data: Float32Array.of(3, 12) });
    const dropped = atRunTime("ReduceMax", [x, ints(-2)], { keepdims: 0 });
    expect(dropped.shape).toMatch(/^\[reducemax\.\d+\]$/);
    expect(dropped.value).toMatchObject({ shape: [3], data: Float32Array.of(3, 4, 5) });
  });

  test("named by an empty vector are all or none", () => {
    expect(atRunTime("ReduceMean", [x, ints()])).toMatchObject({
      shape: "[1, 1]",
      value: { shape: [1, 1], data: Float32Array.of(2.5) },
    });
    expect(atRunTime("ReduceMean", [x, ints()], { keepdims: 0 })).toMatchObject({ shape: "[]", value: { shape: [] } });
    expect(atRunTime("ReduceMean", [x, ints()], { noop_with_empty_axes: 1 })).toMatchObject({
      shape: "[2, 3]",
      value: x,
    });
  });

  test("have a known shape where every axis is named", () => {
    expect(atRunTime("ReduceProd", [x, ints(1, 0)], { keepdims: 0 })).toMatchObject({
      shape: "[]",
      value: { data: Float32Array.of(0) },
    });
  });
});

test("a running sum along a run-time axis has its input's shape", () => {
  expect(atRunTime("CumSum", [x, int(-1)])).toMatchObject({
    shape: "[2, 3]",
    value: { data: Float32Array.of(0, 1, 3, 3, 7, 12) },
  });
});

test("Squeeze of as many axes as can have size 1 has a known shape", () => {
  const row = { ...x, shape: [1, 2, 1, 3] };
  expect(atRunTime("Squeeze", [row, ints(0, 2)]).shape).toBe("[2, 3]");
  const one = atRunTime("Squeeze", [row, ints(-2)]);
  expect(one.shape).toMatch(/^\[squeeze\.\d+(, squeeze\.\d+){2}\]$/);
  expect(one.value.shape).toEqual([1, 2, 3]);
});

test("Expand to a run-time shape keeps the sizes that cannot broadcast", () => {
  const column = atRunTime("Expand", [{ ...x, shape: [1, 6] }, ints(2, 3, 1)]);
  expect(column.shape).toMatch(/^\[expand\.\d+, expand\.\d+, 6\]$/);
  expect(column.value.shape).toEqual([2, 3, 6]);
});

test("Unsqueeze at run-time axes adds an axis for each", () => {
  expect(atRunTime("Unsqueeze", [x, ints(0, -1)]).value).toMatchObject({ shape: [1, 2, 3, 1], data: x.data });
});

test("windows of a run-time size have the type that the attribute names", () => {
  const window = atRunTime("HannWindow", [int(4)], { output_datatype: dtypes.float64.onnx });
  expect(window.dtype).toBe("float64");
  expect(window.value.shape).toEqual([4]);
  for (const [k, expected] of [0, 0.5, 1, 0.5].entries()) expect(window.value.data[k]).toBeCloseTo(expected, 12);
});

test("a DFT along a run-time axis keeps its sizes unless it is one-sided", () => {
  const signal = { ...x, shape: [1, 2, 3, 1] };
  expect(atRunTime("DFT", [signal, int(3), int(1)]).shape).toMatch(/^\[dft\.\d+, dft\.\d+, dft\.\d+, 2\]$/);
  const twoSided = applied("nim:DFTOfData", [signal], [undefined, int(1)]);
  expect(formatShape(twoSided.outputs[0]!.shape)).toBe("[1, 2, 3, 2]");
  const spectrum = twoSided.run()[0] as Tensor;
  expect(spectrum.shape).toEqual([1, 2, 3, 2]);
  for (const [k, expected] of [3, 0, 5, 0, 7, 0, -3, 0, -3, 0, -3, 0].entries())
    expect(spectrum.data[k]).toBeCloseTo(expected, 6);
});

test("an STFT of run-time steps knows its bins from the window", () => {
  const samples = { ...x, shape: [1, 6, 1] };
  const window = tensor("float32", [4], [1, 1, 1, 1]);
  const transform = applied("nim:STFTOfData", [samples, int(2)], [window]);
  expect(formatShape(transform.outputs[0]!.shape)).toMatch(/^\[1, stft\.\d+, 3, 2\]$/);
  expect((transform.run()[0] as Tensor).shape).toEqual([1, 2, 3, 2]);
});

test("Col2Im of run-time blocks adds each column to its image", () => {
  const columns = tensor("float32", [1, 4, 1], [1, 2, 3, 4]);
  const image = atRunTime("Col2Im", [columns, ints(2, 2), ints(2, 2)]);
  expect(image.shape).toMatch(/^\[1, col2im\.\d+, col2im\.\d+, col2im\.\d+\]$/);
  expect(image.value).toMatchObject({ shape: [1, 1, 2, 2], data: Float32Array.of(1, 2, 3, 4) });
});

test("MaxUnpool to a run-time shape keeps batch and channels", () => {
  const pooled = tensor("float32", [1, 1, 1, 1], [7]);
  const unpooled = atRunTime("MaxUnpool", [pooled, tensor("int64", [1, 1, 1, 1], [3n]), ints(1, 1, 3, 3)], {
    kernel_shape: [2, 2],
    strides: [2, 2],
  });
  expect(unpooled.shape).toMatch(/^\[1, 1, maxunpool\.\d+, maxunpool\.\d+\]$/);
  expect(unpooled.value).toMatchObject({ shape: [1, 1, 3, 3], data: Float32Array.of(0, 0, 0, 0, 7, 0, 0, 0, 0) });
});

test("Pad at known axes leaves the others as they are", () => {
  const padded = applied("nim:PadOfData", [x, ints(1, 0)], [undefined, ints(0)]);
  expect(formatShape(padded.outputs[0]!.shape)).toMatch(/^\[pad\.\d+, 3\]$/);
});

describe("a twin whose inputs turn out to be known", () => {
  test("has the types of the op itself", () => {
    expect(formatShape(applied("nim:TileOfData", [x], [ints(2, 1)]).outputs[0]!.shape)).toBe("[4, 3]");
  });

  test("ends with the op's own error for a form that it has not", () => {
    const text = tensor("string", [1], ["a"]);
    expect(() => applied("Pad", [text], [ints(1, 1)])).toThrow("padding a string tensor needs a constant_value");
  });
});

test("every twin takes what its op takes", () => {
  const table = new Map(
    Object.values(families)
      .flat()
      .map((op) => [`${op.domain}:${op.name}`, op]),
  );
  for (const twin of families.runtimeSizes!) {
    const op = table.get(`:${twin.name.replace(/OfData$/, "")}`);
    expect(op, twin.name).toBeDefined();
    expect(twin.inputs).toEqual(op!.inputs);
    expect(twin.attributes).toEqual(op!.attributes);
  }
});
