import fc from "fast-check";
import { all, create } from "mathjs";
import { describe, expect, test } from "vitest";
import {
  add,
  affineIn,
  asSymbol,
  atLeast,
  ceildiv,
  compareDims,
  type Dim,
  dependsOn,
  equalDims,
  evaluateDim,
  floordiv,
  formatDim,
  loopVariable,
  max,
  min,
  mod,
  mul,
  neg,
  parseDim,
  rangeOf,
  type SymbolAtom,
  sub,
  substitute,
  symbol,
  visitSymbols,
} from "./index.js";

const mathjs = create(all!);

/** Sizes with different bounds: unbounded, small, positive, of either sign. */
const symbols = { N: symbol("N"), W: symbol("W", 1, 40), K: symbol("K", 3), S: symbol("S", -9, 9) };
type Name = keyof typeof symbols;
type Values = Record<Name, number>;
const values = fc.record({
  N: fc.integer({ min: 0, max: 60 }),
  W: fc.integer({ min: 1, max: 40 }),
  K: fc.integer({ min: 3, max: 50 }),
  S: fc.integer({ min: -9, max: 9 }),
});

/** An expression in three forms: a Dim, text for mathjs, a plain function. */
interface Form {
  readonly dim: Dim;
  readonly text: string;
  readonly value: (at: Values) => number;
}

const leaf: fc.Arbitrary<Form> = fc.oneof(
  fc.integer({ min: -12, max: 12 }).map((n) => ({ dim: n, text: `(${n})`, value: () => n })),
  fc
    .constantFrom(...(Object.keys(symbols) as Name[]))
    .map((name) => ({ dim: symbols[name], text: name, value: (at: Values) => at[name] })),
);
const floorOf = (x: number, y: number) => Math.floor(x / y);
const binary: readonly [(a: Dim, b: Dim) => Dim, (a: string, b: string) => string, (a: number, b: number) => number][] =
  [
    [(a, b) => add(a, b), (a, b) => `(${a} + ${b})`, (a, b) => a + b],
    [sub, (a, b) => `(${a} - ${b})`, (a, b) => a - b],
    [(a, b) => mul(a, b), (a, b) => `(${a} * ${b})`, (a, b) => a * b],
    [min, (a, b) => `min(${a}, ${b})`, Math.min],
    [max, (a, b) => `max(${a}, ${b})`, Math.max],
  ];
/** Divisors that are never 0: numbers of either sign, and sizes that are at least 1. */
const divisor: fc.Arbitrary<Form> = fc.oneof(
  fc
    .integer({ min: -7, max: 12 })
    .filter((n) => n !== 0)
    .map((n) => ({ dim: n, text: `(${n})`, value: () => n })),
  fc.constantFrom<Form>(
    { dim: symbols.W, text: "W", value: (at) => at.W },
    { dim: add(symbols.N, 1), text: "(N + 1)", value: (at) => at.N + 1 },
    { dim: mul(2, symbols.K), text: "(2 * K)", value: (at) => 2 * at.K },
  ),
);
const { form } = fc.letrec<{ form: Form }>((tie) => ({
  form: fc.oneof(
    { maxDepth: 5, depthIdentifier: "form" },
    { weight: 1, arbitrary: leaf },
    {
      weight: 3,
      arbitrary: fc.tuple(fc.constantFrom(...binary), tie("form"), tie("form")).map(([[dim, text, value], a, b]) => ({
        dim: dim(a.dim, b.dim),
        text: text(a.text, b.text),
        value: (at: Values) => value(a.value(at), b.value(at)),
      })),
    },
    {
      weight: 2,
      arbitrary: fc.tuple(fc.constantFrom("floor", "ceil", "mod"), tie("form"), divisor).map(([kind, a, b]) => ({
        dim: { floor: floordiv, ceil: ceildiv, mod }[kind]!(a.dim, b.dim),
        text:
          kind === "mod" ? `(${a.text} - ${b.text} * floor(${a.text} / ${b.text}))` : `${kind}(${a.text} / ${b.text})`,
        value: (at: Values) => {
          const [x, y] = [a.value(at), b.value(at)];
          return kind === "floor" ? floorOf(x, y) : kind === "ceil" ? Math.ceil(x / y) : x - y * floorOf(x, y);
        },
      })),
    },
  ),
}));

const at = (given: Record<string, number>) => (atom: SymbolAtom) => given[atom.name];
const check = (holds: boolean, message: string) => {
  if (!holds) throw new Error(message);
};
const runs = { numRuns: 1500 };

