/**
 * CUDA's hand-written kernels: which nodes they compute, and the call that instantiates one with what is fused around it.
 *
 * A template multiplies rows by columns: the rows of a matrix product, the output pixels of a convolution. Everything behind the anchor becomes the
 * epilogue, arithmetic before the first operand the prologue (functors.ts); tiles.ts chooses the tile.
 */
import { ceildiv, type Dim, equalDims, hasReduce, mul, type Node, operandsOf, type Value } from "@nimforge/ir";
import { type AnchorMatch, type Kernel, stridesOf } from "@nimforge/passes";
import { elementBytes } from "@nimforge/tensor";
import { type Access, affineAccess, convolution, pixelStrides, sizes, window } from "../../cpp/anchors.js";
import { Arguments } from "../../cpp/arguments.js";
import { bindBuffers, type LayoutOf } from "../../cpp/operands.js";
import type { Choices, PrintedKernel } from "../../target.js";
import { attention } from "./attention.js";
import type { Capability } from "./capabilities.js";
import { FunctorPrinter, matrixRows, pixelRows, type RowAxes } from "./functors.js";
import { needsWideIndex } from "./loops.js";
import { packConv, packConvTranspose, packDepthwise, packMatrix, paddedTo8 } from "./pack.js";
import { divisor } from "./runs.js";
import { type Instance, multiplies, type Site, type Template } from "./template.js";
import { chooseTiles, sharedBytes, threadsOf, tileBlocks, tilesFor } from "./tiles.js";

const cppElement: Readonly<Record<string, string>> = {
  float32: "nf::Float32",
  float16: "nf::Float16",
  bfloat16: "nf::Bfloat16",
};

const convolutionOf = (node: Node, name: string) =>
  node.op.name === name && multiplies(...node.inputs) ? convolution(node, name) : undefined;

/** All axes but the last as rows. */
const flatRows = (rank: number): RowAxes => ({
  members: [
    { name: "b", axes: [] },
    { name: "m", axes: Array.from({ length: rank - 1 }, (_, axis) => axis) },
  ],
  column: rank - 1,
});

/** Four numbers, the last of which are those given. */
const pad4 = (values: readonly Dim[], fill: Dim): Dim[] => [
  ...Array.from({ length: 4 - values.length }, () => fill),
  ...values,
];

/** X [.., K] × constant [K, N]: the leading axes are rows of one product. */
const matmul: Template = {
  match(node) {
    if (node.op.domain !== "" || node.op.name !== "MatMul" || !multiplies(...node.inputs)) return undefined;
    const [a, b] = node.inputs as readonly [Value, Value];
    if (!b.constant || b.shape.length !== 2 || a.shape.length < 2) return undefined;
    return { template: "matmul", streamed: [0], prologue: true, weights: [1] };
  },
  rows: flatRows,
  operandRows: flatRows,
  print(site) {
    const [a, b] = site.node.inputs as readonly [Value, Value];
    const [K, N] = b.shape as readonly [number, number];
    const M = mul(...a.shape.slice(0, -1));
    const access = site.access(0);
    const am = access ? (rowStride(a.shape, access.strides) as Dim) : 0;
    const ak = access?.strides[a.shape.length - 1] ?? 0;
    const zeros = pad4([], 0);
    const size = { count: 1, rows: M, columns: N };
    return {
      dims: [1, 1, 1, 1, M, N, K, am, ak, paddedTo8(N), 1, 0, 0, ...zeros, ...zeros, ...zeros],
      packed: { weights: b, as: packMatrix(b) },
      headers: ["gemm.cuh"],
      instances: chooseTiles(a.dtype, site.capability, size, site.choices).map(({ guard, tile }) => ({
        ...(guard === undefined ? {} : { guard }),
        call: `nf::gemm<nf::${tile.name}, nf::Major::${access && am === 1 ? "MN" : "K"}, nf::Major::MN>(nf::gemm_args(L->dims, ${site.source(0)}, ${site.weights(b)}), ${site.prologue}, epi)`,
        items: tileBlocks(tile, size),
        threads: threadsOf(tile),
        scratch: sharedBytes(tile, site.capability),
        ...(tile.header ? { header: tile.header } : {}),
        tactic: tile.name,
      })),
    };
  },
};

