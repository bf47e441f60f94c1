/** Attention and rotary position embedding. */
import { type DType, dtypeFromOnnx, dtypes } from "@nimforge/tensor";
import { add, type Dim, floordiv, formatDim, mul, sub } from "../dim.js";
import { type Graph, inputOp, rebuild, type Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, index, indexBy } from "../scalar.js";
import { arithmetic, attributeOf, castTo, optionalInt } from "./expansion.js";
import { linearAttention } from "./linear-attention.js";
import { within } from "./window.js";

const { float, index: indexTypes } = typeSets;
const typed = (name: string, types: readonly DType[] = float, optional = false): InputSpec => ({
  name,
  types,
  optional,
});
const optional = (name: string, types: readonly DType[] = float) => typed(name, types, true);

/** [batch, length, heads·size] as [batch, heads, length, size]. */
function splitHeads(context: OpContext, x: Value, heads: number): Value {
  const [batch, length, hidden] = x.shape as [Dim, Dim, Dim];
  if (typeof hidden === "number" && hidden % heads !== 0)
    context.fail("the number of heads must divide the hidden size", { found: `${heads} heads, hidden size ${hidden}` });
  const split = context.apply("Reshape", [x, context.int64s([batch, length, heads, floordiv(hidden, heads)])]);
  return context.apply("Transpose", [split], { perm: [0, 2, 1, 3] });
}

/** What Q and K are both multiplied by: √scale, so that the product stays in range. */
function rootScale(context: OpContext, q: Value, scale: number | undefined): number {
  const size = q.shape[3] as Dim;
  if (scale !== undefined) return Math.sqrt(scale);
  return typeof size === "number"
    ? 1 / Math.sqrt(Math.sqrt(size))
    : context.unsupported(
        `the head size ${formatDim(size)} must be known to derive the scale`,
        "set the scale attribute",
      );
}

/** How many query heads share one of K's and V's. */
function headsPerGroup(context: OpContext, q: Value, k: Value): number {
  const [queries, keys] = [q.shape[1], k.shape[1]];
  if (typeof queries !== "number" || typeof keys !== "number")
    return context.unsupported("the numbers of heads must be known");
  if (queries % keys !== 0)
    context.fail("the heads of K must divide the heads of Q", {
      expected: `a divisor of ${queries}`,
      found: String(keys),
    });
  return queries / keys;
}

/** a·b for each head; a's heads come in groups that share one of b's, so b is broadcast, never repeated. */
function groupedMatMul(context: OpContext, a: Value, b: Value, group: number): Value {
  if (group === 1) return context.apply("MatMul", [a, b]);
  const [batch, heads, rows, inner] = a.shape as [Dim, Dim, Dim, Dim];
  const grouped = context.apply("Reshape", [a, context.int64s([batch, floordiv(heads, group), group, rows, inner])]);
  const product = context.apply("MatMul", [grouped, context.apply("Unsqueeze", [b, context.int64s([2])])]);
  return context.apply("Reshape", [product, context.int64s([batch, heads, rows, b.shape[3] as Dim])]);
}

function softcapped(context: OpContext, x: Value): Value {
  const softcap = context.float("softcap");
  if (softcap === 0) return x;
  const { mul, div } = arithmetic(context);
  return mul(context.apply("Tanh", [div(x, softcap)]), softcap);
}

/** A graph's nodes on other inputs. */
function inline(graph: Graph, inputs: readonly Value[]): Value[] {
  const known = new Map<Value, Value>(graph.inputs.map(({ value }, k) => [value, inputs[k] as Value]));
  for (const node of graph.nodes()) {
    if (node.op === inputOp) continue;
    const outputs = rebuild(
      node,
      node.inputs.map((value) => value && known.get(value)),
    );
    for (const [k, value] of node.outputs.entries()) known.set(value, outputs[k] as Value);
  }
  return graph.outputs.map(({ value }) => known.get(value) as Value);
}

/** The type that an attribute naming one asks for. */
function softmaxType(context: OpContext, fallback: DType): DType {
  const code = optionalInt(context, "softmax_precision");
  if (code === undefined || code === 0) return fallback;
  const dtype = dtypeFromOnnx(code);
  return dtype && float.includes(dtype)
    ? dtype
    : context.fail("softmax_precision must be a floating point type", { found: String(code) });
}

