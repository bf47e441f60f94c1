import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CudaToolkit, detectCompiler, detectCuda } from "@nimforge/codegen";
import { openEngine } from "@nimforge/device";
import { pipeline } from "@nimforge/passes";
import { loadEngine } from "@nimforge/runtime";
import { NimforgeError, tensor } from "@nimforge/tensor";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import {
  type BuildOptions,
  build,
  checkTargets,
  compareTensors,
  type DeviceInfo,
  explainModel,
  inspectEngine,
  inspectModel,
  listDevices,
  listTargets,
  randomTensor,
  resolveTargets,
  verifyEngine,
  verifyModel,
} from "./index.js";
import { inParallel } from "./parallel.js";
import { requireToolchains } from "./targets.js";

// As they are, until a test says otherwise.
vi.mock("@nimforge/codegen", async (original) => {
  const codegen = await original<typeof import("@nimforge/codegen")>();
  const { detectCompiler, detectCuda } = codegen;
  return { ...codegen, detectCompiler: vi.fn(detectCompiler), detectCuda: vi.fn(detectCuda) };
});

const folder = mkdtempSync(join(tmpdir(), "compiler-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(() => vi.stubEnv("NIM_CACHE_PATH", join(folder, "cache")));

const fixture = (name: string) => fileURLToPath(new URL(`../../../fixtures/onnx/${name}.onnx`, import.meta.url));
const model = fixture("add");
const cpuNames = listTargets()
  .filter(({ family }) => family === "cpu")
  .map(({ name }) => name);
const hasCuda = await detectCuda().then(
  () => true,
  () => false,
);
let count = 0;
const fresh = () => join(folder, `out${count++}`);

describe("build", () => {
  it("writes one engine for each target, named for model, target and precision, that gives the model's values", async () => {
    const targets = [...cpuNames, "emulated-sm_80", "cpu"];
    const { engines, warnings } = await build({ model, out: fresh(), targets, ranges: { N: [1, 8] } });
    expect(warnings).toEqual([]);
    expect(engines.map(({ target }) => target)).toEqual([...cpuNames, "emulated-sm_80"]);
    const runnable = new Set(
      listTargets()
        .filter(({ runs }) => runs)
        .map(({ name }) => name),
    );
    for (const { path, target, bytes, sha256, nodes, kernels, memory } of engines) {
      expect(path).toMatch(new RegExp(`/add-${target}-fp32\\.engine$`));
      const file = readFileSync(path);
      expect([file.length, createHash("sha256").update(file).digest("hex")]).toEqual([bytes, sha256]);
      expect({ nodes, kernels }).toEqual({ nodes: 1, kernels: 1 });
      // One input and one output of 8 x 4 floats, nothing between them.
      expect(memory).toEqual({
        arena: 0,
        arenaLowerBound: 0,
        lowerBound: 256,
        ratio: 1,
        weights: 16,
        shapes: { x: [8, 4] },
      });
      if (!runnable.has(target)) continue;
      const session = await loadEngine(path, { threads: 1 });
      const { y } = await session.run({ x: tensor("float32", [2, 4], [0, 0, 0, 0, 1, 1, 1, 1]) });
      expect([...y!.data]).toEqual([1, 2, 3, 4, 2, 3, 4, 5]);
      expect(session.memory).toMatchObject({ arena: 0, lowerBound: 64 });
      await session.close();
    }
  });

  it("gives the same bytes from another folder and without the cache, and none of this machine's paths", async () => {
    const elsewhere = join(folder, "elsewhere");
    mkdirSync(elsewhere);
    copyFileSync(model, join(elsewhere, "add.onnx"));
    const one = await build({ model, out: join(fresh(), "a.engine"), targets: ["cpu-x86-64"] });
    const two = await build({
      model: join(elsewhere, "add.onnx"),
      out: join(fresh(), "b.engine"),
      targets: ["cpu-x86-64"],
      cacheDir: fresh(),
    });
    const bytes = readFileSync(one.engines[0]!.path);
    expect(readFileSync(two.engines[0]!.path).equals(bytes)).toBe(true);
    expect(bytes.includes(folder)).toBe(false);
    expect(bytes.includes(fileURLToPath(new URL("../../..", import.meta.url)))).toBe(false);
  });

  it("reports its phases, in seconds and as a trace", async () => {
    const events: string[] = [];
    const trace = join(folder, "trace.json");
    const { engines } = await build({
      model,
      out: fresh(),
      trace,
      onProgress: ({ phase, state }) => events.push(`${phase} ${state}`),
    });
    const phases = ["import", "optimize", "compile", "write"];
    expect(events).toEqual(phases.flatMap((phase) => [`${phase} start`, `${phase} end`]));
    expect(Object.keys(engines[0]!.seconds).sort()).toEqual(["total", ...phases].sort());
    const { traceEvents } = JSON.parse(readFileSync(trace, "utf8")) as {
      traceEvents: { name: string; ph: string; ts: number }[];
    };
    expect(traceEvents.map(({ name, ph }) => [name.split(" ")[0], ph])).toEqual(phases.map((phase) => [phase, "X"]));
  });

  it("keeps names of any kind out of file names and source", async () => {
    const hostile = join(folder, '..a b"c\u00e9.onnx');
    copyFileSync(fixture("hostile-names"), hostile);
    const { engines } = await build({ model: hostile, out: fresh() });
    expect(engines[0]!.path).toMatch(/\/_a_b_c_-cpu-[\w-]+-fp32\.engine$/);
  });

  it.each<[string, Partial<BuildOptions>, object]>([
    ["an unknown target", { targets: ["sm_80x"] }, { code: "unknown-target", exitCode: 2 }],
    ["no target", { targets: [] }, { code: "no-target", exitCode: 2 }],
    [
      "one file for two targets",
      { targets: ["cpu-x86-64", "sm_80"], out: "a.engine" },
      { code: "one-file", exitCode: 2 },
    ],
    ["an unknown precision", { precision: "fp17" as never }, { code: "unknown-precision", exitCode: 2 }],
    [
      "a size outside its range",
      { ranges: { N: [1, 8] }, opt: { N: 9 } },
      { code: "bad-opt", exitCode: 2, expected: "1..8" },
    ],
    ["a symbol that is not there", { opt: { M: 9 } }, { code: "unknown-symbol", exitCode: 2 }],
    ["an empty model", { model: "" }, { code: "no-model", exitCode: 2 }],
    ["a folder that cannot be made", { out: join(fixture("add"), "x") }, { code: "write-failed", exitCode: 7 }],
  ])("refuses %s", async (_, options, error) => {
    await expect(build({ model, out: fresh(), ...options })).rejects.toMatchObject(error);
  });

  it("leaves no file when it is stopped, whenever that is", async () => {
    for (const at of ["import", "compile", "write"]) {
      const controller = new AbortController();
      const out = fresh();
      const stopped = build({
        model,
        out,
        cacheDir: fresh(),
        signal: controller.signal,
        onProgress: ({ phase }) => phase === at && controller.abort(),
      });
      await expect(stopped, at).rejects.toMatchObject({ name: "AbortError" });
      expect(filesBelow(out), at).toEqual([]);
    }
  });

  it("names the pass that changes a value", async () => {
    const first = pipeline[0]!;
    const broken = vi
      .spyOn(first as { run: typeof first.run }, "run")
      .mockImplementation((graph) =>
        graph.rewrite((node, inputs) => (node.op.name === "Add" ? [inputs[0]!] : undefined)),
      );
    try {
      await expect(build({ model, out: fresh(), checkPasses: true })).rejects.toMatchObject({
        kind: "internal",
        message: expect.stringContaining(`pass "${first.name}"`),
      });
    } finally {
      broken.mockRestore();
    }
    await expect(build({ model, out: fresh(), checkPasses: true })).resolves.toMatchObject({ warnings: [] });
  });
});

describe("one file for several targets", () => {
  const programsOf = (path: string) => {
    const engine = openEngine(path);
    try {
      return engine.table;
    } finally {
      engine.close();
    }
  };

  it("holds a program for each, over weights that are stored once, and runs as each", async () => {
    const targets = ["cpu-x86-64", "emulated-sm_80", "emulated-sm_90"];
    const { engines } = await build({ model, out: fresh(), targets, fat: true, opt: { N: 2 } });
    expect(engines).toHaveLength(1);
    const [fat] = engines;
    expect(fat!.path).toMatch(/\/add-fat-fp32\.engine$/);
    expect(fat).toMatchObject({ target: "fat", targets: targets.map((target) => ({ target, kernels: 1 })) });
    expect(Object.keys(fat!.seconds).sort()).toEqual(["compile", "import", "optimize", "total", "write"]);
    const table = programsOf(fat!.path);
    expect(table.targets).toEqual(targets);
    expect(table.programs.map(({ name, target }) => [name, target])).toEqual(targets.map((target) => ["main", target]));
    for (const { steps, target } of table.programs)
      for (const { launch } of steps)
        for (const { kernel } of launch!.variants)
          expect(table.images[table.kernels[kernel]!.image]!.target).toBe(target);
    const weights = table.programs.map(({ buffers }) => buffers.filter(({ kind }) => kind === "constant"));
    expect(new Set(weights.map((list) => JSON.stringify(list.map(({ data }) => data)))).size).toBe(1);
    for (const target of targets) {
      const session = await loadEngine(fat!.path, { threads: 1, target });
      expect(session.target).toBe(target);
      const { y } = await session.run({ x: tensor("float32", [1, 4], [0, 10, 20, 30]) });
      expect([...y!.data]).toEqual([1, 12, 23, 34]);
      await session.close();
    }
    expect(inspectEngine(fat!.path, "emulated-sm_90").explain().kernels[0]).toMatchObject({ threads: 256, shared: 0 });
    expect(inspectEngine(fat!.path).explain().kernels[0]!.threads).toBeUndefined();
    expect(() => inspectEngine(fat!.path, "sm_90")).toThrow(expect.objectContaining({ code: "no-such-target" }));
    expect(verifyEngine(fat!.path)).toMatchObject({ ok: true, targets });
  });

  it.runIf(hasCuda)(
    "shares the weights of all capabilities of a precision, has one PTX, and is the same when built again",
    { timeout: 120_000 },
    async () => {
      const targets = ["sm_75", "sm_80", "sm_90", "sm_90a"];
      const paths: string[] = [];
      for (const cacheDir of [fresh(), fresh()]) {
        const { engines } = await build({
          model: fixture("external"),
          out: fresh(),
          targets,
          precision: "fp16",
          fat: true,
          cacheDir,
        });
        paths.push(engines[0]!.path);
      }
      expect(readFileSync(paths[0]!).equals(readFileSync(paths[1]!))).toBe(true);
      const table = programsOf(paths[0]!);
      const constants = table.programs.map(({ buffers }) => buffers.filter(({ kind }) => kind === "constant"));
      expect(constants[0]!.length).toBeGreaterThan(0);
      expect(new Set(constants.map((list) => JSON.stringify(list.map(({ data }) => data)))).size).toBe(1);
      // Not sm_90a's: nothing but that chip could compile it.
      expect(new Set(table.images.filter(({ ptx }) => ptx).map(({ target }) => target))).toEqual(new Set(["sm_90"]));
      for (const { resources, shared } of inspectEngine(paths[0]!, "sm_90a").explain().kernels) {
        expect(resources!.registers).toBeGreaterThan(0);
        expect(shared).toBeGreaterThanOrEqual(0);
      }
    },
  );
});

describe("precision", () => {
  it.each(["fp16", "bf16"] as const)("%s keeps the signature and comes near the reference", async (precision) => {
    const { engines } = await build({ model, out: fresh(), precision, opt: { N: 2 } });
    expect(engines[0]!.path).toMatch(new RegExp(`-${precision}\\.engine$`));
    const { inputs, outputs, precision: kept } = inspectEngine(engines[0]!.path);
    expect([kept, inputs[0]!.dtype, outputs[0]!.dtype]).toEqual([precision, "float32", "float32"]);
    await expect(verifyModel({ model, precision, opt: { N: 5 } })).resolves.toMatchObject({ ok: true });
  });
});

describe("compilers", () => {
  const none = () => Promise.reject(new NimforgeError("toolchain", "no-such-compiler", "there is none"));
  const [cxx, cuda] = [vi.mocked(detectCompiler), vi.mocked(detectCuda)];
  const originals = [cxx.getMockImplementation()!, cuda.getMockImplementation()!] as const;
  afterEach(() => {
    cxx.mockImplementation(originals[0]);
    cuda.mockImplementation(originals[1] as typeof detectCuda);
  });

  it("without one for CUDA, the other targets are built", async () => {
    cuda.mockImplementation(none);
    await expect(build({ model, out: fresh(), targets: ["cpu-x86-64", "emulated-sm_80"] })).resolves.toBeDefined();
    await expect(build({ model, out: fresh(), targets: ["cpu-x86-64", "sm_80"] })).rejects.toMatchObject({
      exitCode: 9,
    });
    const lacking = (await checkTargets()).filter(({ builds }) => !builds);
    expect(new Set(lacking.map(({ family, emulated }) => `${family} ${emulated}`))).toEqual(new Set(["cuda false"]));
  });
  it("without one for C++, CUDA is", async () => {
    cxx.mockImplementation(none);
    cuda.mockImplementation(async () => ({ kind: "nvcc", version: "1" }) as CudaToolkit);
    await expect(requireToolchains(resolveTargets(["sm_80"]))).resolves.toEqual({ cuda: "nvcc 1" });
    await expect(build({ model, out: fresh(), targets: ["cpu"] })).rejects.toMatchObject({ exitCode: 9 });
  });
});

describe("targets", () => {
  const gpu = (name: string, target: string): DeviceInfo =>
    ({ kind: "cuda", name, product: "a GPU", target, targets: [`${target}a`, target] }) as DeviceInfo;
  it("native is the best of each device", () => {
    const devices = [...listDevices(), gpu("cuda:0", "sm_90"), gpu("cuda:1", "sm_86")];
    const infos = listTargets(devices);
    const named = (alias: string) => infos.filter(({ aliases }) => aliases.includes(alias)).map(({ name }) => name);
    expect(named("native").slice(1)).toEqual(["sm_86", "sm_90a"]);
    expect(named("cpu")).toEqual(named("native").slice(0, 1));
    const on = (name: string) => infos.find((info) => info.name === name)!.device;
    expect(["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100"].map(on)).toEqual([
      undefined,
      "cuda:1",
      "cuda:1",
      undefined,
      "cuda:0",
      "cuda:0",
      undefined,
    ]);
  });
  it("all is every CPU level and every plain capability", () => {
    const names = resolveTargets(["all"]).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...cpuNames, "sm_75", "sm_90", "sm_120"]));
    expect(names.filter((name) => name.endsWith("a") || name.startsWith("emulated"))).toEqual([]);
  });
});

