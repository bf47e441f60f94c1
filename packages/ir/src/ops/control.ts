/**
 * Control flow. Subgraphs are closed graphs: outer values that they use are the last `captures` inputs of the node and, in the same order,
 * of each of its subgraphs.
 *   If(cond, …captures)                       then_branch(…captures)  else_branch(…captures)
 *   Loop(M?, cond?, …carried, …captures)      body(iteration, cond, …carried, …captures) → cond, …carried, …scanned
 *   Scan(…states, …scanned, …captures)        body(…states, …elements, …captures) → …states, …scanned
 */
import { allocate, sizeOf, type Tensor, tensor } from "@nimforge/tensor";
import { asSymbol, type Dim, equalDims, visitSymbols } from "../dim.js";
import type { Graph } from "../graph.js";
import { type Op, type OpContext, opaqueOp, type RuntimeValue } from "../op.js";
import { equalTypes, formatType, type TensorType, tensorType, type ValueType } from "../types.js";
import { commonType } from "./sequence.js";
import { range, selectAlong, stackAlong } from "./tensors.js";

const graphAttribute = { type: "graph", required: true } as const;

const subgraph = (context: OpContext, name: string): Graph => context.attribute(name) as Graph;
const typesOf = (graph: Graph): ValueType[] => graph.outputs.map(({ value }) => value.type);

/** Keys of the sizes that the node's inputs have: what a result's type may name. */
function sizesAround(context: OpContext): Set<string> {
  const keys = new Set<string>();
  for (const input of context.inputs)
    if (input?.type.kind === "tensor")
      for (const size of input.type.shape) visitSymbols(size, (atom) => keys.add(atom.key));
  return keys;
}

/** A subgraph's type as seen from outside: sizes that only the subgraph knows become new ones. */
function outerType(context: OpContext, type: ValueType, known: ReadonlySet<string>, stem: string): ValueType {
  if (type.kind !== "tensor") return { ...type, element: outerType(context, type.element, known, stem) };
  return tensorType(
    type.dtype,
    type.shape.map((size) => {
      let visible = true;
      visitSymbols(size, (atom) => {
        visible &&= known.has(atom.key);
      });
      return visible ? size : context.context.freshSymbol(stem);
    }),
  );
}

const conditionOf = (value: RuntimeValue | undefined): boolean => Boolean((value as Tensor).data[0]);

const branch = opaqueOp(
  "If",
  {
    inputs: [{ name: "cond", types: ["bool"] }, "captures*"],
    attributes: { then_branch: graphAttribute, else_branch: graphAttribute, captures: 0 },
  },
  {
    infer: (context) => {
      const yes = typesOf(subgraph(context, "then_branch"));
      const no = typesOf(subgraph(context, "else_branch"));
      if (yes.length !== no.length)
        context.fail("the branches must have equally many outputs", { found: `${yes.length} and ${no.length}` });
      const known = sizesAround(context);
      return yes.map((type, k) => {
        const other = no[k] as ValueType;
        const common =
          (equalTypes(type, other) ? type : commonType(context, type, other, "branch")) ??
          context.unsupported(`branches that give ${formatType(type)} and ${formatType(other)}`);
        return outerType(context, common, known, "branch");
      });
    },
    reference: (context, [condition, ...captures]) =>
      context.run(
        subgraph(context, conditionOf(condition) ? "then_branch" : "else_branch"),
        captures as RuntimeValue[],
      ),
  },
);