const headAttributes = {
  q_num_heads: attributeOf.int,
  kv_num_heads: attributeOf.int,
  scale: { type: "float" } as const,
  softmax_precision: attributeOf.int,
};

const scaledDotProduct = compositeOp(
  "Attention",
  {
    inputs: ["Q", "K", "V"]
      .map((name) => typed(name))
      .concat([
        optional("attn_mask", [...float, "bool"]),
        optional("past_key"),
        optional("past_value"),
        optional("nonpad_kv_seqlen", ["int64"]),
      ]),
    attributes: {
      ...headAttributes,
      is_causal: 0,
      softcap: attributeOf.float(0),
      qk_matmul_output_mode: 0,
      left_window_size: -1,
      right_window_size: -1,
    },
  },
  (context, ...inputs) => {
    const [givenQ, givenK, givenV, mask, pastKey, pastValue, nonpad] = inputs as [
      Value,
      Value,
      Value,
      ...(Value | undefined)[],
    ];
    if ((pastKey === undefined) !== (pastValue === undefined))
      context.fail("past_key and past_value must be given together");
    if (nonpad && pastKey) context.fail("nonpad_kv_seqlen must not be given with past_key and past_value");
    const flat = context.rank(0) === 3;
    const heads = (name: string) => optionalInt(context, name) ?? context.fail(`${name} is required when Q has rank 3`);
    const unpack = (x: Value, name: string) => (flat ? splitHeads(context, x, heads(name)) : x);
    const q = unpack(givenQ, "q_num_heads");
    const joined = (past: Value | undefined, x: Value) => (past ? context.apply("Concat", [past, x], { axis: 2 }) : x);
    const k = joined(pastKey, unpack(givenK, "kv_num_heads"));
    const v = joined(pastValue, unpack(givenV, "kv_num_heads"));
    const group = headsPerGroup(context, q, k);
    const { add: plus, mul: times } = arithmetic(context);
    const scale = rootScale(context, q, context.attribute("scale") === undefined ? undefined : context.float("scale"));
    const transposed = context.apply("Transpose", [times(k, scale)], { perm: [0, 1, 3, 2] });
    const raw = groupedMatMul(context, times(q, scale), transposed, group);
    const capped = softcapped(context, raw);

    const [queries, keys] = [q.shape[2] as Dim, k.shape[2] as Dim];
    const [causal, left, right] = [
      context.int("is_causal"),
      context.int("left_window_size"),
      context.int("right_window_size"),
    ];
    const biased = mask !== undefined || nonpad !== undefined || causal !== 0 || left >= 0 || right >= 0;
    const past = pastKey ? (pastKey.shape[2] as Dim) : 0;
    const bias = biased
      ? context.apply("nim:AttentionBias", [context.int64s([queries, keys, past]), mask, nonpad], {
          dtype: dtypes[q.dtype].onnx,
          is_causal: causal,
          left_window_size: left,
          right_window_size: right,
        })
      : undefined;
    const scores = bias ? plus(capped, bias) : capped;
    const wide = softmaxType(context, q.dtype);
    let weights = context.apply("Softmax", [castTo(context, scores, wide)], { axis: -1 });
    if (bias && (mask || nonpad || left >= 0 || right >= 0)) {
      // A row that attends to nothing is 0; softmax alone would give NaN.
      const empty = context.apply("IsInf", [context.apply("ReduceMax", [bias, context.int64s([-1])])], {
        detect_positive: 0,
      });
      weights = context.apply("Where", [empty, context.scalar(wide, 0), weights]);
    }
    const probabilities = castTo(context, weights, q.dtype);
    let y = groupedMatMul(context, probabilities, v, group);
    if (flat) {
      const [batch, count, length, size] = y.shape as [Dim, Dim, Dim, Dim];
      y = context.apply("Reshape", [
        context.apply("Transpose", [y], { perm: [0, 2, 1, 3] }),
        context.int64s([batch, length, mul(count, size)]),
      ]);
    }
    const exposed =
      [raw, capped, scores, probabilities][context.int("qk_matmul_output_mode")] ??
      context.fail("qk_matmul_output_mode must be 0, 1, 2 or 3");
    return [y, k, v, exposed].slice(0, context.outputCount);
  },
);

