/** Ops that read or write at positions that come as data, and those whose result's size is data. */
import {
  type DType,
  floatToBits,
  isSmallFloat,
  NimforgeError,
  sizeOf,
  type Tensor,
  type TensorData,
  tensor,
  toNumbers,
} from "@nimforge/tensor";
import { type Dim, formatShape, productOf, sub } from "../dim.js";
import { type Compute, loopOp, type Op, type OpContext, opaqueOp, typeSets } from "../op.js";
import { call, cast, constant, type Expr, index, indexBy } from "../scalar.js";
import { type TensorType, tensorType } from "../types.js";
import { comparable, compareElements, forEachIndex, range, stridesOf, take, takeAlong } from "./tensors.js";

const indices = { name: "indices", types: typeSets.index };
const int64s: readonly DType[] = ["int64"];

/** Position of `at`'s element of the index input on an axis of `extent`; a constant index is an index map of its own. */
function dataPosition(context: OpContext, input: number, at: readonly Dim[], extent: Dim): Dim {
  const known =
    context.rank(input) === 0 || context.shape(input).every((size) => size === 1)
      ? context.dims(input)?.[0]
      : undefined;
  if (typeof known === "number" && (known >= 0 || typeof extent === "number")) {
    if (typeof extent === "number" && (known < -extent || known >= extent))
      context.fail("an index is out of range", { expected: `[${-extent}, ${extent - 1}]`, found: String(known) });
    return known < 0 ? known + (extent as number) : known;
  }
  if (known === -1) return sub(extent, 1);
  return indexBy(cast("int64", context.at(input, at)), extent);
}

function gathered(context: OpContext): Compute {
  const shape = context.shape(0);
  const axis = context.axis(context.int("axis"), shape.length);
  const at = context.shape(1);
  return context.over([...shape.slice(0, axis), ...at, ...shape.slice(axis + 1)], (...out) => {
    const position = dataPosition(context, 1, out.slice(axis, axis + at.length), shape[axis] as Dim);
    return context.load(0, [...out.slice(0, axis), position, ...out.slice(axis + at.length)]);
  });
}

function gatheredNd(context: OpContext): Compute {
  const shape = context.shape(0);
  const at = context.shape(1);
  const batch = context.int("batch_dims");
  const depth = at[at.length - 1];
  if (typeof depth !== "number") context.unsupported("the last axis of indices must have a known size");
  if (batch < 0 || batch >= Math.min(shape.length, at.length))
    context.fail("batch_dims is out of range", { found: String(batch) });
  if (depth < 1 || batch + depth > shape.length)
    context.fail("indices name more axes than the data has", {
      expected: `1 to ${shape.length - batch}`,
      found: String(depth),
    });
  for (let axis = 0; axis < batch; axis++)
    context.same(shape[axis] as Dim, at[axis] as Dim, `batch axis ${axis} of data and indices`);
  const outer = at.slice(0, -1);
  return context.over([...outer, ...shape.slice(batch + depth)], (...out) => {
    const tuple = range(depth).map((k) =>
      indexBy(context.load(1, [...out.slice(0, outer.length), k]), shape[batch + k] as Dim),
    );
    return context.load(0, [...out.slice(0, batch), ...tuple, ...out.slice(outer.length)]);
  });
}

/** out[…] = update where the axis position lies in the written window, else the past value. */
function tensorScattered(context: OpContext): Compute {
  const shape = context.shape(0);
  const axis = context.axis(context.int("axis"), shape.length);
  if (axis === 0) context.fail("axis must not be the batch axis");
  const mode = context.string("mode");
  if (mode !== "linear" && mode !== "circular") context.fail("mode must be linear or circular", { found: mode });
  const length = context.shape(1)[axis] as Dim;
  context
    .shape(1)
    .forEach(
      (size, other) =>
        other !== axis && context.same(shape[other] as Dim, size, `axis ${other} of past_cache and update`),
    );
  const capacity = shape[axis] as Dim;
  return context.over(shape, (...at) => {
    const start = context.has(2) ? context.load(2, [at[0] as Dim]) : constant("int64", 0n);
    let offset: Expr = call("sub", index(at[axis] as Dim), start);
    if (mode === "circular") offset = call("mod", offset, index(capacity));
    const written = call("and", call("ge", offset, constant("int64", 0n)), call("lt", offset, index(length)));
    const from = indexBy(offset, length);
    return call(
      "select",
      written,
      context.load(
        1,
        at.map((own, other) => (other === axis ? from : own)),
      ),
      context.load(0, at),
    );
  });
}

