import { optimize } from "@nimforge/passes";
import type { DType } from "@nimforge/tensor";
import { expect, test } from "vitest";
import { emulatedTargets, generate, type Target } from "../../index.js";
import { mismatches } from "../../run.test.helper.js";
import { templateCases, templatePrograms } from "../templates.test.helper.js";

const target = (name: string): Target => emulatedTargets.find((one) => one.name === name) as Target;

test.each<[string, DType]>([
  ["emulated-sm_75", "float16"],
  ["emulated-sm_80", "float32"],
  ["emulated-sm_80", "float16"],
  ["emulated-sm_80", "bfloat16"],
  ["emulated-sm_90", "float16"],
  ["emulated-sm_90a", "float16"],
])("templates give what the interpreter gives: %s, %s", { timeout: 240_000 }, async (name, dtype) => {
  expect(await mismatches(templatePrograms(dtype), target(name))).toEqual([]);
});

test("each case runs through its template", async () => {
  const printing: Target = {
    ...target("emulated-sm_80"),
    compile: async (sources) => [{ code: new Uint8Array(), kernels: sources.map(({ name }) => name) }],
  };
  const missed: string[] = [];
  for (const { name, graph } of templatePrograms("float16")) {
    const expected = templateCases[name]![0];
    const { kernels } = await generate([{ name, graph: optimize(graph) }], printing);
    if (expected !== undefined && !kernels.some(({ kind }) => kind === expected))
      missed.push(`${name}: ${kernels.map(({ kind }) => kind).join(", ")}`);
  }
  expect(missed).toEqual([]);
});