describe("inParallel", () => {
  it("keeps the order, keeps to its limit, and ends with the first failure", async () => {
    let running = 0;
    let most = 0;
    const work = async (x: number) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 5 - x));
      running--;
      return x * x;
    };
    expect(await inParallel([1, 2, 3, 4], 2, undefined, work)).toEqual([1, 4, 9, 16]);
    expect(most).toBe(2);
    const begun: number[] = [];
    const failing = inParallel([0, 1, 2, 3], 2, undefined, async (x, signal) => {
      begun.push(x);
      if (x === 0) throw new Error("zero");
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("stopped"))));
    });
    await expect(failing).rejects.toThrow("zero");
    expect(begun).toEqual([0, 1]);
  });
});

function filesBelow(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, encoding: "utf8" });
  } catch {
    return []; // never made
  }
}

describe("verify", () => {
  it("compares a model's engine with the interpreter", async () => {
    const result = await verifyModel({ model, seed: 3, opt: { N: 5 } });
    expect(result).toMatchObject({
      ok: true,
      against: "reference",
      shapes: { x: [5, 4] },
      outputs: [{ name: "y", maxAbs: 0, ok: true }],
    });
  });
  it("says so where this machine cannot run the target", async () => {
    const away = listTargets().find(({ runs, family }) => !runs && family === "cuda")!;
    await expect(verifyModel({ model, targets: [away.name] })).rejects.toMatchObject({
      exitCode: 6,
      found: away.name,
      fix: expect.stringContaining("emulated-sm_"),
    });
  });
  it("finds that an engine is of another model", async () => {
    const { engines } = await build({ model: fixture("initializer-input"), out: fresh() });
    await expect(verifyModel({ model, engine: engines[0]!.path })).resolves.toMatchObject({ ok: false });
  });
  it("finds a flipped bit anywhere in an engine", async () => {
    const { engines } = await build({ model, out: fresh() });
    const path = engines[0]!.path;
    expect(verifyEngine(path)).toMatchObject({ ok: true, targets: [engines[0]!.target] });
    const bytes = readFileSync(path);
    for (let at = 0; at < bytes.length; at += Math.max(1, Math.floor(bytes.length / 40))) {
      bytes[at]! ^= 1;
      writeFileSync(path, bytes);
      expect(() => verifyEngine(path), `byte ${at}`).toThrow(expect.objectContaining({ name: "NimforgeError" }));
      bytes[at]! ^= 1;
    }
  });
});

