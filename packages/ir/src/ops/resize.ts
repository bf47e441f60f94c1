/**
 * Sampling an image at computed coordinates: Resize, AffineGrid, GridSample.
 *
 * Resize maps each output position to a source coordinate. Nearest neighbour by an integer factor is an index map (⌊i / s⌋), which fuses
 * like a view; other forms weigh a fixed number of neighbours per axis, axis by axis.
 */
import { type DType, toNumbers } from "@nimforge/tensor";
import { add, type Dim, equalDims, floordiv, formatDim, max, min, mul, sub } from "../dim.js";
import { type Compute, loopOp, type Op, type OpContext, typeSets } from "../op.js";
import { call, cast, constant, type Expr, index, indexBy } from "../scalar.js";

/** Coordinates are float64 in ONNX's reference: float32 moves pixels where a coordinate is close to a boundary. */
const wide: DType = "float64";
const real = (value: number): Expr => constant(wide, value);
const asReal = (dim: Dim): Expr => (typeof dim === "number" ? real(dim) : cast(wide, index(dim)));
const plus = (a: Expr, b: Expr) => call("add", a, b);
const minus = (a: Expr, b: Expr) => call("sub", a, b);
const times = (a: Expr, b: Expr) => call("mul", a, b);
const over = (a: Expr, b: Expr) => call("div", a, b);

/** An integer-valued float as a position in [0, size), clamped. */
function clampedIndex(position: Expr, size: Dim): Dim {
  const zero = constant("int64", 0n);
  return indexBy(call("min", call("max", cast("int64", position), zero), index(sub(size, 1))), size);
}

interface ResizedAxis {
  readonly axis: number;
  readonly from: Dim;
  readonly to: Dim;
  /** Output size over input size, as given or as the sizes say. */
  readonly scale: Expr;
  /** The scale where it is known; undefined: a quotient of run-time sizes. */
  readonly factor: number | undefined;
  /** Fraction of the input that is sampled (tf_crop_and_resize). */
  readonly roi: readonly [number, number];
}

/** Numbers of a float input that the build knows. */
function floats(context: OpContext, input: number): number[] {
  const value = context.constant(input);
  const name = context.op.inputs[input]?.name;
  return value
    ? [...toNumbers(value)]
    : context.unsupported(`${name} is known only at run time`, `make ${name} a constant in the model, or use sizes`);
}

const isEmpty = (context: OpContext, input: number) =>
  !context.has(input) || (context.rank(input) === 1 && context.shape(input)[0] === 0);

/** scale·size rounded down, exact for a scale that is a small fraction. */
function scaledSize(context: OpContext, size: Dim, scale: number): Dim {
  if (typeof size === "number") return Math.floor(scale * size);
  for (let denominator = 1; denominator <= 64; denominator++) {
    const numerator = Math.round(scale * denominator);
    if (Math.abs(numerator / denominator - scale) <= 1e-7 * scale) return floordiv(mul(size, numerator), denominator);
  }
  return context.unsupported(
    `a scale of ${scale} for the run-time size ${formatDim(size)}`,
    "fix the size of the input with --shape",
  );
}

/** output / input where it is a number whatever the run-time sizes are. */
function quotient(to: Dim, from: Dim): number | undefined {
  if (typeof to === "number" && typeof from === "number") return to / from;
  for (let factor = 1; factor <= 16; factor++) {
    if (equalDims(to, mul(from, factor))) return factor;
    if (equalDims(mul(to, factor), from)) return 1 / factor;
  }
  return undefined;
}

