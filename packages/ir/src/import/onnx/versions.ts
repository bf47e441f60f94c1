/**
 * Opset conversion: one table. A row takes a node of one op, written in an opset in [from, to), to the form of opset `to`; rows are applied until none
 * fits, so the rest of the compiler sees the newest forms only. Op versions that only widened types or fixed wording need no row.
 * Source: the ONNX changelog (https://github.com/onnx/onnx/blob/main/docs/Changelog.md).
 */
import { type DType, dtypes, type ErrorDetails, NimforgeError, type Tensor, tensor } from "@nimforge/tensor";
import type { Dim } from "../../dim.js";
import type { AttributeValue, SourceAttribute, SourceNode, TensorSource } from "./source.js";

/** What a conversion may know of the values around the node. */
export interface ConversionContext {
  /** Type of a tensor that exists already; undefined for other kinds of value. */
  type(name: string): { readonly dtype: DType; readonly shape: readonly Dim[] } | undefined;
  /** Elements where the build knows them. */
  constant(name: string): Tensor | undefined;
  /** Whether anything uses a value. */
  used(name: string): boolean;
  /** A name that nothing has. */
  fresh(stem: string): string;
}

export interface Conversion {
  readonly op: string;
  /** The oldest opset whose form the row reads. */
  readonly from: number;
  readonly to: number;
  /** The op's new name, where it got one. */
  readonly becomes?: string;
  /** The nodes that take the node's place, in order; they are in opset `to`. */
  convert(node: Draft): readonly SourceNode[];
}

/** A node being converted: what a row reads and how it writes. */
export class Draft {
  readonly extra: SourceNode[] = [];
  constructor(
    readonly node: SourceNode,
    readonly context: ConversionContext,
    readonly version: number,
  ) {}

  input(k: number): string {
    return this.node.inputs[k] ?? "";
  }
  attribute(name: string): AttributeValue | undefined {
    return this.node.attributes.get(name)?.value;
  }
  number(name: string): number | undefined {
    const value = this.attribute(name);
    return value === undefined
      ? undefined
      : typeof value === "number"
        ? value
        : this.fail(`attribute ${name} must be a number`);
  }
  integers(name: string): readonly (number | bigint)[] | undefined {
    const value = this.attribute(name);
    if (value === undefined) return undefined;
    const kind = this.node.attributes.get(name)?.kind;
    return kind === "ints"
      ? (value as readonly (number | bigint)[])
      : this.fail(`attribute ${name} must be a list of integers`);
  }
  type(k: number): { readonly dtype: DType; readonly shape: readonly Dim[] } {
    return this.context.type(this.input(k)) ?? this.fail(`input ${k} must be a tensor`);
  }

  /** Emits a constant and gives its name. */
  constant(stem: string, value: Tensor): string {
    const name = this.context.fresh(`${this.node.outputs[0] ?? this.node.name}.${stem}`);
    const source: TensorSource = { name, dtype: value.dtype, shape: value.shape, read: () => value };
    this.extra.push({
      ...this.plain("Constant", [], [name]),
      attributes: new Map([["value", { kind: "tensor", value: source }]]),
    });
    return name;
  }
  int64s(stem: string, values: readonly (number | bigint)[]): string {
    return this.constant(stem, tensor("int64", [values.length], values));
  }
  /** Emits a node with one new output and gives that output's name. */
  emit(op: string, inputs: readonly string[], attributes: Readonly<Record<string, SourceAttribute>> = {}): string {
    const name = this.context.fresh(`${this.node.outputs[0] ?? this.node.name}.${op}`);
    this.extra.push({ ...this.plain(op, inputs, [name]), attributes: new Map(Object.entries(attributes)) });
    return name;
  }
  /** The result: what was emitted, then the node itself with these changes. */
  result(changes: {
    op?: string;
    inputs?: readonly string[];
    outputs?: readonly string[];
    set?: Readonly<Record<string, SourceAttribute>>;
    remove?: readonly string[];
  }): readonly SourceNode[] {
    const attributes = new Map(this.node.attributes);
    for (const name of changes.remove ?? []) attributes.delete(name);
    for (const [name, value] of Object.entries(changes.set ?? {})) attributes.set(name, value);
    const { op = this.node.op, inputs = this.node.inputs, outputs = this.node.outputs } = changes;
    return [...this.extra, { ...this.plain(op, inputs, outputs), attributes }];
  }
  plain(op: string, inputs: readonly string[], outputs: readonly string[]): SourceNode {
    return { ...this.node, op, version: this.version, inputs, outputs, attributes: new Map() };
  }

