/** LSTM, GRU and RNN: a cell carried over the sequence, forward, reverse or both. */
import { type DType, floatTable, floatToBits, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import type { Dim } from "../dim.js";
import { type InputSpec, type Op, type OpaqueContext, type OpContext, opaqueOp, typeSets } from "../op.js";
import { tensorType, type ValueType } from "../types.js";
import { attributeOf, floatsOf, stringsOf } from "./expansion.js";

const { float } = typeSets;
const typed = (name: string, types: readonly DType[] = float, optional = false): InputSpec => ({
  name,
  types,
  optional,
});
const optional = (name: string, types: readonly DType[] = float) => typed(name, types, true);

type Activation = (x: number) => number;

/** The functions of `activations`, with ONNX's default alpha and beta where they take them. */
const activationTable: Record<
  string,
  { alpha?: number; beta?: number; make: (alpha: number, beta: number) => Activation }
> = {
  relu: { make: () => (x) => Math.max(x, 0) },
  tanh: { make: () => Math.tanh },
  sigmoid: { make: () => (x) => 1 / (1 + Math.exp(-x)) },
  softsign: { make: () => (x) => x / (1 + Math.abs(x)) },
  softplus: { make: () => (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))) },
  affine: { alpha: 1, beta: 0, make: (alpha, beta) => (x) => alpha * x + beta },
  leakyrelu: { alpha: 0.01, make: (alpha) => (x) => (x < 0 ? alpha * x : x) },
  thresholdedrelu: { alpha: 1, make: (alpha) => (x) => (x > alpha ? x : 0) },
  scaledtanh: { alpha: 1, beta: 1, make: (alpha, beta) => (x) => alpha * Math.tanh(beta * x) },
  hardsigmoid: { alpha: 0.2, beta: 0.5, make: (alpha, beta) => (x) => Math.min(Math.max(alpha * x + beta, 0), 1) },
  elu: { alpha: 1, make: (alpha) => (x) => (x < 0 ? alpha * Math.expm1(x) : x) },
};

/** Activations by direction; the values of activation_alpha and activation_beta go to the functions that take one, in order. */
function activationsOf(context: OpContext, defaults: readonly string[], directions: number): Activation[][] {
  const names = stringsOf(context, "activations") ?? Array.from({ length: directions }, () => defaults).flat();
  if (names.length !== defaults.length * directions)
    context.fail(`activations must have ${defaults.length} functions for each direction`, {
      expected: String(defaults.length * directions),
      found: String(names.length),
    });
  const alphas = [...(floatsOf(context, "activation_alpha") ?? [])];
  const betas = [...(floatsOf(context, "activation_beta") ?? [])];
  const functions = names.map((name) => {
    const entry = activationTable[name.toLowerCase()] ?? context.fail("an activation is unknown", { found: name });
    const alpha = entry.alpha === undefined ? 0 : (alphas.shift() ?? entry.alpha);
    const beta = entry.beta === undefined ? 0 : (betas.shift() ?? entry.beta);
    return entry.make(alpha, beta);
  });
  return Array.from({ length: directions }, (_, d) => functions.slice(d * defaults.length, (d + 1) * defaults.length));
}

/** One direction's weights and one step of its cell; vectors are plain arrays of length `hidden`. */
interface Cell {
  /** Pre-activations: X·Wᵀ + Wb and H·Rᵀ + Rb, for all gates in ONNX's order. */
  readonly fromInput: (x: ArrayLike<number>) => Float64Array;
  readonly fromHidden: (h: ArrayLike<number>) => Float64Array;
  readonly recurrent: (gate: number, h: ArrayLike<number>) => Float64Array;
  readonly recurrentBias: (gate: number, j: number) => number;
  readonly activations: readonly Activation[];
  readonly clip: (x: number) => number;
  readonly hidden: number;
  /** Peephole weights in the order i, o, f; zeros where none are given. */
  readonly peephole: (gate: number, j: number) => number;
  readonly context: OpContext;
}
/** Gives the new hidden state and, for LSTM, the new cell state. */
type Step = (
  cell: Cell,
  x: ArrayLike<number>,
  h: Float64Array,
  c: Float64Array,
) => { h: Float64Array; c?: Float64Array };

interface Kind {
  readonly name: string;
  readonly gates: number;
  readonly activations: readonly string[];
  readonly step: Step;
}

const vector = (length: number, element: (j: number) => number) => Float64Array.from({ length }, (_, j) => element(j));

