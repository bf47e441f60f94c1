/**
 * Compiles a sample of every CUDA kernel template for every compute capability and writes docs/cuda-kernels.md: registers, shared memory,
 * spills. `--check` compares instead, and exits with 1 when the table is out of date or a kernel spills. Needs nvcc and built packages.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compileCubins, detectCuda } from "../packages/codegen/dist/index.js";
import { blocksPerSm, capabilities } from "../packages/codegen/dist/targets/cuda/capabilities.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const samples = join(root, "scripts/cuda-resources");
const table = join(root, "docs/cuda-kernels.md");
const includeDirs = [
  samples,
  ...["codegen/src/targets/cuda/kernels", "codegen/src/targets/cpu/kernels", "engine/schema"].map((dir) =>
    join(root, "packages", dir),
  ),
];

/** Samples of instructions that only one capability has. */
const onlyFor = { "wgmma.cu": "sm_90a" };

const toolkit = await detectCuda();
const targets = capabilities.filter(({ name, exact }) => !exact || Object.values(onlyFor).includes(name));

/** kernel → target → { registers, spills, threads, shared, blocks } */
const kernels = new Map();
await Promise.all(
  targets.map(async (target) => {
    const names = readdirSync(samples).filter(
      (name) => name.endsWith(".cu") && (onlyFor[name] ? onlyFor[name] === target.name : !target.exact),
    );
    const files = names.map((name) => ({ name, text: readFileSync(join(samples, name), "utf8") }));
    const images = await compileCubins({ files, includeDirs, target: target.name, toolkit, ptx: true });
    for (const { resources, ptx } of images) {
      const text = Buffer.from(ptx).toString();
      const figure = (kind, kernel) =>
        Number(new RegExp(`\\b${kind}_of_${kernel}(?: = (\\d+))?;`).exec(text)?.[1] ?? 0);
      for (const [kernel, { registers, sharedStatic, spillStores, spillLoads }] of resources) {
        const [threads, shared] = [figure("threads", kernel), figure("shared", kernel) + sharedStatic];
        const one = { registers, spills: spillStores + spillLoads, threads, shared };
        kernels.set(
          kernel,
          (kernels.get(kernel) ?? new Map()).set(target.name, { ...one, blocks: blocksPerSm(target, one) }),
        );
      }
    }
  }),
);

const plain = targets.filter(({ exact }) => !exact);
const cell = (one) => (one ? `${one.registers}${one.spills ? ` (spills ${one.spills} B)` : ""} · ${one.blocks}` : "");
const same = (values) => [...new Set(values)].join(" / ");
const rowsOf = (columns) =>
  [...kernels]
    .filter(([, by]) => columns.some(({ name }) => by.has(name)))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([kernel, by]) => {
      const all = columns.map(({ name }) => by.get(name));
      const known = all.filter(Boolean);
      return `| ${kernel} | ${same(known.map((one) => one.threads))} | ${same(known.map((one) => one.shared))} | ${all.map(cell).join(" | ")} |`;
    });
const tableOf = (columns) =>
  [
    `| kernel | threads | shared bytes | ${columns.map(({ name }) => name).join(" | ")} |`,
    `|---|---|---|${columns.map(() => "---|").join("")}`,
    ...rowsOf(columns),
  ].join("\n");

const all = [...kernels].flatMap(([kernel, by]) => [...by].map(([target, one]) => ({ kernel, target, ...one })));
const spilling = all.filter(({ spills }) => spills > 0);
const unfit = all.filter(({ blocks }) => blocks === 0);
const list = (ones) => ones.map(({ kernel, target }) => `${kernel} on ${target}`).join(", ");

const document = `# CUDA kernels: registers and shared memory

Written by \`node scripts/cuda-resources.mjs\` from ptxas's report (${toolkit.kind} ${toolkit.version}) for a sample of every template with a simple epilogue;
\`nim-build inspect ENGINE --kernels\` shows the same figures for the kernels of an engine. Each cell: registers of a thread · blocks that a
multiprocessor holds at once (0: does not fit, the variant is not taken there). Where the shared memory has two figures, the first is compute capability 7.5's.

${kernels.size} kernels, ${all.length} compilations: ${spilling.length === 0 ? "none spills" : `${spilling.length} spill (${list(spilling)})`}; ${unfit.length} do not fit${unfit.length ? ` (${list(unfit)})` : ""}.

${tableOf(plain)}

Kernels of wgmma:

${tableOf(targets.filter(({ exact }) => exact))}
`;

if (process.argv.includes("--check")) {
  const current = readFileSync(table, "utf8") === document;
  if (!current) console.error("docs/cuda-kernels.md is out of date: run node scripts/cuda-resources.mjs");
  if (spilling.length > 0) console.error(`kernels spill: ${list(spilling)}`);
  process.exitCode = current && spilling.length === 0 ? 0 : 1;
} else {
  writeFileSync(table, document);
  console.log(`${kernels.size} kernels, ${targets.length} capabilities, ${spilling.length} spill`);
}
