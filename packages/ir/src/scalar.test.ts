import { describe, expect, test } from "vitest";
import {
  add,
  Context,
  call,
  cast,
  constant,
  dataIndex,
  type Expr,
  ExprIndex,
  equalDims,
  evaluate,
  findOp,
  floordiv,
  Graph,
  hasReduce,
  index,
  indexBy,
  load,
  loopOp,
  loopVariable,
  mapDataIndices,
  mul,
  operandsOf,
  reduce,
  rewriteExpr,
  sub,
  symbol,
  visitExpr,
  visitExprSymbols,
} from "./index.js";

const N = symbol("N", 1);
const i = loopVariable(N);
const f = (value: number) => constant("float32", value);

describe("comparisons of indices", () => {
  const int = (value: number) => constant("int64", BigInt(value));
  test.each<[string, Expr, boolean | undefined]>([
    ["i < N", call("lt", index(i), index(N)), true],
    ["i >= 0", call("ge", index(i), int(0)), true],
    ["i < 0", call("lt", index(i), int(0)), false],
    ["i <= N - 1", call("le", index(i), index(sub(N, 1))), true],
    ["i > N", call("gt", index(i), index(N)), false],
    ["i = N", call("eq", index(i), index(N)), false],
    ["i != N", call("ne", index(i), index(N)), true],
    ["i = i", call("eq", index(i), index(i)), true],
    ["i < 3", call("lt", index(i), int(3)), undefined],
    ["i + 1 < N", call("lt", index(add(i, 1)), index(N)), undefined],
  ])("%s", (_, expr, decided) => {
    if (decided === undefined) expect(expr.kind).toBe("call");
    else expect(expr).toMatchObject({ kind: "const", dtype: "bool", value: Number(decided) });
  });
  test("logic on what is decided", () => {
    const open = call("lt", index(i), int(3));
    expect(call("and", open, constant("bool", false))).toMatchObject({ kind: "const", value: 0 });
    expect(call("or", constant("bool", true), open)).toMatchObject({ kind: "const", value: 1 });
    expect(call("and", open, constant("bool", true)).kind).toBe("call");
    expect(call("not", constant("bool", false))).toMatchObject({ value: 1 });
    expect(call("select", constant("bool", true), f(1), f(2))).toEqual(f(1));
  });
  test("floats are not compared at build time", () => {
    expect(call("lt", f(1), f(2)).kind).toBe("call");
  });
});

test("operands of different types are refused", () => {
  expect(() => call("add", f(1), constant("float64", 1))).toThrow(/float32, float64/);
  expect(() => call("select", f(1), f(1), f(1))).toThrow(/condition is float32/);
  expect(() => call("add", f(1))).toThrow(/takes 2 arguments/);
});

test("the sign of zero is part of a constant's identity", () => {
  expect(constant("float32", -0).key).not.toBe(constant("float32", 0).key);
  expect(cast("float32", f(1))).toEqual(f(1));
});

