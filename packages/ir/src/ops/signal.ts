/** Signal processing: Fourier transforms, windows, the mel filter bank. */
import { type DType, dtypeFromOnnx, dtypes } from "@nimforge/tensor";
import { add, type Dim, floordiv, max, min, mod, mul, sub } from "../dim.js";
import type { Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, index } from "../scalar.js";

const { float, numeric, index: indexTypes } = typeSets;
const typed = (name: string, types: readonly DType[], optional = false): InputSpec => ({ name, types, optional });
const real = (value: number) => constant("float64", value);
const realIndex = (dim: Dim) => cast("float64", index(dim));

const outputType = (context: OpContext): DType =>
  dtypeFromOnnx(context.int("output_datatype")) ??
  context.fail("output_datatype is unknown", { found: String(context.int("output_datatype")) });

/** The single element of a scalar input as a Dim. */
const scalarDim = (context: OpContext, input: number): Dim =>
  context.needDims(input)[0] ?? context.fail("a scalar input is empty");

/** Σ of cosine terms: c₀ + c₁·cos(2πn/N) + c₂·cos(4πn/N), N = size for a periodic window, size − 1 for a symmetric one. */
const cosineWindow = (name: string, coefficients: readonly number[]): Op =>
  loopOp(name, { inputs: [typed("size", indexTypes)], attributes: { output_datatype: 1, periodic: 1 } }, (context) => {
    const size = scalarDim(context, 0);
    const period = context.int("periodic") ? size : max(sub(size, 1), 1);
    return context.over([size], (n) => {
      const turn = call("div", realIndex(n as Dim), realIndex(period));
      const terms = coefficients.map((c, k) =>
        k === 0 ? real(c) : call("mul", real(c), call("cos", call("mul", real(2 * Math.PI * k), turn))),
      );
      return cast(
        outputType(context),
        terms.reduce((a, b) => call("add", a, b)),
      );
    });
  });

/**
 * Rows (cos θ, s·sin θ, −s·sin θ, cos θ) for θ = 2πj/N, j in [0, N), s = −1 or 1: the real and imaginary parts of e^{isθ} and of i·e^{isθ}. ONNX
 * has no such table; with it a transform is a plain sum of products.
 */
const twiddles = loopOp(
  "Twiddles",
  {
    domain: "nim",
    inputs: [typed("length", ["int64"])],
    attributes: { dtype: { type: "int", required: true }, inverse: 0 },
  },
  (context) => {
    const length = scalarDim(context, 0);
    const dtype = dtypeFromOnnx(context.int("dtype")) ?? context.fail("dtype is unknown");
    const sign = context.int("inverse") ? 1 : -1;
    return context.over([length, 4], (j, column) => {
      const angle = call("mul", real(2 * Math.PI), call("div", realIndex(j as Dim), realIndex(length)));
      const sine = (s: number) => call("mul", real(s), call("sin", angle));
      const is = (k: number) => call("eq", index(column as Dim), constant("int64", BigInt(k)));
      return cast(dtype, call("select", is(1), sine(sign), call("select", is(2), sine(-sign), call("cos", angle))));
    });
  },
);

/** Σn of x[n]·e^{isθ(k·n)}, one part (0 real, 1 imaginary); `parts` is 1 for a real x, 2 for a complex one. */
function fourierSum(
  table: (row: Dim, column: Dim) => Expr,
  period: Dim,
  count: Dim,
  k: Dim,
  part: Dim,
  parts: Dim,
  x: (n: Dim, part: number) => Expr,
  weight?: (n: Dim) => Expr,
): Expr {
  return reduceOver("sum", [count], (n) => {
    const row = mod(mul(k, n), period);
    const along = call("mul", x(n, 0), table(row, part));
    const term = parts === 1 ? along : call("add", along, call("mul", x(n, 1), table(row, add(part, 2))));
    return weight ? call("mul", weight(n), term) : term;
  });
}

/** The table of twiddles for a transform of `length` in the type of `x`. */
const twiddlesFor = (context: OpContext, x: Value, length: Dim, inverse: boolean): Value =>
  context.apply("nim:Twiddles", [context.int64s([length])], {
    dtype: dtypes[computeType(x.dtype)].onnx,
    inverse: Number(inverse),
  });

