/** Translation units: their names, what makes two of them equal, and where in them a kernel is. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { internalError, type NimforgeError } from "@nimforge/tensor";

export interface SourceFile {
  /** Plain file name, `[A-Za-z0-9._-]`. */
  name: string;
  text: string;
}

export function checkNames(files: readonly SourceFile[]): void {
  const seen = new Set<string>();
  for (const { name } of files) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name) || seen.has(name))
      throw internalError(`bad source file name ${JSON.stringify(name)}`);
    seen.add(name);
  }
}

/** SHA-256 in hex of several texts; lengths go in too, so that no two lists have the same digest. */
export function digestOf(parts: Iterable<string>): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest("hex");
}

/**
 * A file's text and those of all headers that it may include, in the order of their first mention, each with its name as written. Headers
 * are looked for beside the including file, then in the folders; those found in neither belong to the compiler.
 */
export async function withHeaders(
  text: string,
  includeDirs: readonly string[],
): Promise<[name: string, text: string][]> {
  const visited = new Map<string, [string, string]>();
  const visit = async (including: string, dirs: readonly string[]) => {
    for (const [, name] of including.matchAll(/^[ \t]*#[ \t]*include[ \t]*["<]([^">\n]+)[">]/gm)) {
      for (const path of dirs.map((dir) => join(dir, name as string))) {
        if (visited.has(path)) break;
        const header = await readFile(path, "utf8").catch(() => undefined);
        if (header === undefined) continue;
        visited.set(path, [name as string, header]);
        await visit(header, [dirname(path), ...includeDirs]);
        break;
      }
    }
  };
  await visit(text, includeDirs);
  return [["", text], ...visited.values()];
}

export const firstLines = (text: string): string => text.trim().split("\n").slice(0, 12).join("\n").slice(0, 2000);

/** The error of a file that a compiler refused; names the kernel that the first diagnostic in the file itself lies in. */
export function compileError(file: SourceFile, diagnostics: string): NimforgeError {
  const escaped = file.name.replace(/[.]/g, "\\.");
  // GCC and Clang write `name:12:`, nvcc `name(12):`; an error inside a header ends with the line of the file that led there.
  const line = new RegExp(`^${escaped}[:(](\\d+)[:)]|\\bat line (\\d+) of ${escaped}$`, "m").exec(diagnostics);
  const number = Number(line?.slice(1).find((group) => group !== undefined));
  const kernel = kernelNamed(diagnostics) ?? (line ? kernelAt(file.text, number) : undefined);
  return internalError(
    `generated code does not compile${kernel ? ` (kernel ${kernel})` : ""}: ${firstLines(diagnostics)}`,
    { found: file.name },
  );
}

/** ptxas names the entry. */
const kernelNamed = (diagnostics: string): string | undefined =>
  /^ptxas (?:error|fatal)\s*: Entry function '(\w+)'/m.exec(diagnostics)?.[1];

/** The kernel whose definition begins last at or before a line. */
function kernelAt(text: string, line: number): string | undefined {
  const before = text.split("\n").slice(0, line).join("\n");
  const definition = /\bint\s+(\w+)\s*\(const NfLaunch\b|\bNF_KERNEL\(\s*(\w+)|\b__global__\s[^;{}()]*?\b(\w+)\s*\(/g;
  const last = [...before.matchAll(definition)].pop();
  return last?.[1] ?? last?.[2] ?? last?.[3];
}
