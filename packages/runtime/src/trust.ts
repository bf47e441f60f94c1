/** An engine is native code: loading it runs its author's code with this user's rights. */
import { statSync } from "node:fs";
import { NimforgeError } from "@nimforge/tensor";

/** `local`: files of this user or of root that nobody else may write. `signed`: engines with a trusted signature. */
export type Trust = "local" | "signed";

/** @throws NimforgeError usage (no such file), signature (the file is not to be trusted). */
export function requireTrusted(path: string, trust: Trust): void {
  if (trust === "signed")
    throw new NimforgeError("signature", "unsigned-engine", "the engine carries no signature", {
      file: path,
      fix: 'load engines that you built yourself with trust: "local"',
    });
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined)
    throw new NimforgeError("usage", "not-found", "there is no such engine file", {
      file: path,
      fix: "check the path, or build the engine: nim-build <model>",
    });
  const user = process.getuid?.();
  if (user === undefined) return; // a system without owners
  const foreign = user !== 0 && status.uid !== user && status.uid !== 0;
  const open = (status.mode & 0o002) !== 0;
  if (!foreign && !open) return;
  throw new NimforgeError("signature", "untrusted-engine", "the engine is native code from somebody else", {
    file: path,
    expected: "a file of this user or of root that others cannot write",
    found: foreign ? `a file of user ${status.uid}` : `a file with mode ${(status.mode & 0o777).toString(8)}`,
    fix: "copy the engine to a file of your own if you trust its author",
  });
}