function resizedAxes(context: OpContext): ResizedAxis[] {
  const shape = context.shape(0);
  const axes = context.ints("axes");
  const chosen = axes ? context.axes(axes, shape.length) : shape.map((_, axis) => axis);
  const crop = context.string("coordinate_transformation_mode") === "tf_crop_and_resize";
  if (crop && isEmpty(context, 1)) context.fail("tf_crop_and_resize needs roi");
  const roi = crop ? floats(context, 1) : [];
  if (crop && roi.length !== 2 * chosen.length)
    context.fail("roi must hold a start and an end for each axis", {
      expected: String(2 * chosen.length),
      found: String(roi.length),
    });
  const region = (k: number): readonly [number, number] =>
    crop ? [roi[k] as number, roi[k + chosen.length] as number] : [0, 1];
  const byScale = !isEmpty(context, 2);
  if (byScale === !isEmpty(context, 3)) context.fail("exactly one of scales and sizes must be given");
  if (byScale) {
    const scales = floats(context, 2);
    checkLength(context, "scales", scales.length, chosen.length);
    return chosen.map((axis, k) => {
      const scale = scales[k] as number;
      if (!(scale > 0)) context.fail("scales must be positive", { found: String(scale) });
      const from = shape[axis] as Dim;
      const [start, end] = region(k);
      return {
        axis,
        from,
        to: scaledSize(context, from, scale * (end - start)),
        scale: real(scale),
        factor: scale,
        roi: [start, end],
      };
    });
  }
  const sizes = context.needDims(3);
  checkLength(context, "sizes", sizes.length, chosen.length);
  const policy = context.string("keep_aspect_ratio_policy");
  if (policy === "stretch")
    return chosen.map((axis, k) => {
      const from = shape[axis] as Dim;
      const to = sizes[k] as Dim;
      const factor = quotient(to, from);
      return {
        axis,
        from,
        to,
        scale: factor === undefined ? over(asReal(to), asReal(from)) : real(factor),
        factor,
        roi: region(k),
      };
    });
  if (policy !== "not_larger" && policy !== "not_smaller")
    context.fail("keep_aspect_ratio_policy is not one of stretch, not_larger, not_smaller", { found: policy });
  const ratios = chosen.map((axis, k) => {
    const from = shape[axis];
    const to = sizes[k];
    return typeof from === "number" && typeof to === "number"
      ? to / from
      : context.unsupported(`keep_aspect_ratio_policy ${policy} with run-time sizes`);
  });
  const scale = policy === "not_larger" ? Math.min(...ratios) : Math.max(...ratios);
  return chosen.map((axis, k) => {
    const from = shape[axis] as number;
    return { axis, from, to: Math.floor(scale * from + 0.5), scale: real(scale), factor: scale, roi: region(k) };
  });
}

function checkLength(context: OpContext, what: string, found: number, expected: number): void {
  if (found !== expected)
    context.fail(`${what} must hold one number for each axis`, { expected: String(expected), found: String(found) });
}

/** The coordinate in the input that output position `at` samples. */
function sourceCoordinate(mode: string, { from, to, scale, factor, roi }: ResizedAxis, at: Dim): Expr {
  const x = asReal(at);
  // The output's exact extent; a fraction where scales are given.
  const extent = factor === undefined ? asReal(to) : times(real(factor), asReal(from));
  const halfPixel = minus(over(plus(x, real(0.5)), scale), real(0.5));
  const last = asReal(sub(from, 1));
  const single = call("eq", extent, real(1));
  switch (mode) {
    case "half_pixel":
      return halfPixel;
    case "pytorch_half_pixel":
      return call("select", single, real(-0.5), halfPixel);
    case "half_pixel_symmetric": {
      const center = over(asReal(from), real(2));
      return plus(times(center, minus(real(1), over(asReal(to), extent))), halfPixel);
    }
    case "asymmetric":
      return over(x, scale);
    case "align_corners":
      return call("select", single, real(0), over(times(x, last), minus(extent, real(1))));
    default: {
      const [start, end] = roi;
      const inner = call(
        "select",
        single,
        over(times(real(end - start), last), real(2)),
        over(times(times(x, real(end - start)), last), minus(extent, real(1))),
      );
      return plus(inner, times(real(start), last));
    }
  }
}

const coordinateModes = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
  "tf_crop_and_resize",
];
const nearestModes = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];

// Nearest neighbour

