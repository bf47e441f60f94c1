/** Bad files and bad inputs through the command line: the exit code, a message with file and fix, one JSON value, no file left behind. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { engineBytes } from "@nimforge/engine";
import { tensor, writeNpy } from "@nimforge/tensor";
import { explainModel } from "nimforge";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { encode, floats, graph, info, model, node } from "../fixtures/onnx/model.mjs";
import { runCommandLine } from "../packages/cli/src/program.js";
import { addProgram, compileImage, engineOf, kernelSource } from "../packages/device/src/kit.test.helper.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "nimforge-malformed-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...argv: string[]): Promise<{ exit: number; stdout: string; stderr: string }> {
  const output = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((stream) =>
    vi.spyOn(process[stream], "write").mockImplementation((text) => {
      output[stream] += text;
      return true;
    }),
  );
  try {
    return { exit: await runCommandLine(argv, new AbortController().signal), ...output };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** The failure as JSON and as text, which must say the same. */
async function failure(...argv: string[]) {
  const json = await run(...argv, "--json");
  const { error } = JSON.parse(json.stdout) as { error: Record<string, string | number> };
  const text = await run(...argv, "--no-color");
  expect({ exit: text.exit, stdout: text.stdout }).toEqual({ exit: json.exit, stdout: "" });
  expect(text.stderr).toContain(`error[${error.code}]: ${error.message}`);
  expect(text.stderr).toContain(`fix: ${error.fix}`);
  expect(text.stderr).not.toMatch(/^\s+at .*:\d+:\d+\)?$/m); // a stack trace
  expect(error.exit).toBe(json.exit);
  return { exit: json.exit, error, text: text.stderr };
}

const everything = (place: string) => readdirSync(place, { recursive: true }).map(String).sort();

describe("models", () => {
  interface Case {
    file: string;
    exit: number;
    code: string;
    messageIncludes: string[];
  }
  const fixtures = join(root, "fixtures/malformed");
  const cases = JSON.parse(readFileSync(join(fixtures, "expected.json"), "utf8")) as Case[];
  const models = join(folder, "models/inner");
  const out = join(folder, "engines");
  let before: string[] = [];
  beforeAll(() => {
    cpSync(fixtures, models, { recursive: true });
    writeFileSync(join(models, "../outside.bin"), Buffer.alloc(16));
    symlinkSync("../outside.bin", join(models, "link.bin"));
    linkSync(join(models, "../outside.bin"), join(models, "hard.bin"));
    execFileSync("mkfifo", [join(models, "fifo.bin")]);
    mkdirSync(out);
    before = everything(dirname(models));
  });
  const nothingIsLeft = () => {
    expect(everything(out)).toEqual([]);
    expect(everything(dirname(models))).toEqual(before);
  };

  it.each(cases)("$file", async ({ file, exit, code, messageIncludes }) => {
    const found = await failure(join(models, file), "-o", out);
    expect({ exit: found.exit, code: found.error.code }).toEqual({ exit, code });
    expect(found.error.file).toContain(file);
    for (const part of [file, ...messageIncludes]) expect(found.text).toContain(part);
    nothingIsLeft();
  });

  it.each(cases.filter((_, k) => k % 8 === 0))("$file, as a process", ({ file, exit, code }) => {
    const child = spawnSync(join(root, "bin/nim-build"), [join(models, file), "-o", out, "--json"], {
      encoding: "utf8",
    });
    expect({ status: child.status, error: JSON.parse(child.stdout).error.code }).toEqual({ status: exit, error: code });
    nothingIsLeft();
  });
});

