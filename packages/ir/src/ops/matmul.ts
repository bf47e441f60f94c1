/** Products of matrices: MatMul, Gemm, their quantized forms, Einsum, Det. */
import { type DType, dtypes, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import type { Dim } from "../dim.js";
import type { Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, opaqueOp, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, type Expr } from "../scalar.js";
import { tensorType } from "../types.js";
import { attributeOf } from "./expansion.js";
import { requantize } from "./quantize.js";

const { numeric, float, anyFloat } = typeSets;
const bytes: readonly DType[] = ["int8", "uint8"];
const typed = (name: string, types: readonly DType[], optional = false): InputSpec => ({ name, types, optional });

/** One element of a batched product and where it lies. */
interface Place {
  readonly batch: readonly Dim[];
  readonly row: Dim;
  readonly column: Dim;
  /** Σk body(A[…, row, k], B[…, k, column]). */
  readonly sum: (body: (a: Expr, b: Expr) => Expr) => Expr;
}

/** numpy.matmul's shapes: batch axes broadcast; a vector is a row on the left, a column on the right, and its axis is dropped. */
function product(context: OpContext, a: number, b: number, element: (place: Place) => Expr) {
  const left = context.shape(a);
  const right = context.shape(b);
  if (left.length === 0 || right.length === 0) context.fail("operands must not be scalars");
  const depth = context.same(
    left[left.length - 1] as Dim,
    right[Math.max(0, right.length - 2)] as Dim,
    "the inner sizes of the operands",
  );
  const rows = left.length > 1 ? [left[left.length - 2] as Dim] : [];
  const columns = right.length > 1 ? [right[right.length - 1] as Dim] : [];
  const batchShape = context.broadcast(left.slice(0, -2), right.slice(0, -2));
  return context.over([...batchShape, ...rows, ...columns], (...at) => {
    const batch = at.slice(0, batchShape.length);
    const row = rows.length > 0 ? (at[batch.length] as Dim) : 0;
    const column = columns.length > 0 ? (at[at.length - 1] as Dim) : 0;
    const place = (shape: readonly Dim[], last: readonly Dim[]) => {
      const outer = shape.slice(0, -last.length);
      return [...outer.map((size, k) => (size === 1 ? 0 : (batch[batch.length - outer.length + k] as Dim))), ...last];
    };
    return element({
      batch,
      row,
      column,
      sum: (body) =>
        reduceOver("sum", [depth], (k) =>
          body(
            context.load(a, place(left, rows.length > 0 ? [row, k] : [k])),
            context.load(b, place(right, columns.length > 0 ? [k, column] : [k])),
          ),
        ),
    });
  });
}

/** A scale or zero point of A: a scalar, one a row, or `[…, M, 1]`. */
const perRow = (context: OpContext, input: number, { batch, row }: Place) =>
  context.at(input, context.rank(input) < 2 ? [row] : [...batch, row, 0]);
/** A scale or zero point of B: a scalar, one a column, or `[…, 1, N]`. */
const perColumn = (context: OpContext, input: number, { batch, column }: Place) =>
  context.at(input, context.rank(input) < 2 ? [column] : [...batch, 0, column]);

/** Accumulates in int32, float8 in float32; `zero` is subtracted where given. */
const offset = (x: Expr, zero: Expr | undefined): Expr => {
  const accumulator: DType = anyFloat.includes(x.dtype) ? "float32" : "int32";
  const wide = cast(accumulator, x);
  return zero ? call("sub", wide, cast(accumulator, zero)) : wide;
};

interface Term {
  readonly labels: readonly string[];
}

/** Labels of each operand and of the result; `...` becomes one label for each of its axes, `.0` the last. */
function parseEquation(context: OpContext): { operands: Term[]; result: string[] } {
  const equation = context.string("equation").replace(/\s+/g, "");
  const [inputs = "", output, ...rest] = equation.split("->");
  const terms = inputs.split(",");
  if (rest.length > 0 || !/^[A-Za-z.,]*$/.test(inputs) || !/^[A-Za-z.]*$/.test(output ?? ""))
    context.fail("the equation is malformed", { found: equation });
  if (terms.length !== context.inputs.length)
    context.fail("the equation must have one term for each input", {
      expected: String(context.inputs.length),
      found: String(terms.length),
    });
  const spread = (term: string, broadcastAxes: number): string[] => {
    const [before = "", after, ...more] = term.split("...");
    if (more.length > 0 || term.replace("...", "").includes("."))
      context.fail("a term has a malformed ellipsis", { found: term });
    const dots =
      after === undefined ? [] : Array.from({ length: broadcastAxes }, (_, k) => `.${broadcastAxes - 1 - k}`);
    return [...before, ...dots, ...(after ?? "")];
  };
  const operands = terms.map((term, input) => {
    const named = term.replace("...", "").length;
    const rank = context.rank(input);
    if (term.includes("...") ? named > rank : named !== rank)
      context.fail("a term must name every axis of its input", { expected: `${rank} axes`, found: term });
    return { labels: spread(term, rank - named) };
  });
  const widest = Math.max(0, ...operands.map(({ labels }) => labels.filter((label) => label.startsWith(".")).length));
  if (output !== undefined) return { operands, result: spread(output, widest) };
  const all = operands.flatMap(({ labels }) => labels);
  const once = [...new Set(all)]
    .filter((label) => !label.startsWith(".") && all.filter((other) => other === label).length === 1)
    .sort();
  return { operands, result: [...Array.from({ length: widest }, (_, k) => `.${widest - 1 - k}`), ...once] };
}

/** Determinant of one n×n matrix by elimination with partial pivoting; destroys `m`. */
function determinant(m: Float64Array, n: number): number {
  let value = 1;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++)
      if (Math.abs(m[i * n + k] as number) > Math.abs(m[pivot * n + k] as number)) pivot = i;
    const top = m[pivot * n + k] as number;
    if (top === 0) return 0;
    if (pivot !== k) {
      value = -value;
      for (let j = 0; j < n; j++)
        [m[k * n + j], m[pivot * n + j]] = [m[pivot * n + j] as number, m[k * n + j] as number];
    }
    value *= top;
    for (let i = k + 1; i < n; i++) {
      const factor = (m[i * n + k] as number) / top;
      for (let j = k; j < n; j++) m[i * n + j] = (m[i * n + j] as number) - factor * (m[k * n + j] as number);
    }
  }
  return value;
}