const kinds: Record<"RNN" | "GRU" | "LSTM", Kind> = {
  RNN: {
    name: "RNN",
    gates: 1,
    activations: ["Tanh"],
    step: ({ fromInput, fromHidden, activations, clip, hidden }, x, h) => {
      const [a, b] = [fromInput(x), fromHidden(h)];
      return { h: vector(hidden, (j) => activations[0]!(clip(a[j]! + b[j]!))) };
    },
  },
  // gates z, r, h
  GRU: {
    name: "GRU",
    gates: 3,
    activations: ["Sigmoid", "Tanh"],
    step: ({ fromInput, fromHidden, recurrent, recurrentBias, activations, clip, hidden, context }, x, h) => {
      const [f, g] = activations as [Activation, Activation];
      const [a, b] = [fromInput(x), fromHidden(h)];
      const gate = (k: number) => vector(hidden, (j) => f(clip(a[k * hidden + j]! + b[k * hidden + j]!)));
      const [update, reset] = [gate(0), gate(1)];
      const linear = context.int("linear_before_reset") !== 0;
      const after = recurrent(
        2,
        vector(hidden, (j) => reset[j]! * h[j]!),
      );
      const candidate = vector(hidden, (j) => {
        const past = linear ? reset[j]! * b[2 * hidden + j]! : after[j]! + recurrentBias(2, j);
        return g(clip(a[2 * hidden + j]! + past));
      });
      return { h: vector(hidden, (j) => (1 - update[j]!) * candidate[j]! + update[j]! * h[j]!) };
    },
  },
  // gates i, o, f, c
  LSTM: {
    name: "LSTM",
    gates: 4,
    activations: ["Sigmoid", "Tanh", "Tanh"],
    step: ({ fromInput, fromHidden, activations, clip, hidden, peephole, context }, x, h, c) => {
      const [f, g, out] = activations as [Activation, Activation, Activation];
      const [a, b] = [fromInput(x), fromHidden(h)];
      const gate = (k: number, j: number) => a[k * hidden + j]! + b[k * hidden + j]!;
      const input = vector(hidden, (j) => f(clip(gate(0, j) + peephole(0, j) * c[j]!)));
      const forget = vector(hidden, (j) =>
        context.int("input_forget") ? 1 - input[j]! : f(clip(gate(2, j) + peephole(2, j) * c[j]!)),
      );
      const next = vector(hidden, (j) => forget[j]! * c[j]! + input[j]! * g(clip(gate(3, j))));
      return {
        h: vector(hidden, (j) => f(clip(gate(1, j) + peephole(1, j) * next[j]!)) * out(clip(next[j]!))),
        c: next,
      };
    },
  },
};

const directionsOf = (context: OpContext): number => {
  const direction = context.string("direction");
  if (!["forward", "reverse", "bidirectional"].includes(direction))
    context.fail("direction is unknown", { found: direction });
  return direction === "bidirectional" ? 2 : 1;
};

/** Y [length, directions, batch, hidden], then the final states [directions, batch, hidden]; layout 1 puts the batch first. */
function infer(context: OpContext, states: number): ValueType[] {
  const directions = directionsOf(context);
  if (context.rank(0) !== 3 || context.rank(1) !== 3 || context.rank(2) !== 3)
    context.fail("X, W and R must have rank 3");
  const [first, second, inputSize] = context.shape(0) as [Dim, Dim, Dim];
  const batchFirst = context.int("layout") !== 0;
  const [length, batch] = batchFirst ? [second, first] : [first, second];
  const hidden = context.shape(2)[2] as Dim;
  context.same(context.shape(1)[0] as Dim, directions, "the directions of W");
  context.same(context.shape(1)[2] as Dim, inputSize, "the input size of W");
  const all = tensorType(
    context.dtype(0),
    batchFirst ? [batch, length, directions, hidden] : [length, directions, batch, hidden],
  );
  const last = tensorType(context.dtype(0), batchFirst ? [batch, directions, hidden] : [directions, batch, hidden]);
  return [all, ...Array.from({ length: states }, () => last)].slice(0, context.outputCount);
}

/** Rounds states to the tensors' type after each step. */
function rounding(dtype: DType): (x: number) => number {
  if (dtype === "float64") return (x) => x;
  if (dtype === "float32") return Math.fround;
  const table = floatTable(dtype);
  return (x) => table[floatToBits(dtype, x)] as number;
}

