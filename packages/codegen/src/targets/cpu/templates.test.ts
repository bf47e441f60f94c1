import { optimize } from "@nimforge/passes";
import { expect, test } from "vitest";
import { generate, type Target } from "../../index.js";
import { mismatches, runnableTargets } from "../../run.test.helper.js";
import { templateCases, templatePrograms } from "../templates.test.helper.js";

const programs = templatePrograms("float32");

test.each(runnableTargets)(
  "templates give what the interpreter gives on $name",
  { timeout: 120_000 },
  async (target) => {
    expect(await mismatches(programs, target)).toEqual([]);
  },
);

test("each case runs through its template", async () => {
  const printing: Target = {
    ...(runnableTargets[runnableTargets.length - 1] as Target),
    compile: async (sources) => [{ code: new Uint8Array(), kernels: sources.map(({ name }) => name) }],
  };
  const missed: string[] = [];
  for (const { name, graph } of programs) {
    const expected = templateCases[name]![0];
    const { kernels } = await generate([{ name, graph: optimize(graph) }], printing);
    if (expected !== undefined && !kernels.some(({ kind }) => kind === expected))
      missed.push(`${name}: ${kernels.map(({ kind }) => kind).join(", ")}`);
  }
  expect(missed).toEqual([]);
});

test.each([
  "epilogue: hard-swish and residual",
  "epilogue: per-channel and scalar operands",
  "depthwise 5×5, stride 2, hard-swish",
  "transposed 2×2",
  "matmul, three axes, bias and gelu",
])("what follows the anchor is its epilogue: %s", async (name) => {
  const printing: Target = {
    ...(runnableTargets[runnableTargets.length - 1] as Target),
    compile: async (sources) => [{ code: new Uint8Array(), kernels: sources.map(({ name }) => name) }],
  };
  const { kernels } = await generate(
    [{ name, graph: optimize(programs.find((program) => program.name === name)!.graph) }],
    printing,
  );
  expect(kernels.map(({ kind }) => kind)).toEqual([templateCases[name]![0]]);
});