/** Whether the scale is an integer s (up) or 1/s (down). */
function integerFactor(factor: number | undefined): { up: number; down: number } | undefined {
  if (factor === undefined) return undefined;
  if (Number.isInteger(factor)) return { up: factor, down: 1 };
  const inverse = Math.round(1 / factor);
  return Math.abs(inverse * factor - 1) < 1e-6 ? { up: 1, down: inverse } : undefined;
}

/** Nearest neighbour by an integer factor as an index map, where it is one. */
function nearestMap(mode: string, rounding: string, { from, to, factor }: ResizedAxis, at: Dim): Dim | undefined {
  const integer = integerFactor(factor);
  if (!integer) return undefined;
  const { up, down } = integer;
  let position: Dim;
  const half =
    mode === "half_pixel" ||
    (mode === "pytorch_half_pixel" && to !== 1) ||
    (mode === "half_pixel_symmetric" && equalDims(mul(to, down), mul(from, up)));
  // With positions in units of 1/(2·up): asymmetric x = 2·at, half pixel x = 2·at·down + down − up.
  let doubled: Dim;
  if (mode === "asymmetric") doubled = mul(2 * down, at);
  else if (half) doubled = add(mul(2 * down, at), down - up);
  else return undefined;
  const unit = 2 * up;
  if (rounding === "floor") position = floordiv(doubled, unit);
  else if (rounding === "ceil") position = floordiv(add(doubled, unit - 1), unit);
  else if (rounding === "round_prefer_ceil") position = floordiv(add(doubled, up), unit);
  else position = floordiv(add(doubled, up - 1), unit); // halves go down
  return min(max(position, 0), sub(from, 1));
}

function nearestPosition(mode: string, rounding: string, axis: ResizedAxis, at: Dim): Dim {
  const map = nearestMap(mode, rounding, axis, at);
  if (map !== undefined) return map;
  const x = sourceCoordinate(mode, axis, at);
  const rounded =
    rounding === "floor"
      ? call("floor", x)
      : rounding === "ceil"
        ? call("ceil", x)
        : rounding === "round_prefer_ceil"
          ? call("floor", plus(x, real(0.5)))
          : call("ceil", minus(x, real(0.5)));
  return clampedIndex(rounded, axis.from);
}

// Weighted neighbours

interface Neighbour {
  readonly at: Dim;
  readonly weight: Expr;
}

/** Keys' cubic convolution kernel at distance x >= 0. */
function cubicWeight(x: Expr, a: number): Expr {
  const inner = plus(times(times(minus(times(real(a + 2), x), real(a + 3)), x), x), real(1));
  const outer = minus(times(plus(times(minus(times(real(a), x), real(5 * a)), x), real(8 * a)), x), real(4 * a));
  return call("select", call("le", x, real(1)), inner, call("select", call("lt", x, real(2)), outer, real(0)));
}

const triangleWeight = (x: Expr): Expr => call("max", minus(real(1), x), real(0));

/** Half the width of the kernel in pixels of the input. */
const support = (kernel: string) => (kernel === "cubic" ? 2 : 1);

/**
 * The neighbours that an output position weighs. With antialiasing the kernel is stretched by 1/scale when downscaling, and its weights are
 * normalised.
 */
