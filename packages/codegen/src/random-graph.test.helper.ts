/**
 * Test support: random small graphs of pointwise, movement and reduction operators over awkward shapes.
 *
 * A value is `exact` while every operation behind it is correctly rounded: then compiled code must give the interpreter's bits, and operations that
 * jump (rounding, comparison, casts to integers) may follow. Operations on other values are continuous, and are compared with a tolerance.
 */
import { Context, type Dim, evaluateDim, findOp, Graph, symbol, tensorType, type Value } from "@nimforge/ir";
import { type DType, dtypeInfo, isBig, isFloat, NimforgeError, sizeOf, type Tensor, tensor } from "@nimforge/tensor";
import type { TestProgram } from "./run.test.helper.js";

export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0;
  }
  /** In [0, n). */
  below(n: number): number {
    this.#state = (Math.imul(this.#state ^ (this.#state >>> 15), 2246822519) + 0x9e3779b9) >>> 0;
    return ((this.#state ^ (this.#state >>> 13)) >>> 0) % n;
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

const dtypes: readonly DType[] = [
  "float32", "float32", "float32", "float32", "float64", "float16", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float4e2m1",
  "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "int4", "uint4", "bool",
]; // biome-ignore format: a table

export function randomTensor(random: Random, dtype: DType, shape: readonly number[]): Tensor {
  const special = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e30];
  const withSpecial = dtype === "float32" && random.chance(15);
  const wide = random.chance(20);
  const element = (): number | bigint => {
    if (dtype === "bool") return random.below(2);
    if (isFloat(dtype)) return withSpecial && random.chance(10) ? random.pick(special) : (random.below(33) - 16) / 8;
    const { min, max } = dtypeInfo(dtype);
    if (wide && isBig(dtype))
      return random.chance(50) ? BigInt(max) - BigInt(random.below(9)) : BigInt(min) + BigInt(random.below(9));
    const value = Math.max(
      Number(min),
      Math.min(
        Number(max),
        wide && dtypeInfo(dtype).bits <= 32 ? random.pick([Number(min), Number(max), 1, 3]) : random.below(17) - 8,
      ),
    );
    return isBig(dtype) ? BigInt(value) : value;
  };
  return tensor(dtype, shape, Array.from({ length: sizeOf(shape) }, element));
}

interface Item {
  readonly value: Value;
  readonly exact: boolean;
}

/** Operations by what they do to exactness. */
const rounded1 = ["Neg", "Abs", "Relu", "Identity", "Sqrt"];
const smooth1 = [
  "Exp",
  "Tanh",
  "Sigmoid",
  "Erf",
  "HardSigmoid",
  "HardSwish",
  "Softplus",
  "LeakyRelu",
  "Elu",
  "Gelu",
  "Sin",
  "Atan",
];
const jumps1 = ["Floor", "Ceil", "Round", "Sign"];
const rounded2 = ["Add", "Sub", "Mul", "Min", "Max", "Div"];

export class Builder {
  readonly context = new Context(findOp);
  readonly inputs: { name: string; value: Value }[] = [];
  readonly items: Item[] = [];

  constructor(
    readonly random: Random,
    readonly sizes: ReadonlyMap<string, Dim>,
  ) {}

  input(dtype: DType, shape: readonly Dim[]): void {
    const name = `x${this.inputs.length}`;
    const value = this.context.input(name, tensorType(dtype, shape));
    this.inputs.push({ name, value });
    this.items.push({ value, exact: true });
  }

  #ints(...values: number[]): Value {
    return this.context.constant(tensor("int64", [values.length], values.map(BigInt)));
  }

  #one(
    name: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, number | string | readonly number[]> = {},
  ): Value {
    return this.context.apply(name, inputs, attributes)[0] as Value;
  }

  /** A constant that broadcasts against `value`. */
  #operand(value: Value): Value {
    const { random } = this;
    const shape = value.shape
      .slice(random.below(value.shape.length + 1))
      .map((size) => (typeof size === "number" && random.chance(60) ? size : 1));
    return this.context.constant(randomTensor(random, value.dtype, shape));
  }

  #addOne(): void {
    const { random, items } = this;
    const { value, exact } = random.chance(70) ? items[items.length - 1]! : random.pick(items);
    const { dtype } = value;
    const rank = value.shape.length;
    const float = isFloat(dtype);
    const axis = rank > 0 ? random.below(rank) : 0;
    const size = value.shape[axis];
    const push = (result: Value, stays = exact) => items.push({ value: result, exact: stays });
    switch (random.below(24)) {
      case 0:
      case 1:
        return void push(this.#one(random.pick(rounded1), [value]));
      case 2:
      case 3:
        if (float && dtypeInfo(dtype).bits >= 16) push(this.#one(random.pick(smooth1), [value]), false);
        return;
      case 4:
        if (exact) push(this.#one(random.pick(jumps1), [value]));
        return;
      case 5:
      case 6: {
        const op = random.pick(rounded2);
        if (op === "Div" && (!float || !exact)) return;
        return void push(
          this.#one(op, random.chance(50) ? [value, this.#operand(value)] : [this.#operand(value), value]),
        );
      }
      case 7: {
        const others = items.filter((other) => other.value.dtype === dtype);
        const other = random.pick(others);
        return void push(
          this.#one(random.pick(["Add", "Sub", "Mul", "Max", "Min"]), [value, other.value]),
          exact && other.exact,
        );
      }
      case 8:
        if (exact)
          push(this.#one(random.pick(["Equal", "Less", "GreaterOrEqual", "Greater"]), [value, this.#operand(value)]));
        return;
      case 9: {
        const to = random.pick(dtypes);
        const numbersOnly = isFloat(to) && (isFloat(dtype) || exact);
        if (exact || numbersOnly) push(this.#one("Cast", [value], { to: dtypeInfo(to).onnx }), exact);
        return;
      }
      case 10: {
        const perm = value.shape.map((_, k) => k);
        for (let k = rank - 1; k > 0; k--) {
          const other = random.below(k + 1);
          [perm[k], perm[other]] = [perm[other]!, perm[k]!];
        }
        return void push(this.#one("Transpose", [value], { perm }));
      }
      case 11:
        return void push(this.#one("Reshape", [value, random.chance(50) ? this.#ints(-1) : this.#ints(-1, 1)]));
      case 12: {
        if (rank === 0) return;
        const backwards = random.chance(30);
        const bound = [random.below(9) - 3, random.below(12) - 2];
        const step = (backwards ? -1 : 1) * (1 + random.below(3));
        const [start, end] = backwards ? [Math.max(...bound), Math.min(...bound) - 4] : bound;
        return void push(
          this.#one("Slice", [value, this.#ints(start!), this.#ints(end!), this.#ints(axis), this.#ints(step)]),
        );
      }
      case 13: {
        if (rank === 0) return;
        const others = items.filter((other) => other.value.dtype === dtype && other.value.shape.length === rank);
        const other = random.pick(others);
        return void push(this.#one("Concat", [value, other.value, value], { axis }), exact && other.exact);
      }
      case 14: {
        const mode = random.pick(["constant", "constant", "edge", "reflect"]);
        if (rank === 0 || (mode !== "constant" && (typeof size !== "number" || size < 4))) return;
        const pads = new Array<number>(2 * rank).fill(0);
        pads[axis] = random.below(3);
        pads[axis + rank] = random.below(3);
        if (mode === "constant" && random.chance(30)) pads[axis] = -1;
        return void push(this.#one("Pad", [value, this.#ints(...pads)], { mode }));
      }
      case 15:
        if (rank >= 4) return;
        return void push(this.#one("Unsqueeze", [value, this.#ints(random.below(rank + 1))]));
      case 16:
        if (rank === 0) return;
        return void push(this.#one("Tile", [value, this.#ints(...value.shape.map((_, k) => (k === axis ? 2 : 1)))]));
      case 17: {
        if (typeof size !== "number" || size === 0) return;
        const indices = Array.from({ length: 1 + random.below(5) }, () => random.below(2 * size) - size);
        return void push(this.#one("Gather", [value, this.#ints(...indices)], { axis }));
      }
      case 18:
      case 19: {
        if (rank === 0) return;
        const keepdims = random.below(2);
        const op = random.pick([
          "ReduceSum",
          "ReduceMean",
          "ReduceMax",
          "ReduceMin",
          "ReduceL2",
          "ReduceLogSumExp",
          "ReduceSumSquare",
        ]);
        const comparing = op === "ReduceMax" || op === "ReduceMin";
        if (!comparing && float && dtypeInfo(dtype).bits < 16) return;
        if (!float && (op === "ReduceL2" || op === "ReduceLogSumExp" || op === "ReduceMean")) return;
        return void push(this.#one(op, [value, this.#ints(axis)], { keepdims }), exact && (comparing || !float));
      }
      case 20:
        if (!exact || size === 0 || typeof size !== "number" || dtype === "bool") return;
        return void push(
          this.#one(random.pick(["ArgMax", "ArgMin"]), [value], {
            axis,
            keepdims: random.below(2),
            select_last_index: random.below(2),
          }),
        );
      case 21:
        if (!float || dtypeInfo(dtype).bits < 16 || rank === 0) return;
        return void push(this.#one(random.pick(["Softmax", "LogSoftmax"]), [value], { axis }), false);
      case 22: {
        if (!exact) return;
        const others = items.filter((other) => other.value.dtype === dtype);
        const condition = this.#one("Cast", [value], { to: dtypeInfo("bool").onnx });
        const other = random.pick(others);
        return void push(this.#one("Where", [condition, value, other.value]), other.exact);
      }
      default: {
        if (rank === 0 || typeof size !== "number" || size < 2) return;
        const halves = this.context.apply("Split", [value], { axis, num_outputs: 2 }, { outputs: 2 });
        return void push(random.pick(halves) as Value);
      }
    }
  }

  /** Adds about so many operators; what an operator refuses is not added. */
  grow(operators: number): void {
    for (let attempt = 0; attempt < 6 * operators && this.items.length < this.inputs.length + operators; attempt++) {
      const before = this.context.assertions.length;
      const count = this.items.length;
      try {
        this.#addOne();
        // A size that must match at run time would refuse most inputs; a large value says nothing more than a small one.
        if (this.context.assertions.length > before || tooLarge(this.items[this.items.length - 1]!.value)) {
          this.items.length = count;
          this.context.assertions.length = before;
        }
      } catch (error) {
        if (!(error instanceof NimforgeError) || error.kind === "internal") throw error;
        this.context.assertions.length = before;
      }
    }
  }
}

const tooLarge = (value: Value) =>
  value.shape.reduce<number>((n, size) => n * evaluateDim(size, () => 33), 1) > 60_000 || value.shape.length > 5;

const extents = [1, 2, 3, 5, 7, 8, 16, 17, 33];

/** A program of a seed. */
export function randomProgram(seed: number): TestProgram {
  const random = new Random(seed);
  const symbolic = random.chance(40);
  const sizes = new Map<string, Dim>(
    symbolic
      ? [
          ["A", symbol("A", 0, 64)],
          ["B", symbol("B", 1, 64)],
        ]
      : [],
  );
  const rank = 1 + random.below(4);
  const shape: Dim[] = Array.from({ length: rank }, () =>
    symbolic && random.chance(50)
      ? sizes.get(random.pick(["A", "B"]))!
      : random.chance(4)
        ? 0
        : random.pick(rank > 3 ? extents.slice(0, 6) : extents),
  );
  const builder = new Builder(random, sizes);
  const dtype = random.pick(dtypes);
  builder.input(dtype, shape);
  if (random.chance(60))
    builder.input(
      dtype,
      shape.map((size) => (random.chance(25) ? 1 : size)),
    );
  builder.grow(3 + random.below(7));
  const { items, inputs, context } = builder;
  const chosen = [items[items.length - 1]!, ...(random.chance(40) ? [random.pick(items)] : [])];
  const outputs = chosen.map(({ value }, k) => ({ name: `y${k}`, value }));
  const points = symbolic
    ? [
        { A: 5, B: 17 },
        { A: 33, B: 1 },
        { A: 0, B: 7 },
      ]
    : [{ A: 0, B: 0 }];
  const sets = points.map((point) =>
    inputs.map(({ value }) =>
      randomTensor(
        random,
        value.dtype,
        value.shape.map((size) => (typeof size === "number" ? size : point[size.toString() as "A" | "B"])),
      ),
    ),
  );
  return {
    name: `random${seed}`,
    graph: new Graph(context, inputs, outputs),
    inputs: sets,
    exact: chosen.map(({ exact }) => exact),
  };
}
