import type { ExprSpec } from "@nimforge/engine";
import { add, ceildiv, type Dim, evaluateDim, floordiv, max, min, mod, mul, neg, sub, symbol } from "@nimforge/ir";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Expressions, symbolsIn } from "./expressions.js";

const [N, W] = [symbol("N"), symbol("W", 1)];
const order = ["$N", "$W"];

/** What the runtime computes: each entry from entries before it. */
function evaluateList(list: readonly ExprSpec[], symbols: readonly number[]): number[] {
  const values: number[] = [];
  for (const { op, a = 0, b = 0, value } of list) {
    const [x, y] = [values[a] as number, values[b] as number];
    const result = {
      constant: () => Number(value), symbol: () => symbols[a] as number, add: () => x + y, sub: () => x - y, mul: () => x * y,
      floordiv: () => Math.floor(x / y), ceildiv: () => Math.ceil(x / y), mod: () => x - y * Math.floor(x / y), min: () => Math.min(x, y), max: () => Math.max(x, y),
      eq: () => Number(x === y), ne: () => Number(x !== y), lt: () => Number(x < y), le: () => Number(x <= y),
    }[op as string]; // biome-ignore format: a table
    if (!result) throw new Error(`no operation ${op}`);
    values.push(result());
  }
  return values;
}

const { dim } = fc.letrec<{ dim: Dim }>((tie) => ({
  dim: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom<Dim>(N, W),
    fc.integer({ min: -9, max: 9 }),
    fc.tuple(fc.constantFrom(add, sub, mul, min, max), tie("dim"), tie("dim")).map(([f, a, b]) => f(a, b)),
    fc
      .tuple(fc.constantFrom(floordiv, ceildiv, mod), tie("dim"), fc.constantFrom<Dim>(2, 3, 8, W))
      .map(([f, a, b]) => f(a, b)),
  ),
}));

test("the list computes the Dim", () => {
  fc.assert(
    fc.property(
      fc.array(dim, { minLength: 1, maxLength: 4 }),
      fc.nat({ max: 50 }),
      fc.integer({ min: 1, max: 50 }),
      (dims, n, w) => {
        const expressions = new Expressions((key) => order.indexOf(key));
        const places = dims.map((each) => expressions.of(each));
        expressions.list.forEach(({ op, a = 0, b = 0 }, k) => {
          if (op !== "constant" && op !== "symbol" && (a >= k || b >= k))
            throw new Error(`entry ${k} reads a later one`);
        });
        const values = evaluateList(expressions.list, [n, w]);
        places.forEach((place, k) => {
          const expected = evaluateDim(dims[k] as Dim, ({ name }) => (name === "N" ? n : w));
          if (values[place] !== expected) throw new Error(`${dims[k]} is ${values[place]}, not ${expected}`);
        });
      },
    ),
    { numRuns: 500 },
  );
});

test("each distinct expression stands once", () => {
  const expressions = new Expressions((key) => order.indexOf(key));
  const first = expressions.of(add(mul(2, N), 1));
  const { length } = expressions.list;
  expect(expressions.of(sub(add(N, N, 3), 2))).toBe(first);
  expect(expressions.list.length).toBe(length);
  expressions.of(mul(2, N));
  expect(expressions.list.length).toBe(length);
});

test("equalities, and which symbols a Dim has", () => {
  const expressions = new Expressions((key) => order.indexOf(key));
  const place = expressions.equal(mul(2, N), add(W, neg(1)));
  expect(evaluateList(expressions.list, [3, 7])[place]).toBe(1);
  expect(evaluateList(expressions.list, [3, 8])[place]).toBe(0);
  expect([...symbolsIn([floordiv(N, 3), 4, max(W, N)]).keys()].toSorted()).toEqual(order);
});
