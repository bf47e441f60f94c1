/**
 * The packed packages under each supported Node.js: `node scripts/check-nodes.mjs [MAJOR…]` (default: this one, 22 and 24).
 * Other releases come from npm's package `node`. Needs a build and the registry. Prints one line for each.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as packed from "./packed.mjs";

const current = process.versions.node.split(".")[0];
const majors = process.argv.length > 2 ? process.argv.slice(2) : [current, "22", "24"];
const folder = mkdtempSync(join(tmpdir(), "nimforge-nodes-"));

/** Path of a release's binary, in a folder that holds nothing else. */
function binary(major) {
  if (major === current) return process.execPath;
  const home = join(folder, `node-${major}`);
  mkdirSync(home);
  writeFileSync(join(home, "package.json"), '{"private":true}');
  execFileSync("npm", ["install", `node@${major}`, "--no-audit", "--no-fund", "--silent"], { cwd: home });
  return join(home, "node_modules/node/bin/node");
}

try {
  const tarballs = packed.pack(join(folder, "tarballs"));
  const platform = Object.keys(tarballs).find((name) => name.startsWith(`@nimforge/${process.platform}-`));
  for (const major of [...new Set(majors)]) {
    const node = binary(major);
    const [all, alone] = [join(folder, `all-${major}`), join(folder, `alone-${major}`)];
    packed.install(all, ["nimforge"], tarballs);
    packed.typeCheck(all);
    packed.commandVersion(all, node);
    const built = packed.runSnippet(all, node);
    packed.install(alone, ["@nimforge/runtime", platform], tarballs);
    const ran = packed.runRuntime(alone, built.path, node);
    if (ran.first !== built.first || built.first !== Math.fround(1 / 320))
      throw new Error(`Node.js ${major}: ${JSON.stringify({ built, ran })}`);
    const version = execFileSync(node, ["--version"], { encoding: "utf8" }).trim();
    console.log(`${version}: types, build, run; the runtime alone ${packed.installedMegabytes(alone).toFixed(1)} MB`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
