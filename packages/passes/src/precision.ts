/**
 * Precision: float32 values inside a graph become float16 or bfloat16. Inputs and outputs of the graph keep their types.
 *
 * Every op on small floats computes in float32 and rounds its result once, accumulations included; so what can be lost is the range and the
 * precision of what lies between ops. Three kinds of nodes:
 *   - half: products, convolutions, pooling, movements and pointwise ops;
 *   - islands: composites (norms, softmax, losses). They take small floats, are float32 inside and round once where they end;
 *   - wide: sums, exponentials, roots, coordinates, and whatever small floats cannot enter. What such a node gives stays float32 up to
 *     the next island, wide node or output, and is rounded where there is none.
 * A constant that the type cannot hold (a mask of -1e9 in float16) keeps its readers wide.
 */
import { type Attributes, constantOp, Graph, inputOp, type Node, rebuild, type Value, visitExpr } from "@nimforge/ir";
import { dtypes, isFloat, NimforgeError, type Tensor } from "@nimforge/tensor";

export type HalfType = "float16" | "bfloat16";

/** Largest finite magnitudes. */
/** Half of the smallest number: what is not above it becomes 0. */
const vanishing = { float16: 2 ** -25, bfloat16: 2 ** -134 } as const;
const largest: Record<HalfType, number> = { float16: 65504, bfloat16: 2 ** 127 * (2 - 2 ** -7) };

/** Sums whose results are of their operands' size: weights are normalized, averages are averages. */
const halfSums = new Set([
  "MatMul",
  "Einsum",
  "Conv",
  "ConvTranspose",
  "DeformConv",
  "CausalConvWithState",
  "AveragePool",
  "GlobalAveragePool",
]);

/** Results far from the operands' range, or of which a small difference matters. */
const wideOps = new Set([
  "Exp",
  "Log",
  "Pow",
  "Sqrt",
  "Reciprocal",
  "Sin",
  "Cos",
  "Tan",
  "Sinh",
  "Cosh",
  "Resize",
  "GridSample",
  "AffineGrid",
  "RoiAlign",
]);

/** Composites that are opened before the types are chosen: they are made of nodes of both kinds. */
const openedOps = new Set([
  "BatchNormalization",
  "Gemm",
  "Attention",
  "FlexAttention",
  "SwiGLU",
  "Dropout",
  "CastLike",
  "Range",
]);

/** Composites that keep float32 inside whatever surrounds them. */
export const isIsland = (node: Node): boolean =>
  node.op.semantics.kind === "composite" && !(node.op.domain === "" && openedOps.has(node.op.name));

export interface HalfGraph {
  readonly graph: Graph;
  /** Nodes that stay float32 because a constant of theirs is out of the type's range. */
  readonly outOfRange: readonly string[];
}

/**
 * @param graph with constants folded and every composite but the islands opened
 * @param half the type that takes float32's place
 * @returns the same function with the same signature, up to rounding
 */
export function castToHalf(graph: Graph, half: HalfType): HalfGraph {
  return new HalfCast(graph, half).run();
}

/** What stands for a value: one of the two is made from the other when it is asked for. */
interface Forms {
  half?: Value;
  wide?: Value;
  /** float32 before it was rounded to `half`: for outputs only, so that nobody else keeps both in memory. */
  exact?: Value;
  /** Its readers compute in float32 where that leads somewhere. */
  spreads?: boolean;
}

class HalfCast {
  readonly #forms = new Map<Value, Forms>();
  readonly #outOfRange: string[] = [];
  readonly #kinds = new Map<Node, "half" | "island" | "wide">();
  /** Nodes of which float32 results reach an island, a wide node or an output without passing a product. */
  readonly #reaching = new Set<Node>();

  constructor(
    readonly graph: Graph,
    readonly half: HalfType,
  ) {}

  run(): HalfGraph {
    const nodes = this.graph.nodes();
    for (const node of nodes) this.#kinds.set(node, kindOf(node));
    this.#reach(nodes);
    for (const node of nodes) this.#node(node);
    const outputs = this.graph.outputs.map(({ name, value }) => ({ name, value: this.#output(value) }));
    const { context, inputs, name } = this.graph;
    return { graph: new Graph(context, inputs, outputs, name), outOfRange: this.#outOfRange };
  }

  #reach(nodes: readonly Node[]): void {
    for (const { value } of this.graph.outputs) this.#reaching.add(value.node);
    for (const node of [...nodes].reverse()) {
      const passes = this.#kinds.get(node) !== "half" || (this.#reaching.has(node) && !halfSums.has(node.op.name));
      if (passes) for (const input of node.inputs) if (input) this.#reaching.add(input.node);
    }
  }

  #node(node: Node): void {
    if (node.op === inputOp || node.op === constantOp || !node.outputs.some(isFloat32)) {
      const outputs = node.op === inputOp || node.op === constantOp ? node.outputs : this.#rebuild(node);
      node.outputs.forEach((value, k) => this.#forms.set(value, { wide: outputs[k] as Value }));
      return;
    }
    const kind = this.#kinds.get(node);
    if (kind === "island") {
      this.#rebuild(node).forEach((exact, k) => {
        const original = node.outputs[k] as Value;
        this.#forms.set(
          original,
          isFloat32(original) ? { half: this.#cast(exact, this.half), exact } : { wide: exact },
        );
      });
      return;
    }
    const spreading = node.inputs.some((input) => input && this.#forms.get(input)?.spreads);
    const inRange = this.#constantsFit(node);
    const halves = kind === "half" && !spreading && inRange ? this.#inHalf(node) : undefined;
    if (halves) {
      node.outputs.forEach((value, k) => this.#forms.set(value, { half: halves[k] as Value }));
      return;
    }
    const keeps = this.#reaching.has(node);
    this.#rebuild(node).forEach((exact, k) => {
      const original = node.outputs[k] as Value;
      const rounds = isFloat32(original) && !keeps;
      this.#forms.set(
        original,
        rounds ? { half: this.#cast(exact, this.half), exact } : { wide: exact, spreads: isFloat32(original) },
      );
    });
  }

  /** The node as it is, on what stands for its inputs in their own types. */
  #rebuild(node: Node): readonly Value[] {
    return rebuild(
      node,
      node.inputs.map((input) => input && this.#wide(input)),
    );
  }

  /** The node on small floats; undefined where its declaration has no such form. */
  #inHalf(node: Node): readonly Value[] | undefined {
    const inputs = node.inputs.map((input, k) => {
      if (!input || !isFloat32(input)) return input && this.#wide(input);
      const types = node.op.inputs[Math.min(k, node.op.inputs.length - 1)]?.types;
      return !types || types.includes(this.half) ? this.#half(input) : this.#wide(input);
    });
    let outputs: readonly Value[];
    try {
      outputs = rebuild(node, inputs);
    } catch (error) {
      if (error instanceof NimforgeError && error.kind !== "internal") return undefined;
      throw error;
    }
    return outputs.every((value) => value.type.kind === "tensor" && value.dtype === this.half) ? outputs : undefined;
  }