// Scatter: updates are applied in order

type Combine = (old: never, update: never) => number | bigint;

const combines: Record<string, Combine> = {
  add: ((a: number, b: number) => a + b) as Combine,
  mul: ((a: number, b: number) => a * b) as Combine,
  max: ((a: number, b: number) => (a !== a || a > b ? a : b)) as Combine,
  min: ((a: number, b: number) => (a !== a || a < b ? a : b)) as Combine,
};

/** Writes `updates` into a copy of `data`; `place` gives the position of each update. */
function scatter(context: OpContext, data: Tensor, updates: Tensor, place: (update: number) => number): Tensor {
  const reduction = context.op.attributes.reduction ? context.string("reduction") : "none";
  const result = data.data.slice() as TensorData & Record<number, number | bigint | string>;
  const combine = combines[reduction];
  const small = combine && isSmallFloat(data.dtype);
  const values = small ? toNumbers(data) : (result as ArrayLike<unknown> as Record<number, unknown>);
  const given = small ? toNumbers(updates) : updates.data;
  for (let k = 0; k < given.length; k++) {
    const at = place(k);
    const value = (combine ? combine(values[at] as never, given[k] as never) : given[k]) as number | bigint | string;
    result[at] = small ? floatToBits(data.dtype, value as number) : value;
    if (small)
      values[at] = toNumbers({
        dtype: data.dtype,
        shape: [1],
        data: result.slice(at, at + 1) as TensorData,
      })[0] as number;
  }
  return { ...data, data: result };
}

function positionIn(extent: number, value: number): number {
  const position = value < 0 ? value + extent : value;
  if (position < 0 || position >= extent)
    throw new NimforgeError("malformed", "index-out-of-range", "an index that comes as data is out of range", {
      expected: `[${-extent}, ${extent - 1}]`,
      found: String(value),
      fix: "correct the input that holds the indices",
    });
  return position;
}

function checkScatter(context: OpContext): TensorType {
  const reduction = context.op.attributes.reduction ? context.string("reduction") : "none";
  if (reduction !== "none" && !(reduction in combines))
    context.fail("reduction is not one of none, add, mul, max, min", { found: reduction });
  if (context.dtype(2) !== context.dtype(0))
    context.fail("updates must have the type of data", { expected: context.dtype(0), found: context.dtype(2) });
  return context.type(0);
}

const scatterElements = (name: string, attributes: Record<string, string | number>): Op =>
  opaqueOp(
    name,
    { inputs: ["data", indices, "updates"], attributes },
    {
      infer: (context) => {
        context.axis(context.int("axis"), context.rank(0));
        context
          .shape(1)
          .forEach((size, axis) =>
            context.same(size, context.shape(2)[axis] ?? 0, `axis ${axis} of indices and updates`),
          );
        return [checkScatter(context)];
      },
      reference: (context, inputs) => {
        const [data, at, updates] = inputs as readonly [Tensor, Tensor, Tensor];
        const axis = context.axis(context.int("axis"), data.shape.length);
        const strides = stridesOf(data.shape);
        const positions = new Float64Array(sizeOf(at.shape));
        forEachIndex(at.shape, (own, k) => {
          positions[k] = own.reduce(
            (sum, i, other) =>
              sum +
              (other === axis ? positionIn(data.shape[axis] as number, Number(at.data[k])) : i) *
                (strides[other] as number),
            0,
          );
        });
        return [scatter(context, data, updates, (k) => positions[k] as number)];
      },
    },
  );

