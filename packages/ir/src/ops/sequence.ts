/** Sequences and optionals. At run time a sequence is a list, an empty optional is null, a full one is its element. */
import { type Tensor, tensor } from "@nimforge/tensor";
import { type Dim, equalDims, symbol } from "../dim.js";
import type { Graph } from "../graph.js";
import { type Op, type OpContext, opaqueOp, type RuntimeValue, typeSets } from "../op.js";
import { formatType, type SequenceType, type TensorType, tensorType, type ValueType } from "../types.js";
import { dtypeAttribute } from "./shape.js";
import { concatAlong, integers, range, selectAlong, sliceAlong, stackAlong } from "./tensors.js";

/** The shape of elements whose rank is not known: those of an empty sequence. Known by its identity. */
export const anyShape: readonly Dim[] = Object.freeze([symbol("any")]);

/** A type that both values have: sizes that differ become new ones. Undefined where kinds, element types or ranks differ. */
export function commonType(context: OpContext, a: ValueType, b: ValueType, stem: string): ValueType | undefined {
  if (a.kind === "tensor" && b.kind === "tensor") {
    if (a.dtype !== b.dtype) return undefined;
    if (a.shape === anyShape) return b;
    if (b.shape === anyShape) return a;
    if (a.shape.length !== b.shape.length) return undefined;
    return tensorType(
      a.dtype,
      a.shape.map((size, axis) => (equalDims(size, b.shape[axis] as Dim) ? size : context.context.freshSymbol(stem))),
    );
  }
  if (a.kind === "tensor" || b.kind === "tensor" || a.kind !== b.kind) return undefined;
  const element = commonElement(context, a.element, b.element, stem);
  return element && { kind: a.kind, element };
}

/** As commonType, but tensors of different ranks share an element type of unknown rank. */
function commonElement(context: OpContext, a: ValueType, b: ValueType, stem: string): ValueType | undefined {
  if (
    a.kind === "tensor" &&
    b.kind === "tensor" &&
    a.dtype === b.dtype &&
    a.shape !== anyShape &&
    b.shape !== anyShape &&
    a.shape.length !== b.shape.length
  )
    return tensorType(a.dtype, anyShape);
  return commonType(context, a, b, stem);
}

const sequenceOf = (element: ValueType): SequenceType => ({ kind: "sequence", element });

function sequenceType(context: OpContext, input = 0): SequenceType {
  const type = context.inputs[input]?.type ?? context.fail("the sequence is missing");
  return type.kind === "sequence" ? type : context.fail("the input must be a sequence", { found: formatType(type) });
}

/** The type of one element taken out: run-time sizes of elements differ from one to the next. */
function oneElement(context: OpContext, type: ValueType, stem: string): ValueType {
  if (type.kind !== "tensor") return type;
  if (type.shape === anyShape) context.unsupported("the rank of the sequence's elements is not known");
  return tensorType(
    type.dtype,
    type.shape.map((size) => (typeof size === "number" ? size : context.context.freshSymbol(stem))),
  );
}

const listOf = (value: RuntimeValue | undefined): readonly RuntimeValue[] => value as readonly RuntimeValue[];
const scalarOf = (value: RuntimeValue | undefined): number => Number((value as Tensor).data[0]);

/** A position in [0, length), or up to and including it where `end` is allowed; negative counts from the end. */
function positionIn(context: OpContext, value: number, length: number, end: boolean): number {
  const position = value < 0 ? value + length : value;
  if (position < 0 || position > length || (position === length && !end))
    context.fail("the position is out of range", {
      expected: `[${-length}, ${end ? length : length - 1}]`,
      found: String(value),
    });
  return position;
}

const position = { name: "position", types: typeSets.index };

/** Sizes of the parts along an axis of `size`; undefined where they are known only at run time. */
function partSizes(size: Dim, split: readonly Dim[] | undefined, scalar: boolean): number[] | undefined {
  if (split?.some((part) => typeof part !== "number")) return undefined;
  const parts = split as readonly number[] | undefined;
  if (parts && !scalar) return [...parts];
  if (typeof size !== "number" || (scalar && !parts)) return undefined;
  const step = parts?.[0] ?? 1;
  return range(Math.ceil(size / step)).map((k) => Math.min(step, size - k * step));
}

