/**
 * The check on a GPU: instructions, real models, the conformance suite, times against the device's limits and PyTorch. One JSON report.
 *
 *   node test/gpu/check.mjs [--report FILE] [--only PART,…] [--target sm_90,sm_90a] [--cache-dir DIR]
 *   node test/gpu/check.mjs --dry-run      small sizes on the emulator, to see that the check itself works
 *   node test/gpu/check.mjs --build-only --target LIST --cache-dir DIR      compiles what the check will need, on a machine without a GPU
 *
 * Parts: fragments, kernels, models, conformance, torch. A part that fails is an entry in the report, and the others run; the exit code is 1
 * where something is wrong, 6 where there is no GPU.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { cudaStatus, listDevices } from "@nimforge/device";
import { loadEngine } from "@nimforge/runtime";
import { readNpy, tensorFromBytes, toNumbers } from "@nimforge/tensor";
import { build } from "nimforge";
import { findModel, recordedFile, recordedModel } from "../../fixtures/onnx-real/models.mjs";
import { cases, peak, randomBytes } from "./cases.mjs";
import { checkFragments, compileProbes, copyBandwidth } from "./probes.mjs";

const { values } = parseArgs({
  options: {
    report: { type: "string", default: "report.json" },
    only: { type: "string" },
    target: { type: "string" },
    case: { type: "string" },
    "cache-dir": { type: "string" },
    "dry-run": { type: "boolean", default: false },
    "build-only": { type: "boolean", default: false },
  },
});
const dry = values["dry-run"];
const buildOnly = values["build-only"];
const parts = values.only?.split(",") ?? ["fragments", "kernels", "models", "conformance", "torch"];
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(tmpdir(), `gpu-check-${process.pid}`);
mkdirSync(folder, { recursive: true });
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const say = (text) => process.stderr.write(`${text}\n`);

const gpu = listDevices().find(({ kind }) => kind === "cuda");
if (!gpu && !dry && !buildOnly) {
  const status = cudaStatus();
  say(`there is no GPU to check: ${"refusal" in status ? status.refusal.message : "the driver finds no device"}`);
  process.exit(6);
}
const device = gpu && !dry ? gpu.name : "cpu";
const plain = gpu && !dry ? gpu.target : "emulated-sm_80";
/** The plain capability, and where there is one, the target of this very chip. */
const targets =
  values.target?.split(",") ?? (dry ? [plain] : [plain, ...gpu.targets.filter((name) => name.endsWith("a"))]);
const cacheDir = values["cache-dir"] ?? join(root, ".cache", "gpu-check");

const firstLine = (command, ...args) => {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout.trim().split("\n").at(-1) : undefined;
};
const status = cudaStatus();
const report = {
  schemaVersion: 1,
  dry,
  device: gpu ?? { name: device, product: cpus()[0]?.model, target: plain },
  driver: "driver" in status ? status.driver : undefined,
  toolkit: firstLine("nvcc", "--version"),
  host: { cpu: cpus()[0]?.model, cores: availableParallelism(), kernel: release(), node: process.version },
  targets,
  faults: [],
};