/** A matrix product whose right operand is computed too: up to four batch axes. */
const gemm: Template = {
  match(node) {
    if (node.op.domain !== "" || node.op.name !== "MatMul" || !multiplies(...node.inputs)) return undefined;
    const [a, b] = node.inputs as readonly [Value, Value];
    if (a.shape.length < 2 || b.shape.length < 2 || node.outputs[0]!.shape.length > 6) return undefined;
    return { template: "gemm", streamed: [0, 1], prologue: false, weights: [] };
  },
  rows: matrixRows,
  operandRows: matrixRows,
  print(site) {
    const [a, b] = site.node.inputs as readonly [Value, Value];
    const { shape } = site.kernel.output;
    const batch = shape.slice(0, -2);
    const [M, N] = shape.slice(-2) as [Dim, Dim];
    const K = a.shape[a.shape.length - 1] as Dim;
    // An operand with fewer batch axes, or with size 1 there, is broadcast: stride 0.
    const batchStrides = ({ strides }: Access, value: Value) =>
      pad4(
        batch.map((_, axis) => {
          const k = axis - (batch.length - (value.shape.length - 2));
          return k < 0 || value.shape[k] === 1 ? 0 : (strides[k] as Dim);
        }),
        0,
      );
    const [x, y] = [site.access(0)!, site.access(1)!];
    const [am, ak] = x.strides.slice(-2) as [Dim, Dim];
    const [bk, bn] = y.strides.slice(-2) as [Dim, Dim];
    const size = { count: mul(...batch), rows: M, columns: N };
    return {
      dims: [
        ...pad4(batch, 1),
        ...[M, N, K, am, ak, bk, bn],
        ...site.outputStrides.slice(-2),
        ...batchStrides(x, a),
        ...batchStrides(y, b),
        ...pad4(site.outputStrides.slice(0, -2), 0),
      ],
      headers: ["gemm.cuh"],
      instances: chooseTiles(a.dtype, site.capability, size, site.choices).map(({ guard, tile }) => ({
        ...(guard === undefined ? {} : { guard }),
        call: `nf::gemm<nf::${tile.name}, nf::Major::${am === 1 && ak !== 1 ? "MN" : "K"}, nf::Major::${bk === 1 && bn !== 1 ? "K" : "MN"}>(nf::gemm_args(L->dims, ${site.source(0)}, ${site.source(1)}), nf::NoPro{}, epi)`,
        items: tileBlocks(tile, size),
        threads: threadsOf(tile),
        scratch: sharedBytes(tile, site.capability),
        ...(tile.header ? { header: tile.header } : {}),
        tactic: tile.name,
      })),
    };
  },
};

/** Sizes, window and strides: the arguments that all convolutions begin with. */
function convolutionDims(site: Site, channels: number, columns: readonly number[], taps: readonly number[]) {
  const { kernel: k, strides, dilations, begin } = window(site.attributes, taps);
  const [N, , H, W] = sizes(site.node.inputs[0] as Value);
  const [, , OH, OW] = sizes(site.node.outputs[0] as Value);
  const access = site.access(0);
  const x = access ? pixelStrides(access.strides) : [0, 0, 0, 0];
  return {
    dims: [N, H, W, channels, OH, OW, ...columns, ...k, ...strides, ...dilations, ...begin, ...x] as Dim[],
    N,
    OH,
    OW,
    strides,
    dilations,
    kernel: k,
    x,
  };
}

/** Pixels of a convolution: a group's columns begin wherever the one before ends. */
const groupedPixels =
  (columnsOf: (weights: readonly number[], groups: number) => number) => (rank: number, node: Node) => {
    const groups = node.view().int("group");
    const columns = columnsOf((node.inputs[1] as Value).shape as readonly number[], groups);
    return groups === 1 ? pixelRows(rank) : { ...pixelRows(rank), aligned: divisor(columns) };
  };

