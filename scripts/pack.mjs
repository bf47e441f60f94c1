/**
 * Packs what is published into a folder (dist/packages when none is named): every workspace of packages/, and the native
 * addon as built here as the platform's own package (@nimforge/linux-x64-gnu…). Needs a build (npm run build).
 */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = resolve(process.argv[2] ?? join(root, "dist/packages"));
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const staging = mkdtempSync(join(tmpdir(), "nimforge-pack-"));
try {
  const addon = join(root, "native/build/Release/nimforge.node");
  if (!existsSync(addon)) throw new Error("the native addon is not built: npm run build");
  const { version, license, engines } = read(join(root, "native/package.json"));
  const libc =
    process.platform !== "linux" ? "" : process.report.getReport().header.glibcVersionRuntime ? "-gnu" : "-musl";
  const platform = `${process.platform}-${process.arch}${libc}`;
  const manifest = {
    name: `@nimforge/${platform}`,
    version,
    description: `The native addon of nimforge for ${platform}`,
    license,
    os: [process.platform],
    cpu: [process.arch],
    ...(libc ? { libc: [libc === "-gnu" ? "glibc" : "musl"] } : {}),
    engines,
    files: ["nimforge.node", "NOTICE"],
  };
  const platformFolder = join(staging, "platform");
  mkdirSync(platformFolder);
  writeFileSync(join(platformFolder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(addon, join(platformFolder, "nimforge.node"));
  for (const name of ["LICENSE", "NOTICE"]) copyFileSync(join(root, name), join(platformFolder, name));
  const folders = [platformFolder];

  for (const name of readdirSync(join(root, "packages"))) {
    const folder = join(staging, name);
    cpSync(join(root, "packages", name), folder, { recursive: true, filter: (path) => !path.includes("node_modules") });
    const own = read(join(folder, "package.json"));
    // The addon travels as a package of its own; only the device package asks for it.
    if (name === "device") own.optionalDependencies = { ...own.optionalDependencies, [manifest.name]: version };
    // Maps lead to sources that do not travel.
    own.files = [...own.files, "!dist/**/*.map", "NOTICE"];
    delete own.scripts;
    delete own.devDependencies;
    writeFileSync(join(folder, "package.json"), `${JSON.stringify(own, null, 2)}\n`);
    for (const file of ["LICENSE", "NOTICE"]) copyFileSync(join(root, file), join(folder, file));
    folders.push(folder);
  }
  execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", out, ...folders], {
    stdio: "inherit",
  });
} finally {
  rmSync(staging, { recursive: true, force: true });
}
