/**
 * Makes the folder that checks a GPU elsewhere, or a table of a report that it gave.
 *
 *   npm run gpu-check                                    dist/gpu-check: carry it to a machine with a driver, nvcc and g++, run `sh run.sh`
 *   npm run gpu-check -- --warm sm_90,sm_90a             with the compiled code of what will be checked
 *   npm run gpu-check -- --no-node --out FOLDER          without Node.js, which run.sh then takes from PATH
 *   npm run gpu-check -- --dry-run                       runs the check here, small, on the emulator
 *   npm run gpu-check -- --table report.json             writes docs/gpu.md
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findModel, recordedModel } from "../fixtures/onnx-real/models.mjs";
import { gpuTable } from "../test/gpu/table.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const limit = 64 * 2 ** 20;
/** What test/gpu/check.mjs runs; its models' files come along. */
const models = ["ppocr-v4-rec", "ppocr-v2-cls", "oww-embedding"];

const { values } = parseArgs({
  options: {
    out: { type: "string", default: join(root, "dist", "gpu-check") },
    "no-node": { type: "boolean", default: false },
    warm: { type: "string" },
    "dry-run": { type: "boolean", default: false },
    table: { type: "string" },
    write: { type: "string", default: join(root, "docs", "gpu.md") },
  },
});

if (values.table !== undefined) {
  writeFileSync(values.write, gpuTable(JSON.parse(readFileSync(values.table, "utf8"))));
  console.log(relative(process.cwd(), values.write));
} else if (values["dry-run"]) {
  compileHarness();
  const report = join(root, "dist", "gpu-check-dry-run.json");
  mkdirSync(dirname(report), { recursive: true });
  const args = [join(root, "test/gpu/check.mjs"), "--dry-run", "--report", report];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1;
} else makeBundle(resolve(values.out));

function compileHarness() {
  execFileSync(
    process.execPath,
    [join(root, "node_modules/typescript/bin/tsc"), "-b", "packages/cli", "test/conformance"],
    {
      cwd: root,
      stdio: "inherit",
    },
  );
}

function makeBundle(out) {
  compileHarness();
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const app = mkdtempSync(join(tmpdir(), "gpu-check-"));
  try {
    copyApp(app);
    pack(app, join(out, "app.tar.gz"));
  } finally {
    rmSync(app, { recursive: true, force: true });
  }
  copyFileSync(join(root, "test/gpu/run.sh"), join(out, "run.sh"));
  if (!values["no-node"]) {
    const node = execFileSync("xz", ["-6", "-T0", "-c", strippedNode(out)], { maxBuffer: limit });
    writeFileSync(join(out, "node.xz"), node);
    rmSync(join(out, "node"));
  }
  if (values.warm) {
    const cache = mkdtempSync(join(tmpdir(), "gpu-check-cache-"));
    try {
      const args = [join(root, "test/gpu/check.mjs"), "--build-only", "--target", values.warm, "--cache-dir", cache];
      execFileSync(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] });
      pack(cache, join(out, "cache.tar.gz"));
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  }
  const files = readdirSync(out).map((name) => ({ name, bytes: statSync(join(out, name)).size }));
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  for (const file of files) console.log(`${(file.bytes / 2 ** 20).toFixed(1).padStart(6)} MiB  ${file.name}`);
  console.log(
    `${(bytes / 2 ** 20).toFixed(1).padStart(6)} MiB  ${relative(process.cwd(), out) || "."}: run sh run.sh in it`,
  );
  if (bytes > limit) throw new Error(`the folder is larger than ${limit} bytes: leave Node out with --no-node`);
}

function pack(folder, file) {
  const same = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0"];
  execFileSync("tar", ["-czf", file, ...same, "-C", folder, "."]);
}

/** The running Node.js without its symbols, where `strip` is there. */
function strippedNode(out) {
  const file = join(out, "node");
  copyFileSync(process.execPath, file);
  spawnSync("strip", [file]);
  return file;
}

/** The repository's shape with what runs: compiled packages, kernels' sources, the addon's sources, harness, fixtures. */
function copyApp(app) {
  const copy = (path, filter) =>
    cpSync(join(root, path), join(app, path), { recursive: true, dereference: true, ...(filter ? { filter } : {}) });
  copyFileSync(join(root, "package.json"), join(app, "package.json"));
  mkdirSync(join(app, "node_modules/@nimforge"), { recursive: true });
  for (const name of readdirSync(join(root, "packages"))) {
    const manifest = JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8"));
    copy(`packages/${name}/package.json`);
    copy(`packages/${name}/dist`, (path) => !/\.test\.|\.d\.ts|\.map$|tsbuildinfo$/.test(path));
    for (const folder of ["schema", "bin"])
      if (existsSync(join(root, "packages", name, folder))) copy(`packages/${name}/${folder}`);
    const link = manifest.name;
    symlinkSync(
      link.startsWith("@") ? `../../packages/${name}` : `../packages/${name}`,
      join(app, "node_modules", link),
    );
  }
  copy("packages/codegen/src", (path) => !path.endsWith(".ts"));
  copy("packages/ir/src/import/onnx/onnx.proto");
  const unused = /\.map$|[/\\]mathjs[/\\](docs|types|lib[/\\](browser|cjs))$/;
  for (const name of dependencies()) copy(`node_modules/${name}`, (path) => !unused.test(path));
  copy("native", (path) => !/native[/\\](build|test)|kernel_tests|mma_test|emulator[/\\]test/.test(path));
  for (const path of ["test/conformance/dist", "test/gpu", "fixtures/onnx-node", "fixtures/onnx/model.mjs"])
    copy(path, (from) => !/\.test\.|\.map$|tsbuildinfo$/.test(from));
  copy("test/conformance/expected.json");
  copy("fixtures/onnx-real/models.mjs");
  copy("fixtures/onnx-real/index.json");
  for (const id of models) {
    const { package: spec, path, steps } = recordedModel(id);
    const file = findModel(id);
    if (file === undefined) throw new Error(`the file of ${id} cannot be fetched`);
    // Where models.mjs looks for the files of packages that are no dependencies.
    const place = join(app, ".cache", "models", spec.replace("/", "+"), path);
    mkdirSync(dirname(place), { recursive: true });
    copyFileSync(file, place);
    for (const { file: data } of [...Object.values(steps[0].inputs), ...Object.values(steps[0].outputs)])
      copy(`fixtures/onnx-real/${data}`);
  }
}

/** Packages that the compiled code imports at run time, and what they import; the addon's headers. */
function dependencies() {
  const found = new Set();
  const add = (name) => {
    if (found.has(name) || name.startsWith("@nimforge/") || name === "nimforge") return;
    found.add(name);
    const manifest = JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8"));
    for (const other of Object.keys(manifest.dependencies ?? {})) add(other);
  };
  for (const name of readdirSync(join(root, "packages"))) {
    const { dependencies: own = {} } = JSON.parse(readFileSync(join(root, "packages", name, "package.json"), "utf8"));
    for (const other of Object.keys(own)) add(other);
  }
  for (const name of ["node-addon-api", "node-api-headers"]) add(name);
  return found;
}
