import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BuildOptions, TargetStatus } from "@nimforge/compiler";
import { exitCodes } from "@nimforge/tensor";
import { Command, Option } from "commander";
import { afterAll, describe, expect, it, vi } from "vitest";
import { Console, Interrupted } from "./console.js";
import { commands, createProgram, helpText, optionsOf, runCommandLine } from "./program.js";
import * as values from "./values.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "cli-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a command line in this process. */
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

describe("parser, help, documentation and BuildOptions name the same options", () => {
  const documentation = readFileSync(join(root, "docs/cli.md"), "utf8");
  const program = createProgram(new AbortController().signal, { exit: 0 }, new Command("nim-build"));
  const find = (name: string) =>
    name
      .split(" ")
      .filter(Boolean)
      .reduce((command, word) => command.commands.find((child) => child.name() === word)!, program);

  it.each(commands.map((spec) => [spec.name, spec] as const))("nim-build %s", (name, spec) => {
    const parsed = find(name)
      .options.map((option) => option.flags)
      .filter((flags) => flags !== "--version");
    expect(parsed).toEqual(optionsOf(spec).map(({ flags }) => flags));

    const help = helpText(spec).split("\n");
    expect(
      help.filter((line) => /^ {2}-/.test(line)).map((line) => line.trim().split(/ {2,}| (?=[^<\w-])/)[0]),
    ).toEqual(expect.arrayContaining([...parsed]));
    expect(help.length).toBeLessThanOrEqual(41);
    expect(spec.examples).toHaveLength(3);

    const heading = `## nim-build ${name || "<model>"}`;
    const start = documentation.indexOf(`${heading}\n`);
    expect(start, `docs/cli.md has no section "${heading}"`).toBeGreaterThanOrEqual(0);
    const section = documentation.slice(start, documentation.indexOf("\n## ", start + 1) >>> 0);
    const documented = [...section.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]);
    expect(documented).toEqual(spec.options.map(({ flags }) => flags));
  });

  it("BuildOptions", () => {
    // The type checker refuses this table when a field is missing or unknown.
    const optionOf: Record<Exclude<keyof BuildOptions, "model" | "signal" | "onProgress">, string> = {
      out: "--out",
      targets: "--target",
      precision: "--precision",
      shapes: "--shape",
      ranges: "--range",
      opt: "--opt",
      bind: "--bind",
      outputs: "--outputs",
      checkPasses: "--check-passes",
      fat: "--fat",
      trace: "--trace",
      cacheDir: "--cache-dir",
    };
    const options = commands[0]!.options.map(({ flags }) => new Option(flags).long);
    expect(options.sort()).toEqual(Object.values(optionOf).sort());
  });

  it("examples parse", async () => {
    for (const spec of commands)
      for (const example of spec.examples) {
        const parser = createProgram(new AbortController().signal, { exit: 0 });
        const all = [parser, ...parser.commands, ...parser.commands.flatMap((child) => child.commands)];
        for (const command of all) if (command.commands.length === 0 || command === parser) command.action(() => {});
        await expect(parser.parseAsync(example.split(" ").slice(1), { from: "user" }), example).resolves.toBeDefined();
      }
  });

  it("exit codes", () => {
    const help = helpText(commands[0]!);
    for (const code of [0, ...Object.values(exitCodes), 143]) {
      expect(help).toMatch(new RegExp(`(?:^|[ ·])${code} `, "m"));
      expect(documentation).toContain(`| ${code} |`);
    }
  });
});

describe("unknown words", () => {
  it.each([
    [["--shpe", "x=1"], /unknown option '--shpe'/, /Did you mean --shape\?/],
    [["inspcet", "x.onnx"], /too many arguments/, /nim-build inspect/],
    [["verfy"], /no such model/, /nim-build verify/],
    [["cache"], /needs a command/, /nim-build cache info/],
    [["cache", "clean"], /found: clean/, /nim-build cache info/],
    [["targets", "--fat"], /unknown option/, /--help/],
    [["--shape", "x=1", "run", "e.engine"], /options come after the command/, /nim-build run/],
  ])("%j is a usage error with a way out", async (argv, fault, fix) => {
    const { exit, stdout, stderr } = await run(...argv);
    expect({ exit, stdout }).toEqual({ exit: 2, stdout: "" });
    expect(stderr).toMatch(fault);
    expect(stderr).toMatch(fix);
  });

  it("nothing at all shows the help and is a usage error", async () => {
    expect(await run()).toMatchObject({ exit: 2, stdout: "", stderr: helpText(commands[0]!) });
  });

  it("--json gives one JSON value for an error too", async () => {
    const { exit, stdout } = await run("run", "--json", "--theads", "1", "x.engine");
    expect(exit).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      schemaVersion: 1,
      error: { code: "unknown-option", exit: 2, fix: expect.stringContaining("--threads") },
    });
  });

  it.each([["bf17"], ["int8"]])("--precision %s", async (precision) => {
    const model = join(folder, "empty.onnx");
    writeFileSync(model, "");
    const { exit, stdout } = await run(model, "--precision", precision, "--json", "--quiet");
    expect([exit, JSON.parse(stdout).error.code]).toEqual([2, "unknown-precision"]);
  });
});

