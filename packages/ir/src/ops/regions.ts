/** Pooling over regions of interest. */
import type { DType } from "@nimforge/tensor";
import { add, type Dim, mul } from "../dim.js";
import { type InputSpec, loopOp, type Op, type OpContext, reduceOver, typeSets } from "../op.js";
import { call, cast, computeType, constant, type Expr, index, indexBy } from "../scalar.js";
import { attributeOf } from "./expansion.js";
import { lowest } from "./window.js";

const { float } = typeSets;
const typed = (name: string, types: readonly DType[], optional = false): InputSpec => ({ name, types, optional });
const num = (like: Expr, value: number) => constant(like.dtype, value);

/** Bilinear sample as RoiAlign defines it: 0 beyond one pixel outside, clamped to the border within; `corners` are the four weighted pixels. */
function roiSample(
  y: Expr,
  x: Expr,
  height: Dim,
  width: Dim,
  load: (at: readonly Dim[]) => Expr,
): { inside: Expr; corners: Expr[] } {
  const axis = (position: Expr, size: Dim) => {
    const extent = cast(position.dtype, index(size));
    const inside = call("and", call("ge", position, num(position, -1)), call("le", position, extent));
    const last = call("sub", extent, num(position, 1));
    const clamped = call("min", call("max", position, num(position, 0)), last);
    const low = call("floor", clamped);
    const high = call("min", call("add", low, num(position, 1)), last);
    const fraction = call("sub", clamped, low);
    const at = (value: Expr) => indexBy(cast("int64", value), size);
    return {
      inside,
      sides: [
        { at: at(low), weight: call("sub", num(position, 1), fraction) },
        { at: at(high), weight: fraction },
      ],
    };
  };
  const rows = axis(y, height);
  const columns = axis(x, width);
  const corners = rows.sides.flatMap((row) =>
    columns.sides.map((column) => call("mul", call("mul", row.weight, column.weight), load([row.at, column.at]))),
  );
  return { inside: call("and", rows.inside, columns.inside), corners };
}

/** The samples of one bin along one axis. */
interface Sampling {
  /** How many samples there are; what an average divides by. */
  readonly count: Expr;
  /** How many to try; those not `taken` are none. */
  readonly trials: Dim;
  readonly at: (k: Dim) => { position: Expr; taken: Expr };
}

/**
 * `ratio` evenly spaced samples in [origin, origin + size), or ⌈size⌉ where ratio is 0. Those are more than ½ apart (or only one), and beyond [−1, extent]
 * they are worth nothing, so that 2·extent + 4 trials from the first within reach suffice, however large the region.
 */
function sampling(origin: Expr, size: Expr, ratio: number, extent: Dim): Sampling {
  const half = num(size, 0.5);
  const count = ratio > 0 ? num(size, ratio) : call("max", call("ceil", size), num(size, 0));
  const step = call("div", size, count);
  const position = (k: Expr) => call("add", origin, call("mul", call("add", k, half), step));
  if (ratio > 0)
    return {
      count,
      trials: ratio,
      at: (k) => ({ position: position(cast(size.dtype, index(k))), taken: constant("bool", true) }),
    };
  const reached = call("sub", call("div", call("sub", num(size, -1), origin), step), half);
  const first = call("max", call("floor", reached), num(size, 0));
  return {
    count,
    trials: add(mul(2, extent), 4),
    at: (k) => {
      const own = call("add", first, cast(size.dtype, index(k)));
      return { position: position(own), taken: call("lt", own, count) };
    },
  };
}

