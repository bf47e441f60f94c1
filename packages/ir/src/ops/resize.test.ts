import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { formatShape, symbol } from "../dim.js";
import { Context } from "../graph.js";
import { tensorType } from "../types.js";
import { result } from "./applied.js";
import { findOp } from "./index.js";

const floats = (...values: number[]): Tensor => tensor("float32", [values.length], values);
const x = tensor("float32", [4], [0, 10, 20, 30]);
const close = (values: readonly number[]) => values.map((value) => expect.closeTo(value, 4));
const resized = (scale: number, attributes = {}) =>
  result("Resize", [x], [undefined, floats(scale)], attributes).values;

test("nearest neighbour doubles and halves", () => {
  expect(resized(2)).toEqual([0, 0, 10, 10, 20, 20, 30, 30]);
  expect(resized(0.5, { coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" })).toEqual([0, 20]);
});

test("an integer index map gives what the coordinate formula gives", () => {
  for (const nearest_mode of ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    for (const coordinate_transformation_mode of ["asymmetric", "half_pixel"])
      for (const scale of [2, 3, 0.5]) {
        const coordinate = (at: number) =>
          coordinate_transformation_mode === "asymmetric" ? at / scale : (at + 0.5) / scale - 0.5;
        const round = {
          round_prefer_floor: (v: number) => Math.ceil(v - 0.5),
          round_prefer_ceil: (v: number) => Math.floor(v + 0.5),
          floor: Math.floor,
          ceil: Math.ceil,
        }[nearest_mode]!;
        const expected = Array.from(
          { length: Math.floor(4 * scale) },
          (_, at) => 10 * Math.min(3, Math.max(0, round(coordinate(at)))),
        );
        expect(resized(scale, { nearest_mode, coordinate_transformation_mode })).toEqual(expected);
      }
});

test("an integer factor of a run-time size is an index map without data", () => {
  const context = new Context(findOp);
  const image = context.input("x", tensorType("float32", [1, 3, symbol("H", 1), symbol("W", 1)]));
  const [y] = context.apply("Resize", [image, undefined, context.constant(floats(1, 1, 2, 2))], {
    coordinate_transformation_mode: "asymmetric",
    nearest_mode: "floor",
  });
  expect(formatShape(y!.shape)).toBe("[1, 3, 2*H, 2*W]");
  expect(y!.node.computes![0]!.body.key).not.toContain("data(");
});

test("linear interpolation weighs two neighbours of each axis", () => {
  expect(resized(2, { mode: "linear" })).toEqual([0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30]);
  const square = tensor("float32", [2, 2], [0, 4, 8, 12]);
  const corners = result("Resize", [square], [undefined, floats(1.5, 1.5)], {
    mode: "linear",
    coordinate_transformation_mode: "align_corners",
  });
  expect(corners).toEqual({ shape: [3, 3], values: [0, 2, 4, 4, 6, 8, 8, 10, 12] });
});

test("antialias averages what it skips", () => {
  expect(result("Resize", [x], [undefined, floats(0.5)], { mode: "linear", antialias: 1 }).values).toEqual(
    close([6.25, 23.75]),
  );
});

test("cubic interpolation gives a pixel back at its own place", () => {
  expect(
    resized(2, { mode: "cubic", coordinate_transformation_mode: "asymmetric" }).filter((_, k) => k % 2 === 0),
  ).toEqual([0, 10, 20, 30]);
});

test("keep_aspect_ratio_policy takes the smaller or the larger scale", () => {
  const image = tensor("float32", [2, 4], [0, 1, 2, 3, 4, 5, 6, 7]);
  const shape = (keep_aspect_ratio_policy: string) =>
    result("Resize", [image], [undefined, undefined, tensor("int64", [2], [4n, 4n])], { keep_aspect_ratio_policy })
      .shape;
  expect(shape("not_larger")).toEqual([2, 4]);
  expect(shape("not_smaller")).toEqual([4, 8]);
});

test("tf_crop_and_resize gives the extrapolation value outside", () => {
  const crop = { mode: "linear", coordinate_transformation_mode: "tf_crop_and_resize", extrapolation_value: 7 };
  expect(result("Resize", [x], [floats(0, 2), undefined, tensor("int64", [1], [3n])], crop).values).toEqual([0, 30, 7]);
});

test("both scales and sizes are refused", () => {
  expect(() => result("Resize", [x], [undefined, floats(2), tensor("int64", [1], [8n])])).toThrow(/exactly one/);
});

test("AffineGrid of the identity samples an image at its own pixels", () => {
  const identity = tensor("float32", [1, 2, 3], [1, 0, 0, 0, 1, 0]);
  const image = tensor("float32", [1, 1, 2, 3], [0, 1, 2, 3, 4, 5]);
  for (const align_corners of [0, 1]) {
    const grid = result("AffineGrid", [identity], [tensor("int64", [4], [1n, 1n, 2n, 3n])], { align_corners });
    expect(grid.shape).toEqual([1, 2, 3, 2]);
    const sampled = result("GridSample", [image, tensor("float32", [1, 2, 3, 2], grid.values)], [], { align_corners });
    expect(sampled.values).toEqual(close([0, 1, 2, 3, 4, 5]));
  }
});

test("GridSample pads with zeros, the border or a reflection", () => {
  const image = tensor("float32", [1, 1, 1, 2], [1, 2]);
  const outside = tensor("float32", [1, 1, 2, 2], [-3, 0, 2.5, 0]);
  const sample = (padding_mode: string) =>
    result("GridSample", [image, outside], [], { mode: "nearest", padding_mode }).values;
  expect(sample("zeros")).toEqual([0, 0]);
  expect(sample("border")).toEqual([1, 2]);
  expect(sample("reflection")).toEqual([2, 1]);
});