  fail(fault: string, details: ErrorDetails = {}): never {
    throw new NimforgeError("malformed", "bad-node", fault, { ...this.place(), ...details });
  }
  unsupported(fault: string, fix?: string): never {
    throw new NimforgeError("unsupported", "unsupported-form", fault, { ...this.place(), fix });
  }
  private place(): ErrorDetails {
    const { name, op, domain, version } = this.node;
    return { node: name, op, domain, opset: version };
  }
}

const int = (value: number): SourceAttribute => ({ kind: "int", value });
const ints = (value: readonly (number | bigint)[]): SourceAttribute => ({ kind: "ints", value });
const string = (value: string): SourceAttribute => ({ kind: "string", value });
const float = (value: number): SourceAttribute => ({ kind: "float", value });

const rows = (
  ops: readonly string[],
  from: number,
  to: number,
  convert: Conversion["convert"],
  becomes?: string,
): Conversion[] => ops.map((op) => ({ op, from, to, convert, ...(becomes !== undefined && { becomes }) }));

/** An attribute of integers that became input `at`; an absent one leaves the input out. */
const intsToInput = (attribute: string, at: number) => (draft: Draft) => {
  const values = draft.integers(attribute);
  if (values === undefined) return draft.result({});
  const inputs = Array.from({ length: at }, (_, k) => draft.input(k));
  return draft.result({ inputs: [...inputs, draft.int64s(attribute, values)], remove: [attribute] });
};

const remove =
  (...names: string[]) =>
  (draft: Draft) =>
    draft.result({ remove: names });

/** Before opset 7, B's dimensions lined up with A's at `axis`; numpy's rule needs ones after them. */
function alignBroadcast(draft: Draft): readonly SourceNode[] {
  const axis = draft.number("axis");
  const changes = { remove: ["axis", "broadcast", "consumed_inputs"] };
  if (!draft.number("broadcast") || axis === undefined) return draft.result(changes);
  const rank = draft.type(0).shape.length;
  const start = axis < 0 ? axis + rank : axis;
  const own = draft.type(1).shape.length;
  const trailing = rank - start - own;
  if (trailing < 0) draft.fail("broadcast axis leaves no room for the second input", { found: `axis ${axis}` });
  if (trailing === 0) return draft.result(changes);
  const axes = draft.int64s(
    "axes",
    Array.from({ length: trailing }, (_, k) => own + k),
  );
  return draft.result({ ...changes, inputs: [draft.input(0), draft.emit("Unsqueeze", [draft.input(1), axes])] });
}

/** Before opset 13 the input was flattened to two dimensions at `axis`, and the operator worked on the second. */
function flattenedAxis(draft: Draft): readonly SourceNode[] {
  const { shape } = draft.type(0);
  const given = draft.number("axis") ?? 1;
  const axis = given < 0 ? given + shape.length : given;
  if (axis === shape.length - 1) return draft.result({ set: { axis: int(-1) } });
  const x = draft.input(0);
  const flat = draft.emit("Flatten", [x], { axis: int(axis) });
  const result = draft.emit(draft.node.op, [flat], { axis: int(1) });
  return draft.result({
    op: "Reshape",
    inputs: [result, draft.emit("Shape", [x])],
    remove: [...draft.node.attributes.keys()],
  });
}

/** An input that is an empty tensor means the same as one that is left out. */
function withoutEmpty(draft: Draft, k: number): string {
  const name = draft.input(k);
  const shape = name === "" ? undefined : draft.context.type(name)?.shape;
  return shape?.length === 1 && shape[0] === 0 ? "" : name;
}

const upsampleModes = new Map([
  ["nearest", "nearest"],
  ["linear", "linear"],
  ["bilinear", "linear"],
]);

function upsampleToResize(draft: Draft): readonly SourceNode[] {
  const given = draft.attribute("mode") ?? "nearest";
  const mode = upsampleModes.get(String(given)) ?? draft.fail("unknown mode", { found: String(given) });
  const set = {
    mode: string(mode),
    coordinate_transformation_mode: string("asymmetric"),
    nearest_mode: string("floor"),
  };
  return draft.result({ op: "Resize", inputs: [draft.input(0), "", draft.input(1)], set });
}

