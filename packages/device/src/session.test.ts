import { engineBytes } from "@nimforge/engine";
import { NimforgeError, tensor } from "@nimforge/tensor";
import { beforeAll, describe, expect, it } from "vitest";
import { addonInfo, cpuLevels, openEngine } from "./index.js";
import {
  addProgram,
  compileImage,
  engineOf,
  kernelSource,
  nonZeroProgram,
  repeatProgram,
  takeProgram,
} from "./kit.test.helper.js";

let code: Uint8Array;
beforeAll(() => {
  code = compileImage(kernelSource);
});

const floats = (n: number, f: (i: number) => number) =>
  tensor(
    "float32",
    [n],
    Float32Array.from({ length: n }, (_, i) => f(i)),
  );

describe("a session", () => {
  it("runs a program for any size in its range", async () => {
    const weights = Float32Array.from({ length: 5000 }, (_, i) => i % 7);
    const engine = openEngine(engineBytes(engineOf([addProgram(weights)], code)), { verifyWeights: true });
    const session = engine.createSession({ threads: 2 });
    for (const n of [0, 1, 63, 64, 65, 1000, 5000, 1000]) {
      const [out] = await session.run([floats(n, (i) => i), floats(n, () => 0.5)]);
      expect(out?.shape).toEqual([n]);
      expect(Array.from(out?.data as Float32Array)).toEqual(
        Array.from({ length: n }, (_, i) => (i + 0.5) * 3 + (i % 7)),
      );
    }
    expect(session.memory()).toMatchObject({
      arena: 2 * Math.ceil(4000 / 64) * 64,
      arenaLowerBound: 8000,
      inputs: 8000,
      outputs: 4000,
    });
    const [again] = session.runSync([floats(3, (i) => i), floats(3, () => 0)]);
    expect(Array.from(again?.data as Float32Array)).toEqual([0, 4, 8]);
    await session.close();
    engine.close();
  });

  it("names input, axis, expected and found", async () => {
    const engine = openEngine(engineBytes(engineOf([addProgram(new Float32Array(64), { min: 1, max: 100 })], code)));
    const session = engine.createSession({ threads: 1 });
    const fail = async (a: ReturnType<typeof floats>, b: ReturnType<typeof floats>) => {
      const error = await session.run([a, b]).then(
        () => undefined,
        (e: unknown) => e,
      );
      expect(error).toBeInstanceOf(NimforgeError);
      expect((error as NimforgeError).exitCode).toBe(2);
      const { message, expected, found } = error as NimforgeError;
      return [message, expected, found];
    };
    expect(await fail(floats(4, Number), floats(5, Number))).toEqual([
      'input "y", axis 0 has the wrong size',
      "N = 4 of float32[N]",
      "5 of [5]",
    ]);
    expect(await fail(floats(101, Number), floats(101, Number))).toEqual([
      'input "x", axis 0: N is out of its range',
      "N from 1 to 100",
      "101",
    ]);
    expect((await fail(floats(65, Number), floats(65, Number)))[0]).toBe("N is larger than the constant");
    expect(await fail(tensor("float32", [2, 2]) as never, floats(4, Number))).toEqual([
      'input "x" has the wrong number of axes',
      "float32[N]",
      "float32[2, 2]",
    ]);
    expect(await fail(tensor("int32", [4]) as never, floats(4, Number))).toEqual([
      'input "x" has the wrong dtype',
      "float32",
      "int32",
    ]);
    await session.close();
  });

  it("sizes what only data decide, keeping what is live", async () => {
    const session = openEngine(engineBytes(engineOf([nonZeroProgram()], code))).createSession({ threads: 2 });
    for (const every of [1, 3, 500, 0, 3]) {
      const x = floats(600, (i) => (every !== 0 && i % every === 0 ? i + 1 : 0));
      const [doubled, indices, same] = await session.run([x]);
      const expected = Array.from({ length: 600 }, (_, i) => i).filter((i) => every !== 0 && i % every === 0);
      expect(indices?.shape).toEqual([1, expected.length]);
      expect(Array.from(indices?.data as BigInt64Array, Number)).toEqual(expected);
      expect(same?.data).toEqual(indices?.data);
      expect(Array.from(doubled?.data as Float32Array)).toEqual(expected.map((i) => 2 * (i + 1)));
    }
    await expect(session.run([floats(1001, () => 1)])).rejects.toThrow('step "find": K is out of its range');
    await session.close();
  });

  it("reports a kernel's fault with its node and value", async () => {
    const engine = openEngine(engineBytes(engineOf([takeProgram(), repeatProgram("broken", 1, 1)], code)));
    const session = engine.createSession();
    const table = floats(4, (i) => i * 10);
    const good = await session.run([table, tensor("int64", [2], [3, 0])]);
    expect(Array.from(good[0]?.data as Float32Array)).toEqual([30, 0]);
    const error = await session.run([table, tensor("int64", [2], [1, 4])]).catch((e: unknown) => e);
    expect(error).toMatchObject({
      exitCode: 4,
      code: "index-out-of-range",
      message: 'Gather "/emb": index 4 is out of range',
      node: "/emb",
    });
    const broken = engine.createSession({ program: "broken" });
    expect(() => broken.runSync([])).toThrow(/kernel of step "broken0" returned 3/);
    await Promise.all([session.close(), broken.close()]);
  });

  it("stops between steps when aborted, and drops what waits", async () => {
    const session = openEngine(engineBytes(engineOf([repeatProgram("busy", 2000, 1, 5)], code))).createSession({
      threads: 1,
      profile: true,
    });
    const controller = new AbortController();
    const start = performance.now();
    const runs = [session.run([], { signal: controller.signal }), session.run([], { signal: controller.signal })];
    setTimeout(() => controller.abort(new Error("enough")), 30);
    for (const run of runs)
      await expect(run).rejects.toMatchObject({ kind: "interrupted", code: "aborted", exitCode: 130 });
    await expect(session.run([], { signal: controller.signal })).rejects.toMatchObject({ code: "aborted" });
    const closing = session.run([]);
    const closed = expect(closing).rejects.toMatchObject({ code: "aborted" });
    await session.close();
    await closed;
    expect(performance.now() - start).toBeLessThan(5000);
    await expect(session.run([])).rejects.toMatchObject({ code: "closed", exitCode: 2 });
  });

  it("answers runs in their order and records steps' times", async () => {
    const session = openEngine(engineBytes(engineOf([addProgram(new Float32Array(100))], code))).createSession({
      profile: true,
    });
    const runs = Array.from({ length: 50 }, (_, k) => session.run([floats(k, (i) => i), floats(k, () => k)]));
    (await Promise.all(runs)).forEach(([out], k) => {
      expect(Array.from(out?.data as Float32Array)).toEqual(Array.from({ length: k }, (_, i) => (i + k) * 3));
    });
    expect(session.profile().map((step) => step.name)).toEqual(["add", "twice", "add"]);
    expect(session.profile()[0]?.origin).toEqual(["/add"]);
    await session.close();
  });

  it("refuses other targets, features, ABIs and host operators with what to do", () => {
    const open = (changes: Parameters<typeof engineOf>[2]) => () =>
      openEngine(engineBytes(engineOf([addProgram(new Float32Array(4))], code, changes))).createSession();
    const best = cpuLevels()
      .filter((level) => level.runs)
      .at(-1)?.name;
    const image = (target: string, abi = 1, features: string[] = []) => ({ images: [{ target, abi, features, code }] });
    expect(open(image("cpu-x86-64-v9"))).toThrow(
      expect.objectContaining({
        exitCode: 6,
        code: "wrong-target",
        fix: expect.stringContaining(`nim-build <model> --target ${best}`),
      }),
    );
    expect(open(image("cpu-x86-64", 1, ["teleport"]))).toThrow(
      expect.objectContaining({ exitCode: 6, code: "cpu-features", message: expect.stringContaining("teleport") }),
    );
    expect(open(image("cpu-x86-64", 99))).toThrow(expect.objectContaining({ exitCode: 6, code: "image-abi" }));
    const program = nonZeroProgram();
    const [first, ...others] = program.steps;
    const unknown = {
      ...program,
      steps: [{ ...first, host: { ...first?.host, op: "Fly@2" } } as (typeof program.steps)[number], ...others],
    };
    expect(() => openEngine(engineBytes(engineOf([unknown], code))).createSession()).toThrow(
      expect.objectContaining({ exitCode: 6, code: "host-op", expected: "Fly@2" }),
    );
    expect(addonInfo().hostOps).toContain("NonZero@1");
  });

  it("says limit when memory cannot hold the buffers", async () => {
    const program = addProgram(new Float32Array(4), { min: 0, max: 2 ** 60 });
    program.assertions = [];
    const [size] = [program.exprs.push({ op: "constant", value: 2 ** 52 }) - 1];
    program.buffers = program.buffers.map((buffer) =>
      buffer.name === "tripled" ? { ...buffer, bytes: size } : buffer,
    );
    const session = openEngine(engineBytes(engineOf([program], code))).createSession();
    await expect(session.run([floats(2, Number), floats(2, Number)])).rejects.toMatchObject({
      exitCode: 10,
      code: "out-of-memory",
    });
    await session.close();
  });
});
