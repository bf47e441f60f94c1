/**
 * The packages as a user installs them: packed, installed in an empty folder, used by CONTRACT's example. One check for
 * any Node.js: test/pack.test.ts runs it with the current one, scripts/check-nodes.mjs with others.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { encode, graph, info, model, node } from "../fixtures/onnx/model.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What a newcomer writes first; `rec.onnx` is a small model with the names and sizes of a text recognizer. */
export const snippet = `import { build, loadEngine, tensor } from "nimforge";
const { engines } = await build({ model: "rec.onnx", targets: ["cpu"], shapes: { x: [1, 3, 48, "W"] }, ranges: { W: [32, 960] } });
const session = await loadEngine(engines[0].path, { threads: 2, trust: "local" }); // "local": files of this user (default) | "signed"
const outputs = await session.run({ x: tensor("float32", [1, 3, 48, 320]) });
const probabilities = outputs["softmax_11.tmp_0"];
await session.close();
`;
/** Prints what the test looks at. */
const report = (path) => `
console.log(JSON.stringify({ path: ${path}, shape: probabilities.shape, first: Number(probabilities.data[0]) }));
`;
const runtimeSnippet = (path) => `import { loadEngine, tensor } from "@nimforge/runtime";
const session = await loadEngine(${JSON.stringify(path)}, { threads: 2 });
const outputs = await session.run({ x: tensor("float32", [1, 3, 48, 320]) });
const probabilities = outputs["softmax_11.tmp_0"];
await session.close();
`;

const npm = (folder, ...argv) =>
  execFileSync("npm", [...argv, "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });

/** Why npm cannot reach its registry; undefined when it can. */
export function registryFault() {
  try {
    npm(root, "view", "flatbuffers", "version", "--prefer-online", "--fetch-retries=0", "--fetch-timeout=10000");
    return undefined;
  } catch (error) {
    return String(error.stderr).trim().split("\n")[0] || error.message;
  }
}

/** Packs into `folder`. @returns the tarball's path by package name */
export function pack(folder) {
  execFileSync(process.execPath, [join(root, "scripts/pack.mjs"), folder], { stdio: ["ignore", "pipe", "inherit"] });
  return Object.fromEntries(
    readdirSync(folder).map((file) => {
      const path = join(folder, file);
      const manifest = execFileSync("tar", ["-xzOf", path, "package/package.json"], { encoding: "utf8" });
      return [JSON.parse(manifest).name, path];
    }),
  );
}

/**
 * Installs packages and what they depend on into an empty folder; those of `tarballs` that the named ones do not ask for
 * stay out.
 */
export function install(folder, names, tarballs) {
  const file = (name) => `file:${tarballs[name]}`;
  const others = Object.keys(tarballs).filter((name) => !names.includes(name));
  mkdirSync(folder, { recursive: true });
  const manifest = {
    private: true,
    type: "module",
    dependencies: Object.fromEntries(names.map((name) => [name, file(name)])),
    overrides: Object.fromEntries(others.map((name) => [name, file(name)])),
  };
  writeFileSync(join(folder, "package.json"), JSON.stringify(manifest));
  npm(folder, "install", "--prefer-offline");
  return Object.keys(JSON.parse(readFileSync(join(folder, "node_modules/.package-lock.json"), "utf8")).packages).map(
    (path) => path.slice("node_modules/".length),
  );
}

/** Disk use in MB, as du counts it. */
export const installedMegabytes = (folder) =>
  Number.parseInt(execFileSync("du", ["-sk", join(folder, "node_modules")], { encoding: "utf8" }), 10) / 1024;

/**
 * Type-checks the example against the installed packages' own types, with no other types at hand, and compiles it.
 * @throws with the compiler's messages
 */
export function typeCheck(folder) {
  const size = ["N", "C", "H", "W"];
  const values = { x: info("x", "float", size), y: info("softmax_11.tmp_0", "float", size) };
  const softmax = node("Softmax", ["x"], ["softmax_11.tmp_0"], { axis: 3 });
  writeFileSync(join(folder, "rec.onnx"), encode(model(graph([softmax], [values.x], [values.y]))));
  writeFileSync(join(folder, "snippet.ts"), `${snippet}${report("engines[0].path")}`);
  const compilerOptions = { strict: true, module: "NodeNext", target: "ES2022", types: [] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["snippet.ts"] }));
  try {
    execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", folder], { encoding: "utf8" });
  } catch (error) {
    throw new Error(error.stdout || error.message);
  }
}

/** Builds and runs with `nodeBinary`. @returns what the example printed */
export function runSnippet(folder, nodeBinary = process.execPath) {
  const env = { ...process.env, NIM_CACHE_PATH: join(folder, "cache") };
  const result = run(nodeBinary, folder, "snippet.js", env);
  return { ...result, path: join(folder, result.path) };
}

/** Runs the engine with the runtime's packages alone, where PATH leads to no compiler. */
export function runRuntime(folder, engine, nodeBinary = process.execPath) {
  writeFileSync(join(folder, "run.js"), `${runtimeSnippet(engine)}${report(JSON.stringify(engine))}`);
  return run(nodeBinary, folder, "run.js", { PATH: join(folder, "nothing"), HOME: folder });
}

function run(nodeBinary, folder, script, env) {
  const stdio = ["ignore", "pipe", "pipe"];
  return JSON.parse(execFileSync(nodeBinary, [script], { cwd: folder, encoding: "utf8", env, stdio }));
}

/** The installed command. @returns its version */
export const commandVersion = (folder, nodeBinary = process.execPath) =>
  execFileSync(join(folder, "node_modules/.bin/nim-build"), ["--version"], {
    encoding: "utf8",
    env: { ...process.env, PATH: `${dirname(nodeBinary)}:${process.env.PATH}` },
  }).trim();