function run(context: OpaqueContext, inputs: readonly (Tensor | undefined)[], kind: Kind): Tensor[] {
  const [x, w, r, b, lengths, initialH, initialC, p] = inputs;
  const directions = directionsOf(context);
  const batchFirst = context.int("layout") !== 0;
  const [first, second, inputSize] = x!.shape as [number, number, number];
  const [length, batch] = batchFirst ? [second, first] : [first, second];
  const hidden = r!.shape[2] as number;
  const rows = kind.gates * hidden;
  const [X, W, R] = [toNumbers(x!), toNumbers(w!), toNumbers(r!)];
  const [B, P, H0, C0] = [b, p, initialH, initialC].map((t) => (t ? toNumbers(t) : undefined));
  const sequence = lengths ? toNumbers(lengths) : undefined;
  const clipAt = context.attribute("clip") === undefined ? Number.POSITIVE_INFINITY : context.float("clip");
  const activations = activationsOf(context, kind.activations, directions);
  const round = rounding(x!.dtype);
  const Y = new Float64Array(length * directions * batch * hidden);
  const [lastH, lastC] = [new Float64Array(directions * batch * hidden), new Float64Array(directions * batch * hidden)];
  const stateAt = (d: number, n: number) => (batchFirst ? n * directions + d : d * batch + n) * hidden;
  const product = (matrix: Float64Array, row: number, values: ArrayLike<number>) => {
    let sum = 0;
    for (let k = 0; k < values.length; k++) sum += matrix[row * values.length + k]! * values[k]!;
    return sum;
  };

  for (let d = 0; d < directions; d++) {
    const bias = (half: number, row: number) => (B ? B[(2 * d + half) * rows + row]! : 0);
    const cell: Cell = {
      fromInput: (values) => vector(rows, (row) => product(W, d * rows + row, values) + bias(0, row)),
      fromHidden: (values) => vector(rows, (row) => product(R, d * rows + row, values) + bias(1, row)),
      recurrent: (gate, values) => vector(hidden, (j) => product(R, d * rows + gate * hidden + j, values)),
      recurrentBias: (gate, j) => bias(1, gate * hidden + j),
      activations: activations[d]!,
      clip: (value) => Math.min(Math.max(value, -clipAt), clipAt),
      hidden,
      peephole: (gate, j) => (P ? P[(3 * d + gate) * hidden + j]! : 0),
      context,
    };
    const reverse = d === 1 || context.string("direction") === "reverse";
    for (let n = 0; n < batch; n++) {
      const initial = (values: Float64Array | undefined) =>
        values ? values.slice(stateAt(d, n), stateAt(d, n) + hidden) : new Float64Array(hidden);
      let [h, c] = [initial(H0), initial(C0)];
      // Steps beyond a sequence's own length leave Y at 0 and the state as it was.
      const own = Math.min(sequence ? sequence[n]! : length, length);
      for (let k = 0; k < own; k++) {
        const t = reverse ? own - 1 - k : k;
        const from = (batchFirst ? n * length + t : t * batch + n) * inputSize;
        const next = kind.step(cell, X.subarray(from, from + inputSize), h, c);
        h = next.h.map(round);
        if (next.c) c = next.c.map(round);
        Y.set(h, (batchFirst ? (n * length + t) * directions + d : (t * directions + d) * batch + n) * hidden);
      }
      lastH.set(h, stateAt(d, n));
      lastC.set(c, stateAt(d, n));
    }
  }
  const types = [Y, lastH, lastC].slice(0, context.outputCount);
  const yShape = batchFirst ? [batch, length, directions, hidden] : [length, directions, batch, hidden];
  const stateShape = batchFirst ? [batch, directions, hidden] : [directions, batch, hidden];
  return types.map((values, k) => tensor(x!.dtype, k === 0 ? yShape : stateShape, Array.from(values)));
}

const sequenceInputs = [
  typed("X"),
  typed("W"),
  typed("R"),
  optional("B"),
  optional("sequence_lens", ["int32"]),
  optional("initial_h"),
];
const sequenceAttributes = {
  activation_alpha: attributeOf.floats,
  activation_beta: attributeOf.floats,
  activations: attributeOf.strings,
  clip: { type: "float" } as const,
  direction: "forward",
  hidden_size: attributeOf.int,
  layout: 0,
};

const recurrentOp = (
  kind: Kind,
  states: number,
  inputs: InputSpec[] = [],
  attributes: Record<string, number> = {},
): Op =>
  opaqueOp(
    kind.name,
    { inputs: [...sequenceInputs, ...inputs], attributes: { ...sequenceAttributes, ...attributes } },
    {
      infer: (context) => infer(context, states),
      reference: (context, given) => run(context, given as (Tensor | undefined)[], kind),
    },
  );

export const recurrent: readonly Op[] = [
  recurrentOp(kinds.RNN, 1),
  recurrentOp(kinds.GRU, 1, [], { linear_before_reset: 0 }),
  recurrentOp(kinds.LSTM, 2, [optional("initial_c"), optional("P")], { input_forget: 0 }),
];
