/**
 * The CUDA path on the fake driver (native/test/fake_cuda.cpp): engines for GPUs whose code is an emulated image, which that
 * driver alone accepts. The driver is opened once for a process, so the cases that have none come first.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { engineBytes } from "@nimforge/engine";
import { type Tensor, tensor } from "@nimforge/tensor";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  blocksEngine,
  compileBlocks,
  fakeCuda,
  fakePtx,
  nonZeroProgram,
  sumProgram,
  takeProgram,
  threads,
} from "./blocks.test.helper.js";
import { type CudaInfo, cpuLevels, cudaStatus, listDevices, openEngine, type SessionOptions } from "./index.js";

const emulates = cpuLevels().some(({ name, runs }) => name === "cpu-x86-64-v3" && runs);

let code: Uint8Array;
let library: string;
let folder: string;
beforeAll(() => {
  code = compileBlocks();
  library = fakeCuda();
  folder = mkdtempSync(join(tmpdir(), "nimforge-test-"));
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const set = (name: string, value: string) => {
  process.env[name] = value;
};
const settings = ["OOM_AT", "OOM_FROM", "REFUSE_LOAD", "LAUNCH_ERROR", "NO_POOLS", "LOG", "MEMORY", "CRASH", "REVIVE"];
afterEach(() => {
  for (const name of settings) delete process.env[`FAKE_CUDA_${name}`];
});

/** Names of the driver's functions, in the order of their calls. */
async function calls(body: () => Promise<unknown>): Promise<string[]> {
  const log = join(folder, "log");
  writeFileSync(log, "");
  set("FAKE_CUDA_LOG", log);
  try {
    await body();
  } finally {
    delete process.env.FAKE_CUDA_LOG;
  }
  return readFileSync(log, "utf8").trim().split("\n");
}
const count = (list: string[], name: string) => list.filter((call) => call === name).length;

const floats = (n: number, f: (i: number) => number) =>
  tensor(
    "float32",
    [n],
    Float32Array.from({ length: n }, (_, i) => f(i)),
  );
const weights = Float32Array.from({ length: 20_000 }, (_, i) => i % 7);

const sumEngine = (targets = ["sm_80"], sharedBytes?: number, ptx?: Record<string, Uint8Array>) =>
  openEngine(engineBytes(blocksEngine(code, targets, (k) => [sumProgram(k, weights, sharedBytes)], ptx)));
const sumInputs = (n: number, shift = 0.5) => [floats(n, (i) => i), floats(n, () => shift)];
const expectSum = ([out, sum]: Tensor[], n: number, shift = 0.5) => {
  expect(Array.from(out?.data as Float32Array)).toEqual(Array.from({ length: n }, (_, i) => (i + shift) * 3 + (i % 7)));
  expect(Array.from(sum?.data as Float32Array)).toEqual(Array.from({ length: n }, (_, i) => i + shift));
};
const refusal = (engine: ReturnType<typeof sumEngine>, options: SessionOptions = {}) => {
  try {
    void engine.createSession(options).close();
  } catch (error) {
    return error;
  }
  return undefined;
};

describe.skipIf(!emulates).sequential("without a usable driver", () => {
  const best = cpuLevels()
    .filter(({ runs }) => runs)
    .at(-1)?.name;

  it("says that there is none, and what to do", () => {
    set("NIMFORGE_LIBCUDA", join(folder, "libnone.so.1"));
    expect(refusal(sumEngine())).toMatchObject({
      exitCode: 6,
      code: "wrong-target",
      expected: "a device for sm_80",
      found: expect.stringMatching(/^cpu: .*; there is no CUDA driver: /),
      fix: `build an engine for this machine: nim-build <model> --target ${best}`,
    });
    expect(refusal(sumEngine(), { device: "cuda" })).toMatchObject({ exitCode: 6, code: "no-cuda-driver" });
    expect(cudaStatus()).toMatchObject({ refusal: { code: "no-cuda-driver" } });
    expect(listDevices().map(({ name }) => name)).toEqual(["cpu"]);
  });

  it("says that the driver is too old, or finds no device", () => {
    set("NIMFORGE_LIBCUDA", library);
    set("FAKE_CUDA_DEVICES", "8.0");
    set("FAKE_CUDA_VERSION", "10020");
    expect(refusal(sumEngine(), { device: "cuda" })).toMatchObject({
      exitCode: 6,
      code: "driver-too-old",
      expected: "a driver for CUDA 11.4 or newer",
      found: "CUDA 10.2",
    });
    delete process.env.FAKE_CUDA_VERSION;
    set("FAKE_CUDA_DEVICES", "");
    expect(refusal(sumEngine(), { device: "cuda:0" })).toMatchObject({ exitCode: 6, code: "no-cuda-device" });
    expect((refusal(sumEngine()) as Error & { found: string }).found).toContain(
      "there is no CUDA device: the driver for CUDA 13.0 finds none",
    );
  });
});

