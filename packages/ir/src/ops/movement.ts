/**
 * Movement ops: the result is made of elements of the input, moved. Each is a loop whose loads carry an index map, so that passes
 * substitute it into its users and no data moves.
 */
import {
  add, atLeast, ceildiv, compareDims, type Dim, equalDims, floordiv, formatShape, max, min, mod, mul, neg, productOf, SymbolicDim, sub, termsOf,
} from "../dim.js"; // biome-ignore format: a list
import { type Compute, linearize, loopOp, type Op, type OpContext, typeSets } from "../op.js";
import { call, constant, type Expr, index, indexBy, load } from "../scalar.js";

const indices = (name: string) => ({ name, types: typeSets.index });
const optionalIndices = (name: string) => ({ ...indices(name), optional: true });
const int64 = (value: number): Expr => constant("int64", BigInt(value));

/** Beyond any size of an axis; ONNX writes "to the end" as INT32_MAX or INT64_MAX. */
const unlimited = 2 ** 31 - 1;

/** As needDims, but constants beyond ±2^31 count as ±2^31: only their side matters for positions on an axis. */
function positions(context: OpContext, input: number): readonly Dim[] {
  const known = context.constant(input);
  if (!known) return context.needDims(input);
  return Array.from(known.data as ArrayLike<number | bigint>, (value) =>
    Math.min(unlimited, Math.max(-unlimited - 1, Number(value))),
  );
}

/** Axes of an optional input, normalised; all axes when it is absent. */
function axesOr(context: OpContext, input: number, rank: number, fallback: number): number[] {
  return context.has(input)
    ? context.axes(context.needInts(input), rank)
    : Array.from({ length: fallback }, (_, k) => k);
}

const inside = (at: Dim, size: Dim, below: boolean, above: boolean): Expr[] => [
  ...(below ? [call("ge", index(at), int64(0))] : []),
  ...(above ? [call("lt", index(at), index(size))] : []),
];

/** value where all conditions hold (only then is it evaluated), else fill. */
const guarded = (conditions: readonly Expr[], value: Expr, fill: Expr): Expr =>
  conditions.length === 0
    ? value
    : call(
        "select",
        conditions.reduce((a, b) => call("and", a, b)),
        value,
        fill,
      );

const zero = (context: OpContext): Expr =>
  context.dtype(0) === "string"
    ? context.unsupported("padding a string tensor needs a constant_value")
    : constant(context.dtype(0), 0);

// Reshape and its kin

/**
 * The index into `from` that has the row-major position of `at` in `to`. Runs of axes with equal products are mapped apart, so that most
 * axes are plain copies and divisions stay small.
 */
export function reshapeIndex(from: readonly Dim[], to: readonly Dim[], at: readonly Dim[]): Dim[] {
  if (to.includes(0)) return from.map(() => 0);
  const result: Dim[] = [];
  let source = 0;
  let target = 0;
  while (source < from.length || target < to.length) {
    const run = equalRun(from, to, source, target);
    if (!run) {
      result.push(...split(from.slice(source), linearize(to.slice(target), at.slice(target))));
      break;
    }
    const [sourceEnd, targetEnd] = run;
    result.push(
      ...split(from.slice(source, sourceEnd), linearize(to.slice(target, targetEnd), at.slice(target, targetEnd))),
    );
    [source, target] = run;
  }
  return result;
}

/** Ends of the shortest runs of axes, from `source` and `target` on, that hold equally many elements. */
function equalRun(
  from: readonly Dim[],
  to: readonly Dim[],
  source: number,
  target: number,
): [number, number] | undefined {
  if (from[source] === 1) return [source + 1, target];
  if (to[target] === 1) return [source, target + 1];
  for (let i = source + 1; i <= from.length; i++) {
    const size = productOf(from.slice(source, i));
    for (let j = target + 1; j <= to.length; j++) if (equalDims(size, productOf(to.slice(target, j)))) return [i, j];
  }
  return undefined;
}

/** The index in a shape whose row-major position is `position`. */
function split(shape: readonly Dim[], position: Dim): Dim[] {
  let outer = shape.findIndex((size) => size !== 1);
  if (outer < 0) outer = 0;
  const result: Dim[] = new Array<Dim>(shape.length).fill(0);
  let rest = position;
  for (let axis = shape.length - 1; axis >= outer; axis--) {
    const size = shape[axis] as Dim;
    if (size === 1) continue;
    result[axis] = axis === outer ? rest : mod(rest, size);
    rest = floordiv(rest, size);
  }
  return result;
}

