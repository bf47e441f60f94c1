/** nim-build run: runs an engine on files or seeded random inputs and measures it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspectEngine, randomTensor } from "@nimforge/compiler";
import { readTensorProto } from "@nimforge/ir";
import { loadEngine, type Session, type StepTime } from "@nimforge/runtime";
import { NimforgeError, readNpy, type Tensor, tensor, writeNpy } from "@nimforge/tensor";
import type { CommandSpec } from "../command.js";
import { safeFileName } from "../files.js";
import { table } from "../text.js";
import { count, readInput, shape, splitAssignment } from "../values.js";

const inputForm = "NAME=@file.npy, NAME=@file.pb or NAME=random[:SEED]";

function input(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [name, value] = splitAssignment("--input", inputForm, text);
  if (!value.startsWith("@") && !/^random(:\d+)?$/.test(value))
    throw new NimforgeError("usage", "bad-option", "--input: the value cannot be read", {
      expected: inputForm,
      found: JSON.stringify(text),
      fix: "name a file with @, or write random",
    });
  return { ...before, [name]: value };
}

interface RunValues {
  input?: Record<string, string>;
  shape?: Record<string, (number | string)[]>;
  iterations?: number;
  warmup?: number;
  threads?: number;
  output?: string;
  profile?: string;
}

export const runCommand: CommandSpec = {
  name: "run",
  arguments: "<engine>",
  summary: "Runs an engine on given or random inputs and reports its latency.",
  examples: [
    "nim-build run model.engine --input x=random",
    "nim-build run model.engine --input x=@input.npy --output results",
    "nim-build run model.engine --input x=random:7 --shape x=1,3,48,320 --iterations 100 --warmup 10 --json",
  ],
  options: [
    {
      flags: "--input <name=value>",
      description: "@file.npy, @file.pb (TensorProto) or random[:SEED]",
      group: "Inputs",
      parse: input,
    },
    {
      flags: "--shape <x=sizes>",
      description: "sizes of a random input (default: those it was tuned for)",
      group: "Inputs",
      parse: shape,
    },
    {
      flags: "--iterations <n>",
      description: "measured runs (default 1)",
      group: "Measurement",
      parse: count("--iterations", 1),
    },
    {
      flags: "--warmup <n>",
      description: "runs before them (default 0)",
      group: "Measurement",
      parse: count("--warmup", 0),
    },
    {
      flags: "--threads <n>",
      description: "workers (default: one for each core)",
      group: "Measurement",
      parse: count("--threads", 1),
    },
    { flags: "--output <folder>", description: "write each output as .npy", group: "Files" },
    { flags: "--profile <file>", description: "Chrome trace of the last run's steps", group: "Files" },
  ],
  async run([engine], values: RunValues, { console, signal }) {
    const path = engine as string;
    const began = performance.now();
    const session = await loadEngine(path, { threads: values.threads, profile: values.profile !== undefined });
    const loadMs = performance.now() - began;
    try {
      const inputs = makeInputs(path, session, values);
      for (let k = 0; k < (values.warmup ?? 0); k++) await session.run(inputs, { signal });
      const times: number[] = [];
      let outputs: Record<string, Tensor> = {};
      for (let k = 0; k < (values.iterations ?? 1); k++) {
        const start = performance.now();
        outputs = await session.run(inputs, { signal });
        times.push(performance.now() - start);
      }
      const files = values.output === undefined ? {} : writeOutputs(values.output, outputs);
      if (values.profile !== undefined) writeFileSync(values.profile, chromeTrace(session.profile()));
      const result = {
        outputs: Object.entries(outputs).map(([name, { dtype, shape: sizes }]) => ({
          name,
          dtype,
          shape: sizes,
          ...(name in files ? { file: files[name] } : {}),
        })),
        latencyMs: statistics(times),
        iterations: times.length,
        threads: session.threads,
        loadMs: round(loadMs),
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
      };
      const rows = result.outputs.map(({ name, dtype, shape: sizes, file }) => [
        name,
        `${dtype}[${sizes.join(", ")}]`,
        String(file ?? ""),
      ]);
      const { median, min } = result.latencyMs;
      return console.result(
        result,
        table([
          ...rows,
          [
            "latency",
            `median ${median} ms, min ${min} ms`,
            `${times.length} runs, ${session.threads} threads, loaded in ${result.loadMs} ms`,
          ],
        ]),
      );
    } finally {
      await session.close();
    }
  },
};

function makeInputs(path: string, session: Session, values: RunValues): Record<string, Tensor> {
  const given = values.input ?? {};
  const { unusedInputs, tunedShapes } = inspectEngine(path);
  const inputs: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(given)) {
    const described = session.inputs.find((candidate) => candidate.name === name);
    if (value.startsWith("@")) inputs[name] = readTensor(value.slice(1));
    else if (described) {
      const sizes = concreteSizes(name, values.shape?.[name] ?? tunedShapes[name] ?? described.shape);
      inputs[name] = randomTensor(described.dtype, sizes, Number(value.split(":")[1] ?? 0));
    } else inputs[name] = tensor("float32", []); // of a wrong name: the session lists the right ones
  }
  for (const name of Object.keys(values.shape ?? {}))
    if (!given[name]?.startsWith("random"))
      throw new NimforgeError("usage", "bad-option", `--shape: input ${JSON.stringify(name)} is not a random one`, {
        fix: `add --input ${name}=random, or leave --shape out`,
      });
  // What no step reads may be left out.
  for (const { name, dtype } of session.inputs)
    if (!(name in inputs) && unusedInputs.includes(name))
      inputs[name] = tensor(dtype, concreteSizes(name, tunedShapes[name] ?? []));
  return inputs;
}

function concreteSizes(name: string, sizes: readonly (number | string)[]): number[] {
  return sizes.map((size) => {
    if (Number.isSafeInteger(Number(size))) return Number(size);
    throw new NimforgeError("usage", "open-size", `input ${JSON.stringify(name)} has a size that is open: ${size}`, {
      fix: `give it: --shape ${name}=${sizes.join(",")} with a number for ${size}`,
    });
  });
}

function readTensor(path: string): Tensor {
  const bytes = readInput(path);
  return path.endsWith(".pb") ? readTensorProto(bytes, path) : readNpy(bytes, path);
}

function writeOutputs(folder: string, outputs: Record<string, Tensor>): Record<string, string> {
  const files: Record<string, string> = {};
  const used = new Set<string>();
  mkdirSync(folder, { recursive: true });
  for (const [name, value] of Object.entries(outputs)) {
    const stem = safeFileName(name);
    let file = `${stem}.npy`;
    for (let k = 1; used.has(file); k++) file = `${stem}-${k}.npy`;
    used.add(file);
    files[name] = join(folder, file);
    writeFileSync(files[name], writeNpy(value));
  }
  return files;
}

/** Milliseconds to a microsecond. */
const round = (ms: number): number => Math.round(ms * 1000) / 1000;

/** Percentiles by nearest rank. */
function statistics(times: readonly number[]) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (fraction: number) => round(sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] as number);
  return {
    min: at(0),
    median: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    mean: round(times.reduce((sum, time) => sum + time, 0) / times.length),
  };
}

function chromeTrace(steps: readonly StepTime[]): string {
  let at = 0;
  const traceEvents = steps.map(({ name, origin, nanoseconds }) => {
    const event = {
      name,
      ph: "X",
      ts: at / 1000,
      dur: nanoseconds / 1000,
      pid: 1,
      tid: 1,
      args: { from: origin.join(", ") },
    };
    at += nanoseconds;
    return event;
  });
  return `${JSON.stringify({ traceEvents, displayTimeUnit: "ms" })}\n`;
}
