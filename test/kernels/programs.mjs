/**
 * The test programs of the CUDA kernel templates: C++ programs that run the templates on the emulator (native/emulator) and compare with
 * sums in double precision. Each needs a C++ compiler only. The tests build and run them as they are; the mutation test with faults in.
 */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** Folders with what the programs are made of, below the repository's root or a copy of it. */
export const folders = {
  kernels: "packages/codegen/src/targets/cuda/kernels",
  cpu: "packages/codegen/src/targets/cpu/kernels",
  schema: "packages/engine/schema",
  emulator: "native/emulator",
  own: "test/kernels",
};

const program = (folder, name, { arch = 800, ...options } = {}) => ({
  name: arch === 800 ? name : `${name} sm_${arch / 10}`,
  source: `${folders.emulator}/${folder}/${name}_test.cpp`,
  arch,
  defines: [],
  ...options,
});
const kernelTest = (name, options) => program("kernel_tests", name, options);
const mmaTest = (name, options) => program("mma_test", name, options);

/** `few`: one kernel of each kind, where the program has tile shapes by the dozen. `arch`: compute capability * 10. */
const few = { defines: ["NF_FEW_KERNELS"] };
export const programs = [
  kernelTest("scalars"),
  kernelTest("reduce"),
  kernelTest("rows"),
  kernelTest("scan"),
  kernelTest("topk"),
  kernelTest("depthwise"),
  kernelTest("gemm", few),
  kernelTest("gemm_conv", few),
  kernelTest("gemm", { arch: 750, ...few }),
  kernelTest("gemm_conv", { arch: 750, ...few }),
  kernelTest("attention"),
  mmaTest("fragments"),
  mmaTest("mma"),
  mmaTest("mma", { arch: 750 }),
  mmaTest("wgmma", { arch: 900 }),
  program("", "late_copies", { source: `${folders.own}/late_copies_test.cpp` }),
  program("", "late_copies", { arch: 900, source: `${folders.own}/late_copies_test.cpp` }),
  program("", "narrow", { source: `${folders.own}/narrow_test.cpp` }),
  program("", "batches", { arch: 900, source: `${folders.own}/batches_test.cpp` }),
];

/** The compiler's command, or why the programs cannot be built here. */
export function compilerHere() {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { reason: "the emulator's test programs are for linux x64" };
  for (const command of ["g++", "clang++"])
    if (spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0) return { command };
  return { reason: "no C++ compiler (install g++ or clang++)" };
}

/**
 * Runs a command to its end; it is killed after `seconds`.
 * @returns {Promise<{ ok: boolean, code: number | null, signal: string | null, output: string, late: boolean }>}
 */
export function execute(command, args, { seconds = 600, env = {}, cwd } = {}) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { env: { ...process.env, ...env }, cwd, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, seconds * 1000);
    const keep = (text) => {
      if (output.length < 20_000) output += text;
    };
    child.stdout.setEncoding("utf8").on("data", keep);
    child.stderr.setEncoding("utf8").on("data", keep);
    child.on("error", failed);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      done({ ok: code === 0, code, signal, output, late });
    });
  });
}

const common = ["-std=c++20", "-march=x86-64-v3", "-ffp-contract=off", "-w"];
const includes = (tree) =>
  [folders.kernels, folders.cpu, folders.schema, folders.emulator, `${folders.emulator}/kernel_tests`].map(
    (folder) => `-I${join(tree, folder)}`,
  );

async function compile(command, args, what) {
  const { ok, output } = await execute(command, args);
  if (!ok) throw Object.assign(new Error(`${what} does not compile:\n${output}`), { output });
}

/** Compiles the emulator of `tree` to objects in `out`; returns their paths. */
export async function buildEmulator(command, tree, out) {
  const folder = join(tree, folders.emulator);
  const sources = readdirSync(folder).filter((name) => name.endsWith(".cpp"));
  const objects = sources.map((name) => join(out, `${basename(name, ".cpp")}.o`));
  await Promise.all(
    sources.map((name, k) =>
      compile(command, [...common, "-O2", ...includes(tree), "-c", join(folder, name), "-o", objects[k]], name),
    ),
  );
  return objects;
}

/** Compiles and links one program of `tree`; `extra` are further arguments of the compiler. Returns the program's path. */
export async function buildProgram(command, program, { tree = root, objects, out, extra = [] }) {
  const path = join(out, program.name.replaceAll(" ", "_"));
  const defines = ["NF_EMULATE=", `NF_ARCH=${program.arch}`, ...program.defines].map((define) => `-D${define}`);
  const args = [
    ...common,
    "-O1",
    ...defines,
    ...extra,
    ...includes(tree),
    join(tree, program.source),
    ...objects,
    "-o",
    path,
    "-lpthread",
  ];
  await compile(command, args, program.source);
  return path;
}

/** Calls `task` for every item, `width` at a time. */
export async function inTurn(items, width, task) {
  const rest = [...items];
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let item = rest.shift(); item !== undefined; item = rest.shift()) await task(item);
    }),
  );
}