export const matmul: readonly Op[] = [
  loopOp("MatMul", { inputs: [typed("A", numeric), typed("B", numeric)] }, (context) => {
    const dtype = context.dtype(0);
    if (context.dtype(1) !== dtype)
      context.fail("both inputs must have one element type", { expected: dtype, found: context.dtype(1) });
    const wide = computeType(dtype);
    return product(context, 0, 1, ({ sum }) =>
      cast(
        dtype,
        sum((a, b) => call("mul", cast(wide, a), cast(wide, b))),
      ),
    );
  }),

  // alpha·A′·B′ + beta·C; a MatMul inside, so that every kernel of MatMul is Gemm's too.
  compositeOp(
    "Gemm",
    {
      inputs: [typed("A", numeric), typed("B", numeric), typed("C", numeric, true)],
      attributes: { alpha: attributeOf.float(1), beta: attributeOf.float(1), transA: 0, transB: 0 },
    },
    (context, a, b, c) => {
      if (context.rank(0) !== 2 || context.rank(1) !== 2)
        context.fail("A and B must be matrices", { found: `ranks ${context.rank(0)} and ${context.rank(1)}` });
      const dtype = context.dtype(0);
      const wide = computeType(dtype); // small floats are widened, and rounded once at the end
      const cast = (x: Value, to: DType) => (x.dtype === to ? x : context.apply("Cast", [x], { to: dtypes[to].onnx }));
      const operand = (x: Value | undefined, transposed: boolean) => {
        const value = cast(x as Value, wide);
        return transposed ? context.apply("Transpose", [value], { perm: [1, 0] }) : value;
      };
      const scaled = (x: Value, factor: number) =>
        factor === 1 ? x : context.apply("Mul", [x, context.scalar(wide, factor)]);
      const product = context.apply("MatMul", [
        operand(a, context.int("transA") !== 0),
        operand(b, context.int("transB") !== 0),
      ]);
      const y = scaled(product, context.float("alpha"));
      const beta = context.float("beta");
      if (!c || beta === 0) return cast(y, dtype);
      if (context.rank(2) > 2) context.fail("C must have at most two axes", { found: `rank ${context.rank(2)}` });
      for (const [axis, size] of context.broadcast(product.shape, context.shape(2)).entries())
        context.same(size, product.shape[axis] as Dim, "the shape of C");
      return cast(context.apply("Add", [y, scaled(cast(c, wide), beta)]), dtype);
    },
  ),

  loopOp(
    "MatMulInteger",
    {
      inputs: [
        typed("A", bytes),
        typed("B", bytes),
        typed("a_zero_point", bytes, true),
        typed("b_zero_point", bytes, true),
      ],
    },
    (context) =>
      product(context, 0, 1, (place) => {
        const aZero = context.has(2) ? perRow(context, 2, place) : undefined;
        const bZero = context.has(3) ? perColumn(context, 3, place) : undefined;
        return place.sum((a, b) => call("mul", offset(a, aZero), offset(b, bZero)));
      }),
  ),

  loopOp(
    "QLinearMatMul",
    { inputs: ["a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point"] },
    (context) =>
      product(context, 0, 3, (place) => {
        const sum = place.sum((a, b) =>
          call("mul", offset(a, perRow(context, 2, place)), offset(b, perColumn(context, 5, place))),
        );
        const single = (x: Expr) => cast("float32", x);
        const scales = call("mul", single(perRow(context, 1, place)), single(perColumn(context, 4, place)));
        const factor = call("div", scales, single(perRow(context, 6, place)));
        return requantize(call("mul", single(sum), factor), perRow(context, 7, place));
      }),
  ),

  loopOp(
    "Einsum",
    {
      inputs: [{ name: "Inputs", types: numeric, variadic: true }],
      attributes: { equation: { type: "string", required: true } },
    },
    (context) => {
      const { operands, result } = parseEquation(context);
      const dtype = context.dtype(0);
      const sizes = new Map<string, Dim>();
      for (const [input, { labels }] of operands.entries())
        for (const [axis, label] of labels.entries()) {
          const size = context.shape(input)[axis] as Dim;
          const known = sizes.get(label);
          if (known === undefined || known === 1) sizes.set(label, size);
          else if (size !== 1)
            sizes.set(label, context.same(known, size, `the sizes of label ${label.startsWith(".") ? "..." : label}`));
        }
      const sizeOf = (label: string) =>
        sizes.get(label) ?? context.fail("an output label is in no input", { found: label });
      if (new Set(result).size !== result.length)
        context.fail("an output label is repeated", { found: result.join("") });
      const summed = [...sizes.keys()].filter((label) => !result.includes(label));
      const wide = computeType(dtype);
      return context.over(result.map(sizeOf), (...at) =>
        cast(
          dtype,
          reduceOver("sum", summed.map(sizeOf), (...k) => {
            const place = new Map<string, Dim>([
              ...result.map((label, axis) => [label, at[axis] as Dim] as const),
              ...summed.map((label, axis) => [label, k[axis] as Dim] as const),
            ]);
            const factors = operands.map(({ labels }, input) =>
              cast(
                wide,
                context.load(
                  input,
                  labels.map((label, axis) => (context.shape(input)[axis] === 1 ? 0 : (place.get(label) as Dim))),
                ),
              ),
            );
            return factors.reduce((x, y) => call("mul", x, y));
          }),
        ),
      );
    },
  ),

  opaqueOp(
    "Det",
    { inputs: [typed("X", float)] },
    {
      infer: (context) => {
        const shape = context.shape(0);
        if (shape.length < 2) context.fail("X must be a batch of square matrices", { found: `rank ${shape.length}` });
        context.same(shape[shape.length - 2] as Dim, shape[shape.length - 1] as Dim, "the sizes of a square matrix");
        return [tensorType(context.dtype(0), shape.slice(0, -2))];
      },
      reference: (_, [x]) => {
        const { dtype, shape } = x as Tensor;
        const n = shape[shape.length - 1] as number;
        const values = toNumbers(x as Tensor);
        const batch = shape.slice(0, -2);
        const count = batch.reduce((a, b) => a * b, 1);
        return [
          tensor(
            dtype,
            batch,
            Array.from({ length: count }, (_unused, k) => determinant(values.slice(k * n * n, (k + 1) * n * n), n)),
          ),
        ];
      },
    },
  ),
];
