/**
 * Initializers that lie in files beside the model. The model's text decides which file is opened, so the rules are strict: a plain
 * relative path, a regular file with one link, inside the model's folder after links are followed; the open descriptor is
 * what is checked, again at every read (the class of CVE-2022-25882, CVE-2024-27318 and their incomplete fixes).
 */
import { closeSync, constants, fstatSync, openSync, readSync, realpathSync, statSync } from "node:fs";
import { isAbsolute, join, relative, sep } from "node:path";
import { NimforgeError } from "@nimforge/tensor";
import type { StringStringEntryProto } from "./generated/messages.js";
import type { FileView } from "./source.js";

const keys = new Set(["location", "offset", "length", "checksum"]);

/** Where models may have their external data; undefined for a model that came as bytes. */
export interface ExternalContext {
  readonly folder: string | undefined;
  /** The model file, for messages. */
  readonly file: string | undefined;
}

/**
 * The bytes of one external tensor, checked to be there.
 * @param expected bytes that the tensor's type and shape take
 * @throws NimforgeError malformed when the entry breaks a rule, the file is missing or too short
 */
export function locateExternal(
  entries: readonly StringStringEntryProto[],
  tensor: string,
  expected: number,
  context: ExternalContext,
): FileView {
  const bad = (code: string, fault: string, found?: string, fix?: string) =>
    new NimforgeError("malformed", code, `external data of tensor "${tensor}": ${fault}`, {
      file: context.file,
      found,
      fix,
    });
  const fields = new Map<string, string>();
  for (const { key, value } of entries) {
    if (!keys.has(key)) throw bad("external-data", "unknown key", JSON.stringify(key));
    if (fields.has(key)) throw bad("external-data", "a key is given twice", JSON.stringify(key));
    fields.set(key, value);
  }
  const location = fields.get("location");
  if (location === undefined || location === "") throw bad("external-data", "no location is given");
  const parts = location.split("/");
  if (
    isAbsolute(location) ||
    /^[A-Za-z]:/.test(location) ||
    /[\\\0]/.test(location) ||
    parts.includes("..") ||
    location.endsWith("/")
  )
    throw bad(
      "external-path",
      "its path leaves the model's folder or is not plain",
      JSON.stringify(location),
      "keep external data in the model's folder, named by a relative path",
    );
  if (context.folder === undefined)
    throw bad(
      "external-data",
      "the model was given as bytes, so its folder is unknown",
      JSON.stringify(location),
      "pass the option `folder`, or the model's path",
    );
  const number = (key: string): number | undefined => {
    const text = fields.get(key);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value))
      throw bad("external-data", `${key} is not a non-negative integer`, JSON.stringify(text));
    return value;
  };
  const offset = number("offset") ?? 0;
  const length = number("length") ?? expected;
  if (length !== expected)
    throw bad(
      "external-data",
      `length does not fit the tensor's type and shape (${expected} bytes)`,
      `${length} bytes`,
    );
  const view = { file: join(context.folder, location), offset, length };
  withFile(view.file, context.folder, bad, () => {}, offset + length);
  return view;
}

/** The bytes of a view that `locateExternal` gave; the file is checked again. */
export function readExternal(view: FileView, tensor: string, context: ExternalContext): Uint8Array {
  const bad = (code: string, fault: string, found?: string, fix?: string) =>
    new NimforgeError("malformed", code, `external data of tensor "${tensor}": ${fault}`, {
      file: context.file,
      found,
      fix,
    });
  const bytes = new Uint8Array(view.length);
  const read = (descriptor: number) => {
    // One read call moves at most 2 GiB.
    for (let done = 0; done < bytes.length; ) {
      const count = readSync(descriptor, bytes, done, Math.min(bytes.length - done, 2 ** 30), view.offset + done);
      if (count === 0) throw bad("external-data", "the file ended while it was read", view.file);
      done += count;
    }
  };
  withFile(view.file, context.folder ?? "", bad, read, view.offset + view.length);
  return bytes;
}

function withFile(
  path: string,
  folder: string,
  bad: (code: string, fault: string, found?: string, fix?: string) => NimforgeError,
  use: (descriptor: number) => void,
  needed: number,
): void {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    throw bad("external-missing", "the file is missing", path, "put the external data file beside the model");
  }
  const inside = relative(realpathSync(folder), real);
  if (inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside))
    throw bad("external-path", "a link leads out of the model's folder", path, "copy the file into the model's folder");
  let descriptor: number;
  try {
    // O_NONBLOCK: opening a FIFO must not wait. O_NOFOLLOW: `real` has no links left.
    descriptor = openSync(real, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0));
  } catch (cause) {
    throw bad("external-missing", `the file cannot be opened (${(cause as NodeJS.ErrnoException).code})`, path);
  }
  try {
    const stat = fstatSync(descriptor);
    const named = statSync(real);
    if (!stat.isFile() || named.ino !== stat.ino || named.dev !== stat.dev)
      throw bad("external-path", "it is not a regular file", path);
    if (stat.nlink !== 1)
      throw bad(
        "external-path",
        "the file has other hard links, which may lie outside the model's folder",
        path,
        "copy the file into the model's folder",
      );
    if (needed > stat.size)
      throw bad("external-data", `the file is too short (${needed} bytes are needed)`, `${stat.size} bytes`);
    use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
