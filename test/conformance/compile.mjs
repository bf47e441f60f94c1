/** Brings dist/ of the harness and of the packages it refers to up to date: child processes run compiled files. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export function compile() {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["node_modules/typescript/bin/tsc", "-b", "test/conformance"],
    { cwd: root, encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`tsc -b test/conformance failed:\n${stdout}${stderr}`);
}