/** Opset 10 fixed asymmetric coordinates; for nearest, onnxruntime rounds down when enlarging and up when shrinking. */
function resize10(draft: Draft): readonly SourceNode[] {
  const scales = draft.context.constant(draft.input(1));
  const shrinks = scales !== undefined && Array.from(scales.data as ArrayLike<number>).some((scale) => scale < 1);
  const set = {
    coordinate_transformation_mode: string("asymmetric"),
    nearest_mode: string(shrinks ? "ceil" : "floor"),
  };
  return draft.result({ inputs: [draft.input(0), "", draft.input(1)], set });
}

/** Inference gives one output; the training outputs of old forms have no newer equivalent except the running statistics. */
function batchNormalization(draft: Draft): readonly SourceNode[] {
  const used = draft.node.outputs.map((name, k) => k > 0 && name !== "" && draft.context.used(name));
  if (used[3] || used[4]) draft.unsupported("the saved mean and variance of training are not computed any more");
  const training = used[1] || used[2];
  return draft.result({
    outputs: training ? draft.node.outputs.slice(0, 3) : draft.node.outputs.slice(0, 1),
    set: training ? { training_mode: int(1) } : {},
  });
}

function dropout(draft: Draft): readonly SourceNode[] {
  const ratio = draft.constant("ratio", tensor("float32", [], [draft.number("ratio") ?? 0.5]));
  const changes = { inputs: [draft.input(0), ratio], remove: ["ratio", "is_test", "consumed_inputs"] };
  const mask = draft.node.outputs[1] ?? "";
  if (mask === "" || draft.node.version >= 10) return draft.result(changes);
  // Until opset 10 the mask had the data's type.
  const bool = draft.context.fresh(`${mask}.bool`);
  const nodes = draft.result({ ...changes, outputs: [draft.node.outputs[0] as string, bool] });
  const cast = draft.plain("Cast", [bool], [mask]);
  return [...nodes, { ...cast, attributes: new Map([["to", int(dtypes[draft.type(0).dtype].onnx)]]) }];
}

function clip(draft: Draft): readonly SourceNode[] {
  const { dtype } = draft.type(0);
  const bound = (name: string) => {
    const value = draft.number(name);
    return value === undefined ? "" : draft.constant(name, tensor(dtype, [], [value]));
  };
  return draft.result({ inputs: [draft.input(0), bound("min"), bound("max")], remove: ["min", "max"] });
}

function pad(draft: Draft): readonly SourceNode[] {
  const pads = draft.integers("pads") ?? draft.fail("attribute pads is missing");
  const value = draft.number("value") ?? 0;
  const inputs = [
    draft.input(0),
    draft.int64s("pads", pads),
    draft.constant("value", tensor(draft.type(0).dtype, [], [value])),
  ];
  return draft.result({ inputs, remove: ["pads", "value"] });
}

function slice(draft: Draft): readonly SourceNode[] {
  const list = (name: string) => draft.integers(name) ?? draft.fail(`attribute ${name} is missing`);
  const axes = draft.integers("axes");
  const inputs = [draft.input(0), draft.int64s("starts", list("starts")), draft.int64s("ends", list("ends"))];
  if (axes) inputs.push(draft.int64s("axes", axes));
  return draft.result({ inputs, remove: ["starts", "ends", "axes"] });
}

/** Tile-1 repeats one axis, given as inputs. */
function tile(draft: Draft): readonly SourceNode[] {
  const scalar = (k: number) => {
    const value = draft.context.constant(draft.input(k))?.data[0];
    return value === undefined ? draft.unsupported("tiles and axis must be constants in this old form") : Number(value);
  };
  const repeats = draft.type(0).shape.map((_, axis) => (axis === scalar(2) ? scalar(1) : 1));
  return draft.result({ inputs: [draft.input(0), draft.int64s("repeats", repeats)] });
}

/** PRelu-1 and -6: a slope of one dimension belongs to the channels. */
function prelu(draft: Draft): readonly SourceNode[] {
  const rank = draft.type(0).shape.length;
  const slope = draft.type(1).shape;
  if (slope.length !== 1 || slope[0] === 1 || rank <= 2) return draft.result({ remove: ["consumed_inputs"] });
  const axes = draft.int64s(
    "axes",
    Array.from({ length: rank - 2 }, (_, k) => k + 1),
  );
  return draft.result({
    inputs: [draft.input(0), draft.emit("Unsqueeze", [draft.input(1), axes])],
    remove: ["consumed_inputs"],
  });
}