/** DFT along one axis by its definition, on a table of twiddles. Serves DFT, which ONNX writes without the table. */
const fourierTransform = loopOp(
  "FourierTransform",
  {
    domain: "nim",
    inputs: [typed("input", float), typed("twiddles", float)],
    attributes: { axis: { type: "int", required: true }, inverse: 0, onesided: 0 },
  },
  (context) => {
    const shape = context.shape(0);
    const axis = context.int("axis");
    const parts = shape[shape.length - 1] as Dim;
    const length = context.shape(1)[0] as Dim;
    const [inverse, onesided] = [context.int("inverse") !== 0, context.int("onesided") !== 0];
    const bins = add(floordiv(length, 2), 1);
    const dtype = context.dtype(0);
    const wide = computeType(dtype);
    const out = shape.map((size, k) =>
      k === axis
        ? onesided && !inverse
          ? bins
          : length
        : k === shape.length - 1
          ? onesided && inverse
            ? 1
            : 2
          : size,
    );
    const count = min(shape[axis] as Dim, onesided && inverse ? bins : length);
    // Of a conjugate-symmetric spectrum, each bin but the first and the middle one stands for two.
    const double = (n: Dim) => {
      const single = call(
        "or",
        call("eq", index(n), constant("int64", 0n)),
        call("eq", index(mul(2, n)), index(length)),
      );
      return call("select", single, constant(wide, 1), constant(wide, 2));
    };
    return context.over(out, (...at) => {
      const x = (n: Dim, part: number) =>
        cast(
          wide,
          context.load(
            0,
            at.map((dim, k) => (k === axis ? n : k === shape.length - 1 ? part : dim)),
          ),
        );
      const sum = fourierSum(
        (row, column) => context.load(1, [row, column]),
        length,
        count,
        at[axis] as Dim,
        at[at.length - 1] as Dim,
        parts,
        x,
        onesided && inverse ? double : undefined,
      );
      return cast(dtype, inverse ? call("div", sum, cast(wide, index(length))) : sum);
    });
  },
);

/** out[b, frame, k] = the transform of window[n]·signal[b, frame·step + n]. Serves STFT. */
const framedTransform = loopOp(
  "FramedFourierTransform",
  {
    domain: "nim",
    inputs: [typed("signal", float), typed("twiddles", float), typed("window", float, true)],
    attributes: { frame_step: { type: "int", required: true }, onesided: 1 },
  },
  (context) => {
    const [batch, samples, parts] = context.shape(0) as [Dim, Dim, Dim];
    const length = context.shape(1)[0] as Dim;
    const step = context.int("frame_step");
    const frames = add(floordiv(sub(samples, length), step), 1);
    const bins = context.int("onesided") ? add(floordiv(length, 2), 1) : length;
    const dtype = context.dtype(0);
    const wide = computeType(dtype);
    return context.over([batch, frames, bins, 2], (b, frame, k, part) => {
      const x = (n: Dim, p: number) => {
        const sample = cast(wide, context.load(0, [b as Dim, add(mul(frame as Dim, step), n), p]));
        return context.has(2) ? call("mul", sample, cast(wide, context.load(2, [n]))) : sample;
      };
      return cast(
        dtype,
        fourierSum((row, column) => context.load(1, [row, column]), length, length, k as Dim, part as Dim, parts, x),
      );
    });
  },
);

