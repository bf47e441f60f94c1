/** Commands on a real engine of a small model. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readNpy, tensor, writeNpy } from "@nimforge/tensor";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { runCommandLine } from "./program.js";

const folder = mkdtempSync(join(tmpdir(), "cli-engine-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const fixture = (name: string) => fileURLToPath(new URL(`../../../fixtures/onnx/${name}.onnx`, import.meta.url));
const engine = join(folder, "add.engine");
const unsorted = join(folder, "unsorted.engine");

// biome-ignore lint/suspicious/noExplicitAny: JSON of any command
async function run(...argv: string[]): Promise<{ exit: number; json: any }> {
  let stdout = "";
  const spies = [
    vi.spyOn(process.stdout, "write").mockImplementation((text) => Boolean((stdout += text))),
    vi.spyOn(process.stderr, "write").mockImplementation(() => true),
  ];
  try {
    const exit = await runCommandLine([...argv, "--json"], new AbortController().signal);
    return { exit, json: JSON.parse(stdout) };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

beforeAll(async () => {
  vi.stubEnv("NIM_CACHE_PATH", join(folder, "cache"));
  const { exit, json } = await run(fixture("add"), "--range", "N=1..8", "--opt", "N=2", "-o", engine);
  expect(exit).toBe(0);
  expect(json).toMatchObject({
    schemaVersion: 1,
    engines: [{ path: engine, precision: "fp32", kernels: 1 }],
    warnings: [],
  });
  expect((await run(fixture("unsorted"), "--shape", "x=2,2,3", "-o", unsorted)).exit).toBe(0);
});

describe("run", () => {
  it("takes a .npy file, writes .npy files and reports latencies", async () => {
    const input = join(folder, "x.npy");
    writeFileSync(input, writeNpy(tensor("float32", [1, 4], [0, 10, 20, 30])));
    const profile = join(folder, "profile.json");
    const { exit, json } = await run(
      "run",
      engine,
      "--input",
      `x=@${input}`,
      "--output",
      join(folder, "results"),
      "--iterations",
      "4",
      "--warmup",
      "1",
      "--threads",
      "1",
      "--profile",
      profile,
    );
    expect(exit).toBe(0);
    expect(json).toMatchObject({
      schemaVersion: 1,
      iterations: 4,
      threads: 1,
      outputs: [{ name: "y", dtype: "float32", shape: [1, 4], file: join(folder, "results", "y.npy") }],
    });
    const { min, median, p90, p99, mean } = json.latencyMs;
    expect(0 <= min && min <= median && median <= p90 && p90 <= p99 && min <= mean && mean <= p99).toBe(true);
    expect(json.peakRssBytes).toBeGreaterThan(1e7);
    expect([...readNpy(readFileSync(json.outputs[0].file)).data]).toEqual([1, 12, 23, 34]);
    expect(JSON.parse(readFileSync(profile, "utf8")).traceEvents).toHaveLength(1);
  });
  it("makes the same random input from the same seed, at the tuned or the given size", async () => {
    const values = async (...argv: string[]) => {
      const { json } = await run("run", engine, ...argv, "--output", join(folder, "random"));
      return readNpy(readFileSync(json.outputs[0].file));
    };
    const seven = await values("--input", "x=random:7");
    expect(seven.shape).toEqual([2, 4]);
    expect(await values("--input", "x=random:7")).toEqual(seven);
    expect(await values("--input", "x=random:8")).not.toEqual(seven);
    expect((await values("--input", "x=random", "--shape", "x=5,4")).shape).toEqual([5, 4]);
  });
  it("needs every input that something reads, and no other", async () => {
    expect(await run("run", unsorted, "--input", "x=random")).toMatchObject({ exit: 0 });
    expect(await run("run", unsorted)).toMatchObject({
      exit: 2,
      json: { error: { code: "missing-input", message: expect.stringContaining('"x"') } },
    });
  });
  it.each([
    [["--input", "z=random"], 2, "missing-input"],
    [["--input", "x=7"], 2, "bad-option"],
    [["--input", "x=@nothing.npy"], 2, "file-not-found"],
    [["--input", `x=@${fixture("add")}`], 4, "bad-npy"],
    [["--input", "x=random", "--shape", "x=9,4"], 2, "dimension-range"],
    [["--input", "x=random", "--shape", "x=N,4"], 2, "open-size"],
    [["--input", "x=random", "--shape", "z=1,4"], 2, "bad-option"],
    [["--input", "x=random", "--threads", "0"], 2, "bad-option"],
  ])("%j", async (argv, exit, code) => {
    expect(await run("run", engine, ...argv)).toMatchObject({ exit, json: { error: { code, exit } } });
  });
  it("refuses what is no engine", async () => {
    const text = join(folder, "text.engine");
    writeFileSync(text, "not an engine");
    expect((await run("run", text, "--input", "x=random")).exit).toBe(4);
    expect((await run("run", join(folder, "none.engine"), "--input", "x=random")).exit).toBe(2);
  });
});

describe("verify and inspect", () => {
  it("verify compares a model, and exits with 5 when outputs differ", async () => {
    expect(await run("verify", fixture("add"))).toMatchObject({
      exit: 0,
      json: { ok: true, against: "reference", outputs: [{ name: "y", maxAbs: 0, maxRel: 0, ok: true }] },
    });
    const other = join(folder, "other.engine");
    await run(fixture("initializer-input"), "-o", other);
    expect(await run("verify", fixture("add"), "--engine", other)).toMatchObject({ exit: 5, json: { ok: false } });
    expect(await run("verify", fixture("add"), "--against", "magic")).toMatchObject({ exit: 2 });
  });
  it("verify checks an engine's integrity", async () => {
    expect(await run("verify", engine)).toMatchObject({
      exit: 0,
      json: { ok: true, against: "integrity", outputs: [] },
    });
    const damaged = join(folder, "damaged.engine");
    const bytes = readFileSync(engine);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(damaged, bytes);
    expect((await run("verify", damaged)).exit).toBe(4);
  });
  it("inspect shows kernels, memory and source of an engine as of its model", async () => {
    const { json } = await run("inspect", engine, "--kernels", "--memory");
    expect(json).toMatchObject({
      schemaVersion: 1,
      arena: 0,
      lowerBound: 64,
      shapes: { x: [2, 4] },
      kernels: [{ from: expect.any(Array), reason: expect.any(String) }],
    });
    expect(json.kernels[0]).not.toHaveProperty("source");
    expect(json.buffers.map(({ kind }: { kind: string }) => kind)).toEqual(
      expect.arrayContaining(["input", "output", "constant"]),
    );
    const { name } = json.kernels[0];
    expect((await run("inspect", engine, "--source", name)).json).toMatchObject({
      kernel: name,
      source: expect.stringContaining(name),
    });
    expect(
      (await run("inspect", fixture("add"), "--range", "N=1..8", "--opt", "N=2", "--kernels")).json.kernels,
    ).toEqual(json.kernels);
    expect(await run("inspect", engine, "--source", "none")).toMatchObject({
      exit: 2,
      json: { error: { code: "unknown-kernel" } },
    });
    expect((await run("inspect", fixture("add"))).json).toMatchObject({
      kind: "model",
      nodes: 1,
      operators: [{ op: "Add", count: 1 }],
    });
    expect((await run("inspect", engine)).json).toMatchObject({
      kind: "engine",
      targets: [expect.stringMatching(/^cpu-/)],
    });
  });
  it("inspect writes a page about an engine or a model", async () => {
    const page = join(folder, "pages", "report.html");
    expect(await run("inspect", engine, "--html", page)).toEqual({ exit: 0, json: { schemaVersion: 1, html: page } });
    const { json } = await run("inspect", engine, "--kernels");
    const text = readFileSync(page, "utf8");
    for (const part of [
      json.kernels[0].name,
      "<td>[N, 4]</td>",
      "x = 2×4",
      "N = 1..8",
      "Provenance",
      "prefers-color-scheme",
    ])
      expect(text).toContain(part);

    const hostile = await run("inspect", fixture("hostile-names"), "--html", page, "--kernels");
    expect(hostile).toMatchObject({ exit: 0, json: { html: page, kernels: [{ from: expect.any(Array) }] } });
    const replaced = readFileSync(page, "utf8");
    for (const part of ["<h1>hostile-names.onnx</h1>", "*/ int main() { /*, a&quot;b\\u{a}c, ", "\\u{202e}\\u{0}x"])
      expect(replaced).toContain(part);
    expect(readdirSync(join(folder, "pages"))).toEqual(["report.html"]);
  });
  it("a page that cannot be written leaves nothing behind", async () => {
    const copy = join(folder, "copy.onnx");
    const bytes = readFileSync(fixture("add"));
    writeFileSync(copy, bytes);
    const taken = join(folder, "taken");
    mkdirSync(taken);
    for (const [page, exit, code] of [
      [copy, 2, "bad-option"],
      [taken, 2, "bad-option"],
      ["", 2, "bad-option"],
      [join(copy, "report.html"), 7, "write-failed"],
    ] as const)
      expect(await run("inspect", copy, "--html", page), page).toMatchObject({ exit, json: { error: { code } } });
    expect(readFileSync(copy)).toEqual(bytes);
    expect(await run("inspect", join(folder, "none.engine"), "--html", join(taken, "report.html"))).toMatchObject({
      exit: 2,
    });
    expect(readdirSync(taken)).toEqual([]);
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
  });
});

describe("targets of GPUs", () => {
  const fat = join(folder, "fat.engine");
  beforeAll(async () => {
    const targets = "cpu-x86-64,emulated-sm_80";
    const { exit, json } = await run(fixture("add"), "--target", targets, "--precision", "fp16", "--fat", "-o", fat);
    expect(exit).toBe(0);
    expect(json.engines).toMatchObject([{ path: fat, target: "fat", precision: "fp16" }]);
    expect(json.engines[0].targets.map(({ target }: { target: string }) => target)).toEqual(targets.split(","));
  });
  it("inspect shows what a block of a kernel takes, for the target that is named", async () => {
    const kernels = async (...argv: string[]) => (await run("inspect", fat, "--kernels", ...argv)).json.kernels;
    expect((await kernels())[0]).not.toHaveProperty("threads");
    expect((await kernels("--target", "emulated-sm_80"))[0]).toMatchObject({ threads: expect.any(Number), shared: 0 });
    expect(await run("inspect", fat, "--target", "sm_80")).toMatchObject({
      exit: 2,
      json: { error: { code: "no-such-target", expected: "cpu-x86-64, emulated-sm_80" } },
    });
    expect((await run("inspect", fat, "--target", "cpu-x86-64,emulated-sm_80")).exit).toBe(2);
  });
  it("an engine that fits no device here ends with exit code 6 and the build that would", async () => {
    const { json } = await run("targets");
    const away = json.targets.find(
      (target: { family: string; runs: boolean; builds: boolean }) =>
        target.family === "cuda" && !target.runs && target.builds,
    );
    if (!away) return expect(json.targets.filter(({ reason }: { reason?: string }) => !reason)).not.toEqual([]);
    const path = join(folder, "away.engine");
    expect((await run(fixture("add"), "--target", away.name, "-o", path)).exit).toBe(0);
    const { exit, json: failure } = await run("run", path, "--input", "x=random");
    expect([exit, failure.error.message]).toEqual([6, expect.stringContaining(away.name)]);
    expect(failure.error.fix).toContain("nim-build <model> --target");
  });
});