/** Cast-1 names its type. */
function castName(draft: Draft): readonly SourceNode[] {
  const name = String(draft.attribute("to") ?? "").toLowerCase();
  const aliases = new Map<string, DType>([
    ["float", "float32"],
    ["double", "float64"],
  ]);
  const dtype =
    aliases.get(name) ??
    (Object.hasOwn(dtypes, name) ? (name as DType) : draft.fail("unknown element type", { found: name }));
  return draft.result({ set: { to: int(dtypes[dtype].onnx) } });
}

/** GroupNormalization-18 scales groups; from 21 on, channels: each group's factor is repeated. */
function groupNormalization(draft: Draft): readonly SourceNode[] {
  const groups = draft.number("num_groups") ?? draft.fail("attribute num_groups is missing");
  const channels = draft.type(0).shape[1];
  if (typeof channels !== "number")
    return draft.unsupported("the number of channels must be known", "give the input's shape with --shape");
  if (groups < 1 || channels % groups !== 0)
    draft.fail("num_groups must divide the channels", { expected: `a divisor of ${channels}`, found: String(groups) });
  const repeat = (k: number) => {
    const column = draft.emit("Reshape", [draft.input(k), draft.int64s("column", [groups, 1])]);
    const wide = draft.emit("Expand", [column, draft.int64s("wide", [groups, channels / groups])]);
    return draft.emit("Reshape", [wide, draft.int64s("flat", [channels])]);
  };
  return draft.result({ inputs: [draft.input(0), repeat(1), repeat(2)] });
}

/** Resize wrote absent inputs as empty tensors until they became optional. */
function resizeOptional(draft: Draft): readonly SourceNode[] {
  return draft.result({ inputs: draft.node.inputs.map((name, k) => (k === 0 ? name : withoutEmpty(draft, k))) });
}

