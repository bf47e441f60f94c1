/** The documentation: its runnable commands run, its links lead somewhere, its claims about places are true. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const pages = [
  "README.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];
const text = (page: string) => readFileSync(join(root, page), "utf8");

describe.each(pages)("%s", (page) => {
  const commands = [...text(page).matchAll(/^```sh runnable\n([\s\S]*?)^```/gm)].flatMap((match) =>
    (match[1] as string).trim().split("\n"),
  );
  it.runIf(commands.length > 0).each(commands)("%s", (command) => {
    const { status, stderr } = spawnSync("sh", ["-c", command], {
      cwd: root,
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1" },
    });
    expect(status, stderr).toBe(0);
  });

  it("has no broken links", () => {
    const links = [...text(page).matchAll(/\]\(([^)#\s]+)[^)]*\)/g)]
      .map((match) => match[1] as string)
      .filter((link) => !/^[a-z]+:/.test(link));
    expect(links.filter((link) => !existsSync(join(root, dirname(page), link)))).toEqual([]);
  });
});

it("the places that ARCHITECTURE.md names exist", () => {
  const named = [...text("ARCHITECTURE.md").matchAll(/`((?:packages|native|test|docs)\/[\w./-]*)`/g)].map(
    (match) => match[1] as string,
  );
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((place) => !existsSync(join(root, place)))).toEqual([]);
});

it("ARCHITECTURE.md is right about where ops are declared", () => {
  const [, sentence] = /\| what an operator is \|([^\n]*)/.exec(text("ARCHITECTURE.md"))!;
  const claims = [...sentence!.matchAll(/(\w+)(?: is)? in `(\w+\.ts)`/g)].map(([, op, file]) => [op, file] as const);
  expect(claims).toHaveLength(3);
  for (const [op, file] of claims)
    expect(text(`packages/ir/src/ops/${file}`), `${op} in ${file}`).toMatch(new RegExp(`["' ]${op}["':,(]`));
});

it("README.md's shell blocks name scripts that exist", () => {
  const { scripts } = JSON.parse(text("package.json")) as { scripts: Record<string, string> };
  const used = [...text("README.md").matchAll(/npm (?:run (?:-s )?)?(ci|test|build|quickstart)\b/g)]
    .map((match) => match[1] as string)
    .filter((name) => name !== "ci");
  expect(used).toContain("quickstart");
  for (const name of used) expect(scripts).toHaveProperty([name]);
});