  #constantsFit(node: Node): boolean {
    const fits = node.inputs.every((input) => {
      const constant = input?.constant;
      return constant?.dtype !== "float32" || this.#fits(constant);
    });
    if (!fits) this.#outOfRange.push(node.context.nameOf(node) ?? node.op.name);
    return fits;
  }

  readonly #fitting = new Map<Tensor, boolean>();

  /** Whether every finite number stays finite, and an epsilon is not 0; among many weights the smallest may vanish. */
  #fits(constant: Tensor): boolean {
    let fits = this.#fitting.get(constant);
    if (fits === undefined) {
      const data = constant.data as Float32Array;
      const [first = 0] = data;
      fits =
        data.every((x) => Math.abs(x) <= largest[this.half] || !Number.isFinite(x)) &&
        !(data.length === 1 && first !== 0 && Math.abs(first) <= vanishing[this.half]);
      this.#fitting.set(constant, fits);
    }
    return fits;
  }

  #wide(value: Value): Value {
    const forms = this.#forms.get(value) as Forms;
    forms.wide ??= this.#cast(forms.half as Value, "float32");
    return forms.wide;
  }

  #half(value: Value): Value {
    const forms = this.#forms.get(value) as Forms;
    forms.half ??= value.constant
      ? value.node.context.constant(rounded(value.constant, this.half))
      : this.#cast(forms.wide as Value, this.half);
    return forms.half;
  }

  #output(value: Value): Value {
    return this.#forms.get(value)?.exact ?? this.#wide(value);
  }

  #cast(value: Value, to: HalfType | "float32"): Value {
    const attributes: Attributes = { to: dtypes[to].onnx };
    return value.node.context.apply("Cast", [value], attributes)[0] as Value;
  }
}

const isFloat32 = (value: Value): boolean => value.type.kind === "tensor" && value.type.dtype === "float32";

function kindOf(node: Node): "half" | "island" | "wide" {
  if (isIsland(node)) return "island";
  const { computes } = node;
  // Integers, conditions and indices are made of float32: a rounded operand would give other ones.
  if (!computes || !node.outputs.every(isFloat32)) return "wide";
  const sources = node.inputs.filter((input) => input && input.type.kind === "tensor" && isFloat(input.type.dtype));
  if (sources.length === 0) return "wide"; // sizes and integers as numbers: of any range
  if (node.op.domain !== "") return "wide";
  if (halfSums.has(node.op.name)) return "half";
  if (computes.every(({ body }) => body.kind === "load")) return "half";
  if (wideOps.has(node.op.name)) return "wide";
  let sums = false;
  for (const { body } of computes)
    visitExpr(body, (part) => {
      if (part.kind === "reduce" && (part.monoid === "sum" || part.monoid === "prod")) sums = true;
    });
  return sums ? "wide" : "half";
}

/** A float32 tensor in the small type, each number to the nearest, ties to even. */
function rounded({ shape, data: numbers }: Tensor, half: HalfType): Tensor {
  const { buffer, byteOffset, length } = numbers as Float32Array;
  const from = new Uint32Array(buffer, byteOffset, length);
  const data = new Uint16Array(length);
  const round = half === "float16" ? float16Bits : bfloat16Bits;
  for (let i = 0; i < length; i++) data[i] = round(from[i] as number);
  return { dtype: half, shape, data };
}

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Bits of float32 to bits of float16 (tensor's floatToBits, without its 64-bit arithmetic: weights have many elements). */
function float16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2^16 and more
  if (magnitude < 0x38800000) {
    // A subnormal: added to 1/2, it is rounded where float16's last bit is.
    u32[0] = magnitude;
    f32[0] = (f32[0] as number) + 0.5;
    return sign | ((u32[0] as number) - 0x3f000000);
  }
  // The exponent's bias goes from 127 to 15; a carry out of the mantissa may reach infinity.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

function bfloat16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) & 0x8000) | 0x7fc0; // NaN
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