export const signal: readonly Op[] = [
  cosineWindow("HannWindow", [0.5, -0.5]),
  cosineWindow("HammingWindow", [25 / 46, -21 / 46]),
  cosineWindow("BlackmanWindow", [0.42, -0.5, 0.08]),
  twiddles,
  fourierTransform,
  framedTransform,

  compositeOp(
    "DFT",
    {
      inputs: [typed("input", float), typed("dft_length", indexTypes, true), typed("axis", ["int64"], true)],
      attributes: { inverse: 0, onesided: 0 },
    },
    (context, input) => {
      const x = input as Value;
      const rank = context.rank(0);
      const axis = context.axis(context.has(2) ? (context.needInts(2)[0] ?? -2) : -2, rank);
      if (axis === rank - 1) context.fail("axis must not be the last, which holds the real and imaginary parts");
      const [inverse, onesided] = [context.int("inverse") !== 0, context.int("onesided") !== 0];
      const parts = x.shape[rank - 1];
      if (parts !== 1 && parts !== 2)
        context.fail("the last axis must have size 1 (real) or 2 (complex)", { found: String(parts) });
      if (onesided && !inverse && parts === 2) context.fail("a one-sided transform takes real input");
      if (onesided && inverse && parts === 1) context.fail("a one-sided inverse transform takes complex input");
      const size = x.shape[axis] as Dim;
      const length = context.has(1) ? scalarDim(context, 1) : onesided && inverse ? mul(2, sub(size, 1)) : size;
      return context.apply("nim:FourierTransform", [x, twiddlesFor(context, x, length, inverse)], {
        axis,
        inverse: Number(inverse),
        onesided: Number(onesided),
      });
    },
  ),

  compositeOp(
    "STFT",
    {
      inputs: [
        typed("signal", float),
        typed("frame_step", indexTypes),
        typed("window", float, true),
        typed("frame_length", indexTypes, true),
      ],
      attributes: { onesided: 1 },
    },
    (context, signal, _step, window) => {
      const x = signal as Value;
      if (context.rank(0) !== 3)
        context.fail("signal must have rank 3: batch, samples, 1 or 2", { found: `rank ${context.rank(0)}` });
      const step = context.needInts(1)[0] ?? 0;
      if (step < 1) context.fail("frame_step must be positive", { found: String(step) });
      if (context.int("onesided") && x.shape[2] === 2) context.fail("a one-sided transform takes real input");
      const given = context.has(3) ? scalarDim(context, 3) : undefined;
      const length = window
        ? given === undefined
          ? (window.shape[0] as Dim)
          : context.same(given, window.shape[0] as Dim, "frame_length and the window's length")
        : (given ?? (x.shape[1] as Dim));
      return context.apply("nim:FramedFourierTransform", [x, twiddlesFor(context, x, length, false), window], {
        frame_step: step,
        onesided: context.int("onesided"),
      });
    },
  ),

  // Triangles between neighbouring centres, which lie evenly on the mel scale 2595·log₁₀(1 + f/700).
  loopOp(
    "MelWeightMatrix",
    {
      inputs: [
        typed("num_mel_bins", indexTypes),
        typed("dft_length", indexTypes),
        typed("sample_rate", indexTypes),
        typed("lower_edge_hertz", numeric),
        typed("upper_edge_hertz", numeric),
      ],
      attributes: { output_datatype: 1 },
    },
    (context) => {
      const melBins = scalarDim(context, 0);
      const length = scalarDim(context, 1);
      const scalar = (input: number) =>
        cast(
          "float64",
          context.load(
            input,
            context.shape(input).map(() => 0),
          ),
        );
      const mel = (hertz: Expr) => call("mul", real(2595 / Math.LN10), call("log1p", call("div", hertz, real(700))));
      const [low, high] = [mel(scalar(3)), mel(scalar(4))];
      const step = call("div", call("sub", high, low), realIndex(add(melBins, 2)));
      /** The spectrogram bin of mel point i, a whole number. */
      const bin = (i: Dim): Expr => {
        const point = call("add", call("mul", realIndex(i), step), low);
        const hertz = call("mul", real(700), call("expm1", call("mul", point, real(Math.LN10 / 2595))));
        return call("floor", call("div", call("mul", realIndex(add(length, 1)), hertz), scalar(2)));
      };
      const all = (...conditions: Expr[]) => conditions.reduce((a, b) => call("and", a, b));
      return context.over([add(floordiv(length, 2), 1), melBins], (row, i) => {
        const j = realIndex(row as Dim);
        const [left, centre, right] = [bin(i as Dim), bin(add(i as Dim, 1)), bin(add(i as Dim, 2))];
        const falling = call("div", call("sub", right, j), call("sub", right, centre));
        const rising = call("div", call("sub", j, left), call("sub", centre, left));
        const flat = call("and", call("eq", left, centre), call("eq", j, centre));
        const value = call(
          "select",
          all(call("ge", j, centre), call("lt", j, right)),
          falling,
          call(
            "select",
            all(call("ge", j, left), call("le", j, centre), call("lt", left, centre)),
            rising,
            call("select", flat, real(1), real(0)),
          ),
        );
        return cast(outputType(context), value);
      });
    },
  ),
];