describe.skipIf(!emulates).sequential("on GPUs", () => {
  beforeAll(() => {
    set("NIMFORGE_LIBCUDA", library);
    set("NIMFORGE_LIBNVML", library);
    set("FAKE_CUDA_DEVICES", "8.6,9.0,8.0,8.0");
  });

  it("lists them with their facts", () => {
    const gpus = listDevices().filter((device): device is CudaInfo => device.kind === "cuda");
    expect(gpus.map(({ name, target }) => [name, target])).toEqual([
      ["cuda:0", "sm_86"],
      ["cuda:1", "sm_90"],
      ["cuda:2", "sm_80"],
      ["cuda:3", "sm_80"],
    ]);
    expect(gpus[1]).toMatchObject({
      product: "Fake GPU 1",
      targets: ["sm_90a", "sm_90"],
      multiprocessors: 108,
      memoryBytes: 2 ** 30,
      memoryBytesPerSecond: 1_555_200_000_000,
      sharedBytesPerBlock: 163 * 1024,
      metrics: { utilizationPercent: 37, temperatureCelsius: 51, memoryFreeBytes: 2 ** 28 },
    });
    expect(cudaStatus()).toEqual({ driver: "13.0" });
  });

  it("runs launches of any size, and again with other values", async () => {
    const session = sumEngine().createSession();
    expect(session.device).toBe("cuda:2");
    expect(session.threads).toBe(1);
    for (const n of [0, 1, 63, 64, 65, 1000, 20_000, 1000, 1000, 0, 1000])
      expectSum(await session.run(sumInputs(n, n / 4)), n, n / 4);
    expect(session.memory()).toMatchObject({ inputs: 8000, outputs: 4000, scratch: threads * 4 });
    expectSum(session.runSync(sumInputs(10)), 10);
    await session.close();
  });

  it("replays shapes that come again as one graph", async () => {
    const session = sumEngine().createSession();
    const run = (n: number, shift: number) =>
      calls(async () => expectSum(await session.run(sumInputs(n, shift)), n, shift));
    const first = await run(500, 1);
    expect([count(first, "cuLaunchKernel"), count(first, "cuGraphLaunch")]).toEqual([3, 0]);
    const second = await run(500, 2);
    expect([count(second, "cuLaunchKernel"), count(second, "cuGraphLaunch")]).toEqual([3, 1]);
    const third = await run(500, 3);
    expect([count(third, "cuLaunchKernel"), count(third, "cuGraphLaunch")]).toEqual([0, 1]);
    // Larger buffers move: what was captured is captured again.
    await run(9000, 4);
    const moved = await run(500, 5);
    expect([count(moved, "cuLaunchKernel"), count(moved, "cuGraphLaunch")]).toEqual([3, 1]);
    const again = await run(500, 6);
    expect([count(again, "cuLaunchKernel"), count(again, "cuGraphLaunch"), count(again, "cuMemAllocAsync")]).toEqual([
      0, 1, 0,
    ]);
    await session.close();
  });

  it("keeps more shapes than it keeps graphs", async () => {
    const session = sumEngine().createSession();
    for (let round = 0; round < 3; round++)
      for (let n = 1; n <= 80; n++) expectSum(await session.run(sumInputs(n, round)), n, round);
    await session.close();
  });

  it("hands values to host operators and sizes to what follows", async () => {
    const engine = openEngine(engineBytes(blocksEngine(code, ["sm_90"], (k) => [nonZeroProgram(k)])));
    const session = engine.createSession();
    expect(session.device).toBe("cuda:1");
    for (const every of [1, 3, 500, 0, 3, 3, 1]) {
      const x = floats(600, (i) => (every !== 0 && i % every === 0 ? i + 1 : 0));
      const [doubled, indices] = await session.run([x]);
      const expected = Array.from({ length: 600 }, (_, i) => i).filter((i) => every !== 0 && i % every === 0);
      expect(Array.from(indices?.data as BigInt64Array, Number)).toEqual(expected);
      expect(Array.from(doubled?.data as Float32Array)).toEqual(expected.map((i) => 2 * (i + 1)));
    }
    await session.close();
  });

  it("uploads weights once for all sessions of a device", async () => {
    const engine = sumEngine();
    const sessions = await Promise.all([engine.createSession(), engine.createSession(), engine.createSession()]);
    let uploads: string[] = [];
    const more = await calls(async () => sessions.push(engine.createSession()));
    expect(count(more, "cuMemcpyHtoD_v2")).toBe(0);
    expect(count(more, "cuModuleLoadDataEx")).toBe(0);
    const other = sumEngine();
    uploads = await calls(async () => sessions.push(other.createSession()));
    expect(count(uploads, "cuMemcpyHtoD_v2")).toBe(1);
    const results = await Promise.all(sessions.map((session, i) => session.run(sumInputs(100 + i, i))));
    results.forEach((outputs, i) => expectSum(outputs, 100 + i, i));
    engine.close(); // sessions live on
    for (const [i, session] of sessions.entries()) expectSum(await session.run(sumInputs(7, i)), 7, i);
    await Promise.all(sessions.map((session) => session.close()));
  });

  it("takes the device that fits best, or the one that is asked for", () => {
    const place = (targets: string[], options: SessionOptions = {}, ptx?: Record<string, Uint8Array>) => {
      const session = sumEngine(targets, undefined, ptx).createSession(options);
      const where = [session.device, session.signature.target];
      void session.close();
      return where;
    };
    expect(place(["sm_80", "sm_86", "sm_90"])).toEqual(["cuda:1", "sm_90"]);
    expect(place(["sm_80", "sm_86"])).toEqual(["cuda:0", "sm_86"]);
    expect(place(["sm_80", "sm_90"])).toEqual(["cuda:1", "sm_90"]);
    expect(place(["sm_90", "sm_90a"])).toEqual(["cuda:1", "sm_90a"]);
    expect(place(["sm_80"], { device: "cuda:0" })).toEqual(["cuda:0", "sm_80"]);
    expect(place(["sm_80", "sm_86"], { device: "cuda:0" })).toEqual(["cuda:0", "sm_86"]);
    expect(place(["sm_80", "sm_86"], { target: "sm_80" })).toEqual(["cuda:2", "sm_80"]);
    expect(place(["sm_75"], {}, { sm_75: fakePtx("sm_75", code) })).toEqual(["cuda:0", "sm_75"]);
    // An older minor's binary before PTX; PTX where nothing else fits.
    const fat = { sm_75: fakePtx("sm_75", code) };
    expect(place(["sm_75", "sm_80"], { device: "cuda:0" }, fat)).toEqual(["cuda:0", "sm_80"]);
    expect(place(["sm_75", "sm_80"], { device: "cuda:1" }, fat)).toEqual(["cuda:1", "sm_75"]);
    expect(place(["emulated-sm_80", "sm_80"])).toEqual(["cuda:2", "sm_80"]);
    expect(place(["emulated-sm_80", "sm_80"], { device: "cpu" })).toEqual(["cpu", "emulated-sm_80"]);
  });

  it("names what the engine holds, what the device is, and the build that is missing", () => {
    expect(refusal(sumEngine(["sm_90"]), { device: "cuda:0" })).toMatchObject({
      exitCode: 6,
      code: "wrong-target",
      message: "the engine is for sm_90; cuda:0 is Fake GPU 0 of compute capability 8.6",
      expected: "sm_90",
      found: "cuda:0: Fake GPU 0, sm_86",
      fix: "build an engine for this device: nim-build <model> --target sm_86",
    });
    const ptx = { sm_120: fakePtx("sm_120", code) };
    expect(refusal(sumEngine(["sm_100", "sm_120"], undefined, ptx))).toMatchObject({
      exitCode: 6,
      code: "wrong-target",
      expected: "a device for sm_100, sm_120",
      found: expect.stringContaining("cuda:1: Fake GPU 1, sm_90"),
      fix: "build an engine for this machine: nim-build <model> --target sm_86",
    });
    expect(refusal(sumEngine(), { device: "cuda:7" })).toMatchObject({
      exitCode: 2,
      code: "no-device",
      expected: "cpu, cuda:0, cuda:1, cuda:2, cuda:3",
    });
    // sm_87 is a system on a chip: its code runs on nothing else.
    expect(refusal(sumEngine(["sm_87"]), { device: "cuda" })).toMatchObject({ code: "wrong-target" });
  });

  it("compiles PTX, and gives the driver's words when it refuses", async () => {
    const session = sumEngine(["sm_75"], undefined, { sm_75: fakePtx("sm_75", code) }).createSession();
    expectSum(await session.run(sumInputs(100)), 100);
    await session.close();
    const broken = { sm_75: Buffer.from(".version 9.0\n.target sm_75\nnonsense") };
    expect(refusal(sumEngine(["sm_75"], undefined, broken))).toMatchObject({
      exitCode: 6,
      code: "image-refused",
      message: expect.stringMatching(/CUDA_ERROR_INVALID_PTX: .*; ptxas fatal : Unresolved extern/),
      expected: "sm_75 and PTX of sm_75",
    });
    set("FAKE_CUDA_REFUSE_LOAD", "200");
    expect(refusal(sumEngine(["sm_80"]))).toMatchObject({
      code: "image-refused",
      found: "cuda:2: Fake GPU 2, sm_80, a driver for CUDA 13.0",
      fix: expect.stringContaining("update the NVIDIA driver"),
    });
  });

  it("asks for more shared memory than a block has at first, up to what it can have", async () => {
    const session = sumEngine(["sm_80"], 100 << 10).createSession();
    for (let round = 0; round < 3; round++) expectSum(await session.run(sumInputs(200)), 200);
    await session.close();
    const greedy = sumEngine(["sm_80"], 200 << 10).createSession();
    await expect(greedy.run(sumInputs(200))).rejects.toMatchObject({
      exitCode: 10,
      code: "shared-memory",
      node: "/triple",
      expected: "204800 bytes",
      found: "166912 bytes on cuda:2: Fake GPU 2, sm_80",
    });
    await greedy.close();
  });

  it("reports faults with their node and value, from any step of a run", async () => {
    const engine = openEngine(engineBytes(blocksEngine(code, ["sm_80"], (k) => [takeProgram(k, "take")])));
    const session = engine.createSession();
    const table = floats(4, (i) => i * 10);
    for (let round = 0; round < 3; round++) {
      const [out] = await session.run([table, tensor("int64", [2], [3, 0])]);
      expect(Array.from(out?.data as Float32Array)).toEqual([30, 0]);
      await expect(session.run([table, tensor("int64", [2], [1, 4])])).rejects.toMatchObject({
        exitCode: 4,
        code: "index-out-of-range",
        message: 'Gather "/emb": index 4 is out of range',
        node: "/emb",
      });
    }
    await session.close();
  });

  it("says out of memory with the figures, and goes on afterwards", async () => {
    const session = sumEngine().createSession();
    expectSum(await session.run(sumInputs(100)), 100);
    set("FAKE_CUDA_OOM_FROM", "1");
    await expect(session.run(sumInputs(20_000))).rejects.toMatchObject({
      exitCode: 10,
      code: "out-of-memory",
      message: expect.stringMatching(/^out of memory on cuda:2 \(Fake GPU 2\) for /),
      expected: expect.stringMatching(/^\d+ bytes$/),
      found: expect.stringMatching(/^\d+ bytes free of 1073741824 in all$/),
    });
    delete process.env.FAKE_CUDA_OOM_FROM;
    for (let round = 0; round < 3; round++) expectSum(await session.run(sumInputs(20_000)), 20_000);
    // One failure is tried again once the pool has given back what it keeps.
    set("FAKE_CUDA_OOM_AT", "1");
    const other = sumEngine().createSession();
    expectSum(await other.run(sumInputs(100)), 100);
    await Promise.all([session.close(), other.close()]);
    for (let nth = 1; nth <= 8; nth++) {
      set("FAKE_CUDA_OOM_FROM", String(nth));
      try {
        const third = sumEngine().createSession();
        await third.run(sumInputs(5000)).catch((error: unknown) => expect(error).toMatchObject({ exitCode: 10 }));
        delete process.env.FAKE_CUDA_OOM_FROM;
        expectSum(await third.run(sumInputs(5000)), 5000);
        await third.close();
      } catch (error) {
        expect(error).toMatchObject({ exitCode: 10, code: "out-of-memory" });
      }
      delete process.env.FAKE_CUDA_OOM_FROM;
    }
  });

  it("names the step whose launch is refused", async () => {
    const session = sumEngine().createSession();
    set("FAKE_CUDA_LAUNCH_ERROR", "scale");
    for (let round = 0; round < 3; round++)
      await expect(session.run(sumInputs(100))).rejects.toMatchObject({
        exitCode: 1,
        code: "cuda-failed",
        node: "/triple",
        message: expect.stringMatching(
          /^step "triple" failed on cuda:2: Fake GPU 2, sm_80 \(2 blocks of 64 threads, 256 bytes of shared memory\): CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES/,
        ),
      });
    delete process.env.FAKE_CUDA_LAUNCH_ERROR;
    for (let round = 0; round < 3; round++) expectSum(await session.run(sumInputs(100)), 100);
    await session.close();
  });

  it("measures steps with events", async () => {
    const session = sumEngine().createSession({ profile: true });
    for (let round = 0; round < 3; round++) expectSum(await session.run(sumInputs(1000)), 1000);
    expect(session.profile().map(({ name, origin }) => [name, origin])).toEqual([
      ["first", ["/first"]],
      ["triple", ["/triple"]],
      ["last", ["/last"]],
    ]);
    for (const { nanoseconds } of session.profile()) expect(nanoseconds).toBeGreaterThan(0);
    await session.close();
  });

  it("runs where the device has no memory pools", async () => {
    set("FAKE_CUDA_NO_POOLS", "1");
    // A device that no other test has used: it is asked once.
    const session = sumEngine().createSession({ device: "cuda:3" });
    const used = await calls(async () => {
      for (const n of [10, 5000, 5000, 5000]) expectSum(await session.run(sumInputs(n)), n);
    });
    expect(count(used, "cuMemAlloc_v2")).toBeGreaterThan(0);
    await session.close();
  });

  it("stops between steps when aborted, also while it captures", async () => {
    const session = sumEngine().createSession();
    for (let round = 0; round < 6; round++) {
      const controller = new AbortController();
      const running = session.run(sumInputs(20_000), { signal: controller.signal });
      setTimeout(() => controller.abort(), round);
      await running.then(
        (outputs) => expectSum(outputs, 20_000),
        (error: unknown) => expect(error).toMatchObject({ code: "aborted" }),
      );
    }
    expectSum(await session.run(sumInputs(20_000)), 20_000);
    await session.close();
  });

  it("says which steps were running when the device failed", async () => {
    const [session, other] = [sumEngine().createSession(), sumEngine().createSession()];
    expectSum(await session.run(sumInputs(100)), 100);
    set("FAKE_CUDA_CRASH", "scale");
    await expect(session.run(sumInputs(100))).rejects.toMatchObject({
      exitCode: 1,
      code: "cuda-failed",
      message: expect.stringMatching(
        /^one of the steps from "first" to "last" failed on cuda:2: .*CUDA_ERROR_ILLEGAL_ADDRESS/,
      ),
      fix: expect.stringContaining("NIMFORGE_CUDA_SYNC=1"),
    });
    // The context is lost to the whole process.
    delete process.env.FAKE_CUDA_CRASH;
    await expect(other.run(sumInputs(100))).rejects.toMatchObject({ code: "cuda-failed" });
    await Promise.all([session.close(), other.close()]);
    set("FAKE_CUDA_REVIVE", "1");
    set("NIMFORGE_CUDA_SYNC", "1");
    const waiting = sumEngine().createSession();
    delete process.env.NIMFORGE_CUDA_SYNC;
    for (let round = 0; round < 3; round++) expectSum(await waiting.run(sumInputs(100)), 100);
    delete process.env.FAKE_CUDA_REVIVE;
    set("FAKE_CUDA_CRASH", "scale");
    await expect(waiting.run(sumInputs(100))).rejects.toMatchObject({
      node: "/triple",
      message: expect.stringMatching(/^step "triple" failed on cuda:2: .*CUDA_ERROR_ILLEGAL_ADDRESS/),
    });
    await waiting.close();
  });
});
