/**
 * Plane geometry of text boxes: convex hull (Andrew 1979), smallest enclosing rectangle (one of its sides lies on an
 * edge of the hull, Freeman & Shapira 1975), and the projective map from the unit square to a quadrilateral
 * (Heckbert 1989). Coordinates are continuous: pixel (i, j) covers [i, i+1) x [j, j+1), its centre is (i+0.5, j+0.5).
 */

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Corners in reading order: top left, top right, bottom right, bottom left. */
export type Quad = readonly [Point, Point, Point, Point];

/** A rectangle at any angle. `along` is the unit vector of its width. */
export interface Rect {
  readonly center: Point;
  readonly along: Point;
  readonly width: number;
  readonly height: number;
}

const cross = (o: Point, a: Point, b: Point): number => (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);

/** Convex hull without collinear points, in order around it. One point for a single distinct point. */
export function convexHull(points: readonly Point[]): Point[] {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  const chain = (ordered: readonly Point[]): Point[] => {
    const hull: Point[] = [];
    for (const point of ordered) {
      while (hull.length >= 2 && cross(hull[hull.length - 2]!, hull[hull.length - 1]!, point) <= 0) hull.pop();
      hull.push(point);
    }
    hull.pop();
    return hull;
  };
  const lower = chain(sorted);
  const upper = chain(sorted.reverse());
  return lower.length + upper.length > 0 ? [...lower, ...upper] : sorted.slice(0, 1);
}

/** The rectangle of least area around the points; degenerate (zero width or height) for a point or a segment. */
export function minAreaRect(points: readonly Point[]): Rect {
  const hull = convexHull(points);
  let best: Rect = { center: hull[0] ?? { x: 0, y: 0 }, along: { x: 1, y: 0 }, width: 0, height: 0 };
  let bestArea = Number.POSITIVE_INFINITY;
  for (let i = 0; i < hull.length; i++) {
    const from = hull[i]!;
    const to = hull[(i + 1) % hull.length]!;
    const length = Math.hypot(to.x - from.x, to.y - from.y);
    if (length === 0) continue;
    const along = { x: (to.x - from.x) / length, y: (to.y - from.y) / length };
    let minU = Number.POSITIVE_INFINITY;
    let maxU = Number.NEGATIVE_INFINITY;
    let minV = Number.POSITIVE_INFINITY;
    let maxV = Number.NEGATIVE_INFINITY;
    for (const p of hull) {
      const u = p.x * along.x + p.y * along.y;
      const v = p.y * along.x - p.x * along.y;
      minU = Math.min(minU, u);
      maxU = Math.max(maxU, u);
      minV = Math.min(minV, v);
      maxV = Math.max(maxV, v);
    }
    const width = maxU - minU;
    const height = maxV - minV;
    if (width * height >= bestArea) continue;
    bestArea = width * height;
    const u = (minU + maxU) / 2;
    const v = (minV + maxV) / 2;
    best = { center: { x: u * along.x - v * along.y, y: u * along.y + v * along.x }, along, width, height };
  }
  return best;
}

/**
 * Grows a rectangle by the distance area * ratio / perimeter on every side: the detector is trained on text shrunk by
 * that rule (Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", 2019).
 */
export function unclip(rect: Rect, ratio: number): Rect {
  const distance = (rect.width * rect.height * ratio) / (2 * (rect.width + rect.height));
  return { ...rect, width: rect.width + 2 * distance, height: rect.height + 2 * distance };
}

/** The corners as a reader sees them: of the two leftmost corners the upper one is the first. */
export function corners({ center, along, width, height }: Rect): Quad {
  const at = (u: number, v: number): Point => ({
    x: center.x + (u * width * along.x - v * height * along.y) / 2,
    y: center.y + (u * width * along.y + v * height * along.x) / 2,
  });
  const byX = [at(-1, -1), at(1, -1), at(1, 1), at(-1, 1)].sort((a, b) => a.x - b.x || a.y - b.y);
  const [topLeft, bottomLeft] = byX.slice(0, 2).sort((a, b) => a.y - b.y);
  const [topRight, bottomRight] = byX.slice(2).sort((a, b) => a.y - b.y);
  return [topLeft!, topRight!, bottomRight!, bottomLeft!];
}

/** Width and height of a quadrilateral: the longer of each pair of opposite sides. */
export function quadSize([topLeft, topRight, bottomRight, bottomLeft]: Quad): { width: number; height: number } {
  const distance = (a: Point, b: Point): number => Math.hypot(a.x - b.x, a.y - b.y);
  return {
    width: Math.max(distance(topLeft, topRight), distance(bottomLeft, bottomRight)),
    height: Math.max(distance(topLeft, bottomLeft), distance(topRight, bottomRight)),
  };
}

/** The eight coefficients of (u, v) -> ((a u + b v + c) / w, (d u + e v + f) / w), w = g u + h v + 1. */
export type Projection = readonly [
  a: number,
  b: number,
  c: number,
  d: number,
  e: number,
  f: number,
  g: number,
  h: number,
];

/** The projective map that takes the unit square's corners (0,0), (1,0), (1,1), (0,1) to the corners of `quad`. */
export function squareToQuad([p0, p1, p2, p3]: Quad): Projection {
  const [sx, sy] = [p0.x - p1.x + p2.x - p3.x, p0.y - p1.y + p2.y - p3.y];
  const [dx1, dx2, dy1, dy2] = [p1.x - p2.x, p3.x - p2.x, p1.y - p2.y, p3.y - p2.y];
  const determinant = dx1 * dy2 - dx2 * dy1;
  const g = determinant === 0 ? 0 : (sx * dy2 - dx2 * sy) / determinant;
  const h = determinant === 0 ? 0 : (dx1 * sy - sx * dy1) / determinant;
  return [
    p1.x - p0.x + g * p1.x,
    p3.x - p0.x + h * p3.x,
    p0.x,
    p1.y - p0.y + g * p1.y,
    p3.y - p0.y + h * p3.y,
    p0.y,
    g,
    h,
  ];
}

/** Applies a projection to a point of the unit square. */
export function project(map: Projection, u: number, v: number): Point {
  const w = map[6] * u + map[7] * v + 1;
  return { x: (map[0] * u + map[1] * v + map[2]) / w, y: (map[3] * u + map[4] * v + map[5]) / w };
}
