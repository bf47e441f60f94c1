/** Attention as one launch (kernels/attention.cuh, attention_simt.cuh): scores never lie in memory. */
import { ceildiv, type Dim, max, mul, type Node, rangeOf, sub, type Value } from "@nimforge/ir";
import type { DType } from "@nimforge/tensor";
import type { Capability } from "./capabilities.js";
import { divisor } from "./runs.js";
import { type Instance, multiplies, type Site, type Template } from "./template.js";

/** Inputs by their position in the node. */
const [Q, K, V, MASK, PAST, NONPAD] = [0, 1, 2, 3, 4, 6];
const maxHeadSize = 256;

/** Heads as [batch, head, position, element], whichever way the node has them. */
interface Heads {
  readonly count: Dim;
  readonly positions: Dim;
  readonly size: number;
}

function headsOf(node: Node, input: number, attribute: string): Heads | undefined {
  const { shape } = node.inputs[input] as Value;
  const flat = shape.length === 3;
  const count = flat ? Number(node.view().attribute(attribute)) : (shape[1] as Dim);
  const width = shape[shape.length - 1] as Dim;
  if (typeof width !== "number" || (flat && !(Number(count) > 0))) return undefined;
  return { count, positions: shape[flat ? 1 : 2] as Dim, size: flat ? width / Number(count) : width };
}

const shapes = (node: Node) => {
  const [q, k, v] = [
    headsOf(node, Q, "q_num_heads"),
    headsOf(node, K, "kv_num_heads"),
    headsOf(node, V, "kv_num_heads"),
  ];
  return q && k && v ? { q, k, v } : undefined;
};

/** Tiles of a block: `rows` queries times the heads that share keys. */
interface Config {
  readonly text: string;
  readonly rows: number;
  readonly threads: number;
  readonly shared: number;
}

function halfConfig(element: string, dk: number, dv: number, few: boolean, vec: number, ring: number): Config {
  const [k, v] = [dk, dv].map((size) => Math.ceil(size / 32) * 32) as [number, number];
  const [wm, wn] = few ? [1, 4] : k > 128 || v > 128 ? [2, 2] : [4, 1];
  const keys = k > 128 || v > 128 ? 32 : 64;
  const rows = 16 * wm;
  const shared = rows * k * 2 + ring * keys * Math.max(k, v) * 2 + (wn > 1 ? rows * keys * 2 + rows * wn * 4 : 0);
  const text = `nf::attention<nf::AttentionConfig<${[element, k, v, wm, wn, ring, vec].join(", ")}>>`;
  return { text, rows, threads: 32 * wm * wn, shared };
}

function singleConfig(dk: number, dv: number, few: boolean, vec: number): Config {
  const [k, v] = [dk, dv].map((size) => Math.ceil(size / 64) * 64) as [number, number];
  const wide = k > 128 || v > 128;
  const each = few ? 1 : wide ? 2 : 4;
  const [rows, keys] = [8 * each, wide ? 16 : 32];
  const shared = rows * (k + 4) * 4 + 2 * keys * (Math.max(k, v) + 4) * 4 + rows * (keys + 4) * 4;
  const text = `nf::attention_simt<nf::AttentionSimtConfig<${[k, v, each, vec].join(", ")}>>`;
  return { text, rows, threads: 128, shared };
}

function configOf(dtype: DType, dk: number, dv: number, few: boolean, vec: number, capability: Capability): Config {
  if (dtype === "float32") return singleConfig(dk, dv, few, vec === 8 || vec === 4 ? 4 : 1);
  const element = dtype === "float16" ? "nf::AttentionFloat16" : "nf::AttentionBFloat16";
  const deep = halfConfig(element, dk, dv, few, vec === 8 ? 8 : 1, few ? 4 : 2);
  return deep.shared <= capability.sharedPerBlockOptIn ? deep : halfConfig(element, dk, dv, few, vec === 8 ? 8 : 1, 2);
}

/** Rows that one warp's tile holds: a decoder's step. */
const fewRows = 16;

const maskType: Partial<Record<DType, string>> = {
  bool: "nf::MaskBool",
  float32: "nf::MaskFloat32",
  float16: "nf::MaskFloat16",
  bfloat16: "nf::MaskBFloat16",
};

