/** Strings: ONNX's string operators, casts from and to text, and the encoders of ai.onnx.ml. */
import { type DType, dtypeInfo, isFloat, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import { type Op, type OpContext, opaqueOp } from "../op.js";
import { tensorType } from "../types.js";
import { dtypeAttribute } from "./shape.js";
import { forEachIndex, range, stridesOf } from "./tensors.js";

const textInput = (name: string) => ({ name, types: ["string"] as readonly DType[] });
const strings = (value: Tensor): readonly string[] => value.data as readonly string[];
const stringList = (context: OpContext, name: string): readonly string[] =>
  (context.attribute(name) ?? []) as readonly string[];

// Casts

/** Shortest decimal text that gives the number back, as numpy writes it. */
function formatNumber(value: number, single: boolean): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  let digits = String(value);
  if (single)
    for (let precision = 1; precision <= 9; precision++) {
      const candidate = value.toPrecision(precision);
      if (Math.fround(Number(candidate)) === value) {
        digits = String(Number(candidate));
        break;
      }
    }
  const magnitude = Math.abs(value);
  if (value !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const [mantissa, exponent] = Number(digits).toExponential().split("e") as [string, string];
    return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  return Object.is(value, -0) ? "-0.0" : /[.e]/.test(digits) ? digits : `${digits}.0`;
}

function parseNumber(context: OpContext, word: string): number {
  const plain = word.trim().toLowerCase();
  const special = /^([+-]?)(inf|infinity|nan)$/.exec(plain);
  if (special)
    return special[2] === "nan" ? Number.NaN : special[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const value = plain === "" ? Number.NaN : Number(plain);
  if (Number.isNaN(value)) context.fail("a string is not a number", { found: JSON.stringify(word) });
  return value;
}

function castText(context: OpContext, input: Tensor): Tensor {
  const to = dtypeAttribute(context, "to");
  const { shape } = input;
  if (input.dtype === to) return input;
  if (to === "string") {
    if (input.dtype === "bool")
      return tensor(
        "string",
        shape,
        Array.from(input.data as ArrayLike<number>, (value) => (value ? "True" : "False")),
      );
    if (!isFloat(input.dtype))
      return tensor("string", shape, Array.from(input.data as ArrayLike<number | bigint>, String));
    const single = input.dtype !== "float64";
    return tensor(
      "string",
      shape,
      Array.from(toNumbers(input), (value) => formatNumber(value, single)),
    );
  }
  const { kind } = dtypeInfo(to);
  if (to === "bool")
    return tensor(
      to,
      shape,
      strings(input).map((word) => word !== "" && word !== "False" && word !== "0"),
    );
  if (kind === "float")
    return tensor(
      to,
      shape,
      strings(input).map((word) => parseNumber(context, word)),
    );
  return tensor(
    to,
    shape,
    strings(input)
      .map((word) => (/^\s*[+-]?\d+\s*$/.test(word) ? BigInt(word) : BigInt(Math.trunc(parseNumber(context, word)))))
      .map((value) => (to === "int64" || to === "uint64" ? value : Number(value))),
  );
}

// Splitting and normalising

/** Python's str.split: an empty delimiter splits at runs of white space and drops the ends. */
function splitText(value: string, delimiter: string, most: number | undefined): string[] {
  const limit = most === undefined || most < 0 ? Number.POSITIVE_INFINITY : most;
  const parts: string[] = [];
  let rest = delimiter === "" ? value.trimStart() : value;
  while (parts.length < limit) {
    const found = delimiter === "" ? /\s+/.exec(rest) : { index: rest.indexOf(delimiter), 0: delimiter };
    if (!found || found.index < 0) break;
    parts.push(rest.slice(0, found.index));
    rest = rest.slice(found.index + found[0].length);
  }
  if (delimiter !== "" || rest.trim() !== "")
    parts.push(delimiter === "" && parts.length < limit ? rest.trimEnd() : rest);
  return parts;
}

const stringSplit = opaqueOp(
  "StringSplit",
  { inputs: [textInput("X")], attributes: { delimiter: "", maxsplit: { type: "int" } } },
  {
    infer: (context) => [
      tensorType("string", [...context.shape(0), context.context.freshSymbol("parts")]),
      tensorType("int64", context.shape(0)),
    ],
    reference: (context, inputs) => {
      const [x] = inputs as readonly [Tensor];
      const most = context.attribute("maxsplit") === undefined ? undefined : context.int("maxsplit");
      const parts = strings(x).map((value) => splitText(value, context.string("delimiter"), most));
      const width = parts.reduce((widest, list) => Math.max(widest, list.length), 0);
      return [
        tensor(
          "string",
          [...x.shape, width],
          parts.flatMap((list) => [...list, ...new Array<string>(width - list.length).fill("")]),
        ),
        tensor(
          "int64",
          x.shape,
          parts.map((list) => BigInt(list.length)),
        ),
      ];
    },
  },
);

const stringNormalizer = opaqueOp(
  "StringNormalizer",
  {
    inputs: [textInput("X")],
    attributes: {
      case_change_action: "NONE",
      is_case_sensitive: 0,
      locale: { type: "string" },
      stopwords: { type: "strings" },
    },
  },
  {
    infer: (context) => {
      const shape = context.shape(0);
      if (shape.length !== 1 && !(shape.length === 2 && shape[0] === 1))
        context.fail("X must have shape [C] or [1, C]");
      return [tensorType("string", [...shape.slice(0, -1), context.context.freshSymbol("words", 1)])];
    },
    reference: (context, inputs) => {
      const [x] = inputs as readonly [Tensor];
      const action = context.string("case_change_action");
      const locale =
        context.attribute("locale") === undefined
          ? undefined
          : context
              .string("locale")
              .replace("_", "-")
              .replace(/[.@].*$/, "");
      const convert = (word: string) =>
        action === "LOWER"
          ? word.toLocaleLowerCase(locale)
          : action === "UPPER"
            ? word.toLocaleUpperCase(locale)
            : action === "NONE"
              ? word
              : context.fail("case_change_action is not one of LOWER, UPPER, NONE", { found: action });
      const sensitive = context.int("is_case_sensitive") !== 0;
      const fold = (word: string) => (sensitive ? word : word.toLocaleLowerCase(locale));
      const stops = new Set(stringList(context, "stopwords").map(fold));
      const kept = strings(x)
        .filter((word) => !stops.has(fold(word)))
        .map(convert);
      if (kept.length === 0) kept.push("");
      return [tensor("string", [...x.shape.slice(0, -1), kept.length], kept)];
    },
  },
);

/** RE2's syntax as JavaScript's: inline flags and \A, \z, \C, (?P<name>…) are the difference that patterns use. */
function compilePattern(context: OpContext, pattern: string): RegExp {
  let source = pattern;
  let flags = "u";
  const inline = /^\(\?([ims]+)\)/.exec(source);
  if (inline) {
    flags += inline[1];
    source = source.slice(inline[0].length);
  }
  source = source
    .replace(/\(\?P</g, "(?<")
    .replace(/\\A/g, "^")
    .replace(/\\z/g, "$");
  for (const mode of [flags, flags.replace("u", "")]) {
    try {
      return new RegExp(`^(?:${source})$`, mode);
    } catch {
      // Escapes that Unicode mode forbids are tried without it.
    }
  }
  return context.fail("the pattern is not a regular expression", { found: pattern });
}

// TF-IDF

interface Gram {
  /** Output column, when an n-gram ends here. */
  column?: number;
  weight: number;
  readonly next: Map<string, Gram>;
}

/** The pool of n-grams as a trie. */
function gramTrie(context: OpContext): { root: Gram; width: number } {
  const counts = context.ints("ngram_counts") ?? [];
  const columns = context.ints("ngram_indexes") ?? [];
  const weights = context.attribute("weights") as readonly number[] | undefined;
  const pool = context.attribute("pool_strings")
    ? stringList(context, "pool_strings")
    : ((context.attribute("pool_int64s") ?? []) as readonly (number | bigint)[]).map(String);
  const root: Gram = { weight: 1, next: new Map() };
  let gram = 0;
  counts.forEach((start, level) => {
    const end = counts[level + 1] ?? pool.length;
    const size = level + 1;
    if (start > end || end > pool.length || (end - start) % size !== 0)
      context.fail("ngram_counts does not divide the pool", { found: counts.join(", ") });
    for (let at = start; at < end; at += size, gram++) {
      let node = root;
      for (const item of pool.slice(at, at + size)) {
        let child = node.next.get(item);
        if (!child) node.next.set(item, (child = { weight: 1, next: new Map() }));
        node = child;
      }
      const column = columns[gram];
      if (column === undefined) context.fail("ngram_indexes must hold one column for each n-gram");
      node.column = column as number;
      node.weight = weights?.[gram] ?? 1;
    }
  });
  return { root, width: Math.max(-1, ...columns) + 1 };
}

function countGrams(context: OpContext, row: readonly string[], root: Gram, counted: (gram: Gram) => void): void {
  const longest = context.int("max_gram_length");
  let shortest = context.int("min_gram_length");
  for (let skip = 1; skip <= context.int("max_skip_count") + 1; skip++) {
    for (let start = 0; start + skip * (shortest - 1) < row.length; start++) {
      let node: Gram | undefined = root;
      for (let size = 1, at = start; size <= longest && at < row.length; size++, at += skip) {
        node = node.next.get(row[at] as string);
        if (!node) break;
        if (size >= shortest && node.column !== undefined) counted(node);
      }
    }
    // Single words are counted once: skipping does not change them.
    if (shortest === 1 && ++shortest > longest) break;
  }
}

const tfIdfVectorizer = opaqueOp(
  "TfIdfVectorizer",
  {
    inputs: [{ name: "X", types: ["string", "int32", "int64"] }],
    attributes: {
      max_gram_length: { type: "int", required: true },
      max_skip_count: { type: "int", required: true },
      min_gram_length: { type: "int", required: true },
      mode: { type: "string", required: true },
      ngram_counts: { type: "ints", required: true },
      ngram_indexes: { type: "ints", required: true },
      pool_int64s: { type: "ints" },
      pool_strings: { type: "strings" },
      weights: { type: "floats" },
    },
  },
  {
    infer: (context) => {
      const shape = context.shape(0);
      if (shape.length < 1 || shape.length > 2) context.fail("X must have shape [C] or [N, C]");
      return [
        tensorType("float32", [...shape.slice(0, -1), Math.max(-1, ...(context.ints("ngram_indexes") ?? [])) + 1]),
      ];
    },
    reference: (context, inputs) => {
      const [x] = inputs as readonly [Tensor];
      const mode = context.string("mode");
      if (mode !== "TF" && mode !== "IDF" && mode !== "TFIDF")
        context.fail("mode is not one of TF, IDF, TFIDF", { found: mode });
      const { root, width } = gramTrie(context);
      const rows = x.shape.length === 2 ? (x.shape[0] as number) : 1;
      const length = x.shape[x.shape.length - 1] as number;
      const words = Array.from(x.data as ArrayLike<string | number | bigint>, String);
      const out = new Float32Array(rows * width);
      for (let row = 0; row < rows; row++)
        countGrams(context, words.slice(row * length, (row + 1) * length), root, (gram) => {
          const at = row * width + (gram.column as number);
          if (mode === "TF") out[at] = (out[at] as number) + 1;
          else if (mode === "IDF") out[at] = gram.weight;
          else out[at] = (out[at] as number) + gram.weight;
        });
      return [tensor("float32", [...x.shape.slice(0, -1), width], out)];
    },
  },
);

// ai.onnx.ml encoders

type Key = string | number | bigint;
const keyOf = (value: Key): string =>
  typeof value === "string" ? `s${value}` : Number.isNaN(value) ? "nan" : `n${Number(value)}`;

/** keys_* or values_* of a LabelEncoder, with the element type of that spelling. */
function labels(context: OpContext, stem: "keys" | "values"): { dtype: Tensor["dtype"]; values: readonly Key[] } {
  const whole = context.attribute(`${stem}_tensor`) as Tensor | undefined;
  if (whole) return { dtype: whole.dtype, values: Array.from(whole.data as ArrayLike<Key>) };
  for (const [suffix, dtype] of [
    ["strings", "string"],
    ["int64s", "int64"],
    ["floats", "float32"],
  ] as const) {
    const values = context.attribute(`${stem}_${suffix}`) as readonly Key[] | undefined;
    if (values) return { dtype, values };
  }
  return context.fail(`one of ${stem}_strings, ${stem}_int64s, ${stem}_floats, ${stem}_tensor must be given`);
}

const labelEncoder = opaqueOp(
  "LabelEncoder",
  {
    domain: "ai.onnx.ml",
    inputs: ["X"],
    attributes: {
      keys_strings: { type: "strings" },
      keys_int64s: { type: "ints" },
      keys_floats: { type: "floats" },
      keys_tensor: { type: "tensor" },
      values_strings: { type: "strings" },
      values_int64s: { type: "ints" },
      values_floats: { type: "floats" },
      values_tensor: { type: "tensor" },
      default_string: "_Unused",
      default_int64: -1,
      default_float: { type: "float", default: -0 },
      default_tensor: { type: "tensor" },
    },
  },
  {
    infer: (context) => [tensorType(labels(context, "values").dtype, context.shape(0))],
    reference: (context, inputs) => {
      const [x] = inputs as readonly [Tensor];
      const keys = labels(context, "keys").values;
      const { dtype, values } = labels(context, "values");
      const table = new Map(keys.map((key, k) => [keyOf(key), values[k] as Key]));
      const given = context.attribute("default_tensor") as Tensor | undefined;
      const fallback: Key = given
        ? (given.data[0] as Key)
        : dtype === "string"
          ? context.string("default_string")
          : dtype === "int64"
            ? BigInt(context.int("default_int64"))
            : context.float("default_float");
      const found = Array.from(x.data as ArrayLike<Key>, (value) => table.get(keyOf(value)) ?? fallback);
      return [tensor(dtype, x.shape, found)];
    },
  },
);

/** Positions in a tensor of `shape` that output elements read under broadcasting. */
function broadcastPositions(shape: readonly number[], target: readonly number[]): number[] {
  const strides = stridesOf(shape);
  const offset = target.length - shape.length;
  const positions: number[] = [];
  forEachIndex(target, (at) =>
    positions.push(
      shape.reduce(
        (sum, size, axis) => sum + (size === 1 ? 0 : (at[axis + offset] as number) * (strides[axis] as number)),
        0,
      ),
    ),
  );
  return positions;
}

const broadcastShape = (a: readonly number[], b: readonly number[]): number[] =>
  range(Math.max(a.length, b.length)).map((k, _, all) => {
    const x = a[k - (all.length - a.length)] ?? 1;
    const y = b[k - (all.length - b.length)] ?? 1;
    return x === 1 ? y : x;
  });

export const text: readonly Op[] = [
  opaqueOp(
    "CastText",
    { domain: "nim", inputs: ["input"], attributes: { to: { type: "int", required: true } } },
    {
      infer: (context) => {
        const to = dtypeAttribute(context, "to");
        if (to !== "string" && context.dtype(0) !== "string") context.fail("neither type is string");
        return [tensorType(to, context.shape(0))];
      },
      reference: (context, [input]) => [castText(context, input as Tensor)],
    },
  ),
  opaqueOp(
    "EqualText",
    { domain: "nim", inputs: [textInput("A"), textInput("B")] },
    {
      infer: (context) => [tensorType("bool", context.broadcast(context.shape(0), context.shape(1)))],
      reference: (_context, inputs) => {
        const [a, b] = inputs as readonly [Tensor, Tensor];
        const shape = broadcastShape(a.shape, b.shape);
        const right = broadcastPositions(b.shape, shape);
        return [
          tensor(
            "bool",
            shape,
            broadcastPositions(a.shape, shape).map((at, k) => a.data[at] === b.data[right[k] as number]),
          ),
        ];
      },
    },
  ),
  opaqueOp(
    "StringConcat",
    { inputs: [textInput("X"), textInput("Y")] },
    {
      infer: (context) => [tensorType("string", context.broadcast(context.shape(0), context.shape(1)))],
      reference: (_context, inputs) => {
        const [a, b] = inputs as readonly [Tensor, Tensor];
        const shape = broadcastShape(a.shape, b.shape);
        const right = broadcastPositions(b.shape, shape);
        return [
          tensor(
            "string",
            shape,
            broadcastPositions(a.shape, shape).map((at, k) => `${a.data[at]}${b.data[right[k] as number]}`),
          ),
        ];
      },
    },
  ),
  stringSplit,
  stringNormalizer,
  opaqueOp(
    "RegexFullMatch",
    { inputs: [textInput("X")], attributes: { pattern: { type: "string", required: true } } },
    {
      infer: (context) => {
        compilePattern(context, context.string("pattern"));
        return [tensorType("bool", context.shape(0))];
      },
      reference: (context, inputs) => {
        const [x] = inputs as readonly [Tensor];
        const pattern = compilePattern(context, context.string("pattern"));
        return [
          tensor(
            "bool",
            x.shape,
            strings(x).map((value) => pattern.test(value)),
          ),
        ];
      },
    },
  ),
  tfIdfVectorizer,
  labelEncoder,
];
