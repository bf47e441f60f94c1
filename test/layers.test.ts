/** Who may import whom: every import specifier of every package against the design's table (ARCHITECTURE.md). */
import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const packages = fileURLToPath(new URL("../packages", import.meta.url));

const layers: Record<string, readonly string[]> = {
  tensor: [],
  ir: ["tensor"],
  passes: ["ir", "tensor"],
  engine: ["tensor"],
  device: ["engine", "tensor"],
  codegen: ["passes", "ir", "device", "engine", "tensor"],
  compiler: ["codegen", "passes", "ir", "device", "engine", "tensor", "runtime"],
  runtime: ["device", "engine", "tensor"],
  cli: ["tensor", "ir", "compiler", "runtime"],
};

interface Manifest {
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}
const manifest = (name: string) => JSON.parse(readFileSync(join(packages, name, "package.json"), "utf8")) as Manifest;

function sources(name: string): string[] {
  const files = readdirSync(join(packages, name, "src"), { recursive: true, encoding: "utf8" });
  return files.filter((file) => file.endsWith(".ts")).map((file) => join(packages, name, "src", file));
}

/** Specifiers of static, re-exporting, dynamic and type imports. */
function specifiers(file: string): string[] {
  const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const pattern = /(?:^|[\s;}])(?:import|export)\s(?:[^"';]*?\sfrom\s)?\s*"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;
  return [...text.matchAll(pattern)].map((match) => (match[1] ?? match[2]) as string);
}

const packageOf = (specifier: string) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
const builtins = new Set(builtinModules.flatMap((name) => [name, `node:${name}`]));

describe("layers", () => {
  it("names every package", () => {
    expect(readdirSync(packages).sort()).toEqual(Object.keys(layers).sort());
  });

  it.each(Object.keys(layers))("%s imports only what its row names and its manifest declares", (name) => {
    const allowed = new Set((layers[name] as string[]).map((other) => `@nimforge/${other}`));
    const { dependencies = {}, devDependencies = {} } = manifest(name);
    const wrong: string[] = [];
    expect(sources(name).flatMap(specifiers)).not.toEqual([]);
    for (const file of sources(name)) {
      const isTest = file.endsWith(".test.ts");
      for (const specifier of specifiers(file)) {
        if (specifier.startsWith(".") || builtins.has(specifier)) continue;
        const other = packageOf(specifier);
        const ours = other.startsWith("@nimforge/") || other === "nimforge";
        const fits = ours
          ? allowed.has(other) && other in dependencies
          : other in dependencies ||
            (isTest && (other in devDependencies || other === "vitest" || other === "fast-check"));
        if (!fits) wrong.push(`${file.slice(packages.length + 1)}: ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it.each(Object.keys(layers))("%s declares and references the packages of its row that it uses", (name) => {
    const ours = (record: Record<string, string> = {}) =>
      Object.keys(record).filter((other) => other.startsWith("@nimforge/"));
    const declared = ours(manifest(name).dependencies).map((other) => other.slice("@nimforge/".length));
    for (const other of declared) expect(layers[name]).toContain(other);
    const { references = [] } = JSON.parse(readFileSync(join(packages, name, "tsconfig.json"), "utf8")) as {
      references?: { path: string }[];
    };
    expect(references.map(({ path }) => path.replace("../", "")).sort()).toEqual(declared.sort());
  });

  it("relative imports stay inside their package", () => {
    const wrong: string[] = [];
    for (const name of Object.keys(layers))
      for (const file of sources(name))
        for (const specifier of specifiers(file))
          if (specifier.startsWith(".") && !join(file, "..", specifier).startsWith(join(packages, name)))
            wrong.push(`${file}: ${specifier}`);
    expect(wrong).toEqual([]);
  });
});