describe("inspect", () => {
  it("describes a model, and an engine of it", async () => {
    expect(inspectModel({ model })).toMatchObject({
      inputs: [{ name: "x", dtype: "float32", shape: ["N", "4"] }],
      nodes: 1,
      operators: [{ op: "Add", count: 1 }],
    });
    const { engines } = await build({ model, out: fresh(), opt: { N: 3 } });
    const { explain, ...summary } = inspectEngine(engines[0]!.path);
    expect(summary).toMatchObject({
      name: "add",
      nodes: 1,
      kernels: 1,
      unusedInputs: [],
      tunedShapes: { x: [3, 4] },
      symbols: [{ name: "N" }],
    });
    const { kernels, memory } = explain();
    expect(kernels).toHaveLength(1);
    expect(kernels[0]!.source).toContain(kernels[0]!.name);
    expect(
      memory.buffers
        .filter(({ kind }) => kind === "input" || kind === "output")
        .map(({ name, bytes }) => [name, bytes]),
    ).toEqual([
      ["x", 48],
      ["y", 48],
    ]);
    expect((await explainModel({ model, opt: { N: 3 } })).kernels).toEqual(kernels);
  });
  it("knows inputs that nothing reads", async () => {
    const { engines } = await build({ model: fixture("unsorted"), out: fresh() });
    expect(inspectEngine(engines[0]!.path).unusedInputs).toEqual(["unused"]);
  });
});

