import { expect, test } from "vitest";
import {
  add,
  ceildiv,
  type Dim,
  floordiv,
  formatDim,
  max,
  min,
  mod,
  mul,
  neg,
  parseDim,
  sub,
  symbol,
} from "./index.js";

const sizes: Record<string, Dim> = {
  N: symbol("N"),
  W: symbol("W", 1),
  batch_size: symbol("batch_size", 1),
  e: symbol("e"),
};
const { N, W, batch_size, e } = sizes as Record<string, Dim> & { N: Dim; W: Dim; batch_size: Dim; e: Dim };
const read = (text: string) => parseDim(text, (name) => sizes[name]);

test.each<[string, Dim]>([
  ["12", 12],
  [" N ", N],
  ["batch_size", batch_size],
  ["-N + 3", add(neg(N), 3)],
  ["+N", N],
  ["2*W + 1", add(mul(2, W), 1)],
  ["N - W - 1", sub(sub(N, W), 1)],
  ["N - (W - 1)", sub(N, sub(W, 1))],
  ["(N + 1)*(N - 1)", sub(mul(N, N), 1)],
  ["floor(W / 4)", floordiv(W, 4)],
  ["floor((W + 3) / 4) * 2", mul(2, floordiv(add(W, 3), 4))],
  ["floor(((N / W)))", floordiv(N, W)],
  ["ceil(N / 32)", ceildiv(N, 32)],
  ["floor(-7 / 2)", -4],
  ["min(N, W, 100)", min(min(N, W), 100)],
  ["max(N, 1)", max(N, 1)],
  ["mod(N, 8)", mod(N, 8)],
  ["N % 8", mod(N, 8)],
  ["mod(-7, 3)", 2],
  ["e", e], // a name that mathjs has a constant for
])("%s", (text, expected) => {
  expect(formatDim(read(text))).toBe(formatDim(expected));
});

test.each<[string, RegExp]>([
  ["", /empty/],
  ["N +", /cannot be read: .*char 4/],
  ["N * * 2", /cannot be read: .*char 5/],
  ["(N", /cannot be read: .*char 3/],
  ["N / 2", /not rounded at "N \/ 2"/],
  ["floor(N)", /not a division at "floor\(N\)"/],
  ["floor(N / 2 + 1)", /not a division at "floor\(N \/ 2 \+ 1\)"/],
  ["floor(N / 2, 3)", /not a division/],
  ["floor()", /not a division at "floor\(\)"/],
  ["floor(N / 0)", /is not a size at "floor\(N \/ 0\)"/],
  ["mod(N, 0)", /is not a size at "mod\(N, 0\)"/],
  ["mod(N)", /mod the wrong number of arguments at "mod\(N\)"/],
  ["min()", /min the wrong number of arguments/],
  ["1.5 * N", /not an integer below 2\^53 at "1.5"/],
  ["9007199254740993", /not an integer below 2\^53/],
  ["9007199254740991 + 1", /exceeds 2\^53 at/],
  ["4503599627370496 * N * 4", /is not a size at|exceeds 2\^53/],
  ["H + 1", /unknown size "H"/],
  ["2 W", /product without \* at "2 W"/],
  ["N ^ 2", /operator that sizes do not have at "N \^ 2"/],
  ["sqrt(N)", /function that sizes do not have at "sqrt\(N\)"/],
  ["constructor(N)", /function that sizes do not have/],
  ["toString(N)", /function that sizes do not have/],
  ["N = 2", /something that sizes do not have at "N = 2"/],
  ["[N, 2]", /something that sizes do not have/],
  ["true", /not a number/],
  ['"N"', /not a number/],
  ["N.x", /something that sizes do not have at "N.x"|operator/],
  ["f(x) = x", /something that sizes do not have/],
  ["N; 2", /something that sizes do not have/],
])("refused: %s", (text, message) => {
  const attempt = () => read(text);
  expect(attempt).toThrow(message);
  expect(attempt).toThrow(expect.objectContaining({ kind: "usage", code: "bad-expression", exitCode: 2 }));
});

test("nesting without end is refused, not followed", () => {
  const deep = `${"(".repeat(20_000)}N${")".repeat(20_000)}`;
  expect(() => read(deep)).toThrow(/nested too deeply/);
});
