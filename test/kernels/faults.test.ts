/** A slice of the mutation test (scripts/mutate-kernels.mjs): planted faults of every kind are caught. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findMutants, plantAll } from "./mutants.mjs";
import { compilerHere, execute, root } from "./programs.mjs";

const { command, reason } = compilerHere();

describe("finding faults", () => {
  const found = (text: string) =>
    findMutants("a.cuh", text).map(({ operator, line, text }) => `${line} ${operator} ${text}`);
  const planted = (text: string) =>
    plantAll(
      text,
      findMutants("a.cuh", text).map((mutant, k) => ({ ...mutant, number: k + 1 })),
    );

  it("takes barriers, waits and commits out", () => {
    expect(planted("if (s) sync_warp();\ncp_async_wait<S - 2>();\nt.sums.commit();")).toBe(
      "if (s) if (!NF_FAULT(1)) sync_warp();\n" +
        "if (!NF_FAULT(2)) if (NF_FAULT(3)) cp_async_wait<(S - 2) + 1>(); else cp_async_wait<S - 2>();\n" +
        "if (!NF_FAULT(4)) t.sums.commit();",
    );
  });
  it("lets each comparison pass, also in guards and behind an exclamation mark", () => {
    expect(planted("if (i < 0 || i >= n) continue;")).toBe(
      "if ((!NF_FAULT(1) && (i < 0)) || (!NF_FAULT(2) && (i >= n))) continue;",
    );
    expect(planted("x = i < n && ok ? a[i] : 0;")).toBe("x = (NF_FAULT(1) || (i < n)) && ok ? a[i] : 0;");
    expect(planted("if (!(a < e)) f(a);")).toBe("if (!((!NF_FAULT(1) && (a < e)))) f(a);");
  });
  it("opens clamps and copies, one within the other", () => {
    expect(planted("cp_async<16>(to, p, clamp_index(n, f(2, 3)));")).toBe(
      "cp_async<16>(to, p,(NF_FAULT(1) ? 16 :  (NF_FAULT(2) ? f(2, 3) : clamp_index(n, f(2, 3)))));",
    );
  });
  it("leaves loops, constants, comments, strings and directives alone", () => {
    const text = `
#if NF_ARCH < 800
#endif
// if (a < b) sync();
/* i < n */
for (int i = 0; i < n; ++i) f("a < b");
while (i < n) ++i;
constexpr int k = a < b ? a : b;
static_assert(a < b);
if constexpr (a < b) f(vec<int, 2>());`;
    expect(found(text)).toEqual([]);
  });
});

describe.skipIf(!command)(`planted faults${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const slice = [
    ["scan.cuh", "barrier", "sync()", "scan"],
    ["depthwise.cuh", "bound", "iw < a.W", "depthwise"],
    ["tile.cuh", "weak wait", "cp_async_wait<S - 2>()", "gemm"],
    ["gemm.cuh", "clamp", "clamp_index(valid - w * each, each)", "gemm"],
    ["conv.cuh", "whole copy", " in ? 16 : 0", "gemm_conv"],
    ["gemm_sm90a.cuh", "wait", "tile.sums.template wait<1>()", "wgmma sm_90"],
    ["gemm_sm90a.cuh", "commit", "cp_async_commit()", "wgmma sm_90"],
  ];
  it("are caught, one of every kind", async () => {
    const faults = slice.flatMap(([file, operator, text]) => ["--fault", `${file}|${operator}|${text}|1`]);
    const tests = [...new Set(slice.map(([, , , program]) => program!))].flatMap((name) => ["--program", name]);
    const { code, output } = await execute("node", [
      join(root, "scripts/mutate-kernels.mjs"),
      "--json",
      ...faults,
      ...tests,
    ]);
    expect(code, output).toBe(0);
    const { mutants } = JSON.parse(output) as { mutants: { file: string; operator: string; verdict: string }[] };
    const verdicts = mutants.map(({ file, operator, verdict }) => `${file} ${operator} ${verdict}`);
    expect(verdicts.sort()).toEqual(slice.map(([file, operator]) => `${file} ${operator} caught`).sort());
  }, 600_000);
});
