/** The error every public call throws: it names the place, the fault, what was expected, what was found, and the fix. */

/** Exit codes of the command line tools; every error code belongs to one. */
export const exitCodes = {
  internal: 1,
  usage: 2,
  unsupported: 3,
  malformed: 4,
  accuracy: 5,
  incompatible: 6,
  io: 7,
  signature: 8,
  toolchain: 9,
  limit: 10,
  interrupted: 130,
} as const;

export type ErrorKind = keyof typeof exitCodes;

/** Where and why; every field that is known should be given. */
export interface ErrorDetails {
  file?: string | undefined;
  /** Name of the node in the source model. */
  node?: string | undefined;
  op?: string | undefined;
  domain?: string | undefined;
  opset?: number | undefined;
  expected?: string | undefined;
  found?: string | undefined;
  /** What the user can do about it. */
  fix?: string | undefined;
  cause?: unknown;
}

export class NimforgeError extends Error {
  override readonly name = "NimforgeError";
  readonly kind: ErrorKind;
  /** A stable identifier such as `shape-mismatch`. */
  readonly code: string;
  readonly exitCode: number;
  readonly file?: string | undefined;
  readonly node?: string | undefined;
  readonly op?: string | undefined;
  readonly domain?: string | undefined;
  readonly opset?: number | undefined;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  readonly fix: string;

  constructor(kind: ErrorKind, code: string, fault: string, details: ErrorDetails = {}) {
    super(fault, details.cause === undefined ? undefined : { cause: details.cause });
    this.kind = kind;
    this.code = code;
    this.exitCode = exitCodes[kind];
    this.file = details.file;
    this.node = details.node;
    this.op = details.op;
    this.domain = details.domain;
    this.opset = details.opset;
    this.expected = details.expected;
    this.found = details.found;
    this.fix = details.fix ?? defaultFixes[kind];
  }

  /** The same fault with details that an outer layer knows; what was already said stays. */
  at(details: ErrorDetails): NimforgeError {
    const merged: ErrorDetails = { ...details, cause: this.cause };
    for (const key of ["file", "node", "op", "domain", "opset", "expected", "found", "fix"] as const) {
      if (this[key] !== undefined && !(key === "fix" && this.fix === defaultFixes[this.kind] && details.fix))
        (merged as Record<string, unknown>)[key] = this[key];
    }
    const error = new NimforgeError(this.kind, this.code, this.message, merged);
    if (this.stack !== undefined) error.stack = this.stack;
    return error;
  }

  /** The JSON of a failed command, under the key `error`. */
  toJSON(): Record<string, unknown> {
    const { code, file, node, op, domain, opset, expected, found, fix } = this;
    const all = {
      code,
      exit: this.exitCode,
      message: this.message,
      file,
      node,
      op,
      domain,
      opset,
      expected,
      found,
      fix,
    };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  }

  /** Several lines for a terminal: place and fault, expected and found, fix. */
  format(): string {
    const place = [
      this.file,
      this.node === undefined ? undefined : `node "${this.node}"`,
      this.op === undefined
        ? undefined
        : `op ${this.domain ? `${this.domain}:` : ""}${this.op}${this.opset === undefined ? "" : ` (opset ${this.opset})`}`,
    ].filter((part) => part !== undefined);
    const lines = [`error[${this.code}]: ${this.message}`];
    if (place.length > 0) lines.push(`  at: ${place.join(", ")}`);
    if (this.expected !== undefined) lines.push(`  expected: ${this.expected}`);
    if (this.found !== undefined) lines.push(`  found: ${this.found}`);
    lines.push(`  fix: ${this.fix}`);
    return lines.map(oneLine).join("\n");
  }
}

/** Names come from files: a line break or control character in one must not look like a line of ours. */
const oneLine = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);

const defaultFixes: Record<ErrorKind, string> = {
  internal: "this is a bug in nimforge; report it with the command and the model",
  usage: "see --help",
  unsupported: "cut the graph before this node with --outputs, or declare the operator in a plugin",
  malformed: "the file is damaged or not what its name says; obtain it again",
  accuracy: "raise --max-rel-err or choose a higher precision",
  incompatible: "build an engine for this machine with nim-build --target native",
  io: "check the path, the network and the free space",
  signature: "use an engine signed with a trusted key",
  toolchain: "install a C++ compiler (g++ or clang++)",
  limit: "use a machine with more memory or smaller shapes",
  interrupted: "run the command again",
};

/** A bug of ours, never the user's fault. */
export function internalError(fault: string, details: ErrorDetails = {}): NimforgeError {
  return new NimforgeError("internal", "internal", `internal: ${fault}`, details);
}
