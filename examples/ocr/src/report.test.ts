import { describe, expect, it } from "vitest";
import { modelTable, pictureTable } from "./report.js";

const lines = (...texts: string[]) => texts.map((text) => ({ text, score: 1, box: [] as never, turned: false }));

describe("pictureTable", () => {
  it("aligns names, first lines and counts, wide characters included", () => {
    const table = pictureTable([
      { name: "invoice.png", lines: lines("INVOICE 2024-117", "b", "c"), milliseconds: 41.4 },
      { name: "zh.png", lines: lines("图书馆"), milliseconds: 9 },
      { name: "blank.png", lines: [], milliseconds: 12 },
    ]);
    expect(table.split("\n")).toEqual([
      'invoice.png   "INVOICE 2024-117" …    3 lines · 41 ms',
      'zh.png        "图书馆"                1 lines · 9 ms',
      "blank.png     no text                 0 lines · 12 ms",
    ]);
  });
});

describe("modelTable", () => {
  it("prints one row per model under its heading", () => {
    const row = {
      name: "det",
      nodes: 330,
      kernels: 84,
      ratio: 1,
      bytes: 5_104_000,
      buildSeconds: 14.2,
      milliseconds: 38.2,
    };
    expect(modelTable([{ ...row, maxRelativeError: 4.6e-5 }]).split("\n")).toEqual([
      "model  nodes→kernels  arena/bound  engine  build  ms  vs recorded",
      "det    330→84         1.00         5.1 MB  14 s   38  max rel 5e-5",
    ]);
  });
});
