/** Activations beside those of pointwise.ts: Shrink, and the gate of two inputs. */
import { compositeOp, loopOp, type Op, typeSets } from "../op.js";
import { call, cast, computeType, constant } from "../scalar.js";

export const activation: readonly Op[] = [
  loopOp(
    "Shrink",
    {
      inputs: [{ name: "input", types: typeSets.numeric }],
      attributes: { bias: { type: "float", default: 0 }, lambd: { type: "float", default: 0.5 } },
    },
    (context) => {
      const dtype = context.dtype(0);
      // A fractional bound on integers is compared as a real number.
      const wide = typeSets.float.some((name) => name === dtype) ? computeType(dtype) : "float64";
      const number = (value: number) => constant(wide, value);
      return context.over(context.shape(0), (...at) => {
        const x = cast(wide, context.load(0, at));
        const bias = number(context.float("bias"));
        const above = call("select", call("gt", x, number(context.float("lambd"))), call("sub", x, bias), number(0));
        return cast(dtype, call("select", call("lt", x, number(-context.float("lambd"))), call("add", x, bias), above));
      });
    },
  ),
  compositeOp(
    "SwiGLU",
    {
      inputs: [
        { name: "A", types: typeSets.float },
        { name: "B", types: typeSets.float },
      ],
      attributes: { alpha: { type: "float", default: 1 } },
    },
    (context, gate, value) => {
      if (context.rank(0) !== context.rank(1)) context.fail("A and B must have one shape");
      context
        .shape(0)
        .forEach((size, axis) => context.same(size, context.shape(1)[axis] ?? 0, `axis ${axis} of A and B`));
      return context.apply("Mul", [context.apply("Swish", [gate], { alpha: context.float("alpha") }), value]);
    },
  ),
];