describe("engines and their inputs", () => {
  const file = (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  const engine = join(folder, "gather.engine");
  const product = join(folder, "product.engine");
  let npy: Record<string, string> = {};

  beforeAll(async () => {
    vi.stubEnv("NIM_CACHE_PATH", join(folder, "cache"));
    const table = floats("table", [4, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
    const gather = node("Gather", ["table", "i"], ["y"], {}, { name: "lookup" });
    const gatherModel = file(
      "gather.onnx",
      encode(model(graph([gather], [info("i", "int64", ["N"])], [info("y", "float", ["N", 2])], [table]))),
    );
    const matmul = node("MatMul", ["a", "b"], ["y"], {}, { name: "product" });
    const inputs = [info("a", "float", [2, "K"]), info("b", "float", ["L", 3])];
    const productModel = file("product.onnx", encode(model(graph([matmul], inputs, [info("y", "float", [2, 3])]))));
    expect(await run(gatherModel, "--range", "N=1..8", "-o", engine, "--quiet")).toMatchObject({ exit: 0 });
    expect(await run(productModel, "-o", product, "--quiet")).toMatchObject({ exit: 0 });
    const int64s = (values: bigint[], shape = [values.length]) => tensor("int64", shape, values);
    npy = {
      good: file("good.npy", writeNpy(int64s([3n, 0n]))),
      outOfRange: file("range.npy", writeNpy(int64s([1n, 4n]))),
      dtype: file("dtype.npy", writeNpy(tensor("float32", [2], [0, 1]))),
      rank: file("rank.npy", writeNpy(int64s([0n, 1n], [1, 2]))),
      long: file("long.npy", writeNpy(int64s(Array<bigint>(9).fill(0n)))),
    };
    expect(await run("run", engine, "--input", `i=@${npy.good}`, "--quiet")).toMatchObject({ exit: 0 });
  });

  it.each([
    ["a missing input", [], 2, ['"i"']],
    ["a wrong name", ["--input", "j=random"], 2, ['"j"', '"i"']],
    ["a wrong dtype", ["--input", "i=@dtype"], 2, ['"i"', "int64", "float32"]],
    ["a wrong rank", ["--input", "i=@rank"], 2, ['"i"', "[1, 2]"]],
    ["a size out of its range", ["--input", "i=@long"], 2, ["N", "9", "8"]],
    ["an index out of range", ["--input", "i=@outOfRange"], 4, ["lookup", "4"]],
  ])("%s", async (_, argv, exit, parts) => {
    const before = everything(folder);
    const given = argv.map((word) => word.replace(/@(\w+)$/, (_all, name: string) => `@${npy[name]}`));
    const found = await failure("run", engine, ...given, "--output", join(folder, "results"));
    expect(found.exit, found.text).toBe(exit);
    for (const part of ["gather.engine", ...parts]) expect(found.text).toContain(part);
    expect(everything(folder)).toEqual(before);
  });

  it("a failed shape assertion", async () => {
    const shapes = ["--shape", "a=2,4", "--shape", "b=5,3"];
    const found = await failure("run", product, "--input", "a=random", "--input", "b=random", ...shapes);
    expect(found.exit, found.text).toBe(2);
    for (const part of ["product.engine", "K", "L"]) expect(found.text).toContain(part);
  });

  it.each([0, 4, 100, 128, 1000, 0.5, 0.99])("an engine truncated at %d", async (at) => {
    const bytes = readFileSync(engine);
    const path = file("truncated.engine", bytes.subarray(0, at < 1 && at > 0 ? Math.floor(at * bytes.length) : at));
    for (const argv of [
      ["run", path, "--input", `i=@${npy.good}`],
      ["verify", path],
      ["inspect", path],
    ]) {
      const found = await failure(...argv);
      expect(found.exit, found.text).toBe(4);
      expect(found.text).toContain("truncated.engine");
    }
  });

  it("an engine with a flipped bit, wherever it is", async () => {
    const bytes = readFileSync(engine);
    // The header whole, then a prime stride over table, code, weights and padding.
    for (let at = 0; at < bytes.length; at += at < 128 ? 1 : 1999) {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= 1 << (at % 8);
      const path = file("flipped.engine", flipped);
      const { exit, stdout } = await run("verify", path, "--json");
      expect([4, 6], `byte ${at}: ${stdout}`).toContain(exit); // 6: another version of the format
      expect(JSON.parse(stdout).error.file).toBe(path);
    }
  });

  it("an engine for another machine", async () => {
    // A program without relocations, marked as one for AArch64 (ELF's e_machine 183).
    const code = Uint8Array.from(compileImage(kernelSource));
    code.set([183, 0], 18);
    const images = [{ target: "cpu-aarch64", abi: 1, features: [], code }];
    const spec = engineOf([addProgram(new Float32Array(8))], code, { targets: ["cpu-aarch64"], images });
    const path = file("arm.engine", engineBytes(spec));
    const found = await failure("run", path, "--input", "x=random");
    expect(found.exit, found.text).toBe(6);
    for (const part of ["arm.engine", "cpu-aarch64", "nim-build"]) expect(found.text).toContain(part);
  });

  it("a name does not steer the terminal", async () => {
    const name = "x\u001b]0;title\u0007\u001b[2J\u202e";
    const path = file(
      "escape.onnx",
      encode(
        model(graph([node("Nope", ["a"], ["b"], {}, { name })], [info("a", "float", [1])], [info("b", "float", [1])])),
      ),
    );
    const { exit, stderr } = await run(path, "-o", join(folder, "none"), "--no-color");
    expect(exit).toBe(3);
    expect(stderr).toContain("x\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{202e}");
    expect(stderr).not.toMatch(/[^\P{Cc}\n]|\u202e/u);
  });
});

describe("names in a model", () => {
  const hostile = [
    "*/ int main() { /*",
    'a"b\nc',
    "../../etc/passwd",
    "$(touch x)",
    "\\\n#include </etc/passwd>",
    "%s\u202e",
  ];

  it("never reach source or paths", async () => {
    const place = join(folder, "names");
    mkdirSync(place);
    const [x, weights, hidden, normal, table, y] = hostile as [string, string, string, string, string, string];
    const nodes = [
      node("MatMul", [x, weights], [hidden], {}, { name: hostile[0] }),
      node("Softmax", [hidden], [normal], { axis: 1 }, { name: hostile[1] }),
      node("ArgMax", [normal], [`${y}!`], { axis: 1, keepdims: 0 }, { name: hostile[2] }),
      node("Gather", [table, `${y}!`], [y], {}, { name: hostile[4] }),
    ];
    const constants = [
      floats(weights, [3, 4], Array<number>(12).fill(0.5)),
      floats(table, [4, 2], [1, 2, 3, 4, 5, 6, 7, 8]),
    ];
    const size = "*/ N";
    const message = model(
      graph(nodes, [info(x, "float", [size, 3])], [info(y, "float", [size, 2])], constants, { name: hostile[0] }),
      { producerName: hostile[1] },
    );
    const path = join(place, 'we"ird\n..*; $(x) name.onnx');
    writeFileSync(path, encode(message));

    const { kernels } = await explainModel({ model: path });
    expect(kernels.length).toBeGreaterThanOrEqual(2);
    expect(kernels.flatMap(({ from }) => from)).toContain(hostile[1]);
    for (const { source, name } of kernels) {
      for (const part of [...hostile, size, "passwd", "main(", "touch"]) expect(source).not.toContain(part);
      expect(name).toMatch(/^[\w.@-]+$/);
    }

    const out = join(place, "engines");
    const built = JSON.parse((await run(path, "-o", out, "--json")).stdout);
    const engine = built.engines[0].path as string;
    expect(dirname(engine)).toBe(out);
    expect(basename(engine)).toMatch(/^[A-Za-z0-9_-][A-Za-z0-9._-]*\.engine$/);
    const results = join(place, "results");
    const ran = JSON.parse(
      (await run("run", engine, "--input", `${x}=random`, "--shape", `${x}=2,3`, "--output", results, "--json")).stdout,
    );
    expect(ran.outputs[0]).toMatchObject({ name: y, shape: [2, 2] });
    expect(dirname(ran.outputs[0].file)).toBe(results);
    expect(readdirSync(results)).toEqual([basename(ran.outputs[0].file)]);
    expect(basename(ran.outputs[0].file)).toMatch(/^[A-Za-z0-9_-][A-Za-z0-9._-]*\.npy$/);
    expect(existsSync(ran.outputs[0].file)).toBe(true);
  });
});
