/** nim-build cache: the cache of compiled code. */
import { cacheGc, cacheInfo } from "@nimforge/compiler";
import type { CommandSpec } from "../command.js";
import { megabytes } from "../text.js";
import { byteCount, positive } from "../values.js";

const cacheDir = {
  flags: "--cache-dir <path>",
  description: "default $NIM_CACHE_PATH, else XDG's place",
  group: "Cache",
};

export const cacheInfoCommand: CommandSpec = {
  name: "cache info",
  arguments: "",
  summary: "Shows where compiled code is cached and how large the cache is.",
  examples: ["nim-build cache info", "nim-build cache info --json", "nim-build cache info --cache-dir cache"],
  options: [cacheDir],
  async run(_args, options: { cacheDir?: string }, { console }) {
    const info = await cacheInfo(options.cacheDir);
    return console.result(info, `${info.path}: ${info.files} files, ${megabytes(info.bytes)}`);
  },
};

export const cacheGcCommand: CommandSpec = {
  name: "cache gc",
  arguments: "",
  summary: "Removes cached code that has not been used for long.",
  examples: ["nim-build cache gc", "nim-build cache gc --max-age 7", "nim-build cache gc --max-size 500M --json"],
  options: [
    cacheDir,
    {
      flags: "--max-age <days>",
      description: "remove what was unused for longer (default 30)",
      group: "Cache",
      parse: positive("--max-age"),
    },
    {
      flags: "--max-size <bytes>",
      description: "then the longest unused, down to this: 500M, 4G (default 4G)",
      group: "Cache",
      parse: byteCount("--max-size"),
    },
  ],
  async run(_args, options: { cacheDir?: string; maxAge?: number; maxSize?: number }, { console }) {
    const result = await cacheGc({ cacheDir: options.cacheDir, maxAge: options.maxAge, maxBytes: options.maxSize });
    return console.result(
      result,
      `removed ${result.removed.files} files, ${megabytes(result.removed.bytes)}; ${result.files} files, ${megabytes(result.bytes)} remain`,
    );
  },
};
