/** Optimizer steps (ai.onnx.preview.training): inputs R, T, then every X, every gradient and every state; outputs every new X, then every new state. */
import type { DType } from "@nimforge/tensor";
import { type Compute, loopOp, type Op, type OpContext, typeSets } from "../op.js";
import { call, cast, constant, type Expr } from "../scalar.js";
import { attributeOf } from "./expansion.js";

const rates: readonly DType[] = ["float32", "float64"];
const { float } = attributeOf;

/** What an optimizer sees of one element. */
interface Step {
  /** Learning rate, as the parameter's type. */
  readonly rate: Expr;
  /** Number of the step, as the parameter's type. */
  readonly time: Expr;
  readonly x: Expr;
  /** The gradient with the regularization's: norm_coefficient·x + g. */
  readonly gradient: Expr;
  readonly states: readonly Expr[];
  readonly number: (attribute: string) => Expr;
}

const optimizer = (
  name: string,
  attributes: Record<string, ReturnType<typeof float> | string>,
  states: number,
  step: (step: Step, context: OpContext) => readonly Expr[],
): Op =>
  loopOp(
    name,
    {
      domain: "ai.onnx.preview.training",
      inputs: [
        { name: "R", types: rates },
        { name: "T", types: ["int64"] },
        { name: "inputs", types: typeSets.float, variadic: true },
      ],
      attributes,
    },
    (context) => {
      const groups = 2 + states;
      const count = (context.inputs.length - 2) / groups;
      if (!Number.isInteger(count) || count < 1)
        context.fail(`takes R, T and ${groups} tensors for each parameter`, {
          found: `${context.inputs.length} inputs`,
        });
      const outputs: Compute[] = [];
      for (let result = 0; result <= states; result++)
        for (let k = 0; k < count; k++) {
          const positionOf = (group: number) => 2 + group * count + k;
          const dtype = context.dtype(positionOf(0));
          outputs.push(
            context.over(context.shape(positionOf(0)), (...at) => {
              const load = (group: number) => context.at(positionOf(group), at);
              const number = (attribute: string) => constant(dtype, context.float(attribute));
              const scalar = (input: number) => cast(dtype, context.at(input, [0]));
              const x = load(0);
              const gradient = call("add", call("mul", number("norm_coefficient"), x), load(1));
              const held = Array.from({ length: states }, (_, state) => load(2 + state));
              return step({ rate: scalar(0), time: scalar(1), x, gradient, states: held, number }, context)[
                result
              ] as Expr;
            }),
          );
        }
      return outputs;
    },
  );

const times = (a: Expr, b: Expr) => call("mul", a, b);
const plus = (a: Expr, b: Expr) => call("add", a, b);
const minus = (a: Expr, b: Expr) => call("sub", a, b);
const over = (a: Expr, b: Expr) => call("div", a, b);
const one = (like: Expr) => constant(like.dtype, 1);
const started = (time: Expr) => call("gt", time, constant(time.dtype, 0));

export const training: readonly Op[] = [
  optimizer(
    "Adagrad",
    { decay_factor: float(0), epsilon: float(1e-6), norm_coefficient: float(0) },
    1,
    ({ rate, time, x, gradient, states, number }) => {
      const decayed = over(rate, plus(one(x), times(time, number("decay_factor"))));
      const squares = plus(states[0] as Expr, times(gradient, gradient));
      return [minus(x, over(times(decayed, gradient), plus(call("sqrt", squares), number("epsilon")))), squares];
    },
  ),
  optimizer(
    "Adam",
    {
      alpha: float(0.9),
      beta: float(0.999),
      epsilon: float(1e-6),
      norm_coefficient: float(0),
      norm_coefficient_post: float(0),
    },
    2,
    ({ rate, time, x, gradient, states, number }) => {
      const [alpha, beta] = [number("alpha"), number("beta")];
      const momentum = plus(times(alpha, states[0] as Expr), times(minus(one(x), alpha), gradient));
      const squares = plus(times(beta, states[1] as Expr), times(minus(one(x), beta), times(gradient, gradient)));
      const correction = over(
        call("sqrt", minus(one(x), call("pow", beta, time))),
        minus(one(x), call("pow", alpha, time)),
      );
      const adjusted = call("select", started(time), times(rate, correction), rate);
      const moved = minus(x, times(adjusted, over(momentum, plus(call("sqrt", squares), number("epsilon")))));
      return [times(minus(one(x), number("norm_coefficient_post")), moved), momentum, squares];
    },
  ),
  optimizer(
    "Momentum",
    { alpha: float(0), beta: float(0), norm_coefficient: float(0), mode: "standard" },
    1,
    ({ rate, time, x, gradient, states, number }, context) => {
      const mode = context.string("mode");
      if (mode !== "standard" && mode !== "nesterov")
        context.fail("mode must be standard or nesterov", { found: mode });
      const dampening = call("select", started(time), number("beta"), one(x));
      const velocity = plus(times(number("alpha"), states[0] as Expr), times(dampening, gradient));
      const direction = mode === "standard" ? velocity : plus(gradient, times(number("alpha"), velocity));
      return [minus(x, times(rate, direction)), velocity];
    },
  ),
];
