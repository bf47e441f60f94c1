/** The GPU check where there is no GPU: its bundle, a small run of it on the emulator, the table of a report. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { listDevices } from "@nimforge/device";
import { afterAll, describe, expect, it } from "vitest";
import { compile } from "../conformance/compile.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "gpu-check-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (script: string, ...args: string[]) =>
  spawnSync(process.execPath, [join(root, script), ...args], { encoding: "utf8" });

describe("the check", { timeout: 240_000 }, () => {
  const file = join(folder, "report.json");

  it("runs on the emulator: tensor core fragments are as the tables say, kernels and copies take time", () => {
    compile();
    const args = [
      "--dry-run",
      "--only",
      "fragments,kernels",
      "--case",
      "gemm_f16_m1",
      "--cache-dir",
      join(folder, "cache"),
    ];
    const { status, stderr } = run("test/gpu/check.mjs", ...args, "--report", file);
    expect(status, stderr).toBe(0);
    const { fragments, kernels, faults } = JSON.parse(readFileSync(file, "utf8"));
    expect(faults).toEqual([]);
    expect(fragments.map(({ instruction }: { instruction: string }) => instruction)).toEqual([
      "mma f16",
      "mma s8",
      "mma bf16",
      "mma tf32",
      "ldmatrix",
    ]);
    for (const { tried, wrong, observed } of fragments) {
      expect(tried).toBeGreaterThan(100);
      expect(wrong).toBe(0);
      expect(observed.length).toBeGreaterThan(100);
    }
    expect(kernels.copy.bytesPerSecond).toBeGreaterThan(0);
    expect(kernels.results.map((result: { case: string }) => result.case)).toEqual(["gemm_f16_m16", "gemm_f16_m1"]);
    for (const { ms, flops, bytes } of kernels.results) expect(Math.min(ms, flops, bytes)).toBeGreaterThan(0);
  });

  it("becomes a table, with its faults", () => {
    const report = JSON.parse(readFileSync(file, "utf8"));
    report.faults.push({ part: "models", case: "m", message: "differs" });
    report.torch = { version: "2.0", cuda: "13.0", ms: { gemm_f16_m1: 2 * report.kernels.results[1].ms } };
    writeFileSync(file, JSON.stringify(report));
    const page = join(folder, "gpu.md");
    expect(run("scripts/gpu-check.mjs", "--table", file, "--write", page).status).toBe(0);
    const text = readFileSync(page, "utf8");
    expect(text).toMatch(
      /\| gemm_f16_m1 \| emulated-sm_80 \| [\d.]+ \| [\d.]+ GB\/s \| \d+ % of copy \| [\d.]+ \| 2\.00 \|/,
    );
    expect(text).toMatch(/\| emulated-sm_80 \| mma f16 \| \d+ \| 0 \|/);
    expect(text).toContain("- models, m: differs");
  });

  it.skipIf(listDevices().some(({ kind }) => kind === "cuda"))("says that there is no GPU", () => {
    const { status, stderr } = run("test/gpu/check.mjs", "--report", join(folder, "none.json"));
    expect({ status, stderr }).toEqual({ status: 6, stderr: expect.stringContaining("there is no GPU to check") });
  });
});

it("the bundle holds what the check reads, in a size that can be carried", { timeout: 240_000 }, () => {
  const out = join(folder, "bundle");
  const { status, stderr } = run("scripts/gpu-check.mjs", "--no-node", "--out", out);
  expect(status, stderr).toBe(0);
  expect(statSync(join(out, "app.tar.gz")).size).toBeLessThan(32 * 2 ** 20);
  const files = execFileSync("tar", ["-tzf", join(out, "app.tar.gz")], { encoding: "utf8" }).split("\n");
  expect(files).toEqual(
    expect.arrayContaining([
      "./packages/cli/dist/index.js",
      "./packages/codegen/src/targets/cuda/kernels/fragments.cuh",
      "./packages/engine/schema/abi.h",
      "./native/src/devices/cuda/driver.cpp",
      "./node_modules/node-addon-api/napi.h",
      "./node_modules/@nimforge/runtime",
      "./test/gpu/probes.cu",
      "./test/conformance/dist/cli.js",
      "./fixtures/onnx-real/data/rec-0.npy",
    ]),
  );
  expect(files.filter((file) => /^\.\/packages\/.*(\.test\.js|\.ts)$|\/build\/Release/.test(file))).toEqual([]);
  expect(spawnSync("sh", ["-n", join(out, "run.sh")]).status).toBe(0);
});