const reshaped = (context: OpContext, shape: readonly Dim[]): Compute =>
  context.over(shape, (...at) => context.load(0, reshapeIndex(context.shape(0), shape, at)));

/** a / b where every term of a is divisible by the single term of b; b is not zero. */
function divideExactly(a: Dim, b: Dim): Dim | undefined {
  if (typeof a === "number" && typeof b === "number") return b !== 0 && a % b === 0 ? a / b : undefined;
  const [divisor, ...more] = termsOf(b);
  if (!divisor || more.length > 0) return undefined;
  const quotients = termsOf(a).map((term) => {
    const atoms = [...term.atoms];
    for (const atom of divisor.atoms) {
      const found = atoms.findIndex((candidate) => candidate.key === atom.key);
      if (found < 0) return undefined;
      atoms.splice(found, 1);
    }
    if (term.coefficient % divisor.coefficient !== 0) return undefined;
    return new SymbolicDim([{ coefficient: term.coefficient / divisor.coefficient, atoms }]);
  });
  return quotients.every((part) => part !== undefined)
    ? add(...quotients.map((part) => normal(part as SymbolicDim)))
    : undefined;
}
const normal = (dim: SymbolicDim): Dim =>
  dim.terms.every((term) => term.atoms.length === 0) ? dim.terms.reduce((sum, term) => sum + term.coefficient, 0) : dim;

/** The size that makes `others` hold as many elements as `shape`. */
function inferredSize(context: OpContext, shape: readonly Dim[], others: readonly Dim[]): Dim {
  const left = [...shape];
  const right = others.filter((size) => {
    const twin = left.findIndex((candidate) => equalDims(candidate, size));
    if (twin < 0 || size === 0) return true;
    left.splice(twin, 1);
    return false;
  });
  const total = productOf(left);
  const known = productOf(right);
  if (known === 0) context.fail("-1 cannot be inferred beside a size of 0", { found: formatShape(others) });
  const exact = divideExactly(total, known);
  if (exact !== undefined) return exact;
  if (typeof total === "number" && typeof known === "number")
    context.fail("the input's elements do not fill the shape", {
      expected: `a multiple of ${known}`,
      found: String(total),
    });
  const size = floordiv(total, known);
  context.context.assume(
    total,
    mul(size, known),
    `${context.nodeName ?? "Reshape"}: the input's elements must fill the shape`,
  );
  return size;
}

function reshapeTarget(context: OpContext): Dim[] {
  const input = context.shape(0);
  const allowZero = context.int("allowzero") !== 0;
  const wanted = context.needDims(1);
  const target = wanted.map((size, axis) => {
    if (size !== 0 || allowZero) return size;
    return (
      input[axis] ?? context.fail("a size of 0 copies an axis that the input does not have", { found: `axis ${axis}` })
    );
  });
  const open = target.flatMap((size, axis) => (typeof size === "number" && size < 0 ? [axis] : []));
  if (open.some((axis) => target[axis] !== -1) || open.length > 1)
    context.fail("at most one size may be negative, and it must be -1", { found: formatShape(wanted) });
  if (allowZero && open.length > 0 && target.includes(0))
    context.fail("with allowzero a shape cannot hold both 0 and -1", { found: formatShape(wanted) });
  const [axis] = open;
  if (axis !== undefined)
    target[axis] = inferredSize(
      context,
      input,
      target.filter((_, k) => k !== axis),
    );
  else context.same(productOf(input), productOf(target), "element counts of data and shape");
  return target;
}

function unsqueezed(context: OpContext): Dim[] {
  const values = context.needInts(1);
  const shape = [...context.shape(0)];
  const axes = context.axes(values, shape.length + values.length);
  for (const axis of [...axes].sort((a, b) => a - b)) shape.splice(axis, 0, 1);
  return shape;
}

