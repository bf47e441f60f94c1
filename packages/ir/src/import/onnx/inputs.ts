/** The graph's inputs: declared types, what the user fixes about them, and the symbols for sizes that are left open. */
import { NimforgeError, sizeOf, type Tensor, tensor } from "@nimforge/tensor";
import { type Dim, equalDims, formatDim, symbol } from "../../dim.js";
import { anyShape } from "../../ops/sequence.js";
import { formatType, tensorType, type ValueType } from "../../types.js";
import type { SourceType, SourceValueInfo } from "./source.js";

/** A size, the name of a symbol, or an expression over symbols. */
export type DimSpec = number | string | Dim;
/** A tensor, elements for a vector or for the declared shape, or one value for every element. */
export type BindValue = Tensor | number | bigint | boolean | string | readonly (number | bigint | boolean | string)[];

export interface InputOptions {
  readonly shapes?: Readonly<Record<string, readonly DimSpec[]>> | undefined;
  /** Inclusive bounds of symbols. */
  readonly ranges?: Readonly<Record<string, readonly [low: number, high: number]>> | undefined;
  readonly bind?: Readonly<Record<string, BindValue>> | undefined;
}

/** A run-time size is at least this unless a range says otherwise. */
const defaultLow = 1;

export interface ResolvedInputs {
  /** In signature order, without bound ones. */
  readonly types: ReadonlyMap<string, ValueType>;
  readonly bound: ReadonlyMap<string, Tensor>;
  readonly symbols: ReadonlyMap<string, Dim>;
}

/** @throws NimforgeError usage when an option does not fit the model, unsupported for an input without a known rank or a plain type. */
export function resolveInputs(
  inputs: readonly SourceValueInfo[],
  options: InputOptions,
  file: string | undefined,
): ResolvedInputs {
  const usage = (code: string, fault: string, details: { expected?: string; found?: string; fix?: string } = {}) =>
    new NimforgeError("usage", code, fault, { file, ...details });
  const names = inputs.map(({ name }) => name);
  for (const [option, given] of [
    ["shapes", options.shapes],
    ["bind", options.bind],
  ] as const)
    for (const name of Object.keys(given ?? {}))
      if (!names.includes(name))
        throw usage("unknown-input", `${option}: the model has no input ${JSON.stringify(name)}`, {
          expected: names.map((n) => JSON.stringify(n)).join(", ") || "no inputs",
        });

  const symbols = new Map<string, Dim>();
  const ranges = new Map(Object.entries(options.ranges ?? {}));
  const symbolOf = (name: string): Dim => {
    let dim = symbols.get(name);
    if (dim === undefined) {
      const [low, high] = ranges.get(name) ?? [defaultLow, Number.POSITIVE_INFINITY];
      if (!(Number.isSafeInteger(low) && low >= 0 && high >= low))
        throw usage("bad-range", `range of ${JSON.stringify(name)} is not valid`, {
          expected: "0 <= low <= high",
          found: `${low} to ${high}`,
        });
      dim = low === high ? low : symbol(name, low, high);
      symbols.set(name, dim);
    }
    return dim;
  };
  const given = (spec: DimSpec): Dim => {
    if (typeof spec === "string") return symbolOf(spec);
    if (typeof spec === "number" && !(Number.isSafeInteger(spec) && spec >= 0))
      throw usage("bad-shape", "a size must be a non-negative integer", { found: String(spec) });
    return spec;
  };

  // First what the user says: a declared name takes the given size at every input that mentions it.
  const renamed = new Map<string, Dim>();
  for (const { name, type } of inputs) {
    const shape = own(options.shapes, name);
    if (!shape) continue;
    const declared = type?.kind === "tensor" ? type.shape : undefined;
    if (declared && declared.length !== shape.length)
      throw usage("input-shape", `the shape given for input ${JSON.stringify(name)} has the wrong rank`, {
        expected: `${declared.length} sizes`,
        found: `${shape.length}`,
      });
    shape.forEach((spec, axis) => {
      const size = given(spec);
      const old = declared?.[axis];
      const before = typeof old === "string" ? renamed.get(old) : old;
      if (before !== undefined && !equalDims(before, size))
        throw usage(
          "input-shape",
          `size ${axis} of input ${JSON.stringify(name)} is fixed in the model or given before`,
          { expected: formatDim(before), found: formatDim(size) },
        );
      if (typeof old === "string") renamed.set(old, size);
    });
  }

  const declaredNames = new Set(
    inputs.flatMap(({ type }) =>
      type?.kind === "tensor" ? (type.shape ?? []).filter((dim) => typeof dim === "string") : [],
    ),
  );
  const fresh = (name: string, axis: number): Dim => {
    let candidate = `${name}_${axis}`;
    while (declaredNames.has(candidate) || symbols.has(candidate)) candidate += "_";
    return symbolOf(candidate);
  };
  const typeOf = (name: string, type: SourceType | undefined, shape?: readonly DimSpec[]): ValueType => {
    const quoted = JSON.stringify(name);
    if (type === undefined)
      throw new NimforgeError("malformed", "untyped-input", `input ${quoted} has no element type`, { file });
    if (type.kind === "sequence" || type.kind === "optional") {
      const { element } = type;
      // Elements of a sequence may differ in rank.
      const mixed = type.kind === "sequence" && element?.kind === "tensor" && !element.shape;
      return { kind: type.kind, element: mixed ? tensorType(element.dtype, anyShape) : typeOf(name, element) };
    }
    if (type.kind !== "tensor")
      throw new NimforgeError("unsupported", "input-type", `input ${quoted} is a ${type.kind}`, {
        file,
        expected: "a tensor, sequence or optional",
      });
    if (shape) return tensorType(type.dtype, shape.map(given));
    if (!type.shape)
      throw new NimforgeError("unsupported", "unknown-rank", `input ${quoted} has no declared rank`, {
        file,
        fix: `give its shape: --shape ${name}=…`,
      });
    return tensorType(
      type.dtype,
      type.shape.map((dim, axis) =>
        typeof dim === "number" ? dim : dim === undefined ? fresh(name, axis) : (renamed.get(dim) ?? symbolOf(dim)),
      ),
    );
  };

  const types = new Map<string, ValueType>();
  const bound = new Map<string, Tensor>();
  for (const { name, type } of inputs) {
    const value = own(options.bind, name);
    if (value !== undefined) bound.set(name, boundTensor(name, type, value, own(options.shapes, name), usage));
    else types.set(name, typeOf(name, type, own(options.shapes, name)));
  }
  for (const name of ranges.keys())
    if (!symbols.has(name))
      throw usage("unknown-symbol", `ranges: no input has a size named ${JSON.stringify(name)}`, {
        expected: [...symbols.keys()].map((n) => JSON.stringify(n)).join(", ") || "no symbols",
      });
  return { types, bound, symbols };
}