describe("rewriting", () => {
  const shared = call("exp", load(0, "float32", [i]));
  const k = loopVariable(4);
  const whole = call(
    "add",
    shared,
    reduce("sum", [{ variable: k, extent: 4 }], call("mul", shared, load(1, "float32", [add(mul(4, i), k)]))),
  );

  test("nothing to do gives the same object", () => {
    expect(rewriteExpr(whole, {})).toBe(whole);
    expect(rewriteExpr(whole, { symbol: () => undefined, load: () => undefined })).toBe(whole);
  });

  test("symbols are replaced everywhere, then loads", () => {
    const seen: string[] = [];
    const rewritten = rewriteExpr(whole, {
      symbol: (atom) => (atom.key === (i as { key: string }).key.slice(2) ? 5 : undefined),
      load: (part) => {
        seen.push(`${part.operand}:${part.index.map((dim) => (typeof dim === "number" ? dim : "?")).join()}`);
        return part.operand === 0 ? f(2) : undefined;
      },
    });
    expect(seen.sort()).toEqual(["0:5", "1:?"]);
    expect([...operandsOf(rewritten)]).toEqual([1]);
    visitExprSymbols(rewritten, (atom) => expect(atom.key).not.toBe((i as { key: string }).key.slice(2)));
    expect(hasReduce(rewritten)).toBe(true);
  });

  test("a shared part is rebuilt once, however often it is used", () => {
    let expr: Expr = load(0, "float32", [i]);
    for (let depth = 0; depth < 200; depth++) expr = call("add", expr, expr); // 2^200 paths
    let loads = 0;
    const rewritten = rewriteExpr(expr, {
      load: (part) => {
        loads++;
        return load(3, part.dtype, part.index);
      },
    });
    expect(loads).toBe(1);
    let parts = 0;
    visitExpr(rewritten, () => parts++);
    expect(parts).toBe(201);
    expect([...operandsOf(rewritten)]).toEqual([3]);
  });

  test("loads inside data indices", () => {
    const at = indexBy(load(1, "int64", [i]), 10);
    const gather = load(0, "float32", [add(at, 1)]);
    expect([...operandsOf(gather)].sort()).toEqual([0, 1]);
    const rewritten = rewriteExpr(gather, {
      load: (part) => (part.operand === 1 ? load(7, "int64", part.index) : undefined),
    });
    expect([...operandsOf(rewritten)].sort()).toEqual([0, 7]);
    const names = new Set<string>();
    visitExprSymbols(rewritten, (atom) => names.add(atom.key));
    expect(names.has((i as { key: string }).key.slice(2))).toBe(true);
  });

  test("data indices are mapped through arithmetic", () => {
    const data = dataIndex(new ExprIndex(load(0, "int64", [0])), 8);
    const mapped = mapDataIndices(floordiv(add(mul(2, data), i), 3), () => new ExprIndex(load(1, "int64", [0])));
    expect(equalDims(mapped, floordiv(add(mul(2, dataIndex(new ExprIndex(load(1, "int64", [0])), 8)), i), 3))).toBe(
      true,
    );
  });
});

test("a known index needs no data", () => {
  expect(indexBy(constant("int64", 3n), 5)).toBe(3);
  expect(indexBy(constant("int64", -1n), 5)).toBe(4);
  expect(indexBy(index(i), N)).toBe(i);
  expect(typeof indexBy(constant("int64", -1n), N)).toBe("object");
});

describe("literals that the interpreter prints", () => {
  const run = (expr: Expr) => {
    const op = loopOp("Literal", { domain: "test" }, (context) => context.over([1], () => expr));
    const context = new Context(findOp);
    const value = context.applyOp(op, [])[0]!;
    return (evaluate(new Graph(context, [], [{ name: "y", value }]), [])[0] as { data: ArrayLike<number | bigint> })
      .data[0];
  };
  test.each<[Expr, number | bigint]>([
    [call("neg", f(-0)), 0],
    [call("neg", f(-3)), 3],
    [call("sub", f(1), f(-2)), 3],
    [call("neg", constant("int64", -(2n ** 63n))), -(2n ** 63n)],
    [call("sub", constant("int64", 1n), constant("int64", -2n)), 3n],
    [call("neg", constant("int32", -5)), 5],
    [f(Number.NEGATIVE_INFINITY), Number.NEGATIVE_INFINITY],
    [f(0.1), Math.fround(0.1)],
    [constant("float16", 1e9), Number.POSITIVE_INFINITY],
    [cast("bool", f(Number.NaN)), 1],
    [cast("bool", f(-0)), 0],
    [cast("bool", constant("uint64", 2n ** 63n)), 1],
  ])("%#", (expr, expected) => {
    const value = run(expr);
    expect(expr.dtype === "float16" ? value === 0x7c00 : Object.is(value, expected)).toBe(true);
  });
});