describe("random expressions", () => {
  test("have the value of their definition, and of mathjs", () => {
    fc.assert(
      fc.property(form, fc.array(values, { minLength: 3, maxLength: 3 }), (expr, points) => {
        const compiled = mathjs.compile(expr.text);
        for (const point of points) {
          const found = evaluateDim(expr.dim, at(point));
          check(
            found === expr.value(point),
            `${formatDim(expr.dim)} is ${found}, not ${expr.value(point)} = ${expr.text} at ${JSON.stringify(point)}`,
          );
          check(found === compiled.evaluate({ ...point }), `mathjs differs: ${expr.text}`);
        }
      }),
      { numRuns: 600 },
    );
  });

  test("never leave their range", () => {
    fc.assert(
      fc.property(form, fc.array(values, { minLength: 5, maxLength: 5 }), (expr, points) => {
        const { low, high } = rangeOf(expr.dim);
        for (const point of points) {
          const value = expr.value(point);
          check(low <= value && value <= high, `${formatDim(expr.dim)} = ${value} is outside of [${low}, ${high}]`);
        }
      }),
      runs,
    );
  });

  test("compare as their values do, wherever the comparison is decided", () => {
    fc.assert(
      fc.property(form, form, values, (a, b, point) => {
        const order = compareDims(a.dim, b.dim);
        if (order === undefined) return;
        const difference = a.value(point) - b.value(point);
        check(
          order === (difference < 0 ? "less" : difference > 0 ? "greater" : "equal"),
          `${formatDim(a.dim)} vs ${formatDim(b.dim)}: ${order}`,
        );
      }),
      runs,
    );
  });

  test("substitute as their values do", () => {
    fc.assert(
      fc.property(form, form, values, (expr, replacement, point) => {
        // K is at least 3 by its bounds; a replacement must keep that promise.
        const inside = { dim: max(3, replacement.dim), value: (p: Values) => Math.max(3, replacement.value(p)) };
        const replaced = substitute(expr.dim, (atom) => (atom.name === "K" ? inside.dim : undefined));
        const expected = expr.value({ ...point, K: inside.value(point) });
        check(
          evaluateDim(replaced, at(point)) === expected,
          `${formatDim(expr.dim)} with K = ${formatDim(inside.dim)} became ${formatDim(replaced)}`,
        );
      }),
      runs,
    );
  });

  test("are numbers when every size is a number", () => {
    fc.assert(
      fc.property(form, values, (expr, point) => {
        check(substitute(expr.dim, at(point)) === expr.value(point) + 0, formatDim(expr.dim));
      }),
      runs,
    );
  });

  test("are read back from their text", () => {
    fc.assert(
      fc.property(form, (expr) => {
        const text = formatDim(expr.dim);
        const back = parseDim(text, (name) => symbols[name as Name]);
        check(equalDims(back, expr.dim), `${text} is read as ${formatDim(back)}`);
      }),
      { numRuns: 400 },
    );
  });

  test("are affine where affineIn says so", () => {
    fc.assert(
      fc.property(form, values, (expr, point) => {
        const affine = affineIn(expr.dim, symbols.W.key.replace(/^1\*/, ""));
        if (!affine) return;
        const key = "$W";
        check(!dependsOn(affine.stride, key) && !dependsOn(affine.offset, key), "stride or offset depends on W");
        const value = evaluateDim(affine.stride, at(point)) * point.W + evaluateDim(affine.offset, at(point));
        check(
          value === expr.value(point),
          `${formatDim(expr.dim)}: ${formatDim(affine.stride)}·W + ${formatDim(affine.offset)}`,
        );
      }),
      runs,
    );
  });
});

describe("normal form", () => {
  /** Polynomials as maps from monomials to coefficients, built in the given order. */
  const monomial = fc.tuple(
    fc.integer({ min: -5, max: 5 }),
    fc.array(fc.constantFrom<Name>("N", "W", "K", "S"), { maxLength: 3 }),
  );
  test("equal polynomials have equal keys, in whatever order they are built", () => {
    fc.assert(
      fc.property(
        fc.array(monomial, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat(), { minLength: 6, maxLength: 6 }),
        (terms, order) => {
          const dims = terms.map(([coefficient, names]) => mul(coefficient, ...names.map((name) => symbols[name])));
          const shuffled = terms
            .map(([coefficient, names], k) => ({
              rank: order[k]!,
              dim: mul(...[...names].reverse().map((name) => symbols[name] as Dim), coefficient),
            }))
            .sort((a, b) => a.rank - b.rank)
            .map(({ dim }) => dim);
          const [a, b] = [add(...dims), shuffled.reduce((x, y) => add(x, y), 0 as Dim)];
          check(equalDims(a, b), `${formatDim(a)} and ${formatDim(b)}`);
          expect(sub(a, b)).toBe(0);
        },
      ),
      runs,
    );
  });
  test("products distribute", () => {
    fc.assert(
      fc.property(form, form, form, (a, b, c) => {
        check(
          equalDims(mul(a.dim, add(b.dim, c.dim)), add(mul(a.dim, b.dim), mul(a.dim, c.dim))),
          `${formatDim(a.dim)} times a sum`,
        );
      }),
      { numRuns: 300 },
    );
  });
  test("what vanishes is the number 0", () => {
    const { N, W } = symbols;
    expect(sub(mul(add(N, W), sub(N, W)), sub(mul(N, N), mul(W, W)))).toBe(0);
    expect(add(N, 3, neg(N))).toBe(3);
  });
});