/**
 * What is added to attention scores [queries, keys]: 0 or the mask's value where query i may see key j, −∞ elsewhere. ONNX has it only as a chain of a
 * dozen ops inside Attention's function body; as one loop it fuses into the softmax. `sizes` holds queries, keys and the number of keys before
 * the first query; with nonpad_kv_seqlen that number is nonpad − queries for each batch.
 */
const attentionBias = loopOp(
  "AttentionBias",
  {
    domain: "nim",
    inputs: [
      typed("sizes", ["int64"]),
      optional("attn_mask", [...float, "bool"]),
      optional("nonpad_kv_seqlen", ["int64"]),
    ],
    attributes: { dtype: { type: "int", required: true }, is_causal: 0, left_window_size: -1, right_window_size: -1 },
  },
  (context) => {
    const [queries, keys, past] = context.needDims(0) as [Dim, Dim, Dim];
    const dtype = dtypeFromOnnx(context.int("dtype")) ?? context.fail("dtype is unknown");
    const maskShape = context.has(1) ? context.shape(1) : [];
    const outer = maskShape.slice(0, -2);
    const shape = [
      ...(context.has(2) ? context.broadcast(outer, [context.shape(2)[0] as Dim, 1]) : outer),
      queries,
      keys,
    ];
    const [left, right] = [context.int("left_window_size"), context.int("right_window_size")];
    const zero = constant(dtype, 0);
    const masked = constant(dtype, Number.NEGATIVE_INFINITY);
    return context.over(shape, (...at) => {
      const [i, j] = at.slice(-2) as [Dim, Dim];
      const conditions: Expr[] = [];
      const length = context.has(2)
        ? context.load(2, [context.shape(2)[0] === 1 ? 0 : (at[at.length - 4] as Dim)])
        : undefined;
      if (length) conditions.push(call("lt", index(j), length));
      // key j relative to the query's own position i + offset
      const offset = length ? call("sub", length, index(queries)) : index(past);
      const ahead = call("sub", index(sub(j, i)), offset);
      if (context.int("is_causal") !== 0) conditions.push(call("le", ahead, constant("int64", 0n)));
      if (right >= 0) conditions.push(call("le", ahead, constant("int64", BigInt(right))));
      if (left >= 0) conditions.push(call("ge", ahead, constant("int64", BigInt(-left))));
      let value: Expr = zero;
      if (context.has(1)) {
        // A mask shorter than the keys hides the rest; its last axis is never broadcast.
        const own = maskShape[maskShape.length - 1] as Dim;
        conditions.push(...within(j, own));
        const place = maskShape.map((size, axis) =>
          axis === maskShape.length - 1 ? j : size === 1 ? 0 : (at[at.length - maskShape.length + axis] as Dim),
        );
        const given = context.load(1, place);
        value = given.dtype === "bool" ? call("select", given, zero, masked) : cast(dtype, given);
      }
      return conditions.length === 0
        ? value
        : call(
            "select",
            conditions.reduce((a, b) => call("and", a, b)),
            value,
            masked,
          );
    });
  },
);

/** Attention whose scores and probabilities pass through subgraphs of the model's own. */
const flexAttention = compositeOp(
  "FlexAttention",
  {
    domain: "ai.onnx.preview",
    inputs: [typed("Q"), typed("K"), typed("V")],
    attributes: {
      scale: { type: "float" },
      softmax_precision: attributeOf.int,
      score_mod: { type: "graph" },
      prob_mod: { type: "graph" },
    },
  },
  (context, ...inputs) => {
    const [q, k, v] = inputs as [Value, Value, Value];
    const group = headsPerGroup(context, q, k);
    const wide = softmaxType(context, computeType(q.dtype));
    const { mul: times } = arithmetic(context);
    const scale = rootScale(context, q, context.attribute("scale") === undefined ? undefined : context.float("scale"));
    const modified = (name: string, x: Value) => {
      const graph = context.attribute(name) as Graph | undefined;
      return graph ? castTo(context, inline(graph, [x])[0] as Value, wide) : x;
    };
    const transposed = context.apply("Transpose", [times(k, scale)], { perm: [0, 1, 3, 2] });
    const scores = modified(
      "score_mod",
      castTo(context, groupedMatMul(context, times(q, scale), transposed, group), wide),
    );
    const weights = modified("prob_mod", context.apply("Softmax", [scores], { axis: -1 }));
    return castTo(context, groupedMatMul(context, weights, castTo(context, v, wide), group), v.dtype);
  },
);

