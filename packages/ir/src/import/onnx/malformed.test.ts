/** Every hostile or damaged fixture gives its exit code, error code and message. */
import { execFileSync } from "node:child_process";
import { cpSync, linkSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NimforgeError } from "@nimforge/tensor";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { importOnnx } from "./index.js";

interface Case {
  file: string;
  exit: number;
  code: string;
  messageIncludes: string[];
}
const fixtures = fileURLToPath(new URL("../../../../../fixtures/malformed/", import.meta.url));
const cases = JSON.parse(readFileSync(`${fixtures}expected.json`, "utf8")) as Case[];

function failure(run: () => unknown): NimforgeError {
  try {
    run();
  } catch (error) {
    if (error instanceof NimforgeError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("malformed models", () => {
  let root = "";
  let folder = "";
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), "nimforge-malformed-"));
    folder = join(root, "model");
    cpSync(fixtures, folder, { recursive: true });
    writeFileSync(join(root, "outside.bin"), Buffer.alloc(16));
    symlinkSync("../outside.bin", join(folder, "link.bin"));
    linkSync(join(root, "outside.bin"), join(folder, "hard.bin"));
    execFileSync("mkfifo", [join(folder, "fifo.bin")]);
  });
  afterAll(() => rmSync(root, { recursive: true }));

  it.each(cases)("$file", ({ file, exit, code, messageIncludes }) => {
    const error = failure(() => importOnnx(join(folder, file)));
    expect({ exit: error.exitCode, code: error.code }).toEqual({ exit, code });
    expect(error.file).toContain(file);
    for (const part of messageIncludes) expect(error.format()).toContain(part);
  });

  it("bytes have no external data", () => {
    const error = failure(() => importOnnx(readFileSync(join(folder, "external-too-short.onnx"))));
    expect(error.message).toContain("given as bytes");
  });

  it("a link that stays inside the folder is followed", () => {
    writeFileSync(join(folder, "inside.bin"), Buffer.alloc(16));
    rmSync(join(folder, "link.bin"));
    symlinkSync("inside.bin", join(folder, "link.bin"));
    expect(importOnnx(join(folder, "external-symlink.onnx")).graph.outputs).toHaveLength(1);
  });

  it("a file over 2 GiB names external data", () => {
    const large = join(root, "large.onnx");
    writeFileSync(large, "");
    truncateSync(large, 2 ** 31 + 1); // a hole: takes no space
    const error = failure(() => importOnnx(large));
    expect(error.exitCode).toBe(10);
    expect(error.fix).toContain("external data");
  });

  it("no such file, and a folder, are usage errors", () => {
    expect(failure(() => importOnnx(join(root, "ghost.onnx"))).exitCode).toBe(2);
    expect(failure(() => importOnnx(root)).exitCode).toBe(2);
  });

  it("every prefix of a model, and every flipped byte, is refused or imported, never a crash", () => {
    const bytes = readFileSync(join(fixtures, "../onnx/functions.onnx"));
    const attempt = (mutant: Uint8Array) => {
      try {
        importOnnx(mutant);
      } catch (error) {
        expect(error).toBeInstanceOf(NimforgeError);
        expect([2, 3, 4, 10]).toContain((error as NimforgeError).exitCode);
      }
    };
    for (let length = 0; length < bytes.length; length++) attempt(bytes.subarray(0, length));
    for (let position = 0; position < bytes.length; position++) {
      for (const flip of [0x01, 0x80]) {
        const mutant = Uint8Array.from(bytes);
        mutant[position] = (mutant[position] as number) ^ flip;
        attempt(mutant);
      }
    }
  });
});
