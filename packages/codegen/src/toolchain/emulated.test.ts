import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileEmulated } from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "emulated-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const include = join(folder, "include");
mkdirSync(include);
writeFileSync(
  join(include, "kernel.cuh"),
  '#ifndef NF_EMULATE\n#error\n#endif\nstruct NfLaunch;\n#define NF_KERNEL(name) extern "C" __attribute__((visibility("default"))) int name(const NfLaunch*)\n',
);

let count = 0;
const compile = (text: string, target = "emulated-sm_80", defines = {}) =>
  compileEmulated({
    files: [{ name: "kernels0.cu", text: `#include "kernel.cuh"\n${text}` }],
    includeDirs: [include],
    target,
    defines,
    cacheDir: join(folder, `cache${count++}`),
  });

describe("compileEmulated", () => {
  it("makes a CPU image of *.cu files with the target's NF_ARCH", async () => {
    const text = "static_assert(NF_ARCH == 900 && WIDTH == 2);\nNF_KERNEL(k) { return NF_ARCH; }\n";
    const file = join(folder, "image.so");
    writeFileSync(file, await compile(text, "emulated-sm_90", { WIDTH: 2 }));
    const symbols = execFileSync("readelf", ["-W", "--dyn-syms", file], { encoding: "utf8" });
    expect(symbols).toMatch(/FUNC\s+GLOBAL\s+DEFAULT\s+\d+ k\n/);
    expect(execFileSync("readelf", ["-Wd", file], { encoding: "utf8" })).not.toMatch(/NEEDED|INIT|FINI|TEXTREL/);
    await expect(compile(text, "emulated-sm_80", { WIDTH: 2 })).rejects.toMatchObject({ kind: "internal" });
    expect((await compile("#ifndef NF_SM90A\n#error\n#endif\n", "emulated-sm_90a")).length).toBeGreaterThan(0);
  });

  it("names the kernel of a fault", async () => {
    await expect(compile("NF_KERNEL(good) { return 0; }\nNF_KERNEL(bad) { return missing; }\n")).rejects.toMatchObject({
      message: expect.stringMatching(/kernel bad\).*missing/s),
    });
  });

  it("names the kernel that instantiates a faulty template of a header", async () => {
    writeFileSync(join(include, "template.cuh"), "template <class T> int size(T x) { return x.size; }\n");
    const text =
      '#include "template.cuh"\nNF_KERNEL(good) { return 0; }\nNF_KERNEL(bad) { return size(3); }\nNF_KERNEL(after) { return 0; }\n';
    await expect(compile(text)).rejects.toMatchObject({ message: expect.stringMatching(/kernel bad\)/) });
  });

  it("refuses other targets", async () => {
    await expect(compile("", "sm_80")).rejects.toMatchObject({ code: "unknown-target", exitCode: 2 });
    await expect(compile("", "emulated-sm_70")).rejects.toMatchObject({ code: "unknown-target", exitCode: 2 });
  });
});
