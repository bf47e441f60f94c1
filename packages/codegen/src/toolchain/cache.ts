/**
 * The cache on disk: files named by the hash of what made them, each with its own digest in front, so that a damaged file is a miss.
 * It lies in $NIM_CACHE_PATH, else $XDG_CACHE_HOME/nimforge, else ~/.cache/nimforge.
 */
import { createHash, randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { NimforgeError } from "@nimforge/tensor";
import type { Environment } from "./child.js";

const digestBytes = 32;
const digest = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest();

/** Where the cache lies; `explicit` when the user named the place. */
export function cachePlace(cacheDir?: string, env: Environment = process.env): { path: string; explicit: boolean } {
  const named = cacheDir ?? (env.NIM_CACHE_PATH || undefined);
  if (named !== undefined) return { path: resolve(named), explicit: true };
  const xdg = env.XDG_CACHE_HOME;
  // The XDG specification: relative paths are to be ignored.
  return { path: join(xdg?.startsWith("/") ? xdg : join(homedir(), ".cache"), "nimforge"), explicit: false };
}

/** One kind of cached file: `<cache>/<kind>/<key>`. */
export class FileCache {
  readonly #root: string;
  readonly #folder: string;
  readonly #explicit: boolean;

  constructor(kind: "images", cacheDir?: string) {
    const { path, explicit } = cachePlace(cacheDir);
    this.#root = path;
    this.#folder = join(path, kind);
    this.#explicit = explicit;
  }

  /** The cached bytes, or undefined; a file whose digest is wrong is removed. */
  async read(key: string): Promise<Uint8Array | undefined> {
    if (!(await this.#isOurs())) return undefined;
    const path = join(this.#folder, key);
    const file = await readFile(path).catch(() => undefined);
    if (!file) return undefined;
    const bytes = file.subarray(digestBytes);
    if (file.length < digestBytes || !digest(bytes).equals(file.subarray(0, digestBytes))) {
      await rm(path, { force: true });
      return undefined;
    }
    const now = new Date();
    await utimes(path, now, now).catch(() => {});
    return bytes;
  }

  /**
   * Keeps bytes. The default place may be read-only (a container without a home): then nothing is kept.
   * @throws NimforgeError io (exit 7) when a place that the user named cannot be written.
   */
  async write(key: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.#folder, key);
    const partial = `${path}.${randomBytes(6).toString("hex")}.partial`;
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      if (!(await this.#isOurs())) throw new Error("the folder belongs to another user or others may write to it");
      await writeFile(partial, Buffer.concat([digest(bytes), bytes]), { mode: 0o600, flag: "wx" });
      await rename(partial, path);
    } catch (cause) {
      await rm(partial, { force: true }).catch(() => {});
      if (!this.#explicit) return;
      throw new NimforgeError("io", "cache-unwritable", `cannot write to the cache: ${(cause as Error).message}`, {
        file: this.#root,
        fix: "set NIM_CACHE_PATH (or --cache-dir) to a folder of your own",
        cause,
      });
    }
  }

  /** The cache holds native code: only a folder that nobody else can write to is trusted. */
  async #isOurs(): Promise<boolean> {
    const info = await lstat(this.#folder).catch(() => undefined);
    if (!info?.isDirectory()) return false;
    return process.getuid === undefined || (info.uid === process.getuid() && (info.mode & 0o022) === 0);
  }
}

export interface CacheInfo {
  path: string;
  files: number;
  bytes: number;
}

interface CachedFile {
  path: string;
  bytes: number;
  /** Milliseconds since the epoch of its last use. */
  used: number;
}

async function cachedFiles(root: string): Promise<CachedFile[]> {
  const entries = await readdir(join(root, "images"), { withFileTypes: true }).catch(() => []);
  const files: CachedFile[] = [];
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(root, "images", entry.name);
    const info = await stat(path).catch(() => undefined);
    if (info) files.push({ path, bytes: info.size, used: info.mtimeMs });
  }
  return files;
}

/** Place and size of the cache. */
export async function cacheInfo(cacheDir?: string): Promise<CacheInfo> {
  const { path } = cachePlace(cacheDir);
  const files = await cachedFiles(path);
  return { path, files: files.length, bytes: files.reduce((sum, file) => sum + file.bytes, 0) };
}

export interface CacheGcOptions {
  cacheDir?: string | undefined;
  /** Files unused for longer are removed, in days (default 30). */
  maxAge?: number | undefined;
  /** Then the longest unused, until this many bytes remain (default 4 GiB). */
  maxBytes?: number | undefined;
}

/** Removes what has not been used for long. */
export async function cacheGc(
  options: CacheGcOptions = {},
): Promise<CacheInfo & { removed: { files: number; bytes: number } }> {
  const { path } = cachePlace(options.cacheDir);
  const oldest = Date.now() - (options.maxAge ?? 30) * 86_400_000;
  const files = (await cachedFiles(path)).sort((a, b) => a.used - b.used);
  let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const removed = { files: 0, bytes: 0 };
  for (const file of files) {
    if (file.used >= oldest && bytes <= (options.maxBytes ?? 4 * 1024 ** 3)) break;
    await rm(file.path, { force: true });
    bytes -= file.bytes;
    removed.files++;
    removed.bytes += file.bytes;
  }
  return { path, files: files.length - removed.files, bytes, removed };
}