/** A size of the value after the loop: it stays what it was where the body gives back the size it takes. */
function carriedType(context: OpContext, first: ValueType, formal: ValueType, made: ValueType): ValueType {
  if (first.kind !== "tensor" || formal.kind !== "tensor" || made.kind !== "tensor") {
    // An optional that the body fills is no longer one.
    const start = first.kind === "optional" && made.kind !== "optional" ? first.element : first;
    return (
      commonType(context, start, made, "carried") ??
      context.unsupported(`a carried value that is ${formatType(first)} and then ${formatType(made)}`)
    );
  }
  if (first.dtype !== made.dtype || first.shape.length !== made.shape.length)
    context.unsupported(`a carried value that is ${formatType(first)} and then ${formatType(made)}`);
  return tensorType(
    first.dtype,
    first.shape.map((size, axis) => {
      const same =
        equalDims(formal.shape[axis] as Dim, made.shape[axis] as Dim) &&
        (equalDims(formal.shape[axis] as Dim, size) || asSymbol(formal.shape[axis] as Dim) === undefined);
      return same ? size : context.context.freshSymbol("carried");
    }),
  );
}

/** Collected values of one output, stacked along a new axis. With no iteration, sizes that are not numbers are 0. */
function stacked(values: readonly Tensor[], type: TensorType, axis: number): Tensor {
  const at = axis < 0 ? axis + type.shape.length + 1 : axis;
  if (values.length > 0) return stackAlong(values, at);
  const shape = type.shape.map((size) => (typeof size === "number" ? size : 0));
  shape.splice(at, 0, 0);
  return { dtype: type.dtype, shape, data: allocate(type.dtype, sizeOf(shape)) };
}

const needTensor = (context: OpContext, type: ValueType | undefined): TensorType =>
  type?.kind === "tensor"
    ? type
    : context.fail("values that are collected must be tensors", { found: type && formatType(type) });

/** How the inputs after the first `fixed` divide. */
function carriedCount(context: OpContext, fixed: number): number {
  const count = Math.max(context.inputs.length, fixed) - fixed - context.int("captures");
  return count >= 0 ? count : context.fail("captures exceeds the inputs", { found: String(context.int("captures")) });
}

const loop = opaqueOp(
  "Loop",
  {
    inputs: [
      { name: "M", types: ["int64"], optional: true },
      { name: "cond", types: ["bool"], optional: true },
      "v_initial*",
    ],
    attributes: { body: graphAttribute, captures: 0 },
  },
  {
    infer: (context) => {
      const body = subgraph(context, "body");
      const carried = carriedCount(context, 2);
      const made = typesOf(body);
      if (!context.has(0) && !context.has(1)) context.fail("neither M nor cond is given: the loop never ends");
      if (made.length < 1 + carried)
        context.fail("the body must give back the condition and each carried value", {
          expected: `at least ${1 + carried} outputs`,
          found: String(made.length),
        });
      const known = sizesAround(context);
      const finals = range(carried).map((k) => {
        const first = context.inputs[2 + k]?.type ?? context.fail(`carried value ${k} is missing`);
        return outerType(
          context,
          carriedType(context, first, body.inputs[2 + k]!.value.type, made[1 + k] as ValueType),
          known,
          "carried",
        );
      });
      const trips = context.dims(0)?.[0];
      const runsAll = !context.has(1) && typeof trips === "number" && trips >= 0;
      const scans = made.slice(1 + carried).map((type) => {
        const element = needTensor(context, outerType(context, needTensor(context, type), known, "scanned"));
        return tensorType(element.dtype, [
          runsAll ? trips : context.context.freshSymbol("iterations"),
          ...element.shape,
        ]);
      });
      return [...finals, ...scans];
    },
    reference: (context, inputs) => {
      const body = subgraph(context, "body");
      const count = carriedCount(context, 2);
      const [trips, condition] = inputs as readonly (Tensor | undefined)[];
      const captures = inputs.slice(2 + count) as RuntimeValue[];
      let carried = inputs.slice(2, 2 + count) as RuntimeValue[];
      const collected: Tensor[][] = body.outputs.slice(1 + count).map(() => []);
      const most = trips === undefined ? Number.POSITIVE_INFINITY : Number(trips.data[0]);
      let going = condition === undefined || conditionOf(condition);
      const counterType = body.inputs[0]!.value.tensor;
      const conditionType = body.inputs[1]!.value.tensor;
      const shapeOf = (type: TensorType) => type.shape.map(() => 1);
      for (let k = 0; going && k < most; k++) {
        const iteration = tensor(counterType.dtype, shapeOf(counterType), [k]);
        const keep = tensor("bool", shapeOf(conditionType), [going]);
        const [next, ...results] = context.run(body, [iteration, keep, ...carried, ...captures]);
        // Without the input, what the body says is ignored.
        going = condition === undefined || conditionOf(next);
        carried = results.slice(0, count);
        results.slice(count).forEach((value, position) => collected[position]!.push(value as Tensor));
      }
      const scans = collected.map((values, k) => stacked(values, body.outputs[1 + count + k]!.value.tensor, 0));
      return [...carried, ...scans];
    },
  },
);

