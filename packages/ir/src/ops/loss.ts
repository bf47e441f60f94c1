/** Losses of classification. */
import type { DType } from "@nimforge/tensor";
import type { Dim } from "../dim.js";
import type { Value } from "../graph.js";
import { compositeOp, type InputSpec, loopOp, type Op, type OpContext, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, indexBy } from "../scalar.js";
import { attributeOf, optionalInt } from "./expansion.js";

const { float } = typeSets;
const typed = (name: string, types: readonly DType[] = float, optional = false): InputSpec => ({
  name,
  types,
  optional,
});
const attributes = { ignore_index: attributeOf.int, reduction: "mean" };

/** The log probabilities x[N, C, d…] picked by target[N, d…], negated and weighted; a target equal to ignore_index is worth and weighs nothing. */
function negativeLogLikelihood(context: OpContext) {
  const [batch, classes, ...positions] = context.shape(0);
  if (batch === undefined || classes === undefined)
    context.fail("the input must have at least a batch and a class axis", { found: `rank ${context.rank(0)}` });
  const targets = context.shape(1);
  if (targets.length !== positions.length + 1)
    context.fail("the target must have the input's shape without classes", { found: `rank ${targets.length}` });
  const shape = [batch, ...positions].map((size, k) =>
    context.same(size, targets[k] as Dim, "the sizes of input and target"),
  );
  const ignored = optionalInt(context, "ignore_index");
  const dtype = context.dtype(0);
  const wide = computeType(dtype);
  const reduction = context.string("reduction");
  if (!["none", "sum", "mean"].includes(reduction))
    context.fail("reduction must be none, sum or mean", { found: reduction });

  const unlessIgnored = (at: readonly Dim[], value: (target: Dim) => Expr): Expr => {
    const target = cast("int64", context.load(1, at));
    const wanted = value(indexBy(target, classes));
    return ignored === undefined
      ? wanted
      : call("select", call("eq", target, constant("int64", BigInt(ignored))), constant(wide, 0), wanted);
  };
  const weightOf = (target: Dim): Expr => (context.has(2) ? cast(wide, context.load(2, [target])) : constant(wide, 1));
  const loss = (at: readonly Dim[]) =>
    unlessIgnored(at, (target) => {
      const picked = call("neg", cast(wide, context.load(0, [at[0] as Dim, target, ...at.slice(1)])));
      return context.has(2) ? call("mul", picked, weightOf(target)) : picked;
    });

  if (reduction === "none") return context.over(shape, (...at) => cast(dtype, loss(at)));
  return context.over([], () => {
    const total = reduceOver("sum", shape, (...at) => loss(at));
    if (reduction === "sum") return cast(dtype, total);
    return cast(
      dtype,
      call(
        "div",
        total,
        reduceOver("sum", shape, (...at) => unlessIgnored(at, weightOf)),
      ),
    );
  });
}

export const loss: readonly Op[] = [
  loopOp(
    "NegativeLogLikelihoodLoss",
    { inputs: [typed("input"), typed("target", typeSets.index), typed("weight", float, true)], attributes },
    negativeLogLikelihood,
  ),
  compositeOp(
    "SoftmaxCrossEntropyLoss",
    { inputs: [typed("scores"), typed("labels", typeSets.index), typed("weights", float, true)], attributes },
    (context, scores, labels, weights) => {
      const logProbability = context.apply("LogSoftmax", [scores], { axis: 1 });
      const ignored = optionalInt(context, "ignore_index");
      const passed = {
        reduction: context.string("reduction"),
        ...(ignored === undefined ? {} : { ignore_index: ignored }),
      };
      const loss = context.apply("NegativeLogLikelihoodLoss", [logProbability, labels as Value, weights], passed);
      return [loss, logProbability].slice(0, context.outputCount);
    },
  ),
];
