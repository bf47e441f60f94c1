import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { cacheGc, cacheInfo, cachePlace, compileFlags, compileImage, cpuLevels, detectCompiler } from "./index.js";

const folder = mkdtempSync(join(tmpdir(), "toolchain-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const level = cpuLevels[0]!;
const kernel = (name: string, body: string) => `struct NfLaunch;

extern "C" __attribute__((visibility("default"))) int ${name}(const NfLaunch*) { ${body} }
`;

let count = 0;
const freshCache = () => join(folder, `cache${count++}`);
async function image(body: string, options: { cacheDir?: string; includeDirs?: string[]; signal?: AbortSignal } = {}) {
  const compiler = await detectCompiler();
  const flags = compileFlags(level, compiler.kind);
  return compileImage({
    files: [{ name: "a.cpp", text: kernel("k", body) }],
    flags,
    cacheDir: freshCache(),
    ...options,
  });
}

describe("compileImage", () => {
  it("makes a shared object without dependencies, undefined symbols or paths of this machine", async () => {
    const bytes = await image(
      'struct { char c[4096]; } a, b; __builtin_memset(&a, 1, sizeof a); b = a; asm volatile("" : : "r"(&b) : "memory"); return 0;',
    );
    const file = join(folder, "image.so");
    writeFileSync(file, bytes);
    const dynamic = execFileSync("readelf", ["-Wd", file], { encoding: "utf8" });
    expect(dynamic).not.toMatch(/NEEDED|INIT|FINI|TEXTREL/);
    const symbols = execFileSync("readelf", ["-W", "--dyn-syms", file], { encoding: "utf8" });
    expect(symbols).toMatch(/FUNC\s+GLOBAL\s+DEFAULT\s+\d+ k\n/);
    expect(symbols.split("\n").filter((line) => / UND /.test(line) && !/NOTYPE\s+LOCAL/.test(line))).toEqual([]);
    expect(symbols).not.toMatch(/memcpy|memset/);
    const text = Buffer.from(bytes).toString("latin1");
    expect(text).not.toContain(tmpdir());
    expect(text).not.toMatch(/GCC:|clang version/);
  });

  it("gives the same bytes from another temporary folder and another include folder", async () => {
    const bodies = ["one", "two"].map((name) => {
      const include = join(folder, name);
      mkdirSync(include);
      writeFileSync(join(include, "h.h"), "inline const char* where() { return __FILE__; }\n");
      return include;
    });
    const flags = compileFlags(level, (await detectCompiler()).kind);
    const text = `#include "h.h"\n${kernel("k", "return where()[0];")}`;
    const [a, b] = await Promise.all(
      bodies.map((dir) =>
        compileImage({ files: [{ name: "a.cpp", text }], includeDirs: [dir], flags, cacheDir: freshCache() }),
      ),
    );
    expect(Buffer.from(a!).equals(b!)).toBe(true);
  });

  it("takes an equal image from the cache, and compiles again when a header or the cached file changed", async () => {
    const include = join(folder, "headers");
    mkdirSync(include);
    writeFileSync(join(include, "h.h"), "#define RESULT 1\n");
    const cacheDir = freshCache();
    const flags = compileFlags(level, (await detectCompiler()).kind);
    const build = () =>
      compileImage({
        files: [{ name: "a.cpp", text: `#include "h.h"\n${kernel("k", "return RESULT;")}` }],
        includeDirs: [include],
        flags,
        cacheDir,
      });
    const first = await build();
    const [name] = readdirSync(join(cacheDir, "images"));
    const path = join(cacheDir, "images", name!);
    expect(statSync(join(cacheDir, "images")).mode & 0o777).toBe(0o700);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    // A marker with a right digest shows that the second build reads it.
    const { createHash } = await import("node:crypto");
    const marker = Buffer.from("cached");
    writeFileSync(path, Buffer.concat([createHash("sha256").update(marker).digest(), marker]));
    expect(Buffer.from(await build()).toString()).toBe("cached");
    const damaged = readFileSync(path);
    damaged[40 % damaged.length]! ^= 1;
    writeFileSync(path, damaged);
    expect(Buffer.from(await build()).equals(first)).toBe(true);
    writeFileSync(join(include, "h.h"), "#define RESULT 2\n");
    expect(Buffer.from(await build()).equals(first)).toBe(false);
    expect((await cacheInfo(cacheDir)).files).toBe(2);
    expect(await cacheGc({ cacheDir, maxBytes: 0 })).toMatchObject({ files: 0, bytes: 0, removed: { files: 2 } });
  });

  it("does not trust a cache folder that others can write to", async () => {
    const cacheDir = freshCache();
    mkdirSync(join(cacheDir, "images"), { recursive: true });
    chmodSync(join(cacheDir, "images"), 0o777);
    await expect(image("return 3;", { cacheDir })).rejects.toMatchObject({
      code: "cache-unwritable",
      exitCode: 7,
      file: cacheDir,
    });
  });

  it("names the kernel and shows the diagnostics when generated code does not compile", async () => {
    await expect(image("return missing;")).rejects.toMatchObject({
      kind: "internal",
      message: expect.stringMatching(/kernel k\).*a\.cpp:3.*missing/s),
    });
  });

  it("refuses an image with an undefined symbol", async () => {
    await expect(image("extern int other(); return other();")).rejects.toMatchObject({
      kind: "internal",
      message: expect.stringContaining("other"),
    });
  });

  it("stops the compiler and leaves nothing when the signal fires", async () => {
    const temporary = join(folder, "temporary");
    mkdirSync(temporary);
    vi.stubEnv("TMPDIR", temporary);
    const controller = new AbortController();
    // Endless for the preprocessor's purposes: 2^30 tokens.
    const doubling = Array.from({ length: 30 }, (_, i) => `#define A${i + 1} A${i} A${i}`).join("\n");
    const building = compileImage({
      files: [{ name: "a.cpp", text: `#define A0 x\n${doubling}\nA30` }],
      flags: [],
      cacheDir: freshCache(),
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(), 300);
    const start = Date.now();
    await expect(building).rejects.toMatchObject({ name: "AbortError" });
    expect(Date.now() - start).toBeLessThan(5000);
    expect(readdirSync(temporary)).toEqual([]);
    vi.unstubAllEnvs();
  });
});

describe("detectCompiler", () => {
  const empty = join(folder, "empty");
  beforeAll(() => mkdirSync(empty));

  it("reports what it tried and what to install", async () => {
    await expect(detectCompiler({ CXX: "/nonexistent/c++" })).rejects.toMatchObject({
      exitCode: 9,
      found: expect.stringContaining("/nonexistent/c++: not found"),
      fix: expect.stringContaining("install"),
    });
  });
  it("takes $CXX with several words", async () => {
    const compiler = await detectCompiler({ ...process.env, CXX: "env c++" });
    expect(compiler.command).toEqual(["env", "c++"]);
    expect(compiler.version).toMatch(/^\d+\.\d+\.\d+$/);
  });
  it("refuses a program that is no compiler", async () => {
    await expect(detectCompiler({ CXX: "cat" })).rejects.toMatchObject({ code: "no-compiler" });
  });
});

describe("cachePlace", () => {
  it("prefers the option, then NIM_CACHE_PATH, then an absolute XDG_CACHE_HOME", () => {
    expect(cachePlace("/a", { NIM_CACHE_PATH: "/b" })).toEqual({ path: "/a", explicit: true });
    expect(cachePlace(undefined, { NIM_CACHE_PATH: "/b" })).toEqual({ path: "/b", explicit: true });
    expect(cachePlace(undefined, { XDG_CACHE_HOME: "/c" })).toEqual({ path: "/c/nimforge", explicit: false });
    expect(cachePlace(undefined, { XDG_CACHE_HOME: "relative" }).path).toMatch(/\.cache\/nimforge$/);
  });
});