function squeezed(context: OpContext): Compute {
  const shape = context.shape(0);
  const axes = context.has(1)
    ? context.axes(context.needInts(1), shape.length)
    : shape.flatMap((size, axis) => (size === 1 ? [axis] : []));
  for (const axis of axes) context.same(1, shape[axis] as Dim, `squeezed axis ${axis} and 1`);
  const kept = shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis]));
  return context.over(
    kept.map((axis) => shape[axis] as Dim),
    (...at) =>
      context.load(
        0,
        shape.map((_, axis) => (axes.includes(axis) ? 0 : (at[kept.indexOf(axis)] as Dim))),
      ),
  );
}

function flattened(context: OpContext): Compute {
  const shape = context.shape(0);
  const axis = context.int("axis");
  if (axis < -shape.length || axis > shape.length)
    context.fail("axis is out of range", { expected: `[${-shape.length}, ${shape.length}]`, found: String(axis) });
  const at = axis < 0 ? axis + shape.length : axis;
  return reshaped(context, [productOf(shape.slice(0, at)), productOf(shape.slice(at))]);
}

// Slices

/** Counts a position from the end where it is negative; a run-time one decides by min(1, max(-p, 0)). */
function fromEnd(position: Dim, size: Dim): Dim {
  return add(position, mul(size, min(1, max(neg(position), 0))));
}

interface Range {
  readonly start: Dim;
  readonly extent: Dim;
}

/** numpy's basic slicing on one axis, clamped. */
function sliceRange(start: Dim, end: Dim, step: number, size: Dim): Range {
  if (step > 0) {
    const from = start === 0 ? 0 : min(max(fromEnd(start, size), 0), size);
    const to = end === unlimited ? size : min(max(fromEnd(end, size), 0), size);
    return { start: from, extent: max(ceildiv(sub(to, from), step), 0) };
  }
  const last = sub(size, 1);
  const from = start === -1 || start === unlimited ? last : min(max(fromEnd(start, size), 0), last);
  const to = end === -unlimited - 1 ? -1 : min(max(fromEnd(end, size), -1), last);
  return { start: from, extent: max(ceildiv(sub(from, to), -step), 0) };
}

function sliced(context: OpContext): Compute {
  const shape = context.shape(0);
  const starts = positions(context, 1);
  const ends = positions(context, 2);
  const axes = axesOr(context, 3, shape.length, starts.length);
  const steps = context.has(4) ? positions(context, 4) : starts.map(() => 1);
  if (starts.length !== ends.length || starts.length !== axes.length || starts.length !== steps.length)
    context.fail("starts, ends, axes and steps must have one length", {
      found: [starts, ends, axes, steps].map((list) => list.length).join(", "),
    });
  const ranges = shape.map<Range & { step: number }>((size, axis) => {
    const k = axes.indexOf(axis);
    if (k < 0) return { start: 0, extent: size, step: 1 };
    const step = steps[k] as Dim;
    if (typeof step !== "number") context.unsupported("a step that is known only at run time");
    if (step === 0) context.fail("a step must not be 0");
    return { ...sliceRange(starts[k] as Dim, ends[k] as Dim, step, size), step };
  });
  return context.over(
    ranges.map(({ extent }) => extent),
    (...at) =>
      context.load(
        0,
        ranges.map(({ start, step }, axis) => add(start, mul(step, at[axis] as Dim))),
      ),
  );
}

/** Sizes of the parts of a split axis. */
function partSizes(context: OpContext, size: Dim): readonly Dim[] {
  if (context.has(1)) {
    const parts = context.needDims(1);
    context.same(size, add(...parts), "the split axis and the sum of the parts");
    return parts;
  }
  const count = context.attribute("num_outputs") === undefined ? context.outputCount : context.int("num_outputs");
  if (count < 1) context.fail("num_outputs must be positive", { found: String(count) });
  const part = ceildiv(size, count);
  return Array.from({ length: count }, (_, k) => (k < count - 1 ? part : sub(size, mul(part, count - 1)))).map(
    (own, k) =>
      typeof own === "number" && typeof size === "number" && typeof part === "number"
        ? Math.max(0, Math.min(part, size - k * part))
        : own,
  );
}

// Padding

type PadMode = "constant" | "reflect" | "edge" | "wrap";