describe("randomTensor", () => {
  it("depends on nothing but seed, type and shape", () => {
    expect(randomTensor("float32", [3], 7)).toEqual(randomTensor("float32", [3], 7));
    expect(randomTensor("float32", [3], 7)).not.toEqual(randomTensor("float32", [3], 8));
    expect(
      [...randomTensor("int64", [64], 1).data].every(
        (value) => value === BigInt(Number(value)) && Number(value) >= 0 && Number(value) < 4,
      ),
    ).toBe(true);
    expect(new Set([...randomTensor("bool", [64]).data])).toEqual(new Set([0, 1]));
    expect([...randomTensor("int2", [64]).data].every((value) => Number(value) >= 0 && Number(value) <= 1)).toBe(true);
  });
});

describe("compareTensors", () => {
  const f = (...values: number[]) => tensor("float32", [values.length], values);
  const loose = { rtol: 1e-3, atol: 1e-4 };
  it("measures differences and applies both tolerances", () => {
    expect(compareTensors(f(1, 2), f(1, 2), loose)).toEqual({ maxAbs: 0, maxRel: 0, cosine: 1, ok: true });
    expect(compareTensors(f(100.05), f(100), loose).ok).toBe(true);
    expect(compareTensors(f(100.2), f(100), loose).ok).toBe(false);
    expect(compareTensors(f(0, 1), f(1, 0), loose)).toMatchObject({ maxAbs: 1, cosine: 0, ok: false });
  });
  it("takes NaN and infinities only where both have them", () => {
    expect(
      compareTensors(f(Number.NaN, Number.POSITIVE_INFINITY), f(Number.NaN, Number.POSITIVE_INFINITY), loose).ok,
    ).toBe(true);
    expect(compareTensors(f(Number.NaN), f(0), loose)).toEqual({ maxAbs: null, maxRel: null, cosine: null, ok: false });
    expect(compareTensors(f(3e38), f(Number.POSITIVE_INFINITY), loose).ok).toBe(false);
  });
  it("wants integers, text, types and shapes to be equal", () => {
    const big = (value: bigint) => tensor("int64", [1], [value]);
    expect(compareTensors(big(2n ** 60n + 1n), big(2n ** 60n), loose).ok).toBe(false);
    expect(compareTensors(tensor("string", [1], ["a"]), tensor("string", [1], ["b"]), loose).ok).toBe(false);
    expect(compareTensors(f(1), tensor("float64", [1], [1]), loose).ok).toBe(false);
    expect(compareTensors(tensor("float32", [1, 1], [1]), f(1), loose).ok).toBe(false);
  });
});