/** Per scanned value: axis and direction (1: backwards). */
const listed = (context: OpContext, name: string, k: number): number => context.ints(name)?.[k] ?? 0;

const scan = opaqueOp(
  "Scan",
  {
    inputs: ["initial_state_and_scan_inputs*"],
    attributes: {
      body: graphAttribute,
      num_scan_inputs: { type: "int", required: true },
      scan_input_axes: { type: "ints" },
      scan_input_directions: { type: "ints" },
      scan_output_axes: { type: "ints" },
      scan_output_directions: { type: "ints" },
      captures: 0,
    },
  },
  {
    infer: (context) => {
      const body = subgraph(context, "body");
      const scanned = context.int("num_scan_inputs");
      const states = carriedCount(context, 0) - scanned;
      if (scanned < 1 || states < 0)
        context.fail("num_scan_inputs does not fit the inputs", { found: String(scanned) });
      const made = typesOf(body);
      const known = sizesAround(context);
      const lengths = range(scanned).map((k) => {
        const shape = context.shape(states + k);
        return shape[context.axis(listed(context, "scan_input_axes", k), shape.length, "scan_input_axes")] as Dim;
      });
      const length = lengths.reduce((a, b) => context.same(a, b, "lengths of the scanned inputs"));
      const finals = range(states).map((k) =>
        outerType(
          context,
          carriedType(context, context.inputs[k]!.type, body.inputs[k]!.value.type, made[k] as ValueType),
          known,
          "state",
        ),
      );
      const scans = made.slice(states).map((type, k) => {
        const element = needTensor(context, outerType(context, needTensor(context, type), known, "scanned"));
        const shape = [...element.shape];
        shape.splice(
          context.axis(listed(context, "scan_output_axes", k), shape.length + 1, "scan_output_axes"),
          0,
          length,
        );
        return tensorType(element.dtype, shape);
      });
      return [...finals, ...scans];
    },
    reference: (context, inputs) => {
      const body = subgraph(context, "body");
      const scanned = context.int("num_scan_inputs");
      const count = carriedCount(context, 0) - scanned;
      const sources = inputs.slice(count, count + scanned) as Tensor[];
      const captures = inputs.slice(count + scanned) as RuntimeValue[];
      const axes = sources.map(({ shape }, k) => context.axis(listed(context, "scan_input_axes", k), shape.length));
      const length = sources[0]!.shape[axes[0]!] as number;
      let states = inputs.slice(0, count) as RuntimeValue[];
      const collected: Tensor[][] = body.outputs.slice(count).map(() => []);
      for (let step = 0; step < length; step++) {
        const elements = sources.map((source, k) =>
          selectAlong(
            source,
            axes[k] as number,
            listed(context, "scan_input_directions", k) ? length - 1 - step : step,
          ),
        );
        const results = context.run(body, [...states, ...elements, ...captures]);
        states = results.slice(0, count);
        results
          .slice(count)
          .forEach((value, k) =>
            listed(context, "scan_output_directions", k)
              ? collected[k]!.unshift(value as Tensor)
              : collected[k]!.push(value as Tensor),
          );
      }
      const scans = collected.map((values, k) =>
        stacked(values, body.outputs[count + k]!.value.tensor, listed(context, "scan_output_axes", k)),
      );
      return [...states, ...scans];
    },
  },
);

export const control: readonly Op[] = [branch, loop, scan];
