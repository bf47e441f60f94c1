/**
 * The mutation test of the CUDA kernel templates: plants one fault at a time (test/kernels/mutants.mjs) and runs the emulated test programs
 * that come by it. A fault is caught when a program fails, crashes, is stopped by the emulator or runs out of time.
 *
 *   npm run mutate-kernels -- [--file NAME]... [--limit N] [--fault NAME]... [--program NAME]... [--json] [--write] [--jobs N]
 *
 *   --file   only faults of these templates, e.g. gemm.cuh       --limit  only so many of each, spread over the file
 *   --fault  only this one: file|kind|text|n-th of its text       --program  with these test programs only
 *   --write  writes docs/kernel-faults.md (needs every fault)     --json   the results, and nothing else
 *
 * Needs g++ or clang++, on linux x64. Results are kept by the content of all that is compiled, so a run that was ended goes on.
 * Exits with 1 when less than 95 % of the faults are caught, or one that is listed as without effect is.
 */
import { createHash } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { findMutants, plantAll } from "../test/kernels/mutants.mjs";
import {
  buildEmulator,
  buildProgram,
  compilerHere,
  execute,
  folders,
  inTurn,
  programs,
  root,
} from "../test/kernels/programs.mjs";

/** The templates. device, mma, wgmma and tma.cuh are the machine itself, emulated; kernel.cuh belongs to generated loops. */
const templates = [
  "tile.cuh",
  "gemm.cuh",
  "conv.cuh",
  "depthwise.cuh",
  "attention.cuh",
  "attention_simt.cuh",
  "reduce.cuh",
  "rows.cuh",
  "scan.cuh",
  "topk.cuh",
  "gemm_sm90a.cuh",
  "gemm_tma.cuh",
];

/** Faults that change nothing that a kernel computes, and why. `at`: part of the line. */
const withoutEffect = [
  {
    file: "tile.cuh",
    operator: "bound",
    text: "fetch",
    at: "a.store(to)",
    reason: "values of an earlier step go to a stage that no later step reads, before the barrier of the epilogue",
  },
  {
    file: "tile.cuh",
    operator: "bound",
    text: "s >= -1",
    reason: "waits while the ring fills, and fragments that the next step loads anew before they are used",
  },
  {
    file: "tile.cuh",
    operator: "bound",
    text: "s + 1 < count",
    reason: "a wait and a barrier more behind the last step, and fragments that nothing multiplies",
  },
  {
    file: "gemm.cuh",
    operator: "bound",
    text: "inside",
    at: "const T* p",
    reason: "only an address, of which no byte is read: the copy has its own check",
  },
  {
    file: "conv.cuh",
    operator: "bound",
    text: "in",
    at: "const T* p",
    reason: "only an address, of which no byte is read: the copy has its own check",
  },
  {
    file: "conv.cuh",
    operator: "bound",
    text: "begin < taps",
    reason: "where begin is taps, the count is (step - 1) / step, which is 0 too",
  },
  {
    file: "attention.cuh",
    operator: "bound",
    text: "high > low",
    reason: "a chunk whose keys are all hidden from every row, or no chunk as before",
  },
  {
    file: "attention.cuh",
    operator: "bound",
    text: "t < tiles",
    reason: "copies of keys behind the last chunk, with their own checks, to buffers that nothing reads any more",
  },
  {
    file: "attention.cuh",
    operator: "bound",
    text: "tiles > 0",
    reason: "queries are copied, with their own checks, that nothing reads",
  },
  {
    file: "attention_simt.cuh",
    operator: "bound",
    text: "at.begin < at.end",
    reason: "queries are copied, with their own checks, that nothing reads",
  },
  {
    file: "attention_simt.cuh",
    operator: "bound",
    text: "chunk < at.end",
    reason: "copies of keys behind the last chunk, with their own checks, to buffers that nothing reads any more",
  },
  {
    file: "topk.cuh",
    operator: "bound",
    text: "rank <= until",
    reason: "lanes before the right one go on from their bins to the same bin, and write the same",
  },
];

const goal = 0.95;