export const regions: readonly Op[] = [
  // roi = (batch, x1, y1, x2, y2); bin (i, j) covers rows ⌊i·h/H⌋ … ⌈(i+1)·h/H⌉ of the rounded region; an empty bin gives 0
  loopOp(
    "MaxRoiPool",
    {
      inputs: [typed("X", float), typed("rois", float)],
      attributes: { pooled_shape: { type: "ints", required: true }, spatial_scale: attributeOf.float(1) },
    },
    (context: OpContext) => {
      const [batch, channels, height, width] = context.shape(0);
      if (batch === undefined || channels === undefined || height === undefined || width === undefined)
        context.fail("X must have rank 4");
      const pooled = context.ints("pooled_shape") ?? [];
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      return context.over([context.shape(1)[0] as Dim, channels, ...pooled], (r, c, ph, pw) => {
        const roi = (k: number) => cast(wide, context.load(1, [r as Dim, k]));
        // half away from zero, as C's round()
        const corner = (k: number) => {
          const scaled = call("mul", roi(k), constant(wide, context.float("spatial_scale")));
          return call("trunc", call("add", scaled, call("mul", call("sign", scaled), constant(wide, 0.5))));
        };
        const side = (low: number, size: Dim, bin: Dim, bins: number) => {
          const start = corner(low);
          const extent = call(
            "max",
            call("add", call("sub", corner(low + 2), start), constant(wide, 1)),
            constant(wide, 1),
          );
          const edge = (position: Dim, rounding: "floor" | "ceil") => {
            const offset = call(
              rounding,
              call("div", call("mul", cast(wide, index(position)), extent), constant(wide, bins)),
            );
            const clamped = call(
              "min",
              call("max", call("add", start, offset), constant(wide, 0)),
              cast(wide, index(size)),
            );
            return cast("int64", clamped);
          };
          return { from: edge(bin, "floor"), to: edge(add(bin, 1), "ceil") };
        };
        const rows = side(2, height, ph as Dim, pooled[0] as number);
        const columns = side(1, width, pw as Dim, pooled[1] as number);
        const image = indexBy(cast("int64", roi(0)), batch);
        const best = reduceOver("max", [height, width], (y, x) => {
          const inside = [
            call("ge", index(y), rows.from),
            call("lt", index(y), rows.to),
            call("ge", index(x), columns.from),
            call("lt", index(x), columns.to),
          ];
          return call(
            "select",
            inside.reduce((a, b) => call("and", a, b)),
            context.load(0, [image, c as Dim, y, x]),
            lowest(dtype),
          );
        });
        const empty = call("or", call("le", rows.to, rows.from), call("le", columns.to, columns.from));
        return call("select", empty, constant(dtype, 0), best);
      });
    },
  ),

  // Each bin averages (or takes the maximum of) a grid of bilinear samples; with sampling_ratio 0 the grid has about one sample a pixel.
  loopOp(
    "RoiAlign",
    {
      inputs: [typed("X", float), typed("rois", float), typed("batch_indices", ["int64"])],
      attributes: {
        coordinate_transformation_mode: "half_pixel",
        mode: "avg",
        output_height: 1,
        output_width: 1,
        sampling_ratio: 0,
        spatial_scale: attributeOf.float(1),
      },
    },
    (context: OpContext) => {
      const [batch, channels, height, width] = context.shape(0);
      if (batch === undefined || channels === undefined || height === undefined || width === undefined)
        context.fail("X must have rank 4");
      const halfPixel = context.string("coordinate_transformation_mode") === "half_pixel";
      const average = context.string("mode") === "avg";
      const bins = [context.int("output_height"), context.int("output_width")];
      const ratio = context.int("sampling_ratio");
      if (ratio <= 0 && !average) context.unsupported("mode max with sampling_ratio 0", "set sampling_ratio");
      const dtype = context.dtype(0);
      const wide = computeType(dtype);
      const real = (value: number) => constant(wide, value);
      return context.over([context.shape(1)[0] as Dim, channels, ...bins], (r, c, ...bin) => {
        const [rows, columns] = [1, 0].map((low, a) => {
          const corner = (k: number) =>
            call(
              "sub",
              call("mul", cast(wide, context.load(1, [r as Dim, k])), real(context.float("spatial_scale"))),
              real(halfPixel ? 0.5 : 0),
            );
          const start = corner(low);
          const extent = call("sub", corner(low + 2), start);
          const size = call("div", halfPixel ? extent : call("max", extent, real(1)), real(bins[a] as number));
          const origin = call("add", start, call("mul", cast(wide, index(bin[a] as Dim)), size));
          return sampling(origin, size, ratio, (a === 0 ? height : width) as Dim);
        }) as [Sampling, Sampling];
        const image = indexBy(context.load(2, [r as Dim]), batch);
        const load = (at: readonly Dim[]) => cast(wide, context.load(0, [image, c as Dim, ...at]));
        const nothing = average ? real(0) : lowest(wide);
        const monoid = average ? "sum" : "max";
        const total = reduceOver(monoid, [rows.trials], (i) => {
          const y = rows.at(i);
          const row = reduceOver(monoid, [columns.trials], (j) => {
            const x = columns.at(j);
            const { inside, corners } = roiSample(y.position, x.position, height, width, load);
            return call(
              "select",
              x.taken,
              call(
                "select",
                inside,
                corners.reduce((p, q) => call(average ? "add" : "max", p, q)),
                real(0),
              ),
              nothing,
            );
          });
          return call("select", y.taken, row, nothing);
        });
        return cast(
          dtype,
          average ? call("div", total, call("max", call("mul", rows.count, columns.count), real(1))) : total,
        );
      });
    },
  ),
];
