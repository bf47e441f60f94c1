/**
 * The CPU's hand-written kernels: which nodes they compute, and the line of C++ that instantiates one with what is fused around it.
 *
 * A template sees its output as channels-last pixels (n, h, w) × channels c: a convolution directly, a matrix product with its rows as pixels. The
 * vector runs over c; everything around the anchor becomes the epilogue functor, arithmetic before the streamed operand the prologue functor.
 */
import {
  add,
  asSymbol,
  ceildiv,
  type Dim,
  type Expr,
  floordiv,
  hasReduce,
  type LoadExpr,
  max,
  min,
  mul,
  type Node,
  type OpContext,
  operandsOf,
  sub,
  type Value,
} from "@nimforge/ir";
import { type AnchorMatch, type AnchorOperand, type Kernel, stridesOf } from "@nimforge/passes";
import { type Access, affineAccess, convolution, pixelStrides, sizes, window } from "../../cpp/anchors.js";
import { Arguments } from "../../cpp/arguments.js";
import { bindBuffers, type LayoutOf, operandAccess, type PrintedFunction, shapeOfLoad } from "../../cpp/operands.js";
import { Names, Printer, Scope, vectorizable } from "../../cpp/printer.js";
import { packConv, packConvTranspose, packDepthwise, packMatrix } from "./pack.js";

interface Template {
  /** Which nodes; undefined: not this one. */
  match(node: Node): AnchorMatch | undefined;
  /** Axes of the output in the order n, h, w, c; an absent one is undefined. */
  pixel(kernel: Kernel): { n?: number | undefined; h?: number | undefined; w?: number | undefined; c: number };
  print(
    kernel: Kernel,
    site: Site,
  ): { dims: readonly Dim[]; items: Dim; scratch: Dim; headers: readonly string[]; call: string };
}

/** What a template may use while printing: accesses of operands, strides of the output. */
interface Site {
  readonly node: Node;
  readonly attributes: OpContext;
  /** Strides of streamed operand k along its own axes, or undefined when it has a prologue. */
  access(k: number): Access | undefined;
  readonly outputStrides: readonly Dim[];
  readonly args: Arguments;
  /** Names of the pointers. */
  pointer(value: Value): string;
  readonly prologue: string;
}

const float32 = (...values: (Value | undefined)[]) =>
  values.every((value) => value === undefined || (value.type.kind === "tensor" && value.type.dtype === "float32"));
const float32Convolution = (node: Node, name: string) =>
  float32(...node.inputs) ? convolution(node, name) : undefined;

const spatialAxes = (rank: number) => (rank === 4 ? { n: 0, c: 1, h: 2, w: 3 } : { n: 0, c: 1, h: undefined, w: 2 });

const conv: Template = {
  match(node) {
    const found = float32Convolution(node, "Conv");
    if (!found) return undefined;
    const { groups, weights } = found;
    const channels = weights[1] as number;
    if (groups > 1 && channels * (weights[0]! / groups) < 16) return undefined; // depthwise and its like
    const pointwise = weights.slice(2).every((size) => size === 1);
    return { template: "conv", streamed: [0], prologue: pointwise, weights: [1], bias: { input: 2, axis: 1 } };
  },
  pixel: (kernel) => spatialAxes(kernel.output.shape.length),
  print(_kernel, site) {
    const weights = site.node.inputs[1] as Value;
    const groups = site.attributes.int("group");
    const [cout, cin, ...taps] = weights.shape as readonly number[];
    const { kernel: k, strides, dilations, begin } = window(site.attributes, taps);
    const [N, , H, W] = sizes(site.node.inputs[0] as Value);
    const [, , OH, OW] = sizes(site.node.outputs[0] as Value);
    const { block, count, scratch } = panelPlan(k[0] * k[1] * cin!, cout! / groups, k[0] * k[1]);
    replaceArgument(site.args, weights, packConv(weights, groups));
    const access = site.access(0);
    const x = access ? pixelStrides(access.strides) : [0, 0, 0, 0];
    const o = pixelStrides(site.outputStrides);
    return {
      dims: [
        N,
        H,
        W,
        cin! * groups,
        OH,
        OW,
        cout!,
        groups,
        ...k,
        ...strides,
        ...dilations,
        ...begin,
        x[0]!,
        x[1]!,
        x[2]!,
        x[3]!,
        ...o,
      ],
      items: mul(groups, Math.ceil(count / block), ceildiv(mul(N, OH, OW), 24)),
      scratch,
      headers: ["conv.hpp"],
      call: `nf::conv(L, nf::conv_args(d, ${source(site, access)}, ${site.pointer(weights)}, out), ${site.prologue}, epi)`,
    };
  },
};