const splitToSequence = opaqueOp(
  "SplitToSequence",
  { inputs: ["input", { name: "split", types: typeSets.index, optional: true }], attributes: { axis: 0, keepdims: 1 } },
  {
    infer: (context) => {
      const { dtype, shape } = context.type(0);
      const axis = context.axis(context.int("axis"), shape.length);
      if (!context.has(1) && !context.int("keepdims"))
        return [
          sequenceOf(
            tensorType(
              dtype,
              shape.filter((_, k) => k !== axis),
            ),
          ),
        ];
      const parts = context.has(1) ? partSizes(shape[axis] as Dim, context.dims(1), context.rank(1) === 0) : [1];
      const equal = parts && parts.length > 0 && parts.every((part) => part === parts[0]);
      return [
        sequenceOf(
          tensorType(
            dtype,
            shape.map((size, k) =>
              k !== axis ? size : equal ? (parts[0] as number) : context.context.freshSymbol("part"),
            ),
          ),
        ),
      ];
    },
    reference: (context, [value, split]) => {
      const input = value as Tensor;
      const axis = context.axis(context.int("axis"), input.shape.length);
      const size = input.shape[axis] as number;
      if (!split && !context.int("keepdims")) return [range(size).map((k) => selectAlong(input, axis, k))];
      const sizes = split ? integers(split as Tensor) : undefined;
      const parts = partSizes(size, sizes, (split as Tensor | undefined)?.shape.length === 0) as number[];
      const total = parts.reduce((a, b) => a + b, 0);
      if (parts.some((part) => part < 0) || total !== size)
        context.fail("the parts must sum to the axis", { expected: String(size), found: String(total) });
      let start = 0;
      return [
        parts.map((part) => {
          start += part;
          return sliceAlong(input, axis, start - part, part);
        }),
      ];
    },
  },
);

const concatFromSequence = opaqueOp(
  "ConcatFromSequence",
  { inputs: ["input_sequence"], attributes: { axis: { type: "int", required: true }, new_axis: 0 } },
  {
    infer: (context) => {
      const element = oneElement(context, sequenceType(context).element, "concat") as TensorType;
      const shape = [...element.shape];
      const fresh = context.context.freshSymbol("concat");
      if (context.int("new_axis")) shape.splice(context.axis(context.int("axis"), shape.length + 1), 0, fresh);
      else shape[context.axis(context.int("axis"), shape.length)] = fresh;
      return [tensorType(element.dtype, shape)];
    },
    reference: (context, [sequence]) => {
      const parts = listOf(sequence) as readonly Tensor[];
      const first = parts[0] ?? context.fail("the sequence is empty");
      const stacks = context.int("new_axis") !== 0;
      const axis = context.axis(context.int("axis"), first.shape.length + (stacks ? 1 : 0));
      for (const part of parts)
        if (
          part.shape.length !== first.shape.length ||
          part.shape.some((size, k) => size !== first.shape[k] && (stacks || k !== axis))
        )
          context.fail("the elements do not fit together", {
            expected: `[${first.shape.join(", ")}]`,
            found: `[${part.shape.join(", ")}]`,
          });
      return [stacks ? stackAlong(parts, axis) : concatAlong(parts, axis)];
    },
  },
);

/** body(element, …others, …captures) for each element; tensors among the others are the same for all. */
const sequenceMap = opaqueOp(
  "SequenceMap",
  {
    inputs: ["input_sequence", "additional_inputs*"],
    attributes: { body: { type: "graph", required: true }, captures: 0 },
  },
  {
    infer: (context) => {
      sequenceType(context);
      return (context.attribute("body") as Graph).outputs.map(({ value }) =>
        sequenceOf(oneElement(context, value.type, "mapped")),
      );
    },
    reference: (context, inputs) => {
      const body = context.attribute("body") as Graph;
      const own = inputs.slice(0, inputs.length - context.int("captures"));
      const captures = inputs.slice(own.length) as RuntimeValue[];
      const length = listOf(inputs[0]).length;
      for (const input of own)
        if (Array.isArray(input) && input.length !== length)
          context.fail("the sequences must have one length", { expected: String(length), found: String(input.length) });
      const results = range(length).map((k) =>
        context.run(body, [
          ...own.map((input) => (Array.isArray(input) ? input[k] : input) as RuntimeValue),
          ...captures,
        ]),
      );
      return body.outputs.map((_, output) => results.map((result) => result[output] as RuntimeValue));
    },
  },
);