/** Which channels are worth a tensor core's tile; the others are depthwise or loops. */
const worthTile = (groups: number, channels: number, columns: number) => groups === 1 || channels * columns >= 16;

const conv: Template = {
  match(node) {
    const found = convolutionOf(node, "Conv");
    if (!found) return undefined;
    const { groups, weights } = found;
    if (!worthTile(groups, weights[1]!, weights[0]! / groups)) return undefined;
    const pointwise = weights.slice(2).every((size) => size === 1);
    return { template: "conv", streamed: [0], prologue: pointwise, weights: [1], bias: { input: 2, axis: 1 } };
  },
  rows: groupedPixels(([out], groups) => out! / groups),
  operandRows: pixelRows,
  print(site) {
    const weights = site.node.inputs[1] as Value;
    const groups = site.attributes.int("group");
    const [columns, channels, ...taps] = weights.shape as readonly [number, number, ...number[]];
    const { dims, N, OH, OW, kernel: k } = convolutionDims(site, channels * groups, [columns, groups], taps);
    const pitch = paddedTo8(columns / groups);
    const size = { count: groups, rows: mul(N, OH, OW), columns: columns / groups, widest: 128 };
    return {
      dims: [...dims, ...pixelStrides(site.outputStrides), pitch, 1, k[0] * k[1] * channels * pitch],
      packed: { weights, as: packConv(weights, groups) },
      headers: ["conv.cuh"],
      instances: chooseTiles(weights.dtype, site.capability, size, site.choices).map(({ guard, tile }) => ({
        ...(guard === undefined ? {} : { guard }),
        call: `nf::conv<nf::${tile.name}, nf::Major::MN>(nf::conv_args(L->dims, ${site.source(0)}, ${site.weights(weights)}), ${site.prologue}, epi)`,
        items: tileBlocks(tile, size),
        threads: threadsOf(tile),
        scratch: sharedBytes(tile, site.capability),
        ...(tile.header ? { header: tile.header } : {}),
        tactic: tile.name,
      })),
    };
  },
};

const convTranspose: Template = {
  match(node) {
    const found = convolutionOf(node, "ConvTranspose");
    if (!found || !worthTile(found.groups, found.weights[0]! / found.groups, found.weights[1]!)) return undefined;
    const auto = String(found.context.attribute("auto_pad") ?? "NOTSET");
    if (auto.startsWith("SAME") || found.context.attribute("output_shape") !== undefined) return undefined;
    return { template: "convTranspose", streamed: [0], prologue: false, weights: [1], bias: { input: 2, axis: 1 } };
  },
  rows: groupedPixels(([, columns]) => columns!),
  operandRows: pixelRows,
  print(site) {
    const weights = site.node.inputs[1] as Value;
    const groups = site.attributes.int("group");
    const [inputs, columns, ...taps] = weights.shape as readonly [number, number, ...number[]];
    const { dims, N, OH, OW, strides, kernel: k } = convolutionDims(site, inputs, [columns * groups, groups], taps);
    const pitch = paddedTo8(columns);
    const phases = mul(...strides, groups);
    const size = {
      count: phases,
      rows: mul(N, ceildiv(OH, strides[0]), ceildiv(OW, strides[1])),
      columns,
      widest: 128,
    };
    return {
      dims: [...dims, ...pixelStrides(site.outputStrides), pitch, 1, (k[0] * k[1] * inputs * pitch) / groups],
      packed: { weights, as: packConvTranspose(weights, groups) },
      headers: ["conv.cuh"],
      instances: chooseTiles(weights.dtype, site.capability, size, site.choices).map(({ guard, tile }) => ({
        ...(guard === undefined ? {} : { guard }),
        call: `nf::conv_transpose<nf::${tile.name}>(nf::conv_args(L->dims, ${site.source(0)}, ${site.weights(weights)}), nf::NoPro{}, epi)`,
        items: tileBlocks(tile, size),
        threads: threadsOf(tile),
        scratch: sharedBytes(tile, site.capability),
        ...(tile.header ? { header: tile.header } : {}),
        tactic: tile.name,
      })),
    };
  },
};