const { values: options } = parseArgs({
  options: {
    file: { type: "string", multiple: true },
    limit: { type: "string" },
    fault: { type: "string", multiple: true },
    program: { type: "string", multiple: true },
    jobs: { type: "string", default: "2" },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const say = options.json ? () => {} : (text) => console.log(text);
const compiler = compilerHere();
if (!compiler.command) {
  console.error(`mutate-kernels: ${compiler.reason}`);
  process.exit(9);
}

// ---- the faults, and which of them each program can have

const read = (path) => readFileSync(join(root, path), "utf8");
const kernel = (file) => read(`${folders.kernels}/${file}`);
const texts = new Map(templates.map((file) => [file, kernel(file)]));
const mutants = templates.flatMap((file) => findMutants(file, texts.get(file)));
const seen = new Map();
for (const mutant of mutants) {
  const { file, operator, text, source } = mutant;
  // A fault's name does not change when its line moves.
  const name = `${file}|${operator}|${text}`;
  seen.set(name, (seen.get(name) ?? 0) + 1);
  mutant.name = `${name}|${seen.get(name)}`;
  mutant.reason = withoutEffect.find(
    (e) => e.file === file && e.operator === operator && e.text === text && (!e.at || source.includes(e.at)),
  )?.reason;
}
const wanted = templates
  .filter((file) => !options.file || options.file.includes(file))
  .flatMap((file) => {
    const all = mutants.filter((m) => m.file === file);
    const limit = options.limit ? Math.min(Number(options.limit), all.length) : all.length;
    return Array.from({ length: limit }, (_, k) => all[Math.floor((k * all.length) / limit)]);
  })
  .filter((m) => !options.fault || options.fault.includes(m.name));
const files = new Set(wanted.map((m) => m.file));

/** The kernel headers that a text includes, and those that they include. */
function headersOf(text, found = new Set()) {
  for (const [, file] of text.matchAll(/#include "(?:[^"]*\/)?(\w+\.cuh)"/g))
    if (!found.has(file)) headersOf(kernel(file), found.add(file));
  return found;
}

/** The files that every program is made of. */
const common = ["cpu", "schema", "emulator", "own"].flatMap((kind) =>
  readdirSync(join(root, folders[kind]))
    .filter((name) => /\.(?:[ch]pp|h)$/.test(name) && !name.endsWith("_test.cpp"))
    .map((name) => `${folders[kind]}/${name}`),
);
const cache = join(root, "node_modules/.cache/nimforge-kernel-faults");
const jobs = Number(options.jobs);

/** A test program with all the faults of its headers in; results stay with the content of all that it is compiled from. */
class Faulty {
  constructor(program) {
    this.program = program;
    this.name = program.name;
    const headers = headersOf(read(program.source));
    const beside = readdirSync(join(root, folders.emulator, "kernel_tests"))
      .filter((name) => name.endsWith(".h"))
      .map((name) => `${folders.emulator}/kernel_tests/${name}`);
    this.sources = [
      program.source,
      ...beside,
      ...[...headers].map((file) => `${folders.kernels}/${file}`),
      ...common,
    ].sort();
    this.mutants = mutants.filter((m) => headers.has(m.file));
    const hash = createHash("sha256").update(JSON.stringify([program, this.mutants.map((m) => m.name)]));
    for (const path of this.sources) hash.update(path).update(read(path));
    this.folder = join(cache, hash.digest("hex").slice(0, 16));
    this.file = join(this.folder, "results.jsonl");
    this.invalid = new Set();
    this.reached = undefined; // names of faults; `seconds` of processor time
    this.known = new Map();
    if (existsSync(this.file))
      for (const line of readFileSync(this.file, "utf8").split("\n").filter(Boolean)) this.#take(JSON.parse(line));
  }

  #take({ invalid, reached, seconds, fault, how }) {
    if (invalid) this.invalid.add(invalid);
    if (reached) Object.assign(this, { reached: new Set(reached), seconds });
    if (fault) this.known.set(fault, how);
  }
  #keep(entry) {
    this.#take(entry);
    appendFileSync(this.file, `${JSON.stringify(entry)}\n`);
  }

  /** A copy of the sources with every fault that compiles behind its switch. */
  #plant(tree) {
    for (const path of this.sources) {
      mkdirSync(join(tree, path, ".."), { recursive: true });
      const file = path.startsWith(`${folders.kernels}/`) ? basename(path) : undefined;
      const here = this.mutants.filter((m) => m.file === file && !this.invalid.has(m.name));
      let text = plantAll(
        read(path),
        here.map((m) => ({ ...m, number: this.#number(m) })),
      );
      // The first failure is enough.
      if (path === this.program.source)
        text = text.replace(
          /\bint failures = 0(;|, )/,
          (_, end) => `NfFailures failures{};${end === ";" ? "" : " int "}`,
        );
      writeFileSync(join(tree, path), text);
    }
  }
  #number(mutant) {
    return this.mutants.indexOf(mutant) + 1;
  }

  async #build() {
    const ready = join(this.folder, "program");
    if (existsSync(ready)) return ready;
    const tree = join(this.folder, "tree");
    const extra = ["-include", join(tree, folders.own, "fault.h"), `-DNF_FAULTS=${this.mutants.length}`];
    for (;;) {
      this.#plant(tree);
      const own = join(this.folder, "fault.o");
      const { ok, output } = await execute(compiler.command, [
        "-std=c++20",
        "-O1",
        ...extra,
        "-c",
        join(tree, folders.own, "fault.cpp"),
        "-o",
        own,
      ]);
      if (!ok) throw new Error(output);
      try {
        const objects = [own, ...(await emulator(tree))];
        renameSync(
          await buildProgram(compiler.command, this.program, { tree, out: this.folder, objects, extra }),
          ready,
        );
        rmSync(tree, { recursive: true });
        return ready;
      } catch (error) {
        // Faults that do not compile are taken out.
        const wrong = [...(error.output ?? "").matchAll(/(\w+\.cuh):(\d+):\d+: error/g)].flatMap(([, file, line]) =>
          this.mutants.filter((m) => m.file === file && m.line === Number(line) && !this.invalid.has(m.name)),
        );
        if (wrong.length === 0) throw error;
        for (const { name } of new Set(wrong)) this.#keep({ invalid: name });
      }
    }
  }

  /** Without a fault it must pass; says by which faults it comes. */
  async baseline() {
    mkdirSync(this.folder, { recursive: true });
    if (!this.reached) {
      const report = join(this.folder, "reached");
      const { ok, code, signal, output } = await execute(await this.#build(), [], {
        env: { NF_FAULT: "0", NF_REPORT: report },
      });
      if (!ok) throw new Error(`${this.name} fails without a fault (${signal ?? `exit ${code}`}):\n${output}`);
      const [seconds, ...numbers] = readFileSync(report, "utf8").trim().split("\n").map(Number);
      this.#keep({ reached: numbers.map((number) => this.mutants[number - 1].name), seconds });
    }
    say(`${this.name}: ${this.seconds.toFixed(1)} s, comes by ${this.reached.size} faults`);
  }

  /** How it ends with the fault: "passed", or what caught it. */
  async run(mutant) {
    const known = this.known.get(mutant.name);
    if (known) return known;
    const seconds = Math.ceil(this.seconds * 3 + 10); // of processor time
    const env = { NF_FAULT: String(this.#number(mutant)), NF_SECONDS: String(seconds) };
    const { ok, code, signal, output, late } = await execute(await this.#build(), [], { env, seconds: seconds * 30 });
    const timedOut = late || signal === "SIGXCPU" || signal === "SIGKILL";
    const how = ok
      ? "passed"
      : timedOut
        ? "out of time"
        : signal
          ? `signal ${signal}`
          : code === 1
            ? failureIn(output)
            : `exit ${code}`;
    this.#keep({ fault: mutant.name, how });
    return how;
  }
}
const failureIn = (output) =>
  output
    .split("\n")
    .find((line) => line && !/ 0 failures/.test(line))
    ?.slice(0, 200) ?? "a failure";

/** The emulator's objects, compiled once. */
let objects;
function emulator(tree) {
  objects ??= (async () => {
    const hash = createHash("sha256");
    for (const path of common) hash.update(path).update(read(path));
    const out = join(cache, `emulator-${hash.digest("hex").slice(0, 16)}`);
    const list = join(out, "objects.json");
    if (!existsSync(list)) {
      mkdirSync(out, { recursive: true });
      writeFileSync(list, JSON.stringify(await buildEmulator(compiler.command, tree, out)));
    }
    return JSON.parse(readFileSync(list, "utf8"));
  })();
  return objects;
}

// ---- every program without a fault, then one fault at a time

const faulty = programs
  .filter(({ name }) => !options.program || options.program.includes(name))
  .map((program) => new Faulty(program))
  .filter((program) => program.mutants.some((m) => files.has(m.file)));

async function judge(mutant) {
  const by = faulty.filter(({ reached }) => reached.has(mutant.name)).sort((a, b) => a.seconds - b.seconds);
  const valid = faulty.some((program) => program.mutants.includes(mutant) && !program.invalid.has(mutant.name));
  mutant.verdict = !valid ? "invalid" : by.length ? "survived" : "not reached";
  for (const program of by) {
    const how = await program.run(mutant);
    if (how === "passed") continue;
    Object.assign(mutant, { verdict: "caught", by: program.name, how });
    break;
  }
  say(
    `${mutant.file}:${mutant.line} ${mutant.operator} \`${oneLine(mutant.text)}\`: ${mutant.verdict}${mutant.by ? ` by ${mutant.by}: ${mutant.how}` : ""}`,
  );
}
const oneLine = (text) => text.replace(/\s+/g, " ").trim();

await inTurn(faulty, jobs, (program) => program.baseline());
await inTurn(wanted, jobs, judge);

// ---- the report

const count = (list, verdict) => list.filter((m) => m.verdict === verdict).length;
const missed = (m) => m.verdict === "survived" || m.verdict === "not reached";
const rows = [...files].map((file) => {
  const all = wanted.filter((m) => m.file === file);
  const equal = all.filter((m) => missed(m) && m.reason).length;
  const valid = all.length - count(all, "invalid") - equal;
  return {
    file,
    faults: all.length,
    invalid: count(all, "invalid"),
    equal,
    caught: count(all, "caught"),
    missed: all.filter((m) => missed(m) && !m.reason).length,
    valid,
  };
});
const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
const total = {
  file: "all",
  ...Object.fromEntries(["faults", "invalid", "equal", "caught", "missed", "valid"].map((key) => [key, sum(key)])),
};
const share = ({ caught, valid }) => (valid ? `${((100 * caught) / valid).toFixed(1)}` : "");
const wronglyEqual = wanted.filter((m) => m.reason && m.verdict === "caught");

if (options.json)
  console.log(
    JSON.stringify({ total, rows, mutants: wanted.map(({ plant, from, to, ...mutant }) => mutant) }, null, 1),
  );
else {
  for (const row of [...rows, total])
    say(
      `${row.file}: ${row.caught} of ${row.valid} caught (${share(row)} %), ${row.equal} without effect, ${row.invalid} invalid`,
    );
  for (const m of wanted.filter((m) => missed(m) && !m.reason))
    say(`missed: ${m.file}:${m.line} ${m.operator} \`${oneLine(m.text)}\` (${m.verdict})`);
  for (const m of wronglyEqual)
    say(`listed as without effect, but caught: ${m.file}:${m.line} ${m.operator} \`${oneLine(m.text)}\``);
}

if (options.write) {
  if (wanted.length !== mutants.length || options.program) throw new Error("--write needs every fault and program");
  const cell = (text) => oneLine(text).replaceAll("|", "\\|");
  const operators = [...new Set(mutants.map((m) => m.operator))].map((operator) => {
    const all = mutants.filter((m) => m.operator === operator);
    const equal = all.filter((m) => missed(m) && m.reason).length;
    return {
      operator,
      faults: all.length,
      equal,
      caught: count(all, "caught"),
      missed: all.filter((m) => missed(m) && !m.reason).length,
    };
  });
  const list = (title, items, last) =>
    items.length
      ? `\n## ${title}\n\n| place | fault | |\n|---|---|---|\n${items.map((m) => `| ${m.file}:${m.line} | ${m.operator}: \`${cell(m.text)}\` | ${last(m)} |`).join("\n")}\n`
      : "";
  const text = `# Planted faults in the CUDA kernel templates

A mutation test: one synchronization, wait or bounds check at a time is taken out of the kernel templates, and the emulated test programs run
with that fault. It is caught when a program fails, crashes, is stopped by the emulator or does not end. Written by
\`npm run mutate-kernels -- --write\`; needs a C++ compiler and no GPU. The emulator's first seed alone runs.

*barrier*: a barrier or arrival is gone (\`sync\`, \`sync_warp\`, \`sync_named\`, \`mbarrier_wait\`, \`mbarrier_arrive\`, wgmma's fence). *wait*: a wait for
asynchronous copies or for wgmma is gone. *weak wait*: it lets one group more be under way. *commit*: a group is not closed. *bound*: one
comparison that keeps an access in its bounds always lets it pass. *clamp*: \`clamp_index(x, most)\` is \`most\`. *whole copy*: an asynchronous
copy takes all its bytes. Comparisons in loop conditions, in constants and of values are not touched. Not modelled by the emulator, and not among the
faults: the proxy fences of sm_90a (\`fence_async\`, \`fence_mbarrier_init\`, \`tma_acquire\`).

| template | faults | without effect | caught | missed | caught, % |
|---|---|---|---|---|---|
${[...rows, { ...total, file: "**all**" }].map((r) => `| ${r.file} | ${r.faults - r.invalid} | ${r.equal} | ${r.caught} | ${r.missed} | ${share(r)} |`).join("\n")}

| fault | faults | without effect | caught | missed |
|---|---|---|---|---|
${operators.map((r) => `| ${r.operator} | ${r.faults} | ${r.equal} | ${r.caught} | ${r.missed} |`).join("\n")}

The share is that of faults which can have an effect. ${total.invalid ? `${total.invalid} more do not compile.` : "All of them compile."}
${list(
  "Missed",
  mutants.filter((m) => missed(m) && !m.reason),
  (m) => m.verdict,
)}${list(
  "Without effect",
  mutants.filter((m) => missed(m) && m.reason),
  (m) => m.reason,
)}`;
  writeFileSync(join(root, "docs/kernel-faults.md"), text);
}
process.exitCode = wronglyEqual.length || total.caught < goal * total.valid ? 1 : 0;