/** X [.., M, K] × constant [K, N]: a 1x1 convolution whose pixels are the rows. */
const matmul: Template = {
  match(node) {
    if (node.op.domain !== "" || node.op.name !== "MatMul" || !float32(...node.inputs)) return undefined;
    const [a, b] = node.inputs as readonly [Value, Value];
    if (!b.constant || b.shape.length !== 2 || a.shape.length < 2 || a.shape.length > 4) return undefined;
    return { template: "matmul", streamed: [0], prologue: true, weights: [1] };
  },
  pixel: (kernel) => rowAxes(kernel.output.shape.length),
  print(_kernel, site) {
    const [a, b] = site.node.inputs as readonly [Value, Value];
    const [depth, columns] = b.shape as readonly [number, number];
    const { block, count, scratch } = panelPlan(depth, columns, 1);
    replaceArgument(site.args, b, packMatrix(b));
    const rank = a.shape.length;
    const axes = rowAxes(rank);
    const pick = (values: readonly Dim[], axis: number | undefined, absent: Dim) =>
      axis === undefined ? absent : (values[axis] as Dim);
    const [N, H, W] = [pick(a.shape, axes.n, 1), pick(a.shape, axes.h, 1), pick(a.shape, axes.w, 1)];
    const access = site.access(0);
    const strides = (from: readonly Dim[] | undefined): Dim[] =>
      from
        ? [pick(from, axes.n, 0), pick(from, axes.h, 0), pick(from, axes.w, 0), from[rank - 1] as Dim]
        : [0, 0, 0, 0];
    return {
      dims: [
        N,
        H,
        W,
        depth,
        H,
        W,
        columns,
        1,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        0,
        ...strides(access?.strides),
        ...strides(site.outputStrides),
      ],
      items: mul(Math.ceil(count / block), ceildiv(mul(N, H, W), 24)),
      scratch,
      headers: ["conv.hpp"],
      call: `nf::conv(L, nf::conv_args(d, ${source(site, access)}, ${site.pointer(b)}, out), ${site.prologue}, epi)`,
    };
  },
};

const depthwise: Template = {
  match(node) {
    const found = float32Convolution(node, "Conv");
    if (found?.weights[1] !== 1 || found.groups !== found.weights[0]) return undefined;
    return { template: "depthwise", streamed: [0], prologue: false, weights: [1], bias: { input: 2, axis: 1 } };
  },
  pixel: (kernel) => spatialAxes(kernel.output.shape.length),
  print(_, site) {
    const weights = site.node.inputs[1] as Value;
    const [channels, , ...taps] = weights.shape as readonly number[];
    const { kernel: k, strides, dilations, begin } = window(site.attributes, taps);
    const [N, , H, W] = sizes(site.node.inputs[0] as Value);
    const [, , OH, OW] = sizes(site.node.outputs[0] as Value);
    replaceArgument(site.args, weights, packDepthwise(weights));
    const access = site.access(0)!;
    return {
      dims: [
        N,
        H,
        W,
        channels!,
        OH,
        OW,
        ...k,
        ...strides,
        ...dilations,
        ...begin,
        ...pixelStrides(access.strides),
        ...pixelStrides(site.outputStrides),
      ],
      items: mul(N, OH, ceildiv(OW, 16)),
      scratch: 80 * k[0] * k[1] + 20 * Math.ceil(channels! / 16) * 16 + 16 * k[0] * k[1] * channels! + 64,
      headers: ["depthwise.hpp"],
      call: `nf::depthwise(L, nf::depthwise_args(d, ${source(site, access)}, ${site.pointer(weights)}, out), nf::NoPro{}, epi)`,
    };
  },
};