export const attention: Template = {
  match(node, capability) {
    if (node.op.domain !== "" || node.op.name !== "Attention" || node.outputs.length > 1) return undefined;
    const operands = node.inputs.slice(0, 3);
    if (operands.length < 3 || !multiplies(...operands) || node.inputs[PAST]) return undefined;
    if (operands[0]!.dtype === "bfloat16" && !capability.mma.includes("bf16")) return undefined;
    const found = shapes(node);
    if (!found || found.q.size > maxHeadSize || found.v.size > maxHeadSize) return undefined;
    // Groups of heads must be known to divide.
    if (typeof found.q.count !== "number" || typeof found.k.count !== "number") return undefined;
    const mask = node.inputs[MASK];
    if (mask && (mask.type.kind !== "tensor" || maskType[mask.dtype] === undefined || mask.shape.length > 4))
      return undefined;
    const streamed = [Q, K, V, MASK, NONPAD].filter((k) => node.inputs[k] !== undefined);
    return { template: "attention", streamed, prologue: false, weights: [] };
  },
  rows(rank, node) {
    const members = [
      { name: "b", axes: [0] },
      { name: "h", axes: rank === 4 ? [1] : [] },
      { name: "i", axes: [rank === 4 ? 2 : 1] },
    ];
    const { size } = shapes(node)!.v;
    return {
      members,
      column: rank - 1,
      ...(rank === 4 ? {} : { begin: `r.h * ${size}`, aligned: divisor(size) }),
    };
  },
  operandRows: () => {
    throw new Error("attention has no prologue");
  },
  print(site) {
    const { node, capability } = site;
    const { q, k, v } = shapes(node)!;
    const group = Number(q.count) / Number(k.count);
    const [batch] = node.inputs[Q]!.shape as [Dim];
    const streamed = site.kernel.anchor!.match.streamed;
    const strides = ([0, 1, 2] as const).map((operand) => {
      const { strides: own } = site.access(operand)!;
      const size = [q, k, v][operand]!.size;
      return own.length === 4 ? own : [own[0]!, mul(size, own[2]!), own[1]!, own[2]!];
    });
    const offsets = ([0, 1, 2] as const).map((operand) => site.access(operand)!.offset);
    const whole = [q.size, v.size, ...strides.flatMap((own) => own.slice(0, 3)), ...offsets].map(divisor);
    const vec = strides.every((own) => own[3] === 1) ? Math.min(8, ...whole) : 1;
    const { text: mask, dims: maskDims } = maskOf(site, streamed.indexOf(MASK));
    const nonpad = streamed.indexOf(NONPAD);
    const lengths = nonpad < 0 ? [] : [node.inputs[NONPAD]!.shape[0] === 1 ? 0 : site.access(nonpad)!.strides[0]!];
    const rows = mul(group, q.positions);
    const size = { q: q.size, v: v.size };
    const instance = (few: boolean, guard?: Dim): Instance => {
      const config = configOf(node.inputs[Q]!.dtype, size.q, size.v, few, vec, capability);
      return {
        ...(guard === undefined ? {} : { guard }),
        call: `${config.text}(nf::attention_args(L->dims), ${options(site, nonpad, 20 + maskDims.length)}, ${site.source(0)}, ${site.source(1)}, ${site.source(2)}, ${mask}, epi)`,
        items: mul(batch, k.count, ceildiv(rows, config.rows)),
        threads: config.threads,
        scratch: config.shared,
      };
    };
    const { low, high } = rangeOf(rows);
    const instances =
      high <= fewRows
        ? [instance(true)]
        : low > fewRows
          ? [instance(false)]
          : [instance(true, max(0, sub(fewRows + 1, rows))), instance(false)];
    return {
      dims: [
        batch,
        k.count,
        group,
        q.positions,
        k.positions,
        q.size,
        v.size,
        0,
        ...strides.flat(),
        ...maskDims,
        ...lengths,
      ],
      headers: [node.inputs[Q]!.dtype === "float32" ? "attention_simt.cuh" : "attention.cuh"],
      instances,
    };
  },
};

/** The mask's accessor; its strides and how many keys it has follow the template's own integers. */
function maskOf(site: Site, operand: number): { text: string; dims: readonly Dim[] } {
  if (operand < 0) return { text: "nf::NoMask{}", dims: [] };
  const mask = site.node.inputs[MASK] as Value;
  const { strides } = site.access(operand)!;
  const missing = 4 - mask.shape.length;
  const own = Array.from({ length: 4 }, (_, axis) =>
    axis < missing || mask.shape[axis - missing] === 1 ? 0 : (strides[axis - missing] as Dim),
  );
  const at = Array.from({ length: 4 }, (_, k) => `(nf::Index)L->dims[${20 + k}]`).join(", ");
  const text = `nf::MaskOperand<${maskType[mask.dtype]}>{${site.source(operand)}, {${at}}, (nf::Index)L->dims[24]}`;
  return { text, dims: [...own, mask.shape[mask.shape.length - 1] as Dim] };
}

/** Attributes as constants; the stride of nonpad_kv_seqlen is integer `step` of the launch. */
function options(site: Site, nonpad: number, step: number): string {
  const { node, attributes } = site;
  const scale =
    attributes.attribute("scale") === undefined ? 1 / Math.sqrt(shapes(node)!.q.size) : attributes.float("scale");
  const values = [
    `.scale = (float)${scale}`,
    `.softcap = (float)${attributes.float("softcap")}`,
    `.causal = ${attributes.int("is_causal") !== 0}`,
    `.left = ${attributes.int("left_window_size")}`,
    `.right = ${attributes.int("right_window_size")}`,
  ];
  if (nonpad >= 0) values.push(`.lengths = ${site.source(nonpad)}`, `.lengths_step = (int)L->dims[${step}]`);
  return `nf::AttentionOptions{${values.join(", ")}}`;
}