export const sequence: readonly Op[] = [
  opaqueOp(
    "SequenceEmpty",
    { attributes: { dtype: { type: "int" } } },
    {
      infer: (context) => [sequenceOf(tensorType(dtypeAttribute(context, "dtype", "float32"), anyShape))],
      reference: () => [[]],
    },
  ),
  opaqueOp(
    "SequenceConstruct",
    { inputs: ["inputs*"] },
    {
      infer: (context) => {
        const types = context.inputs.map((_, k) => context.type(k));
        const first = types[0] ?? context.fail("takes at least one input");
        const element = types.reduce<ValueType | undefined>(
          (a, b) => a && commonElement(context, a, b, "element"),
          first,
        );
        return [
          sequenceOf(
            element ??
              context.fail("the inputs must have one element type", { found: types.map(formatType).join(", ") }),
          ),
        ];
      },
      reference: (_context, inputs) => [inputs as readonly RuntimeValue[]],
    },
  ),
  opaqueOp(
    "SequenceLength",
    { inputs: ["input_sequence"] },
    {
      infer: (context) => {
        sequenceType(context);
        return [tensorType("int64", [])];
      },
      reference: (_context, [list]) => [tensor("int64", [], [BigInt(listOf(list).length)])],
    },
  ),
  opaqueOp(
    "SequenceAt",
    { inputs: ["input_sequence", position] },
    {
      infer: (context) => [oneElement(context, sequenceType(context).element, "element")],
      reference: (context, [list, at]) => [
        listOf(list)[positionIn(context, scalarOf(at), listOf(list).length, false)] as RuntimeValue,
      ],
    },
  ),
  opaqueOp(
    "SequenceInsert",
    { inputs: ["input_sequence", "tensor", { ...position, optional: true }] },
    {
      infer: (context) => {
        const element = commonElement(context, sequenceType(context).element, context.type(1), "element");
        const details = { expected: formatType(sequenceType(context).element), found: formatType(context.type(1)) };
        return [sequenceOf(element ?? context.fail("the tensor must have the sequence's element type", details))];
      },
      reference: (context, [value, item, at]) => {
        const list = [...listOf(value)];
        list.splice(at ? positionIn(context, scalarOf(at), list.length, true) : list.length, 0, item as Tensor);
        return [list];
      },
    },
  ),
  opaqueOp(
    "SequenceErase",
    { inputs: ["input_sequence", { ...position, optional: true }] },
    {
      infer: (context) => [sequenceType(context)],
      reference: (context, [value, at]) => {
        const list = [...listOf(value)];
        list.splice(positionIn(context, at ? scalarOf(at) : -1, list.length, false), 1);
        return [list];
      },
    },
  ),
  splitToSequence,
  concatFromSequence,
  sequenceMap,
  opaqueOp(
    "Optional",
    { inputs: ["input?"], attributes: { type: { type: "any" } } },
    {
      infer: (context) => {
        const element = context.inputs[0]?.type;
        return element ? [{ kind: "optional", element }] : context.unsupported("an empty Optional made in the graph");
      },
      reference: (_context, [value]) => [value ?? null],
    },
  ),
  opaqueOp(
    "OptionalHasElement",
    { inputs: ["input?"] },
    {
      infer: () => [tensorType("bool", [])],
      reference: (_context, [value]) => [tensor("bool", [], [value !== undefined && value !== null])],
    },
  ),
  opaqueOp(
    "OptionalGetElement",
    { inputs: ["input"] },
    {
      infer: (context) => {
        const type = context.inputs[0]?.type as ValueType;
        return [type.kind === "optional" ? type.element : type];
      },
      reference: (context, [value]) => [value ?? context.fail("the optional is empty")],
    },
  ),
  // Identity of what is not a tensor; and of strings.
  opaqueOp(
    "Forward",
    { domain: "nim", inputs: ["input"] },
    {
      infer: (context) => [context.inputs[0]?.type as ValueType],
      reference: (_context, [value]) => [value as RuntimeValue],
    },
  ),
];