const depthwiseThreads = 128;

const depthwise: Template = {
  match(node) {
    const found = convolutionOf(node, "Conv");
    if (found?.weights[1] !== 1 || found.groups !== found.weights[0]) return undefined;
    return { template: "depthwise", streamed: [0], prologue: false, weights: [1], bias: { input: 2, axis: 1 } };
  },
  rows: pixelRows,
  operandRows: pixelRows,
  print(site) {
    const weights = site.node.inputs[1] as Value;
    const [channels, , ...taps] = weights.shape as readonly [number, number, ...number[]];
    const { dims, N, OH, OW, kernel: k, strides, dilations, x } = convolutionDims(site, channels, [], taps);
    const access = site.access(0)!;
    // Whole accesses need neighbouring channels, and everything else a multiple of them.
    const aligned = x[3] === 1 ? Math.min(...[channels, x[0]!, x[1]!, x[2]!, access.offset].map(divisor)) : 1;
    const vector = Math.min(16 / elementBytes(weights.dtype), aligned);
    const [sw, dw] = [strides[1], dilations[1]];
    const common = sw <= 2 && dw === 1;
    const width = k[1] <= 7 ? k[1] : 0;
    // Outputs of a thread: as many as their inputs' registers allow.
    const pixels = common && sw === 1 && vector * (width || 4) <= 24 ? 4 : 2;
    const element = cppElement[weights.dtype];
    const parameters = [element, vector, pixels, width, common ? sw : 0, common ? dw : 1, depthwiseThreads];
    return {
      dims,
      packed: { weights, as: packDepthwise(weights) },
      headers: ["depthwise.cuh"],
      instances: [
        {
          call: `nf::depthwise<${parameters.join(", ")}>(nf::depthwise_args(L->dims, ${site.source(0)}, ${site.weights(weights)}), nf::NoPro{}, epi)`,
          items: ceildiv(mul(N, OH, ceildiv(OW, pixels), channels / vector), depthwiseThreads),
          threads: depthwiseThreads,
          scratch: 0,
        },
      ],
    };
  },
};

const templates: Readonly<Record<string, Template>> = { conv, depthwise, convTranspose, matmul, gemm, attention };

/** The templates of a capability: types without a tile there have none. */
export function matchAnchor(capability: Capability) {
  return (node: Node): AnchorMatch | undefined => {
    for (const template of Object.values(templates)) {
      const match = template.match(node, capability);
      if (match) return tilesFor(node.outputs[0]!.dtype, capability).length > 0 ? match : undefined;
    }
    return undefined;
  };
}

/** Composites that a template computes as a whole. */
export function keepsWhole(capability: Capability) {
  return (node: Node): boolean => attention.match(node, capability) !== undefined;
}

/** The distance between rows where all leading axes count as one; undefined where they do not follow each other at one distance. */
function rowStride(shape: readonly Dim[], strides: readonly Dim[]): Dim | undefined {
  let step: Dim | undefined;
  let count: Dim = 1;
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    if (shape[axis] === 1) continue;
    if (step === undefined) step = strides[axis] as Dim;
    else if (!equalDims(strides[axis]!, mul(count, step))) return undefined;
    count = mul(count, shape[axis]!);
  }
  return step ?? 0;
}

