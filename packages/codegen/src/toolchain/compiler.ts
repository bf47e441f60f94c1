/** Finds the C++ compiler: $CXX when it is set, else the first usable of c++, g++ and clang++. */
import { NimforgeError } from "@nimforge/tensor";
import { type Environment, runChild } from "./child.js";

export interface Compiler {
  /** Program and leading arguments ($CXX may hold several words, such as `ccache g++`). */
  readonly command: readonly string[];
  readonly kind: "gcc" | "clang";
  readonly major: number;
  /** As the compiler states it, such as `12.2.0`; part of a cache key. */
  readonly version: string;
}

/** Oldest releases with C++20, __builtin_bit_cast and the x86-64 levels. */
export const oldestCompilers = { gcc: 11, clang: 14 } as const;

const installCommands: Readonly<Record<string, string | undefined>> = {
  linux:
    "install g++: `apt-get install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora, RHEL), `apk add g++` (Alpine), `pacman -S gcc` (Arch)",
  darwin: "build in a Linux container, or set CXX to a compiler for x86_64-linux (`brew install x86_64-elf-gcc`)",
  win32: "build under WSL: `wsl --install`, then `apt-get install g++`",
};

/** What to install, for this operating system. */
export const installHint = (platform: string = process.platform): string =>
  installCommands[platform] ?? "install g++ 11 or newer, or clang++ 14 or newer, and put it on PATH or in $CXX";

type Probe = { compiler: Compiler } | { fault: string };
const probes = new Map<string, Promise<Probe>>();

/**
 * The compiler to use; found once for each command in a process.
 * @throws NimforgeError toolchain (exit 9) when there is none, naming what was tried and what to install.
 */
export async function detectCompiler(env: Environment = process.env): Promise<Compiler> {
  const chosen = env.CXX?.trim();
  const candidates = chosen ? [chosen] : ["c++", "g++", "clang++"];
  const faults: string[] = [];
  for (const candidate of candidates) {
    const key = `${candidate}\0${env.PATH ?? ""}`;
    let probing = probes.get(key);
    if (!probing) probes.set(key, (probing = probe(candidate)));
    const found = await probing;
    if ("compiler" in found) return found.compiler;
    faults.push(`${candidate}: ${found.fault}`);
  }
  throw new NimforgeError(
    "toolchain",
    "no-compiler",
    chosen ? "the C++ compiler in $CXX cannot be used" : "no usable C++ compiler",
    {
      expected: `g++ ${oldestCompilers.gcc} or newer, or clang++ ${oldestCompilers.clang} or newer, for x86-64 ELF`,
      found: faults.join("; "),
      fix: chosen ? `unset CXX or set it to another compiler; ${installHint()}` : installHint(),
    },
  );
}

/** The compiler's own macros say what it is and what it compiles for. */
async function probe(candidate: string): Promise<Probe> {
  const command = candidate.split(/\s+/);
  let text: string;
  try {
    const result = await runChild(command[0] as string, [...command.slice(1), "-dM", "-E", "-x", "c++", "-"]);
    if (result.status !== 0) return { fault: result.stderr.trim().split("\n")[0] || `exit status ${result.status}` };
    text = result.stdout;
  } catch (error) {
    return { fault: (error as NodeJS.ErrnoException).code === "ENOENT" ? "not found" : (error as Error).message };
  }
  const macro = (name: string) => new RegExp(`^#define ${name} (.*)$`, "m").exec(text)?.[1];
  const kind = macro("__clang__") ? "clang" : macro("__GNUC__") ? "gcc" : undefined;
  if (!kind) return { fault: "neither GCC nor Clang" };
  const number = (gcc: string, clang: string) => Number(macro(kind === "gcc" ? gcc : clang) ?? 0);
  const major = number("__GNUC__", "__clang_major__");
  const version = [
    major,
    number("__GNUC_MINOR__", "__clang_minor__"),
    number("__GNUC_PATCHLEVEL__", "__clang_patchlevel__"),
  ].join(".");
  if (major < oldestCompilers[kind]) return { fault: `version ${version} is too old` };
  if (!macro("__ELF__") || !macro("__x86_64__")) return { fault: "does not compile for x86-64 ELF" };
  return { compiler: { command, kind, major, version } };
}
