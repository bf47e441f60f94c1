import { type DType, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import {
  add,
  Context,
  type Dim,
  evaluate,
  findOp,
  floordiv,
  formatDim,
  formatShape,
  Graph,
  mul,
  symbol,
  tensorType,
  type Value,
} from "./index.js";

const [N, H, W] = [symbol("N", 1), symbol("H", 1), symbol("W", 1)];
const context = new Context(findOp);
const one = (name: string, inputs: readonly (Value | undefined)[], attributes = {}) =>
  context.apply(name, inputs, attributes)[0]!;
const ints = (...values: number[]) => context.constant(tensor("int64", [values.length], values.map(BigInt)));
const int = (value: number) => context.constant(tensor("int64", [], [BigInt(value)]));
const text = (dims: readonly Dim[] | undefined) => dims?.map(formatDim).join(", ");
const image = context.input("x", tensorType("float32", [N, 3, H, W]));
const shape = one("Shape", [image]);

test("Shape → Gather → Mul → Concat → Reshape", () => {
  const height = one("Gather", [shape, int(2)]);
  const width = one("Gather", [shape, int(-1)]);
  const doubled = one("Mul", [height, int(2)]);
  const parts = [
    ints(0),
    one("Unsqueeze", [doubled, ints(0)]),
    one("Unsqueeze", [one("Div", [width, int(2)]), ints(0)]),
    ints(-1),
  ];
  const target = one("Concat", parts, { axis: 0 });
  expect(text(target.dims)).toBe(`0, 2*H, ${formatDim(floordiv(W, 2))}, -1`);
  const flat = one("Reshape", [
    image,
    one(
      "Concat",
      [one("Slice", [shape, ints(0), ints(1)]), ints(3), one("Unsqueeze", [one("Mul", [height, width]), ints(0)])],
      { axis: 0 },
    ),
  ]);
  expect(formatShape(flat.shape)).toBe(formatShape([N, 3, mul(H, W)]));
});

test("arithmetic, comparison and choice on sizes", () => {
  const height = one("Gather", [shape, int(2)]);
  expect(text(one("Add", [height, int(-1)]).dims)).toBe(formatDim(add(H, -1)));
  expect(text(one("Greater", [height, int(0)]).dims)).toBe("1");
  expect(one("Greater", [height, int(5)]).dims).toBeUndefined();
  expect(text(one("Where", [one("Equal", [one("Gather", [shape, int(1)]), int(3)]), height, int(7)]).dims)).toBe("H");
  expect(text(one("ReduceProd", [shape], { keepdims: 0 }).dims)).toBe(formatDim(mul(3, N, H, W)));
  expect(text(one("Cast", [shape], { to: 6 }).dims)).toBe("N, 3, H, W");
});

test("what is not shape arithmetic stays unknown", () => {
  const data = context.input("d", tensorType("int64", [2]));
  expect(data.dims).toBeUndefined();
  expect(one("Add", [data, ints(1)]).dims).toBeUndefined();
  expect(one("Sqrt", [one("Cast", [shape], { to: 1 })]).dims).toBeUndefined();
  expect(one("Div", [one("Sub", [one("Gather", [shape, int(2)]), int(9)]), int(2)]).dims).toBeUndefined(); // may be negative: truncation is not floor
});

test.each<[DType, number, number[]]>([
  ["int8", 3, [44, -56]],
  ["uint8", 2, [44, 200]],
  ["int4", 22, [-4, -8]],
])("a narrow type's wrap-around is not forgotten: %s", (dtype, to, wrapped) => {
  const narrow = one("Cast", [ints(300, 200)], { to });
  expect(narrow.dims).toBeUndefined();
  const [result] = evaluate(new Graph(context, [], [{ name: "y", value: narrow }]), []);
  expect(result).toEqual(tensor(dtype, [2], wrapped));
});