const scatterNd = opaqueOp(
  "ScatterND",
  { inputs: ["data", { name: "indices", types: int64s }, "updates"], attributes: { reduction: "none" } },
  {
    infer: (context) => {
      const depth = context.shape(1)[context.rank(1) - 1];
      if (typeof depth === "number") {
        const expected = [...context.shape(1).slice(0, -1), ...context.shape(0).slice(depth)];
        const found = context.shape(2);
        if (depth > context.rank(0) || found.length !== expected.length)
          context.fail("updates do not fit data and indices", {
            expected: formatShape(expected),
            found: formatShape(found),
          });
        expected.forEach((size, axis) => context.same(size, found[axis] as Dim, `axis ${axis} of updates`));
      }
      return [checkScatter(context)];
    },
    reference: (context, inputs) => {
      const [data, at, updates] = inputs as readonly [Tensor, Tensor, Tensor];
      const depth = at.shape[at.shape.length - 1] as number;
      const strides = stridesOf(data.shape);
      const inner = sizeOf(data.shape.slice(depth));
      const starts = range(sizeOf(at.shape.slice(0, -1))).map((tuple) =>
        range(depth).reduce(
          (sum, k) =>
            sum + positionIn(data.shape[k] as number, Number(at.data[tuple * depth + k])) * (strides[k] as number),
          0,
        ),
      );
      return [scatter(context, data, updates, (k) => (starts[Math.floor(k / inner)] as number) + (k % inner))];
    },
  },
);

// Results whose size is data

const isTrue = (value: number | bigint | string) => value !== 0 && value !== 0n && value !== "";

const nonZero = opaqueOp(
  "NonZero",
  { inputs: ["X"] },
  {
    infer: (context) => [tensorType("int64", [context.rank(0), context.context.freshSymbol("nonzero")])],
    reference: (_context, inputs) => {
      const [x] = inputs as readonly [Tensor];
      const values = comparable(x);
      const found: number[][] = [];
      forEachIndex(x.shape, (at, k) => isTrue(values[k] as number) && found.push([...at]));
      return [
        tensor(
          "int64",
          [x.shape.length, found.length],
          x.shape.flatMap((_, axis) => found.map((at) => BigInt(at[axis] as number))),
        ),
      ];
    },
  },
);

const compress = opaqueOp(
  "Compress",
  { inputs: ["input", { name: "condition", types: ["bool"] }], attributes: { axis: { type: "int" } } },
  {
    infer: (context) => {
      const kept = context.context.freshSymbol("compressed");
      if (context.attribute("axis") === undefined) return [tensorType(context.dtype(0), [kept])];
      const axis = context.axis(context.int("axis"), context.rank(0));
      return [
        tensorType(
          context.dtype(0),
          context.shape(0).map((size, other) => (other === axis ? kept : size)),
        ),
      ];
    },
    reference: (context, inputs) => {
      const [x, condition] = inputs as readonly [Tensor, Tensor];
      const kept = range(condition.data.length).filter((k) => condition.data[k]);
      if (context.attribute("axis") === undefined) {
        const within = kept.filter((k) => k < x.data.length);
        return [take(x, [within.length], within)];
      }
      const axis = context.axis(context.int("axis"), x.shape.length);
      return [
        takeAlong(
          x,
          axis,
          kept.filter((k) => k < (x.shape[axis] as number)),
        ),
      ];
    },
  },
);

const unique = opaqueOp(
  "Unique",
  { inputs: ["X"], attributes: { axis: { type: "int" }, sorted: 1 } },
  {
    infer: (context) => {
      const count = context.context.freshSymbol("unique");
      const shape = context.shape(0);
      const flat = context.attribute("axis") === undefined;
      const axis = flat ? 0 : context.axis(context.int("axis"), shape.length);
      const items = flat ? productOf(shape) : (shape[axis] as Dim);
      const y = tensorType(
        context.dtype(0),
        flat ? [count] : shape.map((size, other) => (other === axis ? count : size)),
      );
      return [y, tensorType("int64", [count]), tensorType("int64", [items]), tensorType("int64", [count])];
    },
    reference: (context, inputs) => {
      const [x] = inputs as readonly [Tensor];
      const flat = context.attribute("axis") === undefined;
      const source = flat ? { ...x, shape: [x.data.length] } : x;
      const axis = flat ? 0 : context.axis(context.int("axis"), x.shape.length);
      const values = comparable(source);
      const size = source.shape[axis] as number;
      const inner = sizeOf(source.shape.slice(axis + 1));
      const outer = sizeOf(source.shape.slice(0, axis));
      /** Lexicographic order of two slices along the axis. */
      const compare = (a: number, b: number): number => {
        for (let o = 0; o < outer; o++)
          for (let i = 0; i < inner; i++) {
            const order = compareElements(
              values[(o * size + a) * inner + i] as number,
              values[(o * size + b) * inner + i] as number,
            );
            if (order !== 0) return order;
          }
        return 0;
      };
      const sorted = range(size).sort((a, b) => compare(a, b) || a - b);
      const groups: number[][] = [];
      for (const item of sorted) {
        const last = groups[groups.length - 1];
        if (last && compare(last[0] as number, item) === 0) last.push(item);
        else groups.push([item]);
      }
      if (!context.int("sorted")) groups.sort((a, b) => (a[0] as number) - (b[0] as number));
      const inverse = new BigInt64Array(size);
      groups.forEach((group, k) => {
        for (const item of group) inverse[item] = BigInt(k);
      });
      const firsts = groups.map((group) => group[0] as number);
      return [
        takeAlong(source, axis, firsts),
        tensor("int64", [groups.length], firsts.map(BigInt)),
        tensor("int64", [size], inverse),
        tensor(
          "int64",
          [groups.length],
          groups.map((group) => BigInt(group.length)),
        ),
      ];
    },
  },
);

