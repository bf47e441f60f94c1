import { describe, expect, it } from "vitest";
import {
  convexHull,
  corners,
  minAreaRect,
  type Point,
  project,
  type Quad,
  quadSize,
  squareToQuad,
  unclip,
} from "./geometry.js";

/** The corners of a w x h rectangle around (cx, cy), turned by `degrees`. */
function turned(cx: number, cy: number, w: number, h: number, degrees: number): Point[] {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  return [
    [-w / 2, -h / 2],
    [w / 2, -h / 2],
    [w / 2, h / 2],
    [-w / 2, h / 2],
  ].map(([x, y]) => ({ x: cx + x! * cos - y! * sin, y: cy + x! * sin + y! * cos }));
}

describe("convexHull", () => {
  it("drops inner and collinear points", () => {
    const square = turned(0, 0, 4, 4, 0);
    const hull = convexHull([...square, { x: 0, y: 0 }, { x: 0, y: 2 }, { x: 1, y: -1 }, ...square]);
    expect(hull).toHaveLength(4);
    expect(hull).toEqual(expect.arrayContaining(square));
  });

  it("keeps a single point and a segment's ends", () => {
    expect(convexHull([{ x: 3, y: 5 }])).toEqual([{ x: 3, y: 5 }]);
    expect(convexHull([0, 1, 2, 3].map((x) => ({ x, y: 2 * x })))).toHaveLength(2);
  });
});

describe("minAreaRect", () => {
  it.each([0, 7, 30, 45, 60, 89, 120])("finds a rectangle turned by %i degrees among points inside it", (degrees) => {
    const inside = Array.from({ length: 50 }, (_, i) =>
      turned(40, 25, 20 * ((i % 10) / 10), 6 * (Math.floor(i / 10) / 5), degrees),
    ).flat();
    const { center, width, height } = minAreaRect([...turned(40, 25, 20, 6, degrees), ...inside]);
    expect(center.x).toBeCloseTo(40, 9);
    expect(center.y).toBeCloseTo(25, 9);
    expect(Math.max(width, height)).toBeCloseTo(20, 9);
    expect(Math.min(width, height)).toBeCloseTo(6, 9);
  });

  it("is never larger than any rectangle in whole degrees around the points", () => {
    const points = Array.from({ length: 40 }, (_, i) => ({ x: (i * 37) % 101, y: (i * i * 13) % 53 }));
    const { width, height } = minAreaRect(points);
    for (let degrees = 0; degrees < 90; degrees++) {
      const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
      const us = points.map((p) => p.x * cos + p.y * sin);
      const vs = points.map((p) => p.y * cos - p.x * sin);
      const area = (Math.max(...us) - Math.min(...us)) * (Math.max(...vs) - Math.min(...vs));
      expect(width * height).toBeLessThanOrEqual(area + 1e-9);
    }
  });

  it("is flat for a segment and empty for a point", () => {
    const segment = minAreaRect([0, 3, 6].map((x) => ({ x, y: (4 / 3) * x })));
    expect(Math.max(segment.width, segment.height)).toBeCloseTo(10, 9);
    expect(Math.min(segment.width, segment.height)).toBeCloseTo(0, 9);
    expect(minAreaRect([{ x: 2, y: 9 }])).toMatchObject({ center: { x: 2, y: 9 }, width: 0, height: 0 });
  });
});

describe("unclip", () => {
  it("moves every side out by area * ratio / perimeter and keeps centre and angle", () => {
    const rect = { center: { x: 5, y: 6 }, along: { x: 0.6, y: 0.8 }, width: 30, height: 10 };
    // 300 * 1.5 / 80 = 5.625 on each side.
    expect(unclip(rect, 1.5)).toEqual({ ...rect, width: 41.25, height: 21.25 });
  });
});

describe("corners", () => {
  it.each([-40, -5, 0, 5, 40])("starts at the upper left of a wide box turned by %i degrees", (degrees) => {
    const [p0, p1, p2, p3] = turned(100, 100, 80, 20, degrees) as unknown as Quad;
    const found = corners(minAreaRect([p2, p0, p3, p1]));
    for (const [i, point] of [p0, p1, p2, p3].entries()) {
      expect(found[i]!.x).toBeCloseTo(point.x, 9);
      expect(found[i]!.y).toBeCloseTo(point.y, 9);
    }
    expect(quadSize(found).width).toBeCloseTo(80, 9);
    expect(quadSize(found).height).toBeCloseTo(20, 9);
  });
});

describe("squareToQuad", () => {
  const quad: Quad = [
    { x: 10, y: 20 },
    { x: 90, y: 5 },
    { x: 110, y: 70 },
    { x: 0, y: 60 },
  ];

  it("takes the unit square's corners to the quadrilateral's", () => {
    const map = squareToQuad(quad);
    for (const [i, [u, v]] of [
      [0, 0],
      [1, 0],
      [1, 1],
      [0, 1],
    ].entries()) {
      const { x, y } = project(map, u!, v!);
      expect(x).toBeCloseTo(quad[i]!.x, 9);
      expect(y).toBeCloseTo(quad[i]!.y, 9);
    }
  });

  it("takes the square's centre to where the diagonals cross", () => {
    const { x, y } = project(squareToQuad(quad), 0.5, 0.5);
    const onLine = (a: Point, b: Point): number => (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
    expect(onLine(quad[0], quad[2])).toBeCloseTo(0, 7);
    expect(onLine(quad[1], quad[3])).toBeCloseTo(0, 7);
  });

  it("is affine for a parallelogram", () => {
    const map = squareToQuad([
      { x: 0, y: 0 },
      { x: 4, y: 1 },
      { x: 6, y: 3 },
      { x: 2, y: 2 },
    ]);
    expect(map[6]).toBeCloseTo(0, 12);
    expect(map[7]).toBeCloseTo(0, 12);
    expect(project(map, 0.25, 0.5)).toEqual({ x: 2, y: 1.25 });
  });
});