function neighbours(context: OpContext, axis: ResizedAxis, at: Dim, kernel: string): readonly Neighbour[] {
  const x = sourceCoordinate(context.string("coordinate_transformation_mode"), axis, at);
  const antialias = context.int("antialias") !== 0;
  if (antialias && axis.factor === undefined)
    context.unsupported("antialias with run-time sizes", "fix the sizes with --shape");
  const stretch = antialias ? Math.min(axis.factor as number, 1) : 1;
  const radius = support(kernel);
  // Taps from `first` to 1 − first around the pixel left of x (an exact pixel counts as right of its left neighbour).
  const first = Math.floor(-radius / stretch) + 1;
  const left = minus(call("ceil", x), real(1));
  const weigh = (distance: Expr) =>
    kernel === "cubic" ? cubicWeight(distance, context.float("cubic_coeff_a")) : triangleWeight(distance);
  const taps = Array.from({ length: 2 - 2 * first }, (_, k) => {
    const position = plus(left, real(first + k));
    const weight = weigh(times(call("abs", minus(position, x)), real(stretch)));
    if (!context.int("exclude_outside")) return { position, weight };
    const inside = call("and", call("ge", position, real(0)), call("lt", position, asReal(axis.from)));
    return { position, weight: call("select", inside, weight, real(0)) };
  });
  const normalise = antialias || context.int("exclude_outside") !== 0;
  const total = normalise ? taps.map(({ weight }) => weight).reduce(plus) : undefined;
  return taps.map(({ position, weight }) => ({
    at: clampedIndex(position, axis.from),
    weight: total ? over(weight, total) : weight,
  }));
}

/** Σ over the neighbours of every axis, innermost axis last. */
function interpolate(
  axes: readonly { axis: number; taps: readonly Neighbour[] }[],
  at: readonly Dim[],
  pixel: (at: readonly Dim[]) => Expr,
): Expr {
  const [head, ...rest] = axes;
  if (!head) return pixel(at);
  return head.taps
    .map((tap) =>
      times(
        interpolate(
          rest,
          at.map((own, k) => (k === head.axis ? tap.at : own)),
          pixel,
        ),
        tap.weight,
      ),
    )
    .reduce(plus);
}

function resized(context: OpContext): Compute {
  const mode = context.string("coordinate_transformation_mode");
  const kernel = context.string("mode");
  const rounding = context.string("nearest_mode");
  if (!["nearest", "linear", "cubic"].includes(kernel))
    context.fail("mode is not one of nearest, linear, cubic", { found: kernel });
  if (!coordinateModes.includes(mode))
    context.fail(`coordinate_transformation_mode is not one of ${coordinateModes.join(", ")}`, { found: mode });
  if (!nearestModes.includes(rounding))
    context.fail(`nearest_mode is not one of ${nearestModes.join(", ")}`, { found: rounding });
  if (kernel === "nearest" && context.int("antialias")) context.fail("antialias is for linear and cubic");
  const all = resizedAxes(context);
  const shape = [...context.shape(0)];
  for (const { axis, to } of all) shape[axis] = to;
  // An axis that keeps its size and is not cropped is copied.
  const axes = all.filter(
    ({ factor, from, to, roi }) => !(factor === 1 && equalDims(from, to) && roi[0] === 0 && roi[1] === 1),
  );
  const dtype = context.dtype(0);
  return context.over(shape, (...at) => {
    let value: Expr;
    if (kernel === "nearest") {
      const source = [...at];
      for (const axis of axes) source[axis.axis] = nearestPosition(mode, rounding, axis, at[axis.axis] as Dim);
      value = context.load(0, source);
    } else {
      const taps = axes.map((axis) => ({
        axis: axis.axis,
        taps: neighbours(context, axis, at[axis.axis] as Dim, kernel),
      }));
      value = rounded(
        dtype,
        interpolate(taps, at, (source) => cast(wide, context.load(0, source))),
      );
    }
    if (mode !== "tf_crop_and_resize") return value;
    const outside = axes.flatMap((axis) => {
      const x = sourceCoordinate(mode, axis, at[axis.axis] as Dim);
      return [call("lt", x, real(0)), call("gt", x, asReal(sub(axis.from, 1)))];
    });
    return outside.length === 0
      ? value
      : call(
          "select",
          outside.reduce((a, b) => call("or", a, b)),
          constant(dtype, context.float("extrapolation_value")),
          value,
        );
  });
}

