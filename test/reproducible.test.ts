/** The same model gives the same bytes from another folder, home, cache, temporary folder and number of cores. Needs a build. */
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, it } from "vitest";
import { encode, floats, graph, info, model, node } from "../fixtures/onnx/model.mjs";

const command = fileURLToPath(new URL("../packages/cli/bin/nim-build.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "nimforge-reproducible-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A convolution with its packed weights, a reduction in one kernel with its neighbours, a symbolic size. */
function smallModel(): Buffer {
  const weights = Array.from({ length: 16 * 3 * 9 }, (_, k) => Math.sin(k));
  const nodes = [
    node("Conv", ["x", "w"], ["c"], { pads: [1, 1, 1, 1] }),
    node("Relu", ["c"], ["r"]),
    node("Softmax", ["r"], ["y"], { axis: 1 }),
  ];
  const size = (channels: number) => [1, channels, 16, "W"];
  return encode(
    model(
      graph(
        nodes,
        [info("x", "float", size(3))],
        [info("y", "float", size(16))],
        [floats("w", [16, 3, 3, 3], weights)],
      ),
    ),
  );
}

async function build(name: string, launcher: string[]): Promise<{ path: string; sha256: string }> {
  const place = join(folder, name);
  for (const part of ["models", "tmp", "home"]) mkdirSync(join(place, part), { recursive: true });
  writeFileSync(join(place, "models/small.onnx"), smallModel());
  const [program = "", ...before] = [...launcher, process.execPath];
  const argv = [command, "models/small.onnx", "--range", "W=8..64", "--target", "cpu-x86-64-v3", "--json"];
  const env = {
    ...process.env,
    NIM_CACHE_PATH: join(place, "cache"),
    TMPDIR: join(place, "tmp"),
    HOME: join(place, "home"),
    LANG: name === "first" ? "C" : "tr_TR.UTF-8",
  };
  const { stdout } = await promisify(execFile)(program, [...before, ...argv], { cwd: place, env });
  const { path, sha256 } = JSON.parse(stdout).engines[0];
  return { path: join(place, path), sha256 };
}

/** Runs a command on one core, where the system has a way to. */
function oneCore(): string[] {
  try {
    execFileSync("taskset", ["-c", "0", "true"], { stdio: "ignore" });
    return ["taskset", "-c", "0"];
  } catch {
    return [];
  }
}

it("two builds are byte-identical", async () => {
  const [first, second] = [await build("first", []), await build("a longer/second folder", oneCore())];
  expect(second.sha256).toBe(first.sha256);
  const bytes = readFileSync(second.path);
  expect(createHash("sha256").update(bytes).digest("hex")).toBe(first.sha256);
  // Nothing of the place is in the file.
  expect(bytes.includes("second folder")).toBe(false);
  expect(bytes.includes("nimforge-reproducible")).toBe(false);
}, 60_000);