/** Where position `at` of an axis, possibly outside [0, size), reads. */
function paddedIndex(mode: PadMode, at: Dim, size: Dim, before: Dim, after: Dim): Dim {
  const last = sub(size, 1);
  switch (mode) {
    case "constant":
      return at;
    case "edge":
      return min(max(at, 0), last);
    case "wrap":
      return mod(at, size);
    case "reflect": {
      if (size === 1) return 0;
      const once = atLeast(sub(last, before), 0) && atLeast(sub(last, after), 0);
      const period = mul(2, last);
      const folded = once ? (atLeast(neg(before), 0) ? at : max(at, neg(at))) : mod(at, period);
      return once && atLeast(neg(after), 0) ? folded : min(folded, sub(period, folded));
    }
  }
}

function padded(context: OpContext): Compute {
  const shape = context.shape(0);
  const mode = context.string("mode") as PadMode;
  if (!["constant", "reflect", "edge", "wrap"].includes(mode))
    context.fail("mode is not one of constant, reflect, edge, wrap", { found: mode });
  const axes = axesOr(context, 3, shape.length, shape.length);
  const pads = context.needDims(1);
  if (pads.length !== 2 * axes.length)
    context.fail("pads must hold two numbers for each axis", {
      expected: String(2 * axes.length),
      found: String(pads.length),
    });
  const before: Dim[] = shape.map(() => 0);
  const after: Dim[] = shape.map(() => 0);
  axes.forEach((axis, k) => {
    before[axis] = pads[k] as Dim;
    after[axis] = pads[k + axes.length] as Dim;
  });
  const extents = shape.map((size, axis) => max(add(size, before[axis] as Dim, after[axis] as Dim), 0));
  return context.over(extents, (...out) => {
    const at = shape.map((_, axis) => sub(out[axis] as Dim, before[axis] as Dim));
    const source = at.map((position, axis) =>
      paddedIndex(mode, position, shape[axis] as Dim, before[axis] as Dim, after[axis] as Dim),
    );
    if (mode !== "constant") return context.load(0, source);
    const fill = context.has(2) ? context.at(2, []) : undefined;
    const conditions = at.flatMap((position, axis) =>
      inside(position, shape[axis] as Dim, !atLeast(neg(before[axis] as Dim), 0), !atLeast(neg(after[axis] as Dim), 0)),
    );
    return conditions.length === 0
      ? context.load(0, source)
      : guarded(conditions, context.load(0, source), fill ?? zero(context));
  });
}

function centered(context: OpContext): Compute {
  const shape = context.shape(0);
  const given = context.ints("axes");
  const axes = given ? context.axes(given, shape.length) : shape.map((_, axis) => axis);
  const wanted = context.needDims(1);
  if (wanted.length !== axes.length)
    context.fail("shape must hold one size for each axis", {
      expected: String(axes.length),
      found: String(wanted.length),
    });
  const extents = [...shape];
  axes.forEach((axis, k) => {
    extents[axis] = wanted[k] as Dim;
  });
  return context.over(extents, (...out) => {
    const at = shape.map((size, axis) => {
      const surplus = sub(size, extents[axis] as Dim);
      return add(out[axis] as Dim, floordiv(max(surplus, 0), 2), neg(floordiv(max(neg(surplus), 0), 2)));
    });
    const conditions = at.flatMap((position, axis) => {
      const size = shape[axis] as Dim;
      const order = compareDims(extents[axis] as Dim, size);
      const grows = !(order === "less" || order === "equal");
      return inside(position, size, grows, grows);
    });
    return guarded(conditions, context.load(0, at), zero(context));
  });
}

// Blocks

/** (batch, channels, height, width) and the block size, checked. */
function blocks(context: OpContext): { n: Dim; c: Dim; h: Dim; w: Dim; b: number } {
  if (context.rank(0) !== 4) context.fail("the input must have 4 axes", { found: formatShape(context.shape(0)) });
  const [n, c, h, w] = context.shape(0) as [Dim, Dim, Dim, Dim];
  const b = context.int("blocksize");
  if (b < 1) context.fail("blocksize must be positive", { found: String(b) });
  return { n, c, h, w, b };
}

const divided = (context: OpContext, size: Dim, by: number, what: string): Dim => {
  const quotient = floordiv(size, by);
  context.same(size, mul(quotient, by), `${what} and a multiple of ${by}`);
  return quotient;
};

