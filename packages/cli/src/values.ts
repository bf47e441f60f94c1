/** The values of options: text to what the libraries take. Every error names the option and shows its form. */
import { existsSync, readFileSync } from "node:fs";
import type { BindValue } from "@nimforge/ir";
import { NimforgeError, readNpy } from "@nimforge/tensor";

const bad = (option: string, form: string, found: string) =>
  new NimforgeError("usage", "bad-option", `${option}: the value cannot be read`, {
    expected: form,
    found: JSON.stringify(found),
    fix: `write ${option} ${form}`,
  });

/** At the last `=`, because names of inputs may hold one. */
export function splitAssignment(option: string, form: string, text: string): [name: string, value: string] {
  const at = text.lastIndexOf("=");
  if (at <= 0) throw bad(option, form, text);
  return [text.slice(0, at), text.slice(at + 1)];
}

function merge<T>(option: string, into: Record<string, T> | undefined, name: string, value: T): Record<string, T> {
  if (into && Object.hasOwn(into, name))
    throw new NimforgeError("usage", "bad-option", `${option} is given twice for ${JSON.stringify(name)}`, {
      fix: "give it once",
    });
  // Names are data: a plain object literal would treat "__proto__" as something else.
  return Object.defineProperty({ ...into }, name, { value, enumerable: true, writable: true, configurable: true });
}

/** `1,3,48,W`, or `1x3x48xW`; nothing at all for a scalar. */
export function parseSizes(option: string, form: string, text: string): (number | string)[] {
  if (text === "") return [];
  return text.split(text.includes(",") ? "," : "x").map((part) => {
    const size = part.trim();
    if (/^\d+$/.test(size) && Number.isSafeInteger(Number(size))) return Number(size);
    if (/^[A-Za-z_][A-Za-z0-9_.-]*$/.test(size)) return size;
    throw bad(option, form, text);
  });
}

export function shape(text: string, before?: Record<string, (number | string)[]>): Record<string, (number | string)[]> {
  const form = "x=1,3,48,W";
  const [name, sizes] = splitAssignment("--shape", form, text);
  return merge("--shape", before, name, parseSizes("--shape", form, sizes));
}

export function range(text: string, before?: Record<string, [number, number]>): Record<string, [number, number]> {
  const form = "W=32..960";
  const [name, value] = splitAssignment("--range", form, text);
  const match = /^(\d+)\.\.(\d+)$/.exec(value);
  if (!match || Number(match[1]) > Number(match[2])) throw bad("--range", form, text);
  return merge("--range", before, name, [Number(match[1]), Number(match[2])] as [number, number]);
}

export function opt(text: string, before?: Record<string, number>): Record<string, number> {
  const form = "W=320";
  let all = before ?? {};
  for (const part of text.split(",")) {
    const [name, value] = splitAssignment("--opt", form, part);
    if (!/^\d+$/.test(value)) throw bad("--opt", form, text);
    all = merge("--opt", all, name, Number(value));
  }
  return all;
}

/** A number, `true`, `false`, a list of them with commas, text, or `@file.npy`. */
export function bind(text: string, before?: Record<string, BindValue>): Record<string, BindValue> {
  const [name, value] = splitAssignment("--bind", "NAME=VALUE", text);
  const one = (item: string): number | bigint | boolean | string => {
    if (item === "true" || item === "false") return item === "true";
    if (/^[+-]?\d+$/.test(item)) return Number.isSafeInteger(Number(item)) ? Number(item) : BigInt(item);
    return item !== "" && !Number.isNaN(Number(item)) ? Number(item) : item;
  };
  if (value.startsWith("@")) return merge("--bind", before, name, readNpy(readInput(value.slice(1)), value.slice(1)));
  return merge("--bind", before, name, value.includes(",") ? value.split(",").map(one) : one(value));
}

export const list = (text: string, before: string[] = []): string[] => [
  ...before,
  ...text.split(",").filter((item) => item !== ""),
];

/** A whole number of at least `least`. */
export const count =
  (option: string, least: number) =>
  (text: string): number => {
    if (!/^\d+$/.test(text) || Number(text) < least || !Number.isSafeInteger(Number(text)))
      throw bad(option, "N", text);
    return Number(text);
  };

export const positive =
  (option: string) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value) || value < 0) throw bad(option, "X", text);
    return value;
  };

const units: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
/** Bytes: `500M`, `4G`. */
export const byteCount =
  (option: string) =>
  (text: string): number => {
    const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text);
    if (!match) throw bad(option, "4G", text);
    return Math.round(Number(match[1]) * (units[(match[2] as string).toUpperCase()] as number));
  };

/** The bytes of a file that the user named. */
export function readInput(path: string): Uint8Array {
  if (!existsSync(path))
    throw new NimforgeError("usage", "file-not-found", "there is no such file", { file: path, fix: "check the path" });
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new NimforgeError("io", "read-failed", `cannot read the file: ${(cause as Error).message}`, {
      file: path,
      cause,
    });
  }
}