async function part(name, work) {
  if (!parts.includes(name)) return;
  say(`${name} …`);
  const start = performance.now();
  try {
    report[name] = await work();
  } catch (error) {
    report.faults.push({ part: name, message: error.format?.() ?? error.stack });
    say(`${name} failed: ${error.message}`);
  }
  say(`${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  writeFileSync(values.report, `${JSON.stringify(report, null, 1)}\n`);
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

async function buildFor(model, target, name, options = {}) {
  const out = join(folder, `${name}-${target}.engine`);
  const { engines } = await build({ model, targets: [target], out, cacheDir, ...options });
  return engines[0];
}

const models = {
  "ppocr-v2-cls": { x: ["N", 3, 48, 192] },
  "oww-embedding": { input_1: ["N", 76, 32, 1] },
  "ppocr-v4-rec": { x: ["N", 3, 48, "W"] },
};
const ranges = { N: [1, 8], W: [32, 960] };

/** Sizes as they are recorded, open where a user would leave them open. */
function modelOptions(shapes, precision) {
  const used = Object.values(shapes).flat();
  return {
    shapes,
    ranges: Object.fromEntries(Object.entries(ranges).filter(([name]) => used.includes(name))),
    precision,
  };
}

if (buildOnly) {
  const jobs = [
    ...cases(true).map((each) => ({ name: each.name, onnx: each.onnx, options: {} })),
    ...Object.entries(models).flatMap(([id, shapes]) =>
      ["fp32", "fp16"].map((precision) => ({
        name: `${id}-${precision}`,
        path: findModel(id),
        options: modelOptions(shapes, precision),
      })),
    ),
  ];
  for (const { name, onnx, path, options } of jobs) {
    const model = path ?? join(folder, `${name}.onnx`);
    if (onnx) writeFileSync(model, onnx());
    for (const target of targets) {
      try {
        const { path: engine, seconds } = await buildFor(model, target, name, options);
        rmSync(engine);
        say(`  ${name} ${target}: ${seconds.total} s`);
      } catch (error) {
        say(`FAULT ${name} ${target}: ${error.message}`);
      }
    }
    if (onnx) rmSync(model);
  }
  for (const target of targets) await compileProbes(target, cacheDir);
  process.exit();
}

// ---- instructions

await part("fragments", async () => {
  const results = [];
  for (const target of targets) {
    const found = await checkFragments({ target, device, cacheDir, stride: dry ? 31 : 1 });
    results.push(...found.map((result) => ({ target, ...result })));
  }
  for (const { target, instruction, tried, wrong } of results)
    if (wrong > 0)
      report.faults.push({
        part: "fragments",
        message: `${target} ${instruction}: ${wrong} of ${tried} differ from fragments.cuh`,
      });
  return results;
});

// ---- kernels against the roofline

await part("kernels", async () => {
  const blocks = dry ? 8 : 8 * gpu.multiprocessors;
  const copy = await copyBandwidth({
    target: plain,
    device,
    cacheDir,
    bytes: dry ? 1 << 16 : 1 << 29,
    blocks,
    times: dry ? 2 : 20,
  });
  const results = [];
  for (const each of cases(!dry)) {
    if (values.case !== undefined && !each.name.includes(values.case)) continue;
    const model = join(folder, `${each.name}.onnx`);
    try {
      writeFileSync(model, each.onnx());
      for (const target of targets) results.push(await timeCase(each, model, target, copy.bytesPerSecond));
    } catch (error) {
      report.faults.push({ part: "kernels", case: each.name, message: error.format?.() ?? error.stack });
    } finally {
      rmSync(model, { force: true });
    }
  }
  return { copy, results };
});

async function timeCase(each, model, target, copyBytesPerSecond) {
  const { path } = await buildFor(model, target, each.name);
  const session = await loadEngine(path, { device, profile: true });
  try {
    const dtypes = { float: "float32" };
    const inputs = Object.fromEntries(
      each.inputs.map(({ name, type, shape }) => [
        name,
        tensorFromBytes(dtypes[type] ?? type, shape, randomBytes(type, shape)),
      ]),
    );
    const runs = [];
    const times = dry ? 1 : 12;
    // The first runs warm up caches and clocks.
    for (let k = 0; k < times; k++) {
      await session.run(inputs);
      if (k >= times / 4 || dry) runs.push(session.profile());
    }
    const steps = runs[0].map(({ name }, k) => ({ name, ms: median(runs.map((run) => run[k].nanoseconds)) / 1e6 }));
    const ms = median(runs.map((run) => run.reduce((sum, { nanoseconds }) => sum + nanoseconds, 0))) / 1e6;
    const top = dry ? undefined : peak({ ...gpu, target }, each.limit);
    const flopsPerSecond = each.flops / (ms / 1e3);
    const bytesPerSecond = each.bytes / (ms / 1e3);
    const shares = [bytesPerSecond / copyBytesPerSecond, top ? flopsPerSecond / top : 0];
    say(`  ${each.name} ${target}: ${ms.toFixed(4)} ms`);
    return {
      case: each.name,
      target,
      limit: each.limit,
      ms,
      bytes: each.bytes,
      flops: each.flops,
      bytesPerSecond,
      flopsPerSecond,
      /** Of the measured copy bandwidth, and of the peak of the case's multiplications. */
      shareOfCopy: shares[0],
      shareOfPeak: shares[1],
      steps,
    };
  } finally {
    await session.close();
    rmSync(path, { force: true });
  }
}

// ---- real models

const tolerances = { fp32: 1e-3, fp16: 2e-2 };

await part("models", async () => {
  const results = [];
  for (const [id, shapes] of Object.entries(models)) {
    const model = findModel(id);
    if (model === undefined) {
      report.faults.push({ part: "models", case: id, message: "its file is missing" });
      continue;
    }
    if (dry && id === "ppocr-v4-rec") continue;
    const { steps } = recordedModel(id);
    for (const precision of dry ? ["fp32"] : ["fp32", "fp16"])
      for (const target of ["cpu", ...targets]) {
        if (target === "cpu" && precision === "fp16") continue;
        try {
          results.push(
            await runModel({
              id,
              model,
              target,
              precision,
              step: steps[0],
              options: modelOptions(shapes, precision),
            }),
          );
        } catch (error) {
          report.faults.push({
            part: "models",
            case: `${id} ${target} ${precision}`,
            message: error.format?.() ?? error.stack,
          });
        }
      }
  }
  return results;
});

async function runModel({ id, model, target, precision, step, options }) {
  const read = (file) => readNpy(readFileSync(recordedFile(file)), file);
  const engine = await buildFor(model, target, `${id}-${precision}`, options);
  const session = await loadEngine(engine.path, { device: target === "cpu" ? "cpu" : device, profile: true });
  try {
    const inputs = Object.fromEntries(Object.entries(step.inputs).map(([name, { file }]) => [name, read(file)]));
    let outputs;
    const [latencies, deviceMs] = [[], []];
    const times = dry ? 1 : 40;
    for (let k = 0; k < times; k++) {
      const start = performance.now();
      outputs = await session.run(inputs);
      latencies.push(performance.now() - start);
      deviceMs.push(session.profile().reduce((sum, { nanoseconds }) => sum + nanoseconds, 0) / 1e6);
    }
    let worst = 0;
    for (const [name, { file }] of Object.entries(step.outputs)) {
      const [found, expected] = [toNumbers(outputs[name]), toNumbers(read(file))];
      const scale = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      found.forEach((x, i) => {
        const difference = Math.abs(x - expected[i]) / scale;
        if (!(difference <= worst)) worst = difference; // NaN too
      });
    }
    const ok = worst <= tolerances[precision];
    const result = {
      model: id,
      target: engine.target,
      precision,
      kernels: engine.kernels,
      maxRel: worst,
      ok,
      latencyMs: median(latencies),
      deviceMs: median(deviceMs),
    };
    say(
      `  ${id} ${engine.target} ${precision}: ${ok ? "ok" : "WRONG"} ${worst.toExponential(1)}, ${result.latencyMs.toFixed(2)} ms`,
    );
    if (!ok)
      report.faults.push({
        part: "models",
        case: `${id} ${engine.target} ${precision}`,
        message: `differs by ${worst} of the largest magnitude`,
      });
    return result;
  } finally {
    await session.close();
    rmSync(engine.path, { force: true });
  }
}

// ---- conformance, PyTorch

await part("conformance", () => {
  const only = dry ? ["--only", "relu"] : [];
  const jobs = String(Math.max(1, Math.min(8, availableParallelism() / 2)) | 0);
  const args = [
    "test/conformance/dist/cli.js",
    "--target",
    dry ? "cpu" : `cpu,${plain}`,
    "--json",
    "--jobs",
    jobs,
    ...only,
  ];
  const text = execFileSync(process.execPath, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NIM_CACHE_PATH: cacheDir },
  });
  const { targets: counts, failures } = JSON.parse(text);
  const onGpu = failures.filter(({ target }) => target === plain);
  if (onGpu.length > 0) report.faults.push({ part: "conformance", message: `${onGpu.length} cases fail on ${plain}` });
  return { targets: counts, failures: onGpu };
});

await part("torch", () => {
  if (dry && !existsSync("/usr/bin/python3")) return { missing: "python3" };
  const {
    status: exit,
    stdout,
    stderr,
  } = spawnSync("python3", [fileURLToPath(new URL("torch_bench.py", import.meta.url))], { encoding: "utf8" });
  return exit === 0
    ? JSON.parse(stdout.trim().split("\n").at(-1))
    : { missing: stderr.trim().split("\n").at(-1) ?? "python3" };
});

for (const { part: name, case: of, message } of report.faults) say(`FAULT ${name}${of ? ` ${of}` : ""}: ${message}`);
say(`${values.report}: ${report.faults.length} faults`);
process.exitCode = report.faults.length > 0 ? 1 : 0;