export const movement: readonly Op[] = [
  loopOp(
    "Reshape",
    { inputs: ["data", { name: "shape", types: ["int64"] }], attributes: { allowzero: 0 } },
    (context) => reshaped(context, reshapeTarget(context)),
  ),
  loopOp("Flatten", { inputs: ["input"], attributes: { axis: 1 } }, flattened),
  loopOp("Squeeze", { inputs: ["data", { name: "axes", types: ["int64"], optional: true }] }, squeezed),
  loopOp("Unsqueeze", { inputs: ["data", { name: "axes", types: ["int64"] }] }, (context) =>
    reshaped(context, unsqueezed(context)),
  ),
  loopOp("Transpose", { inputs: ["data"], attributes: { perm: { type: "ints" } } }, (context) => {
    const rank = context.rank(0);
    const perm = context.ints("perm") ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
    if (perm.length !== rank)
      context.fail("perm must name each axis once", { expected: `${rank} axes`, found: `[${perm.join(", ")}]` });
    const axes = context.axes(perm, rank, "perm");
    return context.over(
      axes.map((axis) => context.shape(0)[axis] as Dim),
      (...at) =>
        context.load(
          0,
          axes.map((_, axis) => at[axes.indexOf(axis)] as Dim),
        ),
    );
  }),
  loopOp("Expand", { inputs: ["input", { name: "shape", types: ["int64"] }] }, (context) =>
    context.over(context.broadcast(context.shape(0), context.needDims(1)), (...at) => context.at(0, at)),
  ),
  loopOp("Tile", { inputs: ["input", { name: "repeats", types: ["int64"] }] }, (context) => {
    const shape = context.shape(0);
    const repeats = context.needDims(1);
    if (repeats.length !== shape.length)
      context.fail("repeats must hold one number for each axis", {
        expected: String(shape.length),
        found: String(repeats.length),
      });
    return context.over(
      shape.map((size, axis) => mul(size, repeats[axis] as Dim)),
      (...at) =>
        context.load(
          0,
          shape.map((size, axis) =>
            repeats[axis] === 1 ? (at[axis] as Dim) : size === 0 ? 0 : mod(at[axis] as Dim, size),
          ),
        ),
    );
  }),
  loopOp("Concat", { inputs: ["inputs*"], attributes: { axis: { type: "int", required: true } } }, (context) => {
    const parts = context.inputs.map((_, k) => k);
    if (parts.length === 0) context.fail("takes at least one input");
    const first = context.shape(0);
    const axis = context.axis(context.int("axis"), first.length);
    const shape = [...first];
    for (const k of parts.slice(1)) {
      if (context.dtype(k) !== context.dtype(0))
        context.fail("inputs must have one element type", { expected: context.dtype(0), found: context.dtype(k) });
      if (context.rank(k) !== first.length)
        context.fail("inputs must have one rank", {
          expected: formatShape(first),
          found: formatShape(context.shape(k)),
        });
      context.shape(k).forEach((size, other) => {
        if (other !== axis) shape[other] = context.same(shape[other] as Dim, size, `axis ${other} of the inputs`);
      });
    }
    shape[axis] = add(...parts.map((k) => context.shape(k)[axis] as Dim));
    return context.over(shape, (...at) => {
      const position = at[axis] as Dim;
      const pieces: { value: Expr; end: Dim }[] = [];
      let offset: Dim = 0;
      for (const k of parts) {
        const size = context.shape(k)[axis] as Dim;
        if (size === 0) continue;
        const within = at.map((own, other) => (other === axis ? (size === 1 ? 0 : sub(position, offset)) : own));
        offset = add(offset, size);
        pieces.push({ value: context.load(k, within), end: offset });
      }
      const last = pieces.pop();
      if (!last) return context.load(0, at);
      return pieces.reduceRight(
        (rest, { value, end }) => call("select", call("lt", index(position), index(end)), value, rest),
        last.value,
      );
    });
  }),
  loopOp(
    "Split",
    {
      inputs: ["input", { name: "split", types: ["int64"], optional: true }],
      attributes: { axis: 0, num_outputs: { type: "int" } },
    },
    (context) => {
      const shape = context.shape(0);
      const axis = context.axis(context.int("axis"), shape.length);
      let offset: Dim = 0;
      return partSizes(context, shape[axis] as Dim).map((part) => {
        const start = offset;
        offset = add(offset, part);
        return context.over(
          shape.map((size, other) => (other === axis ? part : size)),
          (...at) =>
            context.load(
              0,
              at.map((position, other) => (other === axis ? add(start, position) : position)),
            ),
        );
      });
    },
  ),
  loopOp(
    "Slice",
    { inputs: ["data", indices("starts"), indices("ends"), optionalIndices("axes"), optionalIndices("steps")] },
    sliced,
  ),
  loopOp(
    "Pad",
    {
      inputs: ["data", { name: "pads", types: ["int64"] }, "constant_value?", optionalIndices("axes")],
      attributes: { mode: "constant" },
    },
    padded,
  ),
  loopOp(
    "CenterCropPad",
    { inputs: ["input_data", indices("shape")], attributes: { axes: { type: "ints" } } },
    centered,
  ),
  loopOp(
    "DepthToSpace",
    { inputs: ["input"], attributes: { blocksize: { type: "int", required: true }, mode: "DCR" } },
    (context) => {
      const { n, c, h, w, b } = blocks(context);
      const mode = context.string("mode");
      if (mode !== "DCR" && mode !== "CRD") context.fail("mode must be DCR or CRD", { found: mode });
      const depth = divided(context, c, b * b, "channels");
      return context.over([n, depth, mul(h, b), mul(w, b)], (i, k, y, x) => {
        const block = add(mul(mod(y as Dim, b), b), mod(x as Dim, b));
        const channel = mode === "DCR" ? add(mul(block, depth), k as Dim) : add(mul(k as Dim, b * b), block);
        return context.load(0, [i as Dim, channel, floordiv(y as Dim, b), floordiv(x as Dim, b)]);
      });
    },
  ),
  loopOp(
    "SpaceToDepth",
    { inputs: ["input"], attributes: { blocksize: { type: "int", required: true }, mode: "DCR" } },
    (context) => {
      const { n, c, h, w, b } = blocks(context);
      const mode = context.string("mode");
      if (mode !== "DCR" && mode !== "CRD") context.fail("mode must be DCR or CRD", { found: mode });
      const size = [n, mul(c, b * b), divided(context, h, b, "height"), divided(context, w, b, "width")];
      return context.over(size, (i, k, y, x) => {
        const depth = k as Dim;
        const block = mode === "DCR" ? floordiv(depth, c) : mod(depth, b * b);
        const channel = mode === "DCR" ? mod(depth, c) : floordiv(depth, b * b);
        return context.load(0, [
          i as Dim,
          channel,
          add(mul(y as Dim, b), floordiv(block, b)),
          add(mul(x as Dim, b), mod(block, b)),
        ]);
      });
    },
  ),
  loopOp(
    "ReverseSequence",
    { inputs: ["input", { name: "sequence_lens", types: ["int64"] }], attributes: { batch_axis: 1, time_axis: 0 } },
    (context) => {
      const shape = context.shape(0);
      const batch = context.axis(context.int("batch_axis"), shape.length, "batch_axis");
      const time = context.axis(context.int("time_axis"), shape.length, "time_axis");
      if (batch === time) context.fail("batch_axis and time_axis must differ", { found: String(batch) });
      context.same(shape[batch] as Dim, context.shape(1)[0] as Dim, "the batch axis and sequence_lens");
      return context.over(shape, (...at) => {
        const t = index(at[time] as Dim);
        const length = load(1, "int64", [at[batch] as Dim]);
        const mirrored = call("sub", call("sub", length, int64(1)), t);
        const from = indexBy(call("select", call("lt", t, length), mirrored, t), shape[time] as Dim);
        return context.load(
          0,
          at.map((position, axis) => (axis === time ? from : position)),
        );
      });
    },
  ),
  loopOp(
    "Trilu",
    { inputs: ["input", { name: "k", types: ["int64"], optional: true }], attributes: { upper: 1 } },
    (context) => {
      const shape = context.shape(0);
      if (shape.length < 2) context.fail("the input must have at least 2 axes", { found: formatShape(shape) });
      const known = context.has(1) ? context.dims(1)?.[0] : 0;
      const diagonal = known === undefined ? context.at(1, []) : index(known);
      return context.over(shape, (...at) => {
        const offset = index(sub(at[at.length - 1] as Dim, at[at.length - 2] as Dim));
        return guarded(
          [call(context.int("upper") ? "ge" : "le", offset, diagonal)],
          context.load(0, at),
          zero(context),
        );
      });
    },
  ),
];