const topK = opaqueOp(
  "TopK",
  {
    inputs: [
      { name: "X", types: typeSets.numeric },
      { name: "K", types: int64s },
    ],
    attributes: { axis: -1, largest: 1, sorted: 1 },
  },
  {
    infer: (context) => {
      const shape = [...context.shape(0)];
      const axis = context.axis(context.int("axis"), shape.length);
      const k = context.dims(1)?.[0] ?? context.context.freshSymbol("topk");
      const size = shape[axis] as Dim;
      if (typeof k === "number" && typeof size === "number" && (k < 0 || k > size))
        context.fail("K exceeds the axis", { expected: `0 to ${size}`, found: String(k) });
      shape[axis] = k;
      return [tensorType(context.dtype(0), shape), tensorType("int64", shape)];
    },
    reference: (context, inputs) => {
      const [x, wanted] = inputs as readonly [Tensor, Tensor];
      const axis = context.axis(context.int("axis"), x.shape.length);
      const size = x.shape[axis] as number;
      const k = Number(wanted.data[0]);
      if (k < 0 || k > size) context.fail("K exceeds the axis", { expected: `0 to ${size}`, found: String(k) });
      const values = comparable(x);
      const direction = context.int("largest") ? -1 : 1;
      const inner = sizeOf(x.shape.slice(axis + 1));
      const outer = sizeOf(x.shape.slice(0, axis));
      const shape = x.shape.map((own, other) => (other === axis ? k : own));
      const positions = new Float64Array(sizeOf(shape));
      const order = new BigInt64Array(positions.length);
      for (let o = 0; o < outer; o++)
        for (let i = 0; i < inner; i++) {
          const at = (position: number) => (o * size + position) * inner + i;
          const best = range(size).sort(
            (a, b) => direction * compareElements(values[at(a)] as number, values[at(b)] as number) || a - b,
          );
          for (let rank = 0; rank < k; rank++) {
            positions[(o * k + rank) * inner + i] = at(best[rank] as number);
            order[(o * k + rank) * inner + i] = BigInt(best[rank] as number);
          }
        }
      return [take(x, shape, positions), tensor("int64", shape, order)];
    },
  },
);

// Boxes

interface Box {
  readonly x: readonly [number, number];
  readonly y: readonly [number, number];
}

const ordered = (a: number, b: number): [number, number] => (a <= b ? [a, b] : [b, a]);
const length = ([low, high]: readonly [number, number]) => high - low;
const overlap = (a: readonly [number, number], b: readonly [number, number]) =>
  Math.min(a[1], b[1]) - Math.max(a[0], b[0]);

/** [y1, x1, y2, x2], or with center_point_box [x center, y center, width, height]. */
function readBox(boxes: Float64Array, at: number, centered: boolean): Box {
  const [a, b, c, d] = boxes.subarray(at, at + 4) as unknown as [number, number, number, number];
  return centered ? { x: [a - c / 2, a + c / 2], y: [b - d / 2, b + d / 2] } : { x: ordered(b, d), y: ordered(a, c) };
}

function overlaps(a: Box, b: Box, threshold: number): boolean {
  const width = overlap(a.x, b.x);
  const height = overlap(a.y, b.y);
  if (width <= 0 || height <= 0) return false;
  const areaA = length(a.x) * length(a.y);
  const areaB = length(b.x) * length(b.y);
  const union = areaA + areaB - width * height;
  return areaA > 0 && areaB > 0 && union > 0 && (width * height) / union > threshold;
}

const optionalScalar = (name: string, types: readonly DType[]) => ({ name, types, optional: true });

