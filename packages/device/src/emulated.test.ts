import { engineBytes } from "@nimforge/engine";
import { tensor } from "@nimforge/tensor";
import { beforeAll, describe, expect, it } from "vitest";
import { blocksEngine, compileBlocks, nonZeroProgram, sumProgram, takeProgram } from "./blocks.test.helper.js";
import { cpuLevels, listDevices, openEngine } from "./index.js";
import { addProgram, compileImage, kernelSource } from "./kit.test.helper.js";

// Emulated kernels need this level.
const emulates = cpuLevels().some(({ name, runs }) => name === "cpu-x86-64-v3" && runs);

let code: Uint8Array;
beforeAll(() => {
  code = compileBlocks();
});
const floats = (n: number, f: (i: number) => number) =>
  tensor(
    "float32",
    [n],
    Float32Array.from({ length: n }, (_, i) => f(i)),
  );
const weights = Float32Array.from({ length: 5000 }, (_, i) => i % 7);

describe.skipIf(!emulates)("an emulated target", () => {
  it("runs blocks of threads on the CPU", async () => {
    const engine = openEngine(
      engineBytes(blocksEngine(code, ["emulated-sm_80"], (k) => [sumProgram(k, weights), nonZeroProgram(k)])),
    );
    expect(engine.emulated).toBe(true);
    expect(engine.programs().map(({ name, target }) => [name, target])).toEqual([
      ["main", "emulated-sm_80"],
      ["nonzero", "emulated-sm_80"],
    ]);
    const session = engine.createSession({ threads: 2 });
    expect(session.device).toBe("cpu");
    for (const n of [0, 1, 63, 64, 65, 1000]) {
      const [out, sum] = await session.run([floats(n, (i) => i), floats(n, () => 0.5)]);
      expect(Array.from(out?.data as Float32Array)).toEqual(
        Array.from({ length: n }, (_, i) => (i + 0.5) * 3 + (i % 7)),
      );
      expect(Array.from(sum?.data as Float32Array)).toEqual(Array.from({ length: n }, (_, i) => i + 0.5));
    }
    const nonzero = engine.createSession({ program: "nonzero", target: "emulated-sm_80", device: "cpu" });
    const [doubled] = await nonzero.run([floats(300, (i) => i % 3)]);
    expect(doubled?.shape).toEqual([200]);
    expect(Array.from(doubled?.data as Float32Array).slice(0, 4)).toEqual([2, 4, 2, 4]);
    await Promise.all([session.close(), nonzero.close()]);
  });

  it("names the step, the block, the thread and what happened", async () => {
    const programs = (k: Parameters<typeof takeProgram>[0]) => [takeProgram(k, "wrong"), takeProgram(k, "take")];
    const engine = openEngine(engineBytes(blocksEngine(code, ["emulated-sm_90"], programs)));
    const inputs = (last: number) => [floats(4, Number), tensor("int64", [2], [1, last])];
    const session = engine.createSession({ threads: 2 });
    await expect(session.run(inputs(2))).rejects.toMatchObject({
      exitCode: 1,
      code: "emulator-fault",
      node: "/emb",
      message: expect.stringMatching(
        /step "take" was stopped by the GPU emulator: (?=.*block 2, thread 5)(?=.*misaligned)(?=.*wrong)/,
      ),
    });
    await expect(session.run(inputs(2))).rejects.toMatchObject({ code: "emulator-fault" });
    const take = engine.createSession({ program: "take" });
    await expect(take.run(inputs(9))).rejects.toMatchObject({
      exitCode: 4,
      code: "index-out-of-range",
      message: 'Gather "/emb": index 9 is out of range',
    });
    expect(Array.from((await take.run(inputs(3)))[0]?.data as Float32Array)).toEqual([1, 3]);
    await Promise.all([session.close(), take.close()]);
  });

  it("is refused where it is not allowed", () => {
    const engine = openEngine(engineBytes(blocksEngine(code, ["emulated-sm_80"], (k) => [sumProgram(k, weights)])));
    expect(() => engine.createSession({ allowEmulated: false })).toThrow(
      expect.objectContaining({ exitCode: 6, code: "emulated-engine", found: "emulated-sm_80" }),
    );
  });

  it("comes after the CPU's own in an engine that holds both", async () => {
    const spec = blocksEngine(code, ["emulated-sm_80"], (k) => [sumProgram(k, weights)]);
    const own = addProgram(weights);
    for (const step of own.steps)
      for (const variant of step.launch?.variants ?? []) (variant as { kernel: number }).kernel += spec.kernels.length;
    const engine = openEngine(
      engineBytes({
        ...spec,
        targets: [...spec.targets, "cpu-x86-64"],
        kernels: [...spec.kernels, ...["add", "twice"].map((name) => ({ name, image: 1 }))],
        images: [...spec.images, { target: "cpu-x86-64", abi: 1, features: [], code: compileImage(kernelSource) }],
        programs: [...spec.programs, { ...own, target: "cpu-x86-64" }],
      }),
    );
    const targetOf = (options: Parameters<typeof engine.createSession>[0]) => {
      const session = engine.createSession(options);
      const { target } = session.signature;
      void session.close();
      return target;
    };
    expect(targetOf({})).toBe("cpu-x86-64");
    expect(targetOf({ program: "main" })).toBe("cpu-x86-64");
    expect(targetOf({ program: 0 })).toBe("emulated-sm_80");
    expect(targetOf({ target: "emulated-sm_80" })).toBe("emulated-sm_80");
    expect(targetOf({ allowEmulated: false })).toBe("cpu-x86-64");
    expect(() => targetOf({ target: "sm_90" })).toThrow(
      expect.objectContaining({
        exitCode: 6,
        code: "no-target-program",
        found: "emulated-sm_80, cpu-x86-64",
        fix: "build it: nim-build <model> --target sm_90",
      }),
    );
    expect(() => targetOf({ device: "tpu" })).toThrow(
      expect.objectContaining({ exitCode: 2, code: "no-device", expected: "cpu" }),
    );
  });
});

describe("listDevices", () => {
  it("has the CPU and what it runs", () => {
    const [cpu] = listDevices();
    expect(cpu).toMatchObject({ kind: "cpu", name: "cpu" });
    expect(cpu?.targets).toEqual(
      expect.arrayContaining(
        cpuLevels()
          .filter(({ runs }) => runs)
          .map(({ name }) => name),
      ),
    );
  });
});
