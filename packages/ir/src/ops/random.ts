/**
 * Random numbers. The generator is the Mersenne Twister MT19937 seeded and read as numpy's RandomState, which ONNX's reference uses, so a
 * `seed` gives the numbers of the reference. Without a seed each run draws its own.
 */
import { sizeOf, type Tensor, tensor, toNumbers } from "@nimforge/tensor";
import { compositeOp, type Op, type OpContext, opaqueOp, typeSets } from "../op.js";
import { type TensorType, tensorType } from "../types.js";
import { dtypeAttribute } from "./shape.js";
import { range } from "./tensors.js";

const length = 624;
const middle = 397;

/** Makoto Matsumoto and Takuji Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998); seeding of 2002 (init_genrand). */
export class MersenneTwister {
  readonly #state = new Uint32Array(length);
  #next = length;
  #spare: number | undefined;

  constructor(seed: number) {
    const state = this.#state;
    state[0] = seed >>> 0;
    for (let k = 1; k < length; k++) {
      const previous = state[k - 1]! ^ (state[k - 1]! >>> 30);
      state[k] = Math.imul(1812433253, previous) + k;
    }
  }

  /** An integer in [0, 2^32). */
  word(): number {
    if (this.#next === length) this.#twist();
    let y = this.#state[this.#next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let k = 0; k < length; k++) {
      const y = (state[k]! & 0x80000000) | (state[(k + 1) % length]! & 0x7fffffff);
      state[k] = state[(k + middle) % length]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    const high = this.word() >>> 5;
    const low = this.word() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Standard normal, by Marsaglia's polar method; the second value of a pair is kept. */
  normal(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      this.#spare = factor * x;
      return factor * y;
    }
  }

  /** 1 with probability p, as RandomState.binomial(1, p): by inversion of the smaller side. */
  bernoulli(p: number): number {
    if (p <= 0) return 0;
    return p <= 0.5 ? Number(this.uniform() > 1 - p) : 1 - Number(this.uniform() > p);
  }
}

function generator(context: OpContext): MersenneTwister {
  const seed = context.attribute("seed") === undefined ? Math.random() * 2 ** 32 : context.float("seed");
  return new MersenneTwister(Math.trunc(seed));
}

const seed = { seed: { type: "float" } } as const;

/** `draw` fills a tensor of the inferred type. */
const distribution = (
  name: string,
  attributes: Record<string, number>,
  like: boolean,
  draw: (random: MersenneTwister, context: OpContext) => number,
): Op =>
  opaqueOp(
    name,
    {
      inputs: like ? ["input"] : [],
      attributes: {
        ...Object.fromEntries(
          Object.entries(attributes).map(([key, value]) => [key, { type: "float", default: value }] as const),
        ),
        ...seed,
        dtype: { type: "int" },
        ...(like ? {} : { shape: { type: "ints", required: true } }),
      },
      impure: true,
    },
    {
      infer: (context) => [
        tensorType(
          dtypeAttribute(context, "dtype", like ? context.dtype(0) : "float32"),
          like ? context.shape(0) : (context.ints("shape") ?? []),
        ),
      ],
      reference: (context, [input]) => {
        const dtype = dtypeAttribute(context, "dtype", like ? context.dtype(0) : "float32");
        const shape = like ? (input as Tensor).shape : (context.ints("shape") ?? []);
        const random = generator(context);
        return [
          tensor(
            dtype,
            shape,
            range(sizeOf(shape)).map(() => draw(random, context)),
          ),
        ];
      },
    },
  );

const uniform = (random: MersenneTwister, context: OpContext) =>
  random.uniform() * (context.float("high") - context.float("low")) + context.float("low");
const normal = (random: MersenneTwister, context: OpContext) =>
  random.normal() * context.float("scale") + context.float("mean");

const bernoulli = opaqueOp(
  "Bernoulli",
  { inputs: [{ name: "input", types: typeSets.float }], attributes: { ...seed, dtype: { type: "int" } }, impure: true },
  {
    infer: (context) => [tensorType(dtypeAttribute(context, "dtype", context.dtype(0)), context.shape(0))],
    reference: (context, inputs) => {
      const [p] = inputs as readonly [Tensor];
      const random = generator(context);
      return [
        tensor(
          dtypeAttribute(context, "dtype", p.dtype),
          p.shape,
          Array.from(toNumbers(p), (value) => random.bernoulli(value)),
        ),
      ];
    },
  },
);

/** Samples from rows of unnormalised log-probabilities. */
const multinomial = opaqueOp(
  "Multinomial",
  {
    inputs: [{ name: "input", types: typeSets.float }],
    attributes: { ...seed, dtype: { type: "int" }, sample_size: 1 },
    impure: true,
  },
  {
    infer: (context) => {
      if (context.rank(0) !== 2) context.fail("the input must have shape [batch, classes]");
      return [
        tensorType(dtypeAttribute(context, "dtype", "int32"), [context.shape(0)[0] ?? 1, context.int("sample_size")]),
      ];
    },
    reference: (context, inputs) => {
      const [logits] = inputs as readonly [Tensor];
      const [batch, classes] = logits.shape as [number, number];
      const values = toNumbers(logits);
      const random = generator(context);
      const samples = range(batch).flatMap((row) => {
        const own = values.subarray(row * classes, (row + 1) * classes);
        const most = own.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
        const weights = own.map((value) => Math.exp(value - most));
        const total = weights.reduce((a, b) => a + b, 0);
        return range(context.int("sample_size")).map(() => {
          let rest = random.uniform() * total;
          const found = weights.findIndex((weight) => (rest -= weight) < 0);
          return found < 0 ? classes - 1 : found;
        });
      });
      return [tensor(dtypeAttribute(context, "dtype", "int32"), [batch, context.int("sample_size")], samples)];
    },
  },
);

/** Dropout whose training mode is on, or known only at run time: (output, mask). */
const dropoutInTraining = opaqueOp(
  "DropoutInTraining",
  { domain: "nim", inputs: ["data", "ratio?", "training_mode?"], attributes: { seed: { type: "any" } }, impure: true },
  {
    infer: (context): readonly TensorType[] => [context.type(0), tensorType("bool", context.shape(0))],
    reference: (context, inputs) => {
      const [data, ratioInput, mode] = inputs as readonly [Tensor, Tensor | undefined, Tensor | undefined];
      const ratio = ratioInput ? (toNumbers(ratioInput)[0] as number) : 0.5;
      if (!mode?.data[0] || ratio === 0)
        return [data, tensor("bool", data.shape, new Uint8Array(data.data.length).fill(1))];
      if (!(ratio > 0 && ratio < 1)) context.fail("ratio must be in [0, 1)", { found: String(ratio) });
      const random = generator(context);
      const mask = Uint8Array.from(data.data as ArrayLike<number>, () => Number(random.uniform() >= ratio));
      const values = toNumbers(data);
      const scale = 1 / (1 - ratio);
      return [
        tensor(
          data.dtype,
          data.shape,
          Array.from(values, (value, k) => (mask[k] ? value * scale : 0 * value)),
        ),
        tensor("bool", data.shape, mask),
      ];
    },
  },
);

const scalar = (name: string, types: readonly (typeof typeSets.anyFloat)[number][] | readonly ["bool"]) => ({
  name,
  types,
  optional: true,
});

export const random: readonly Op[] = [
  distribution("RandomUniform", { low: 0, high: 1 }, false, uniform),
  distribution("RandomUniformLike", { low: 0, high: 1 }, true, uniform),
  distribution("RandomNormal", { mean: 0, scale: 1 }, false, normal),
  distribution("RandomNormalLike", { mean: 0, scale: 1 }, true, normal),
  bernoulli,
  multinomial,
  // Outside of training Dropout gives its input back, with a mask of ones.
  compositeOp(
    "Dropout",
    {
      inputs: [
        { name: "data", types: typeSets.anyFloat },
        scalar("ratio", typeSets.anyFloat),
        scalar("training_mode", ["bool"]),
      ],
      attributes: { seed: { type: "int" } },
      impure: true,
    },
    (context, data, ratio, mode) => {
      const training = context.has(2) ? context.dims(2)?.[0] : 0;
      if (training === 0) {
        const output = context.apply("Identity", [data]);
        if (context.outputCount < 2) return output;
        return [
          output,
          context.apply("ConstantOfShape", [context.int64s(context.shape(0))], { value: tensor("bool", [1], [true]) }),
        ];
      }
      const given = context.attribute("seed");
      return context.context
        .applyOp(dropoutInTraining, [data, ratio, mode], given === undefined ? {} : { seed: given }, {
          name: context.nodeName,
          outputs: 2,
        })
        .slice(0, context.outputCount);
    },
  ),
  dropoutInTraining,
];