const convTranspose: Template = {
  match(node) {
    const found = float32Convolution(node, "ConvTranspose");
    if (!found) return undefined;
    const auto = String(found.context.attribute("auto_pad") ?? "NOTSET");
    if (auto.startsWith("SAME") || found.context.attribute("output_shape") !== undefined) return undefined;
    return { template: "convTranspose", streamed: [0], prologue: false, weights: [1], bias: { input: 2, axis: 1 } };
  },
  pixel: (kernel) => spatialAxes(kernel.output.shape.length),
  print(_, site) {
    const weights = site.node.inputs[1] as Value;
    const groups = site.attributes.int("group");
    const [cin, columns, ...taps] = weights.shape as readonly number[];
    const { kernel: k, strides, dilations, begin } = window(site.attributes, taps);
    const [N, , H, W] = sizes(site.node.inputs[0] as Value);
    const [, , OH, OW] = sizes(site.node.outputs[0] as Value);
    const { block, count, scratch } = panelPlan(k[0] * k[1] * (cin! / groups), columns!, k[0] * k[1]);
    replaceArgument(site.args, weights, packConvTranspose(weights, groups));
    const access = site.access(0)!;
    return {
      dims: [
        N,
        H,
        W,
        cin!,
        OH,
        OW,
        columns! * groups,
        groups,
        ...k,
        ...strides,
        ...dilations,
        ...begin,
        ...pixelStrides(access.strides),
        ...pixelStrides(site.outputStrides),
      ],
      items: mul(
        ...strides,
        groups,
        Math.ceil(count / block),
        ceildiv(mul(N, ceildiv(OH, strides[0]!), ceildiv(OW, strides[1]!)), 24),
      ),
      scratch,
      headers: ["conv_transpose.hpp"],
      call: `nf::conv_transpose(L, nf::conv_args(d, ${source(site, access)}, ${site.pointer(weights)}, out), nf::NoPro{}, epi)`,
    };
  },
};

/** A matrix product whose right operand is computed too: up to four batch axes. */
const gemm: Template = {
  match(node) {
    if (node.op.domain !== "" || node.op.name !== "MatMul" || !float32(...node.inputs)) return undefined;
    const [a, b] = node.inputs as readonly [Value, Value];
    const rank = node.outputs[0]!.shape.length;
    if (a.shape.length < 2 || b.shape.length < 2 || rank > 6) return undefined;
    return { template: "gemm", streamed: [0, 1], prologue: false, weights: [] };
  },
  pixel: (kernel) => ({ ...rowAxes(kernel.output.shape.length), n: undefined, h: undefined }),
  print(kernel, site) {
    const [a, b] = site.node.inputs as readonly [Value, Value];
    const rank = kernel.output.shape.length;
    const batch = kernel.output.shape.slice(0, -2);
    const [M, N] = kernel.output.shape.slice(-2) as [Dim, Dim];
    const K = a.shape[a.shape.length - 1] as Dim;
    const pad = (values: readonly Dim[], fill: Dim) => [
      ...Array.from({ length: 4 - values.length }, () => fill),
      ...values,
    ];
    // An operand with fewer batch axes, or with size 1 there, is broadcast: stride 0.
    const batchStrides = (access: Access, value: Value) => {
      const own = value.shape.length - 2;
      return pad(
        batch.map((_, axis) => {
          const k = axis - (batch.length - own);
          return k < 0 || value.shape[k] === 1 ? 0 : (access.strides[k] as Dim);
        }),
        0,
      );
    };
    const [x, y] = [site.access(0)!, site.access(1)!];
    const [am, ak] = x.strides.slice(-2) as [Dim, Dim];
    const [bk, bn] = y.strides.slice(-2) as [Dim, Dim];
    const [cm, cn] = site.outputStrides.slice(-2) as [Dim, Dim];
    // Panels in one block: 16, 8 where K > 256, 4 where K > 512; K may be known only at run time, and 0.
    const panels = ceildiv(N, 16);
    const above = (limit: number) => min(1, floordiv(max(0, sub(K, 1)), limit));
    const block = max(1, min(panels, sub(16, add(mul(8, above(256)), mul(4, above(512))))));
    return {
      dims: [
        ...pad(batch, 1),
        M,
        N,
        K,
        am,
        ak,
        bk,
        bn,
        cm,
        cn,
        ...batchStrides(x, a),
        ...batchStrides(y, b),
        ...pad(site.outputStrides.slice(0, rank - 2), 0),
      ],
      items: mul(...batch, ceildiv(panels, block), ceildiv(M, 96)),
      scratch: mul(64, K, block),
      headers: ["gemm.hpp"],
      call: `nf::gemm(L, nf::gemm_args(d, ${source(site, x)}, ${source(site, y)}, out), epi)`,
    };
  },
};

