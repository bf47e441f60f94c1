/** Reading a tensor at real positions. */
import type { Dim } from "../dim.js";
import { call, cast, constant, type Expr, index, indexBy } from "../scalar.js";

/** The element at a whole-number position given as data, or 0 outside. `position` is float. */
function elementOrZero(positions: readonly Expr[], sizes: readonly Dim[], load: (at: readonly Dim[]) => Expr): Expr {
  const whole = positions.map((position) => cast("int64", position));
  const inside = whole.flatMap((position, k) => [
    call("ge", position, constant("int64", 0n)),
    call("lt", position, index(sizes[k] as Dim)),
  ]);
  const value = load(whole.map((position, k) => indexBy(position, sizes[k] as Dim)));
  return call(
    "select",
    inside.reduce((a, b) => call("and", a, b)),
    value,
    constant(value.dtype, 0),
  );
}

/** Multilinear interpolation at real positions (one float expression for each axis); elements outside count as 0. */
export function bilinear(positions: readonly Expr[], sizes: readonly Dim[], load: (at: readonly Dim[]) => Expr): Expr {
  const floors = positions.map((position) => call("floor", position));
  const blend = (axis: number, chosen: readonly Expr[]): Expr => {
    if (axis === positions.length) return elementOrZero(chosen, sizes, load);
    const low = floors[axis] as Expr;
    const one = constant(low.dtype, 1);
    const fraction = call("sub", positions[axis] as Expr, low);
    const below = blend(axis + 1, [...chosen, low]);
    const above = blend(axis + 1, [...chosen, call("add", low, one)]);
    return call("add", call("mul", call("sub", one, fraction), below), call("mul", fraction, above));
  };
  return blend(0, []);
}
