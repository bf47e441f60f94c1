/** The packed packages in an empty folder: types, the first example, and the runtime alone where there is no compiler. Needs a build. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as packed from "../scripts/packed.mjs";

const fault = packed.registryFault();
if (fault !== undefined) console.log(`packed packages: not checked, npm cannot reach its registry (${fault})`);

describe.skipIf(fault !== undefined)("packed packages", () => {
  const folder = mkdtempSync(join(tmpdir(), "nimforge-packed-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const [all, alone] = [join(folder, "all"), join(folder, "alone")];
  let tarballs: Record<string, string> = {};
  let platform = "";
  beforeAll(() => {
    tarballs = packed.pack(join(folder, "tarballs"));
    platform = Object.keys(tarballs).find((name) => name.startsWith(`@nimforge/${process.platform}-`)) as string;
  }, 60_000);

  it("the first example type-checks and runs, and so does the runtime alone, without a compiler", () => {
    // The addon comes as the device package's optional dependency.
    expect(packed.install(all, ["nimforge"], tarballs)).toEqual(expect.arrayContaining(Object.keys(tarballs)));
    packed.typeCheck(all);
    expect(packed.commandVersion(all)).toMatch(/^\d+\.\d+\.\d+$/);
    const result = packed.runSnippet(all);
    expect(result).toMatchObject({ shape: [1, 3, 48, 320], first: Math.fround(1 / 320) });

    const names = packed.install(alone, ["@nimforge/runtime", platform], tarballs);
    expect(names.sort()).toEqual(
      ["@nimforge/device", "@nimforge/engine", platform, "@nimforge/runtime", "@nimforge/tensor", "flatbuffers"].sort(),
    );
    expect(packed.installedMegabytes(alone)).toBeLessThanOrEqual(15);
    expect(packed.runRuntime(alone, result.path)).toEqual(result);
  }, 120_000);
});