describe("division", () => {
  const { N, W, K, S } = symbols;
  const same = (a: Dim, b: Dim) => expect(formatDim(a)).toBe(formatDim(b));
  test("of numbers rounds down, for every pair of signs", () => {
    for (let a = -20; a <= 20; a++)
      for (const b of [-7, -3, -1, 1, 2, 5]) {
        expect(floordiv(a, b)).toBe(Math.floor(a / b));
        expect((mod(a, b) as number) + b * Math.floor(a / b)).toBe(a);
        expect(ceildiv(a, b)).toBe(Math.ceil(a / b));
      }
  });
  test("takes out what divides", () => {
    same(floordiv(mul(6, N), 3), mul(2, N));
    same(floordiv(add(mul(6, N), 7), 3), add(mul(2, N), 2));
    same(floordiv(mul(N, K), K), N);
    same(floordiv(add(mul(N, W), 0), W), N);
    same(mod(mul(N, W), W), 0);
    same(mod(add(mul(8, N), 5), 4), 1);
    same(floordiv(floordiv(N, 2), 3), floordiv(N, 6));
    same(floordiv(mul(2, N), 4), floordiv(N, 2));
    same(mod(mod(N, 12), 4), mod(N, 4));
  });
  test("of an index by its extent is known", () => {
    const i = loopVariable(W);
    const j = loopVariable(K);
    same(floordiv(add(mul(j, W), i), W), j);
    same(mod(add(mul(j, W), i), W), i);
    same(floordiv(i, W), 0);
    const k = loopVariable(16);
    same(add(mul(4, floordiv(k, 4)), mod(k, 4)), k);
    same(add(mul(floordiv(k, 4), 4, N), mul(mod(k, 4), N)), mul(k, N));
  });
  test("by zero is a bug of the caller", () => {
    expect(() => floordiv(N, 0)).toThrow(/zero/);
    expect(() => mod(5, 0)).toThrow(/zero/);
  });
  test("by a size that may be 0 or negative is left to the run", () => {
    expect(floordiv(N, N)).not.toBe(1);
    expect(evaluateDim(floordiv(7, S), at({ S: -2 }))).toBe(-4);
    expect(evaluateDim(mod(7, S), at({ S: -2 }))).toBe(-1);
  });
});

describe("ranges", () => {
  const { N, W, K, S } = symbols;
  test("of symbols and simple arithmetic", () => {
    expect(rangeOf(W)).toEqual({ low: 1, high: 40 });
    expect(rangeOf(sub(3, W))).toEqual({ low: -37, high: 2 });
    expect(rangeOf(mul(S, S)).high).toBe(81);
    expect(rangeOf(mod(N, 5))).toEqual({ low: 0, high: 4 });
    expect(rangeOf(floordiv(W, 4))).toEqual({ low: 0, high: 10 });
    expect(rangeOf(N).high).toBe(Number.POSITIVE_INFINITY);
  });
  test("a loop variable stays below its extent, whatever that is", () => {
    const i = loopVariable(N);
    expect(atLeast(sub(sub(N, 1), i), 0)).toBe(true);
    expect(compareDims(i, N)).toBe("less");
    const j = loopVariable(K);
    expect(compareDims(add(mul(i, K), j), mul(N, K))).toBe("less");
    expect(compareDims(add(i, 1), N)).toBeUndefined();
  });
  test("min and max of what is decided", () => {
    expect(min(W, 41)).toBe(W);
    expect(max(K, 3)).toBe(K);
    expect(equalDims(min(W, N), min(N, W))).toBe(true);
  });
});

test("symbols are found everywhere in an expression", () => {
  const names: string[] = [];
  visitSymbols(max(floordiv(symbols.N, 3), mod(symbols.K, symbols.W)), (atom) => names.push(atom.name));
  expect(names.sort()).toEqual(["K", "N", "W"]);
  expect(asSymbol(symbols.N)?.name).toBe("N");
  expect(asSymbol(mul(2, symbols.N))).toBeUndefined();
});

test("affineIn refuses squares and what hides the symbol", () => {
  const i = loopVariable(8);
  const { key } = asSymbol(i)!;
  expect(affineIn(mul(i, i), key)).toBeUndefined();
  expect(affineIn(floordiv(i, 3), key)).toBeUndefined();
  expect(affineIn(add(mul(3, i, symbols.N), 5), key)).toEqual({ stride: mul(3, symbols.N), offset: 5 });
});

test("values beyond 2^53 are refused", () => {
  expect(() => evaluateDim(mul(symbols.N, symbols.N), () => 2 ** 30)).toThrow(/2\^53/);
  expect(() => mul(mul(symbols.N, 2 ** 40), 2 ** 40)).toThrow(/2\^53/);
  expect(() => evaluateDim(symbols.N, () => undefined)).toThrow(/N has no value/);
});