describe("option values", () => {
  it("shapes take commas or x, and split at the last =", () => {
    expect(values.shape("x=1,3,48,W")).toEqual({ x: [1, 3, 48, "W"] });
    expect(values.shape("a=b=1x3x48xW", { x: [] })).toEqual({ x: [], "a=b": [1, 3, 48, "W"] });
    expect(values.shape("s=")).toEqual({ s: [] });
    expect(values.shape("x=max,2")).toEqual({ x: ["max", 2] });
    expect(Object.keys(values.shape("__proto__=1"))).toEqual(["__proto__"]);
  });
  it.each(["x", "=1", "x=1,,2", "x=-1", "x=1.5", "x=2*W", "x=99999999999999999999"])("shape %s is refused", (text) => {
    expect(() => values.shape(text)).toThrow(expect.objectContaining({ exitCode: 2, expected: "x=1,3,48,W" }));
  });
  it("a second value for one input is refused", () => {
    expect(() => values.shape("x=2", { x: [1] })).toThrow(/twice/);
  });
  it("ranges, sizes, counts, bytes", () => {
    expect(values.range("W=32..960")).toEqual({ W: [32, 960] });
    expect(() => values.range("W=960..32")).toThrow();
    expect(values.opt("W=320,H=640")).toEqual({ W: 320, H: 640 });
    expect(values.count("--n", 1)("7")).toBe(7);
    expect(() => values.count("--n", 1)("0")).toThrow();
    expect(values.byteCount("--max-size")("1.5G")).toBe(1.5 * 2 ** 30);
    expect(() => values.positive("--rtol")("x")).toThrow();
  });
  it("bound values are numbers, exact integers, booleans, lists or text", () => {
    expect(values.bind("sr=16000")).toEqual({ sr: 16000 });
    expect(values.bind("n=9007199254740993")).toEqual({ n: 9007199254740993n });
    expect(values.bind("v=1,2.5,true")).toEqual({ v: [1, 2.5, true] });
    expect(values.bind("t=text")).toEqual({ t: "text" });
    expect(() => values.bind("v=@missing.npy")).toThrow(/no such file/);
  });
});

describe("console", () => {
  const streams = () => {
    const text = { stdout: "", stderr: "" };
    const stream = (name: "stdout" | "stderr") =>
      ({ isTTY: true, write: (part: string) => Boolean((text[name] += part)) }) as unknown as NodeJS.WriteStream;
    return { text, stdout: stream("stdout"), stderr: stream("stderr") };
  };
  it("reports an unknown fault as a bug of ours, with its stack only when asked", () => {
    const { text, stdout, stderr } = streams();
    expect(new Console({ color: false }, stdout, stderr).fail(new TypeError("x is not a function"))).toBe(1);
    expect(text.stderr).toMatch(/^error\[internal\]: internal: x is not a function\n {2}fix: this is a bug/);
    expect(text.stderr).not.toContain("at ");
    new Console({ color: false, verbose: true }, stdout, stderr).fail(new TypeError("x"));
    expect(text.stderr).toMatch(/TypeError: x\n\s+at /);
  });
  it("uses colour on a terminal unless NO_COLOR or --no-color says otherwise", () => {
    const painted = (options: object, env: NodeJS.ProcessEnv) => {
      const { text, stdout, stderr } = streams();
      new Console(options, stdout, stderr, env).warn("w");
      return text.stderr.includes("\x1b[");
    };
    expect([painted({}, {}), painted({}, { NO_COLOR: "1" }), painted({ color: false }, { FORCE_COLOR: "1" })]).toEqual([
      true,
      false,
      false,
    ]);
  });
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s exits with %i", (signal, exit) => {
    const { text, stdout, stderr } = streams();
    expect(new Console({ json: true }, stdout, stderr).fail(new Interrupted(signal))).toBe(exit);
    expect(JSON.parse(text.stdout)).toMatchObject({ error: { code: "interrupted", exit } });
  });
});

describe("commands", () => {
  it("targets lists what can be built and what runs here", async () => {
    const { exit, stdout } = await run("targets", "--json");
    expect(exit).toBe(0);
    const { targets } = JSON.parse(stdout) as { targets: TargetStatus[] };
    const names = (wanted: (target: TargetStatus) => boolean) => targets.filter(wanted).map(({ name }) => name);
    expect(names(({ family }) => family === "cpu")).toEqual(["cpu-x86-64", "cpu-x86-64-v3", "cpu-x86-64-v4"]);
    expect(names(({ emulated }) => emulated)).toEqual(expect.arrayContaining(["emulated-sm_80", "emulated-sm_90"]));
    expect(names(({ family, emulated }) => family === "cuda" && !emulated)).toEqual(
      expect.arrayContaining(["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120"]),
    );
    expect(names(({ aliases }) => aliases.includes("cpu"))).toEqual(
      names(({ family, runs }) => family === "cpu" && runs).slice(-1),
    );
    for (const { runs, device, builds, missing } of targets)
      expect({ runs, builds }).toEqual({ runs: device !== undefined, builds: missing === undefined });
  });
  it("cache info and gc work on the folder that is named", async () => {
    const { stdout } = await run("cache", "info", "--cache-dir", join(folder, "cache"), "--json");
    expect(JSON.parse(stdout)).toEqual({ schemaVersion: 1, path: join(folder, "cache"), files: 0, bytes: 0 });
    expect((await run("cache", "gc", "--cache-dir", join(folder, "cache"))).stdout).toMatch(/^removed 0 files/);
  });
  it("a path that names nothing, a folder and an empty file are told apart", async () => {
    const code = async (path: string) => {
      const { exit, stdout } = await run(path, "--json", "--quiet");
      return [exit, JSON.parse(stdout).error.code];
    };
    expect(await code(join(folder, "nothing.onnx"))).toEqual([2, "model-not-found"]);
    expect(await code(folder)).toEqual([2, "model-not-found"]);
    expect(await code(join(folder, "empty.onnx"))).toEqual([4, "empty-file"]);
  });
});

it("the committed shim runs, or says how to build", () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, "packages/cli/bin/nim-build.js"), "--version"],
    { encoding: "utf8" },
  );
  if (status === 0) expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  else expect(stderr).toContain("npm run build");
});