/** To an integer type the weighted mean is cut to its range and truncated. */
function rounded(dtype: DType, value: Expr): Expr {
  if (typeSets.anyFloat.includes(dtype)) return cast(dtype, value);
  const [low, high] = dtype.startsWith("u")
    ? [0, 2 ** Number(dtype.slice(4)) - 1]
    : [-(2 ** (Number(dtype.slice(3)) - 1)), 2 ** (Number(dtype.slice(3)) - 1) - 1];
  return cast(dtype, call("min", call("max", value, real(low)), real(high)));
}

// Grids

/** Position k of n on an axis that runs over [-1, 1]: through the ends, or through the pixels' centers. */
function gridCoordinate(at: Dim, size: Dim, alignCorners: boolean, dtype: DType): Expr {
  const value = (x: number) => constant(dtype, x);
  const k = cast(dtype, index(at));
  if (alignCorners)
    return size === 1
      ? value(-1)
      : call("sub", call("div", call("mul", value(2), k), cast(dtype, index(sub(size, 1)))), value(1));
  return call("sub", call("div", call("add", call("mul", value(2), k), value(1)), cast(dtype, index(size))), value(1));
}

function affineGrid(context: OpContext): Compute {
  const size = context.needDims(1);
  const spatial = size.slice(2);
  const n = spatial.length;
  if (n !== 2 && n !== 3) context.fail("size must be (N, C, H, W) or (N, C, D, H, W)", { found: String(size.length) });
  if (context.rank(0) !== 3) context.fail("theta must have 3 axes");
  context.same(context.shape(0)[0] as Dim, size[0] as Dim, "batches of theta and size");
  context.same(context.shape(0)[1] as Dim, n, "rows of theta");
  context.same(context.shape(0)[2] as Dim, n + 1, "columns of theta");
  const dtype = context.dtype(0);
  return context.over([size[0] as Dim, ...spatial, n], (...at) => {
    const theta = (column: number) => context.load(0, [at[0] as Dim, at[n + 1] as Dim, column]);
    // Columns are x, y(, z), 1: the last spatial axis first.
    const terms = Array.from({ length: n }, (_, column) => {
      const axis = n - 1 - column;
      return call(
        "mul",
        theta(column),
        gridCoordinate(at[1 + axis] as Dim, spatial[axis] as Dim, context.int("align_corners") !== 0, dtype),
      );
    });
    return call(
      "add",
      terms.reduce((a, b) => call("add", a, b)),
      theta(n),
    );
  });
}

/** x reflected at both borders until it is within them. */
function reflected(x: Expr, low: Expr, high: Expr): Expr {
  const span = minus(high, low);
  const distance = call("select", call("lt", x, low), minus(low, x), minus(x, high));
  const turns = call("floor", over(distance, span));
  const rest = minus(distance, times(turns, span));
  const even = call("eq", call("mod", turns, real(2)), real(0));
  const nearLow = call("eq", call("lt", x, low), even);
  const folded = call("select", nearLow, plus(low, rest), minus(high, rest));
  const inside = call("and", call("ge", x, low), call("le", x, high));
  // A span of 0 is a single pixel.
  return call("select", inside, x, call("select", call("gt", span, real(0)), folded, low));
}

