/**
 * The suite's rule for outputs: dtypes and shapes equal, then |out - ref| <= atol + rtol * |ref| (onnx.backend.test.runner). NaN equals NaN,
 * strings are equal, sequences and optionals agree element by element. Cases with random outputs are held to what every seed must give.
 */
import type { RuntimeValue } from "@nimforge/ir";
import { type Tensor, toNumbers } from "@nimforge/tensor";
import type { Case, DataSet } from "./suite.js";

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

export interface Mismatch {
  readonly reason: string;
  /** Largest |out - ref|, where values were compared. */
  readonly maxError?: number;
}

/** bfloat16 has 8 bits of mantissa, so no tolerance is below this one. */
const bfloat16Tolerance = 2 ** -6;

/** The first output that disagrees with the recorded one, or undefined. */
export function compareOutputs(entry: Case, data: DataSet, outputs: readonly RuntimeValue[]): Mismatch | undefined {
  if (outputs.length !== data.outputs.length)
    return { reason: `${outputs.length} outputs instead of ${data.outputs.length}` };
  const compare = entry.flags.includes("nondeterministic") ? compareRandom(entry, data) : compareValue;
  for (const [k, reference] of data.outputs.entries()) {
    const mismatch = compare(outputs[k] as RuntimeValue, reference, entry, k);
    if (mismatch)
      return { ...mismatch, reason: outputs.length > 1 ? `output ${k}: ${mismatch.reason}` : mismatch.reason };
  }
  return undefined;
}

export function compareValue(out: RuntimeValue, reference: RuntimeValue, tolerance: Tolerance): Mismatch | undefined {
  if (reference === null || out === null)
    return out === reference ? undefined : { reason: `${describe(out)} instead of ${describe(reference)}` };
  if (isSequence(reference)) {
    if (!isSequence(out) || out.length !== reference.length)
      return { reason: `${describe(out)} instead of ${describe(reference)}` };
    for (const [k, item] of reference.entries()) {
      const mismatch = compareValue(out[k] as RuntimeValue, item, tolerance);
      if (mismatch) return { ...mismatch, reason: `element ${k}: ${mismatch.reason}` };
    }
    return undefined;
  }
  if (isSequence(out)) return { reason: `${describe(out)} instead of ${describe(reference)}` };
  return compareTypes(out, reference) ?? compareElements(out, reference, tolerance);
}

function compareTypes(out: Tensor, reference: Tensor): Mismatch | undefined {
  const same =
    out.dtype === reference.dtype &&
    out.shape.length === reference.shape.length &&
    out.shape.every((size, k) => size === reference.shape[k]);
  return same ? undefined : { reason: `${describe(out)} instead of ${describe(reference)}` };
}

function compareElements(out: Tensor, reference: Tensor, { rtol, atol }: Tolerance): Mismatch | undefined {
  if (reference.dtype === "string") {
    const wrong = (reference.data as string[]).findIndex((text, k) => text !== out.data[k]);
    return wrong < 0
      ? undefined
      : {
          reason: `${JSON.stringify(out.data[wrong])} instead of ${JSON.stringify(reference.data[wrong])} at element ${wrong}`,
        };
  }
  const relative = reference.dtype === "bfloat16" ? Math.max(rtol, bfloat16Tolerance) : rtol;
  const a = toNumbers(out);
  const b = toNumbers(reference);
  if (a.length !== b.length) return { reason: `${a.length} elements in storage instead of ${b.length}` };
  let wrong = 0;
  let worst = -1;
  let maxError = 0;
  for (let k = 0; k < b.length; k++) {
    const x = a[k] as number;
    const y = b[k] as number;
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    const error = Math.abs(x - y);
    // An infinite reference would allow anything: infinities must be equal, as in numpy.
    if (Number.isFinite(y) && error <= atol + relative * Math.abs(y)) continue;
    wrong++;
    if (worst < 0 || error > maxError || Number.isNaN(error)) {
      worst = k;
      maxError = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
    }
  }
  if (wrong === 0) return undefined;
  return {
    reason: `${wrong} of ${b.length} elements differ, worst ${format(a[worst])} instead of ${format(b[worst])} at element ${worst}`,
    maxError,
  };
}

/**
 * Random outputs: Bernoulli gives zeros and ones; Dropout in training mode gives, for each element, 0 or x / (1 - ratio), and a mask that
 * says which. The elements themselves depend on the generator, which ONNX leaves open.
 */
function compareRandom(
  entry: Case,
  data: DataSet,
): (out: RuntimeValue, reference: RuntimeValue, tolerance: Tolerance, k: number) => Mismatch | undefined {
  const binary = (values: Float64Array) => values.every((value) => value === 0 || value === 1);
  return (out, reference, { rtol, atol }, k) => {
    const types = compareTypes(out as Tensor, reference as Tensor);
    if (types) return types;
    const values = toNumbers(out as Tensor);
    if (entry.name.startsWith("test_bernoulli") || k === 1)
      return binary(values) ? undefined : { reason: "elements other than 0 and 1" };
    const [x, ratio] = data.inputs as [Tensor, Tensor];
    const scale = 1 / (1 - (toNumbers(ratio)[0] as number));
    const source = toNumbers(x);
    const kept = (value: number, i: number) =>
      Math.abs(value - (source[i] as number) * scale) <= atol + rtol * Math.abs(value);
    const allowed = values.every((value, i) => kept(value, i) || (value === 0 && scale !== 1));
    return allowed ? undefined : { reason: "elements that are neither 0 nor x / (1 - ratio)" };
  };
}

const isSequence = (value: RuntimeValue): value is readonly RuntimeValue[] => Array.isArray(value);

function describe(value: RuntimeValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "an empty optional";
  return isSequence(value) ? `a sequence of ${value.length}` : `${value.dtype}[${value.shape.join(", ")}]`;
}

const format = (value: number | undefined) =>
  String(value === undefined || Number.isInteger(value) ? value : Number(value.toPrecision(7)));
