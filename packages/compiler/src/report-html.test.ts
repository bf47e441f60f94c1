import { describe, expect, it } from "vitest";
import { htmlReport, type ReportData } from "./report-html.js";

/** An engine in which every text is what `name` gives. */
function engine(name: (plain: string) => string): ReportData {
  const buffer = { kind: "arena", dtype: "float32", bytes: 100 };
  return {
    kind: "engine",
    name: name("net"),
    targets: [name("cpu")],
    precision: name("fp32"),
    bytes: 12_345_678,
    inputs: [{ name: name("x"), dtype: "float32", shape: ["1", name("W")] }],
    outputs: [{ name: name("y"), dtype: "float32", shape: [] }],
    nodes: 7,
    symbols: [
      { name: name("W"), min: 32, max: 960 },
      { name: name("N"), min: 1, max: Number.MAX_SAFE_INTEGER },
    ],
    provenance: { [name("source")]: [name("onnx"), 9] },
    explanation: {
      kernels: ["k0", "k1", "k2", "k3"].map((kernel) => ({
        name: name(kernel),
        kind: name("conv"),
        from: [name("Conv.0"), name("Add.1")],
        reason: name("anchor"),
        bytes: name("4*W"),
        flops: name("8*W"),
        source: "void source();",
      })),
      memory: {
        arena: 200,
        arenaLowerBound: 160,
        lowerBound: 600,
        ratio: 1.25,
        weights: 1500,
        shapes: { [name("x")]: [1, 320] },
        buffers: [
          { ...buffer, name: name("low"), offset: 0, first: 0, last: 1 },
          { ...buffer, name: name("high"), offset: 100, first: 1, last: 2 },
          { ...buffer, name: name("view"), alias: name("high"), first: 2, last: 2 },
          { ...buffer, name: name("late"), bytes: null, offset: null },
          { ...buffer, name: name("weight"), kind: "constant" },
        ],
      },
    },
  };
}

const plain = htmlReport(engine((name) => name));
const tags = (page: string) => page.match(/<[^>]*>/g) ?? [];

describe("names are text, whatever they hold", () => {
  it.each([
    ["a script", "</td><script>alert(1)</script>", "&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;"],
    ["quotes", `" onload="x' y='`, "&quot; onload=&quot;x&#39; y=&#39;"],
    ["an entity", "&lt;b&amp;", "&amp;lt;b&amp;amp;"],
    [
      "the ends of other contexts",
      "--></title></style></svg>]]>",
      "--&gt;&lt;/title&gt;&lt;/style&gt;&lt;/svg&gt;]]&gt;",
    ],
    ["replacement patterns", "$& $' $1", "$&amp; $&#39; $1"],
  ])("%s", (_, hostile, escaped) => {
    const page = htmlReport(engine((name) => name + hostile));
    expect(tags(page)).toEqual(tags(plain));
    for (const name of ["net", "x", "W", "k3", "Conv.0", "anchor", "8*W", "high"])
      expect(page).toContain(name + escaped);
  });

  it("control characters, reordering and broken text are shown by their codes", () => {
    const page = htmlReport(engine((name) => `${name}\0\t\n\r\x1b\x7f\x85\u200b\u202e\u2028\ud800`));
    expect(page).toContain(
      "<h1>net\\u{0}\\u{9}\\u{a}\\u{d}\\u{1b}\\u{7f}\\u{85}\\u{200b}\\u{202e}\\u{2028}\\u{d800}</h1>",
    );
    expect([...new Set(page.match(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu))]).toEqual(["\n"]);
    expect(tags(page)).toEqual(tags(plain));
  });
});

describe("the page", () => {
  it("needs nothing else", () => {
    expect(plain).not.toMatch(/<(script|link|img|iframe|object)|\b(src|href)=|url\(|@import|https?:/i);
    expect(plain).toContain("@media (prefers-color-scheme: dark)");
    expect(plain).toContain("default-src 'none'");
  });

  it("closes what it opens", () => {
    const open: string[] = [];
    for (const tag of tags(plain)) {
      const [, end, name] = /^<(\/?)([!\w]+)/.exec(tag) as unknown as [string, string, string];
      if (end) expect(open.pop(), tag).toBe(name);
      else if (!tag.endsWith("/>") && !["!doctype", "meta"].includes(name)) open.push(name);
    }
    expect(open).toEqual([]);
  });

  it("has figures, signature, every kernel and the provenance", () => {
    for (const text of [
      "<dd>12.35 MB</dd>",
      "<dd>1.5 kB</dd>",
      "<dd>4 from 7 nodes</dd>",
      "<dd>200 B, 1.250 × lower bound 160 B</dd>",
      "<dd>at least 600 B</dd>",
      "<dd>x = 1×320</dd>",
      "<td>input</td><td>x</td><td>float32</td><td>[1, W]</td>",
      "<td>output</td><td>y</td><td>float32</td><td>[]</td>",
      "<p>W = 32..960, N = 1..</p>",
      "<td>3</td><td>k3</td><td>conv</td><td>Conv.0, Add.1</td><td>anchor</td><td>4*W</td><td>8*W</td>",
      "&quot;source&quot;: [\n",
    ])
      expect(plain).toContain(text);
    expect(plain).not.toContain("void source");
    const { provenance: _, symbols: __, ...model } = engine((name) => name);
    expect(htmlReport({ ...model, kind: "model" })).not.toContain("Provenance");
  });

  it("draws each buffer over its steps and at its place", () => {
    const rectangles = [
      ...plain.matchAll(/<rect class="\w+" x="(.+?)" y="(.+?)" width="(.+?)" height="(.+?)"><title>(.+?):/g),
    ];
    // 880 x 300 from (70, 12): four steps across, 200 bytes up.
    expect(rectangles.map(([, x, y, width, height, name]) => [name, ...[x, y, width, height].map(Number)])).toEqual([
      ["low", 70, 162, 440, 150],
      ["high", 290, 12, 440, 150],
    ]);
    expect(plain).toContain("Not shown, because their size is known only during a run: 1.");
  });

  it("says so when nothing lies in the arena", () => {
    const data = engine((name) => name);
    const memory = { ...data.explanation.memory, arena: 0, buffers: [] };
    const page = htmlReport({ ...data, explanation: { ...data.explanation, memory } });
    expect(page).toContain("No intermediate values in the arena.");
    expect(page).not.toContain("<svg");
  });
});