const binary = ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"];
const consuming = [
  "Abs",
  "Ceil",
  "Clip",
  "Elu",
  "Exp",
  "Floor",
  "HardSigmoid",
  "InstanceNormalization",
  "LeakyRelu",
  "Log",
  "Max",
  "Mean",
  "Min",
];
const consumingToo = ["Neg", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Sum", "Tanh"];
const reductions = [
  "ReduceL1",
  "ReduceL2",
  "ReduceLogSum",
  "ReduceLogSumExp",
  "ReduceMax",
  "ReduceMean",
  "ReduceMin",
  "ReduceProd",
  "ReduceSumSquare",
];
const gridModes = new Map([
  ["bilinear", "linear"],
  ["bicubic", "cubic"],
]);

/** The table. Rows of one op are in ascending order. */
export const conversions: readonly Conversion[] = [
  // What opsets 2 to 7 dropped.
  ...rows([...consuming, ...consumingToo], 1, 6, remove("consumed_inputs")),
  ...rows(binary, 1, 7, alignBroadcast),
  ...rows(["PRelu"], 1, 7, prelu),
  ...rows(["Gemm"], 1, 7, remove("broadcast")),
  ...rows(["RNN", "GRU", "LSTM"], 1, 7, remove("output_sequence")),
  ...rows(["Selu"], 1, 6, (draft) =>
    draft.result({
      set: { alpha: float(draft.number("alpha") ?? 1.6732), gamma: float(draft.number("gamma") ?? 1.0507) },
      remove: ["consumed_inputs"],
    }),
  ),
  ...rows(["Concat"], 1, 4, (draft) => draft.result({ set: { axis: int(draft.number("axis") ?? 1) } })),
  ...rows(["LpPool", "GlobalLpPool"], 1, 2, (draft) => draft.result({ set: { p: int(draft.number("p") ?? 2) } })),
  ...rows(["Cast"], 1, 6, castName),
  ...rows(["Reshape"], 1, 5, (draft) => {
    const shape = draft.integers("shape") ?? draft.fail("attribute shape is missing");
    return draft.result({
      inputs: [draft.input(0), draft.int64s("shape", shape)],
      remove: ["shape", "consumed_inputs"],
    });
  }),
  ...rows(["Tile"], 1, 6, tile),
  ...rows(["Upsample"], 1, 7, (draft) => {
    const scales = [1, 1, draft.number("height_scale") ?? 1, draft.number("width_scale") ?? 1];
    return draft.result({
      set: { scales: { kind: "floats", value: scales } },
      remove: ["height_scale", "width_scale"],
    });
  }),

  // Attributes that became inputs, and operators that took another name.
  ...rows(["Upsample"], 7, 9, (draft) => {
    const scales =
      (draft.attribute("scales") as readonly number[] | undefined) ?? draft.fail("attribute scales is missing");
    return draft.result({
      inputs: [draft.input(0), draft.constant("scales", tensor("float32", [scales.length], scales))],
      remove: ["scales"],
    });
  }),
  ...rows(["Upsample"], 9, 11, upsampleToResize, "Resize"),
  ...rows(["BatchNormalization"], 1, 9, (draft) => {
    if (draft.number("spatial") === 0) draft.unsupported("spatial = 0 (statistics for each position) is not supported");
    return draft.result({ remove: ["spatial", "is_test", "consumed_inputs"] });
  }),
  ...rows(["BatchNormalization"], 9, 14, batchNormalization),
  ...rows(["Pad"], 1, 2, (draft) =>
    draft.result({
      set: { pads: ints(draft.integers("paddings") ?? draft.fail("attribute paddings is missing")) },
      remove: ["paddings"],
    }),
  ),
  ...rows(["Pad"], 2, 11, pad),
  ...rows(["Slice"], 1, 10, slice),
  ...rows(["TopK"], 1, 10, (draft) => {
    const k = draft.number("k") ?? draft.fail("attribute k is missing");
    return draft.result({ inputs: [draft.input(0), draft.int64s("k", [k])], remove: ["k"] });
  }),
  ...rows(["Clip"], 6, 11, clip),
  ...rows(["Resize"], 10, 11, resize10),
  ...rows(["Resize"], 11, 13, resizeOptional),
  ...rows(["Dropout"], 1, 12, dropout),
  ...rows(["Scatter"], 9, 29, (draft) => draft.result({ op: "ScatterElements" }), "ScatterElements"),
  ...rows(["RoiAlign"], 10, 16, (draft) =>
    draft.result({ set: { coordinate_transformation_mode: string("output_half_pixel") } }),
  ),
  ...rows(["Scan"], 8, 9, (draft) =>
    draft.unsupported(
      "Scan of opset 8 (batched, with sequence lengths) is not supported",
      "export with opset 9 or newer",
    ),
  ),
  ...rows(["Softmax", "LogSoftmax", "Hardmax"], 1, 13, flattenedAxis),
  ...rows(["Squeeze", "Unsqueeze", "ReduceSum"], 1, 13, intsToInput("axes", 1)),
  ...rows(["Split"], 1, 13, (draft) => (draft.input(1) === "" ? intsToInput("split", 1)(draft) : draft.result({}))),
  ...rows(["Split"], 13, 18, (draft) =>
    draft.input(1) === "" ? draft.result({ set: { num_outputs: int(draft.node.outputs.length) } }) : draft.result({}),
  ),
  ...rows(reductions, 1, 18, intsToInput("axes", 1)),
  ...rows(["GridSample"], 16, 20, (draft) => {
    const mode = String(draft.attribute("mode") ?? "bilinear");
    return draft.result({ set: { mode: string(gridModes.get(mode) ?? mode) } });
  }),
  ...rows(["DFT"], 17, 20, (draft) => {
    const axis = draft.constant("axis", tensor("int64", [], [draft.number("axis") ?? 1]));
    return draft.result({ inputs: [draft.input(0), draft.input(1), axis], remove: ["axis"] });
  }),
  ...rows(["GroupNormalization"], 18, 21, groupNormalization),
];

const byOp = new Map<string, Conversion[]>();
for (const row of conversions) byOp.set(row.op, [...(byOp.get(row.op) ?? []), row]);

/** The row for a node in this opset, if its form is not the newest. */
export function conversionFor(domain: string, op: string, version: number): Conversion | undefined {
  return domain === "" ? byOp.get(op)?.find((row) => version >= row.from && version < row.to) : undefined;
}

/** The name that an op of this opset has in the newest form. */
export function newestName(domain: string, op: string, version: number): string {
  let row = conversionFor(domain, op, version);
  while (row && row.becomes === undefined) row = conversionFor(domain, op, row.to);
  return row?.becomes ?? op;
}

/** One step of conversion, or undefined for a node in its newest form. */
export function convertNode(node: SourceNode, context: ConversionContext): readonly SourceNode[] | undefined {
  const row = conversionFor(node.domain, node.op, node.version);
  return row?.convert(new Draft(node, context, row.to));
}