function panelPlan(depth: number, columns: number, taps: number) {
  const count = Math.ceil(columns / 16);
  return {
    count,
    block: Math.max(1, Math.min(count, depth <= 256 ? 16 : depth <= 512 ? 8 : 4)),
    scratch: 48 * taps + 32 * (Math.ceil(depth / 16) * 16) + 64,
  };
}

const rowAxes = (rank: number) => ({
  n: rank >= 4 ? rank - 4 : undefined,
  h: rank >= 3 ? rank - 3 : undefined,
  w: rank - 2,
  c: rank - 1,
});

const source = (site: Site, access: Access | undefined): string =>
  access ? `${site.pointer(access.value)} + d[${site.args.slot(access.offset)}]` : "(const float*)0";

function replaceArgument(args: Arguments, value: Value, packed: ReturnType<typeof packConv>): void {
  args.buffers[args.buffers.indexOf(value)] = packed;
}

export const templates: Readonly<Record<string, Template>> = { conv, depthwise, convTranspose, matmul, gemm };

export function matchAnchor(node: Node): AnchorMatch | undefined {
  for (const template of Object.values(templates)) {
    const match = template.match(node);
    if (match) return match;
  }
  return undefined;
}

/** Why a template cannot run this kernel. */
export function refusesAnchor(kernel: Kernel, layoutOf: LayoutOf): string | undefined {
  const { anchor, output, body } = kernel;
  if (!anchor) return undefined;
  const template = templates[anchor.match.template] as Template;
  if (output.dtype !== "float32" || output.shape.length !== anchor.node.outputs[0]!.shape.length)
    return "the result is not the template's";
  if (hasReduce(body)) return "a reduction in an epilogue";
  // The launch holds the weights in the template's layout only.
  const packed = new Set(anchor.match.weights.map((k) => kernel.inputs.indexOf(anchor.node.inputs[k] as Value)));
  for (const element of [body, ...anchor.operands.map((operand) => operand.element)])
    if ([...operandsOf(element)].some((slot) => packed.has(slot))) return "the weights are read as they are, too";
  const pixel = template.pixel(kernel);
  const channel = asSymbol(kernel.axes[pixel.c]!.variable)?.key ?? "@none";
  const shapes = shapeOfLoad(kernel);
  if (!vectorizable(body, channel, shapes)) return "the epilogue does not vectorize";
  for (const [k, operand] of anchor.operands.entries()) {
    if (affineAccess(kernel, operand, layoutOf)) continue;
    if (k > 0 || !anchor.match.prologue) return "an operand is not affine";
    const axis = anchor.match.template === "matmul" ? operand.axes.length - 1 : 1;
    const key = asSymbol(operand.axes[axis]!.variable)?.key ?? "@none";
    if (hasReduce(operand.element) || !vectorizable(operand.element, key, shapes))
      return "the prologue does not vectorize";
  }
  return undefined;
}

