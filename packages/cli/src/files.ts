/** Which kind of file a path names. */
import { closeSync, openSync, readSync } from "node:fs";

/** An engine by its name or by its first bytes (docs/engine-format.md). */
export function isEngine(path: string): boolean {
  if (path.endsWith(".engine")) return true;
  const start = Buffer.alloc(4);
  const file = openSync(path, "r");
  try {
    readSync(file, start, 0, 4, 0);
  } catch {
    return false; // a folder
  } finally {
    closeSync(file);
  }
  return start.equals(Buffer.from([0x89, 0x4e, 0x46, 0x45]));
}

/** A name from a model as a file name. */
export const safeFileName = (name: string): string =>
  name.replace(/[^A-Za-z0-9._-]/g, "_").replace(/^[.-]+/, "_") || "_";