function gridSampled(context: OpContext): Compute {
  const shape = context.shape(0);
  const grid = context.shape(1);
  const n = shape.length - 2;
  if (n < 1 || grid.length !== n + 2)
    context.fail("X and grid must have one rank, 3 or more", { found: `${shape.length} and ${grid.length}` });
  context.same(grid[n + 1] as Dim, n, "the grid's last axis");
  const kernel = context.string("mode");
  const padding = context.string("padding_mode");
  const align = context.int("align_corners") !== 0;
  if (!["nearest", "linear", "cubic"].includes(kernel))
    context.fail("mode is not one of nearest, linear, cubic", { found: kernel });
  if (!["zeros", "border", "reflection"].includes(padding))
    context.fail("padding_mode is not one of zeros, border, reflection", { found: padding });
  const dtype = context.dtype(0);
  return context.over([shape[0] as Dim, shape[1] as Dim, ...grid.slice(1, -1)], (...at) => {
    const spatial = Array.from({ length: n }, (_, k) => {
      const size = shape[k + 2] as Dim;
      const [low, high] = align ? [real(0), asReal(sub(size, 1))] : [real(-0.5), minus(asReal(size), real(0.5))];
      const given = cast(wide, context.load(1, [at[0] as Dim, ...at.slice(2), n - 1 - k]));
      const scaled = align
        ? times(over(plus(given, real(1)), real(2)), asReal(sub(size, 1)))
        : over(minus(times(plus(given, real(1)), asReal(size)), real(1)), real(2));
      const x =
        kernel === "nearest" ? call("round", cast(wide, cast("float32", scaled))) : cast(wide, cast("float32", scaled));
      const folded =
        padding === "border"
          ? call("min", call("max", x, real(0)), asReal(sub(size, 1)))
          : padding === "reflection"
            ? reflected(x, low, high)
            : x;
      const out = call("or", call("lt", x, low), call("gt", x, high));
      return { size, low, high, x: padding === "zeros" ? x : call("select", out, folded, x) };
    });
    /** The pixel at integer-valued coordinates, one for each axis, with the padding rule. */
    const pixel = (coordinates: readonly Expr[]): Expr => {
      const positions = coordinates.map((c, k) => {
        const { size, low, high } = spatial[k] as (typeof spatial)[number];
        return clampedIndex(padding === "reflection" ? call("trunc", reflected(c, low, high)) : c, size);
      });
      const value = cast(wide, context.load(0, [at[0] as Dim, at[1] as Dim, ...positions]));
      if (padding !== "zeros") return value;
      const inside = coordinates
        .map((c, k) => call("and", call("ge", c, real(0)), call("lt", c, asReal(spatial[k]!.size))))
        .reduce((a, b) => call("and", a, b));
      return call("select", inside, value, real(0));
    };
    if (kernel === "nearest") return cast(dtype, pixel(spatial.map(({ x }) => call("trunc", x))));
    const radius = support(kernel);
    const weigh = (distance: Expr) => (kernel === "cubic" ? cubicWeight(distance, -0.75) : triangleWeight(distance));
    const sample = (axis: number, chosen: readonly Expr[]): Expr => {
      if (axis === n) return pixel(chosen);
      const { x } = spatial[axis] as (typeof spatial)[number];
      const base = call("floor", x);
      return Array.from({ length: 2 * radius }, (_, k) => {
        const position = plus(base, real(k - radius + 1));
        return times(weigh(call("abs", minus(x, position))), sample(axis + 1, [...chosen, position]));
      }).reduce(plus);
    };
    return cast(dtype, sample(0, []));
  });
}

const optionalFloats = (name: string, types: readonly DType[]) => ({ name, types, optional: true });

export const resize: readonly Op[] = [
  loopOp(
    "Resize",
    {
      inputs: [
        { name: "X", types: typeSets.numeric },
        optionalFloats("roi", typeSets.float),
        optionalFloats("scales", ["float32"]),
        optionalFloats("sizes", ["int64"]),
      ],
      attributes: {
        mode: "nearest",
        coordinate_transformation_mode: "half_pixel",
        nearest_mode: "round_prefer_floor",
        cubic_coeff_a: -0.75,
        exclude_outside: 0,
        extrapolation_value: 0,
        antialias: 0,
        axes: { type: "ints" },
        keep_aspect_ratio_policy: "stretch",
      },
    },
    resized,
  ),
  loopOp(
    "AffineGrid",
    {
      inputs: [
        { name: "theta", types: typeSets.float },
        { name: "size", types: ["int64"] },
      ],
      attributes: { align_corners: 0 },
    },
    affineGrid,
  ),
  loopOp(
    "GridSample",
    {
      inputs: [
        { name: "X", types: typeSets.numeric },
        { name: "grid", types: typeSets.float },
      ],
      attributes: { mode: "linear", padding_mode: "zeros", align_corners: 0 },
    },
    gridSampled,
  ),
];
