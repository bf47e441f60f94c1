/** Measures memory bandwidth and multiply-add peak with a small C++ program, so that figures can be read against the machine. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Model, cores and instruction set of this machine. */
export function machine() {
  const flags =
    process.platform === "linux" ? (/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "") : "";
  const features = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"].filter((name) =>
    flags.split(" ").includes(name),
  );
  return { cpu: cpus()[0]?.model, cores: cpus().length, features, node: process.version };
}

/** @returns {{readGBs: number, fmaGFlops: number}} for `threads` threads */
export function probe(threads) {
  const vectorBytes = machine().features.includes("avx512f") ? 64 : 32;
  const folder = mkdtempSync(join(tmpdir(), "nimforge-probe-"));
  try {
    const program = join(folder, "probe");
    const source = fileURLToPath(new URL("probe.cpp", import.meta.url));
    const flags = [
      "-O3",
      "-march=native",
      "-mprefer-vector-width=512",
      "-ffp-contract=fast",
      "-pthread",
      "-Wno-psabi",
      `-DVECTOR_BYTES=${vectorBytes}`,
    ];
    const compiled = spawnSync(process.env.CXX ?? "g++", [...flags, source, "-o", program], { encoding: "utf8" });
    if (compiled.status !== 0) throw new Error(`the probe does not compile: ${compiled.stderr}`);
    return JSON.parse(spawnSync(program, [String(threads)], { encoding: "utf8" }).stdout);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