export function printTemplate(kernel: Kernel, name: string, layoutOf: LayoutOf): PrintedFunction {
  const { node, match, operands } = kernel.anchor!;
  const template = templates[match.template] as Template;
  const args = new Arguments();
  const bindings = bindBuffers(kernel, args);
  const pointer = (value: Value) => (value === kernel.output ? "out" : `x${kernel.inputs.indexOf(value)}`);
  const accesses = operands.map((operand) => affineAccess(kernel, operand, layoutOf));
  const printed = template.print(kernel, {
    node,
    attributes: node.view(),
    access: (k) => accesses[k],
    outputStrides: stridesOf(kernel.output.shape, layoutOf(kernel.output)),
    args,
    pointer,
    prologue: accesses[0] ? "nf::NoPro{}" : "pro",
  });
  // The template's block comes first in L->dims; slots that were asked for before it move behind it.
  const slots = args.dims.splice(0);
  const shifted = printed.dims.length;
  args.dims.push(...printed.dims);
  args.rebase(slots, shifted);
  const call = printed.call.replace(/d\[(\d+)\]/g, (_, slot: string) => `d[${Number(slot) + shifted}]`);

  const channelAxis = template.pixel(kernel);
  const functors: string[] = [];
  const members = bindings.map((line) => line.replace(/ = .*$/, ";").replace(" __restrict", ""));
  const rowOf =
    match.template === "gemm"
      ? [
          "struct Row { NfInt b, w; };",
          "__attribute__((always_inline)) Row row(NfInt b, NfInt m) const { return {b, m}; }",
        ]
      : [
          "struct Row { NfInt n, h, w; };",
          "__attribute__((always_inline)) Row row(NfInt n, NfInt h, NfInt w) const { return {n, h, w}; }",
        ];
  const functor = (type: string, method: string, lines: string[], value: string) =>
    functors.push(
      `struct ${type} { const NfLaunch* L; const NfInt* d; ${members.join(" ")}`,
      ...rowOf,
      `template <class V, class M> __attribute__((always_inline)) V ${method} const {`,
      ...lines,
      `return ${value}; } };`,
    );
  const values = kernel.inputs.map((_, k) => `x${k}`);
  const make = (type: string, variable: string) => `const ${type} ${variable}{L, d, ${[...values, "out"].join(", ")}};`;

  const access = operandAccess(kernel, layoutOf);
  const print = (
    element: Expr,
    axes: readonly { variable: Dim }[],
    places: { n?: number | undefined; h?: number | undefined; w?: number | undefined; c: number },
  ) => {
    const names = new Names();
    const bind = (axis: number | undefined, text: string) => {
      const atom = axis === undefined ? undefined : asSymbol(axes[axis]!.variable);
      if (atom) names.variables.set(atom.key, text);
    };
    bind(places.n, "r.n");
    bind(places.h, "r.h");
    bind(places.w, "r.w");
    bind(places.c, "c");
    if (match.template === "gemm") bindBatch(names, kernel, args);
    const vector = asSymbol(axes[places.c]!.variable)?.key ?? "@none";
    const operand = (load: LoadExpr) => (load.operand < 0 ? { text: "acc" } : access(load));
    const printer = new Printer({ args, operand, vector, selector: "m", literalLimit: 1 }, names);
    const scope = new Scope();
    const value = printer.vector(element, scope);
    return { lines: scope.lines, value };
  };
  const epilogue = print(kernel.body, kernel.axes, channelAxis);
  functor(
    "Epi",
    "apply([[maybe_unused]] V acc, [[maybe_unused]] const Row& r, [[maybe_unused]] NfInt c, [[maybe_unused]] M m)",
    epilogue.lines,
    epilogue.value,
  );
  const prepare = [make("Epi", "epi")];
  if (!accesses[0]) {
    const [operand] = operands as readonly [AnchorOperand];
    const places = match.template === "matmul" ? rowAxes(operand.axes.length) : spatialAxes(operand.axes.length);
    const prologue = print(operand.element, operand.axes, places);
    functor(
      "Pro",
      "load([[maybe_unused]] const Row& r, [[maybe_unused]] NfInt c, [[maybe_unused]] M m)",
      prologue.lines,
      prologue.value,
    );
    prepare.push(make("Pro", "pro"));
  }
  const source = [
    `namespace ${name}_ {`,
    ...functors,
    "}",
    `extern "C" __attribute__((visibility("default"))) int ${name}(const NfLaunch* L) {`,
    `using namespace ${name}_;`,
    "const NfInt* d = L->dims;",
    ...bindings.map((line) => line.replace(" __restrict", "")),
    ...prepare,
    `return ${call};`,
    "}",
  ].join("\n");
  return {
    source,
    args,
    items: printed.items,
    scratch: printed.scratch,
    kind: match.template,
    headers: printed.headers,
  };
}

/** The flattened batch index r.b as the output's leading axes. */
function bindBatch(names: Names, kernel: Kernel, args: Arguments): void {
  const leading = kernel.axes.slice(0, -2);
  leading.forEach((axis, k) => {
    const atom = asSymbol(axis.variable);
    if (!atom) return;
    const inner = mul(...leading.slice(k + 1).map((other) => other.extent));
    const divided = inner === 1 ? "r.b" : `(r.b / d[${args.slot(inner)}])`;
    names.variables.set(atom.key, k === 0 ? divided : `(${divided} % d[${args.slot(axis.extent)}])`);
  });
}
