import { type Tensor, tensor } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { applied, result } from "./applied.js";

const words = (...values: string[]): Tensor => tensor("string", [values.length], values);

test("StringConcat broadcasts", () => {
  expect(result("StringConcat", [words("a", "b"), words("x")]).values).toEqual(["ax", "bx"]);
});

test("StringSplit pads rows to the longest", () => {
  const split = (text: Tensor, attributes = {}) => {
    const [parts, counts] = applied("StringSplit", [text], [], attributes, 2).run() as Tensor[];
    return [parts!.shape, parts!.data, Array.from(counts!.data as BigInt64Array, Number)];
  };
  expect(split(words("a.b.c", "d"), { delimiter: "." })).toEqual([
    [2, 3],
    ["a", "b", "c", "d", "", ""],
    [3, 1],
  ]);
  expect(split(words("a.b.c"), { delimiter: ".", maxsplit: 1 })).toEqual([[1, 2], ["a", "b.c"], [2]]);
  expect(split(words("  one  two ", "  "))).toEqual([
    [2, 2],
    ["one", "two", "", ""],
    [2, 0],
  ]);
});

test("StringNormalizer drops stop words and changes case", () => {
  const normal = { case_change_action: "UPPER", stopwords: ["Monday"] };
  expect(result("StringNormalizer", [words("monday", "tuesday")], [], normal).values).toEqual(["TUESDAY"]);
  expect(
    result("StringNormalizer", [words("monday", "Monday")], [], { ...normal, is_case_sensitive: 1 }).values,
  ).toEqual(["MONDAY"]);
  expect(result("StringNormalizer", [words("Monday")], [], normal).values).toEqual([""]);
});

test("RegexFullMatch matches whole strings", () => {
  expect(
    result("RegexFullMatch", [words("www.a.com", "a.com www.a.com")], [], { pattern: "www\\.[a-z]+\\.com" }).values,
  ).toEqual([1, 0]);
  expect(() => result("RegexFullMatch", [words("a")], [], { pattern: "(" })).toThrow(/regular expression/);
});

test("casts from and to text give numbers back", () => {
  const numbers = tensor("float32", [4], [0.1, -3, 1e20, Number.POSITIVE_INFINITY]);
  const text = result("nim:CastText", [numbers], [], { to: 8 });
  expect(text.values).toEqual(["0.1", "-3.0", "1e+20", "inf"]);
  expect(applied("nim:CastText", [tensor("string", [4], text.values)], [], { to: 1 }).run()[0]).toEqual(numbers);
  expect(() => result("nim:CastText", [words("one")], [], { to: 1 })).toThrow(/not a number/);
});

test("TfIdfVectorizer counts n-grams with skips", () => {
  const pool = { ngram_counts: [0, 2], ngram_indexes: [0, 1, 2], pool_int64s: [1, 2, 1, 3], mode: "TF" };
  const row = tensor("int64", [4], [1n, 2n, 3n, 1n]);
  expect(
    result("TfIdfVectorizer", [row], [], { ...pool, min_gram_length: 1, max_gram_length: 2, max_skip_count: 0 }).values,
  ).toEqual([2, 1, 0]);
  expect(
    result("TfIdfVectorizer", [row], [], { ...pool, min_gram_length: 1, max_gram_length: 2, max_skip_count: 1 }).values,
  ).toEqual([2, 1, 1]);
});

test("LabelEncoder maps keys and falls back to the default", () => {
  const attributes = { keys_strings: ["a", "b"], values_int64s: [1, 2], default_int64: 42 };
  expect(result("ai.onnx.ml:LabelEncoder", [words("b", "x", "a")], [], attributes).values).toEqual([2, 42, 1]);
});