/** A record's own entry: names are data, and "constructor" is one too. */
function own<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record && Object.hasOwn(record, name) ? record[name] : undefined;
}

function boundTensor(
  name: string,
  type: SourceType | undefined,
  value: BindValue,
  given: readonly DimSpec[] | undefined,
  usage: (code: string, fault: string, details?: { expected?: string; found?: string }) => NimforgeError,
): Tensor {
  const quoted = JSON.stringify(name);
  if (type?.kind !== "tensor") throw usage("bind-type", `input ${quoted} cannot be bound: it is not a tensor`);
  const declared = given ?? type.shape;
  const isTensor = typeof value === "object" && "dtype" in value;
  const fits = (shape: readonly number[]) =>
    declared === undefined ||
    (declared.length === shape.length && declared.every((dim, axis) => typeof dim !== "number" || dim === shape[axis]));
  const fixed = declared?.every((dim) => typeof dim === "number") ? (declared as readonly number[]) : undefined;
  const made = isTensor
    ? value
    : Array.isArray(value)
      ? tensor(type.dtype, fixed ?? [value.length], value)
      : tensor(
          type.dtype,
          fixed ?? (declared ?? []).map(() => 1),
          Array.from({ length: sizeOf(fixed ?? []) }, () => value as number),
        );
  if (made.dtype !== type.dtype || !fits(made.shape))
    throw usage("bind-type", `the value bound to input ${quoted} does not fit`, {
      expected: `${type.dtype}${declared ? `[${declared.map((dim) => (typeof dim === "number" || typeof dim === "string" ? dim : "?")).join(", ")}]` : ""}`,
      found: formatType(tensorType(made.dtype, made.shape)),
    });
  return made;
}