/** Why a template cannot run this kernel. */
export function refusesAnchor(kernel: Kernel, layoutOf: LayoutOf): string | undefined {
  const { anchor, output, body } = kernel;
  if (!anchor) return undefined;
  if (output.shape.length !== anchor.node.outputs[0]!.shape.length) return "the result is not the template's";
  if (hasReduce(body)) return "a reduction in an epilogue";
  // The launch holds the weights in the template's layout only.
  const packed = new Set(anchor.match.weights.map((k) => kernel.inputs.indexOf(anchor.node.inputs[k] as Value)));
  for (const element of [body, ...anchor.operands.map((operand) => operand.element)])
    if ([...operandsOf(element)].some((slot) => packed.has(slot))) return "the weights are read as they are, too";
  for (const [k, operand] of anchor.operands.entries()) {
    const access = affineAccess(kernel, operand, layoutOf);
    if (access && (anchor.match.template !== "matmul" || rowStride(operand.value.shape, access.strides) !== undefined))
      continue;
    if (k > 0 || !anchor.match.prologue) return "an operand is not affine";
    if (hasReduce(operand.element)) return "a reduction in a prologue";
  }
  return undefined;
}

export function printTemplate(
  kernel: Kernel,
  name: string,
  layoutOf: LayoutOf,
  choices: Choices,
  capability: Capability,
): PrintedKernel {
  const { node, match, operands } = kernel.anchor!;
  const template = templates[match.template] as Template;
  const args = new Arguments();
  const bindings = bindBuffers(kernel, args);
  const pointer = (value: Value) => `x${kernel.inputs.indexOf(value)}`;
  const accesses = operands.map((operand) => {
    const access = affineAccess(kernel, operand, layoutOf);
    return access && (match.template !== "matmul" || rowStride(operand.value.shape, access.strides) !== undefined)
      ? access
      : undefined;
  });
  // The call is printed before the slots behind the template's own are known.
  const offsets: Dim[] = [];
  const printed = template.print({
    kernel,
    node,
    attributes: node.view(),
    capability,
    choices,
    access: (k) => accesses[k],
    outputStrides: stridesOf(kernel.output.shape, layoutOf(kernel.output)),
    source: (k) => {
      const access = accesses[k];
      return access ? `${pointer(access.value)} + L->dims[@${offsets.push(access.offset) - 1}]` : "nullptr";
    },
    weights: pointer,
    prologue: accesses[0] ? "nf::NoPro{}" : "pro",
  });
  args.dims.push(...printed.dims);
  const call = (text: string) =>
    text.replace(/@(\d+)/g, (_, k: string) => String(args.slot(offsets[Number(k)] as Dim)));
  if (printed.packed) args.buffers[args.buffers.indexOf(printed.packed.weights)] = printed.packed.as;

  const functors = new FunctorPrinter(kernel, layoutOf, args, "float");
  const texts = [functors.epilogue(template.rows(kernel.output.shape.length, node))];
  const pointers = [...kernel.inputs.map((_, k) => `x${k}`), "out"].join(", ");
  const make = (type: string, variable: string) => `const ${name}_::${type}<decltype(L)> ${variable}{L, ${pointers}};`;
  const prepare = [make("Epilogue", "epi")];
  if (!accesses[0]) {
    const [operand] = operands as readonly [(typeof operands)[number]];
    texts.push(functors.prologue(operand.element, operand.axes, template.operandRows(operand.axes.length)));
    prepare.push(make("Prologue", "pro"));
  }
  const calls = printed.instances.map((instance) => call(instance.call));
  const headers = ["kernel.cuh", "scalars.cuh", ...printed.headers];
  const headersOf = ({ header }: Instance) => [
    ...(needsWideIndex(kernel) ? ["wide"] : []),
    ...headers,
    ...(header ? [header] : []),
  ];
  return {
    kind: match.template,
    args,
    variants: printed.instances.map((instance, k) => {
      const { guard, items, threads, scratch, tactic } = instance;
      return {
        ...(guard === undefined ? {} : { guard }),
        source: [
          `namespace ${name}_ {`,
          ...texts,
          "}",
          `NF_KERNEL(${name}, ${threads}, 1, ${args.buffers.length}, ${args.dims.length}) {`,
          ...bindings.map((line) => `[[maybe_unused]] ${line}`),
          ...prepare,
          `${calls[k]};`,
          "}",
        ].join("\n"),
        headers: headersOf(instance),
        items,
        grain: 1,
        scratch,
        threads,
        ...(tactic === undefined ? {} : { tactic }),
      };
    }),
  };
}
