/** A fixed tenth of the suite on the interpreter and on emulated GPUs, all but the big networks on the CPU: what is committed as passing passes. */
import { beforeAll, describe, expect, it } from "vitest";
import { compile } from "./compile.mjs";
import { readExpected, regressions, runSuite, summarize } from "./run.js";
import { readIndex, Suite } from "./suite.js";

beforeAll(compile, 120_000);

describe("the ONNX backend suite", () => {
  it("is whole: every case has its model and data", () => {
    const suite = new Suite();
    expect(suite.cases.size).toBe(2036);
    for (const entry of suite.cases.values()) {
      expect(suite.model(entry).length, entry.name).toBeGreaterThan(0);
      const data = suite.dataSet(entry, 0);
      expect([data.inputs.length, data.outputs.length], entry.name).toEqual([
        entry.inputs.length,
        entry.outputs.length,
      ]);
    }
  });

  it("loses no case of a fixed tenth on the interpreter", { timeout: 60_000 }, async () => {
    const cases = readIndex().filter(({ kind }, k) => k % 10 === 0 && kind !== "light");
    const outcomes = await runSuite({ targets: ["interpreter"], cases });
    expect(summarize(outcomes.get("interpreter")!.values()).total).toBe(cases.length);
    expect(regressions(outcomes, readExpected())).toEqual([]);
  });

  it.each([
    ["emulated-sm_80", 1],
    ["emulated-sm_90", 6],
  ])("loses no case of a fixed tenth on %s", { timeout: 600_000 }, async (target, first) => {
    const cases = readIndex().filter(({ kind }, k) => k % 10 === first && kind !== "light");
    const outcomes = await runSuite({ targets: [target], cases });
    expect(regressions(outcomes, readExpected())).toEqual([]);
  });

  it("loses no case on the CPU", { timeout: 600_000 }, async () => {
    const cases = readIndex().filter(({ kind }) => kind !== "light");
    const outcomes = await runSuite({ targets: ["cpu"], cases });
    expect(regressions(outcomes, readExpected())).toEqual([]);
  });
});