/** Rotates pairs of the first rotary_embedding_dim elements of each head: (j, j + half), or (2j, 2j + 1) when interleaved. */
const rotaryEmbedding = loopOp(
  "RotaryEmbedding",
  {
    inputs: [typed("X"), typed("cos_cache"), typed("sin_cache"), optional("position_ids", indexTypes)],
    attributes: { interleaved: 0, num_heads: attributeOf.int, rotary_embedding_dim: 0 },
  },
  (context) => {
    const shape = context.shape(0);
    const flat = shape.length === 3;
    if (!flat && shape.length !== 4) context.fail("X must have rank 3 or 4", { found: `rank ${shape.length}` });
    const heads = optionalInt(context, "num_heads") ?? 0;
    if (flat && heads <= 0) context.fail("num_heads is required when X has rank 3");
    const size = flat ? floordiv(shape[2] as Dim, heads) : (shape[3] as Dim);
    const rotated: Dim = context.int("rotary_embedding_dim") || size;
    const half = floordiv(rotated, 2);
    const interleaved = context.int("interleaved") !== 0;
    const dtype = context.dtype(0);
    const wide = computeType(dtype);
    const cacheRank = context.has(3) ? 2 : 3;
    if (context.rank(1) !== cacheRank)
      context.fail(`the caches must have rank ${cacheRank}`, { found: `rank ${context.rank(1)}` });
    // Loops run over [batch, length, heads, size], which is [batch, length, hidden] in memory; a rank-4 X is [batch, heads, length, size].
    const element = (b: Dim, s: Dim, d: Dim, x: (d: Dim) => Expr): Expr => {
      const cached = (input: number, j: Dim): Expr => {
        const row = context.has(3)
          ? [indexBy(context.at(3, [b, s]), context.shape(input)[0] as Dim)]
          : [context.shape(input)[0] === 1 ? 0 : b, s];
        return cast(wide, context.load(input, [...row, j]));
      };
      const value = (at: Dim) => cast(wide, x(at));
      const turn = (j: Dim, own: Dim, other: Dim, sign: "add" | "sub") =>
        call(sign, call("mul", cached(1, j), value(own)), call("mul", cached(2, j), value(other)));
      const first = interleaved
        ? call("eq", index(sub(d, mul(2, floordiv(d, 2)))), constant("int64", 0n))
        : call("lt", index(d), index(half));
      const j = floordiv(d, 2);
      const turned = interleaved
        ? call("select", first, turn(j, d, add(d, 1), "sub"), turn(j, d, sub(d, 1), "add"))
        : call("select", first, turn(d, d, add(d, half), "sub"), turn(sub(d, half), d, sub(d, half), "add"));
      const kept = within(d, rotated);
      return cast(
        dtype,
        kept.length === 0
          ? turned
          : call(
              "select",
              kept.reduce((p, q) => call("and", p, q)),
              turned,
              value(d),
            ),
      );
    };
    if (!flat)
      return context.over(shape, (b, h, s, d) =>
        element(b as Dim, s as Dim, d as Dim, (at) => context.load(0, [b as Dim, h as Dim, s as Dim, at])),
      );
    return context.over(shape, (b, s, hidden) => {
      const head = floordiv(hidden as Dim, size);
      const base = mul(head, size);
      return element(b as Dim, s as Dim, sub(hidden as Dim, base), (at) =>
        context.load(0, [b as Dim, s as Dim, add(base, at)]),
      );
    });
  },
);

export const attention: readonly Op[] = [
  scaledDotProduct,
  attentionBias,
  flexAttention,
  rotaryEmbedding,
  linearAttention,
];
