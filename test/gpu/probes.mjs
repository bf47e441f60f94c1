/** Runs the kernels of probes.cu as an engine of their own, on the device or on the emulator. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { compileCubins, compileEmulated } from "@nimforge/codegen";
import { openEngine } from "@nimforge/device";
import { engineBytes } from "@nimforge/engine";
import { tensor } from "@nimforge/tensor";

const place = (path) => fileURLToPath(new URL(path, import.meta.url));
const headers = place("../../packages/codegen/src/targets/cuda/kernels");
const includeDirs = [
  headers,
  place("../../packages/codegen/src/targets/cpu/kernels"),
  place("../../packages/engine/schema"),
];

export async function compileProbes(target, cacheDir) {
  const files = [{ name: "probes.cu", text: readFileSync(place("probes.cu"), "utf8") }];
  const options = { files, includeDirs, target, cacheDir };
  return target.startsWith("emulated-") ? compileEmulated(options) : (await compileCubins(options))[0].cubin;
}

/** A program of one launch: int32 inputs and outputs of fixed sizes. */
function program(name, { blocks, scratch = 0, inputs = [], outputs, dims }) {
  const exprs = [];
  const constant = (value) => exprs.push({ op: "constant", value }) - 1;
  const buffers = [...inputs, ...outputs].map((size, k) => ({
    name: `b${k}`,
    kind: k < inputs.length ? "input" : "output",
    dtype: "int32",
    bytes: constant(4 * size),
  }));
  const info = (size, buffer) => ({ name: `b${buffer}`, dtype: "int32", shape: [constant(size)], buffer });
  const launch = {
    variants: [{ kernel: 0, items: constant(blocks), grain: constant(1), scratch: constant(scratch) }],
    buffers: buffers.map((_, k) => k),
    dims: dims.map(constant),
    faults: [],
  };
  return {
    name,
    symbols: [],
    exprs,
    inputs: inputs.map(info),
    outputs: outputs.map((size, k) => info(size, inputs.length + k)),
    buffers,
    steps: [{ name, origin: [name], launch }],
    assertions: [],
  };
}

async function run(code, target, name, threads, launch, device, times = 0) {
  const engine = openEngine(
    engineBytes({
      name,
      targets: [target],
      precision: "fp32",
      kernels: [{ name, image: 0, threads }],
      images: [{ target, abi: 2, features: [], code }],
      programs: [{ ...program(name, launch), target }],
      assets: [],
      provenance: "{}",
      report: "{}",
    }),
  );
  const session = engine.createSession({ device, profile: times > 0 });
  engine.close();
  try {
    const inputs = (launch.inputs ?? []).map((size) => tensor("int32", [size]));
    const outputs = await session.run(inputs);
    const nanoseconds = [];
    for (let k = 0; k < times; k++) {
      await session.run(inputs);
      nanoseconds.push(session.profile()[0].nanoseconds);
    }
    return { outputs, nanoseconds };
  } finally {
    await session.close();
  }
}

/** Elements of an operand fragment in a warp: A, B. */
const fragments = { f16: [256, 128], s8: [512, 256], bf16: [256, 128], tf32: [128, 64] };

/**
 * Compares the device's mma.sync and ldmatrix with fragments.cuh.
 * @param stride of B's elements that are tried (1: all)
 * @returns for each instruction how many pairs were tried and how many differ, and all that was seen: int32 values, gzip, base64
 */
export async function checkFragments({ target, device, cacheDir, stride = 1 }) {
  const code = await compileProbes(target, cacheDir);
  const results = [];
  const keep = (observed) =>
    gzipSync(Buffer.from(observed.buffer, observed.byteOffset, observed.byteLength)).toString("base64");
  const small = /sm_75$/.test(target);
  for (const [type, [a, b]] of Object.entries(fragments)) {
    if (small && (type === "bf16" || type === "tf32")) continue;
    const launch = { blocks: a, outputs: [a * b, a], dims: [stride] };
    const { outputs } = await run(code, target, `fragments_${type}`, 32, launch, device);
    const wrong = outputs[1].data.reduce((sum, count) => sum + count, 0);
    results.push({
      instruction: `mma ${type}`,
      tried: a * Math.ceil(b / stride),
      wrong,
      observed: keep(outputs[0].data),
    });
  }
  const { outputs } = await run(
    code,
    target,
    "fragments_ldmatrix",
    32,
    { blocks: 1, scratch: 128, outputs: [128, 32], dims: [] },
    device,
  );
  const wrong = outputs[1].data.reduce((sum, count) => sum + count, 0);
  results.push({ instruction: "ldmatrix", tried: 128, wrong, observed: keep(outputs[0].data) });
  return results;
}

/** Bytes read and written per second by a plain copy of `bytes`. */
export async function copyBandwidth({ target, device, cacheDir, bytes, blocks, times = 20 }) {
  const code = await compileProbes(target, cacheDir);
  const words = bytes / 4;
  const launch = { blocks, inputs: [words], outputs: [words], dims: [words / 4] };
  const { nanoseconds } = await run(code, target, "copy", 256, launch, device, times);
  nanoseconds.sort((x, y) => x - y);
  const median = nanoseconds[nanoseconds.length >> 1];
  return { bytes, nanoseconds: median, bytesPerSecond: (2 * bytes * 1e9) / median };
}