const nonMaxSuppression = opaqueOp(
  "NonMaxSuppression",
  {
    inputs: [
      { name: "boxes", types: ["float32"] },
      { name: "scores", types: ["float32"] },
      optionalScalar("max_output_boxes_per_class", int64s),
      optionalScalar("iou_threshold", ["float32"]),
      optionalScalar("score_threshold", ["float32"]),
    ],
    attributes: { center_point_box: 0 },
  },
  {
    infer: (context) => {
      if (context.rank(0) !== 3 || context.rank(1) !== 3) context.fail("boxes and scores must have 3 axes");
      return [tensorType("int64", [context.context.freshSymbol("selected"), 3])];
    },
    reference: (context, inputs) => {
      const [boxes, scores, limit, iou, floor] = inputs as readonly [Tensor, Tensor, ...(Tensor | undefined)[]];
      const [batches, classes, count] = scores.shape as [number, number, number];
      const most = Math.max(0, Number(limit?.data[0] ?? 0));
      const threshold = Number(iou?.data[0] ?? 0);
      const least = floor?.data[0] === undefined ? Number.NEGATIVE_INFINITY : Number(floor.data[0]);
      const corners = toNumbers(boxes);
      const centered = context.int("center_point_box") !== 0;
      const selected: bigint[] = [];
      for (let batch = 0; batch < batches; batch++)
        for (let own = 0; own < classes; own++) {
          const score = (box: number) => Number(scores.data[(batch * classes + own) * count + box]);
          const candidates = range(count)
            .filter((box) => score(box) > least)
            .sort((a, b) => score(b) - score(a) || a - b);
          const kept: Box[] = [];
          for (const candidate of candidates) {
            if (kept.length >= most) break;
            const box = readBox(corners, (batch * count + candidate) * 4, centered);
            if (kept.some((other) => overlaps(box, other, threshold))) continue;
            kept.push(box);
            selected.push(BigInt(batch), BigInt(own), BigInt(candidate));
          }
        }
      return [tensor("int64", [selected.length / 3, 3], selected)];
    },
  },
);

export const indexing: readonly Op[] = [
  loopOp("Gather", { inputs: ["data", indices], attributes: { axis: 0 } }, gathered),
  loopOp("GatherElements", { inputs: ["data", indices], attributes: { axis: 0 } }, (context) => {
    const axis = context.axis(context.int("axis"), context.rank(0));
    if (context.rank(1) !== context.rank(0))
      context.fail("data and indices must have one rank", {
        expected: String(context.rank(0)),
        found: String(context.rank(1)),
      });
    return context.over(context.shape(1), (...at) => {
      const position = indexBy(cast("int64", context.load(1, at)), context.shape(0)[axis] as Dim);
      return context.load(
        0,
        at.map((own, other) => (other === axis ? position : own)),
      );
    });
  }),
  loopOp(
    "GatherND",
    { inputs: ["data", { name: "indices", types: int64s }], attributes: { batch_dims: 0 } },
    gatheredNd,
  ),
  scatterElements("ScatterElements", { axis: 0, reduction: "none" }),
  scatterElements("Scatter", { axis: 0 }),
  scatterNd,
  loopOp(
    "TensorScatter",
    {
      inputs: ["past_cache", "update", { name: "write_indices", types: int64s, optional: true }],
      attributes: { mode: "linear", axis: -2 },
    },
    tensorScattered,
  ),
  compress,
  nonZero,
  unique,
  topK,
  nonMaxSuppression,
  loopOp("ArrayFeatureExtractor", { domain: "ai.onnx.ml", inputs: ["X", { name: "Y", types: int64s }] }, (context) => {
    const shape = context.shape(0);
    const wanted = context.shape(1);
    const last = shape.length - 1;
    if (last < 0) context.fail("X must have at least 1 axis");
    const flat = wanted.filter((size) => size !== 1);
    if (flat.length > 1) context.unsupported("Y with more than one axis");
    const outer = last === 0 ? [1] : shape.slice(0, -1);
    return context.over([...outer, flat[0] ?? 1], (...at) => {
      const k = at[at.length - 1] as Dim;
      const position = indexBy(
        context.load(
          1,
          wanted.map((size) => (size === 1 ? 0 : k)),
        ),
        shape[last] as Dim,
      );
      return context.load(0, [...(last === 0 ? [] : at.slice(0, -1)), position]);
    });
  }),
];
