/** What a command prints: its result on stdout, everything else on stderr. */
import type { BuildProgress } from "@nimforge/compiler";
import { type exitCodes, internalError, NimforgeError } from "@nimforge/tensor";
import { printable } from "./text.js";

export const schemaVersion = 1;

export interface ConsoleOptions {
  json?: boolean;
  quiet?: boolean;
  verbose?: boolean;
  color?: boolean;
}

export class Console {
  readonly #color: boolean;
  #line = false;
  constructor(
    readonly options: ConsoleOptions,
    readonly stdout: NodeJS.WriteStream = process.stdout,
    readonly stderr: NodeJS.WriteStream = process.stderr,
    env: NodeJS.ProcessEnv = process.env,
  ) {
    const forced = env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== "0";
    this.#color = options.color !== false && !env.NO_COLOR && (forced || stderr.isTTY === true);
  }

  /** The command's one result: `value` with --json, else `text`. @returns exit code 0 */
  result(value: object, text: string): number {
    this.#endLine();
    this.stdout.write(this.options.json ? `${JSON.stringify({ schemaVersion, ...value })}\n` : `${printable(text)}\n`);
    return 0;
  }

  warn(text: string): void {
    if (this.options.quiet) return;
    this.#endLine();
    this.stderr.write(`${this.#paint(33, "warning")}: ${printable(text)}\n`);
  }

  /** On a terminal the phase in progress is shown and then replaced by its time; elsewhere each phase is a line. */
  readonly progress = (event: BuildProgress): void => {
    if (this.options.quiet) return;
    const name = event.target ? `${event.phase} ${event.target}` : event.phase;
    const terminal = this.stderr.isTTY === true;
    if (event.state === "start") {
      if (!terminal) return;
      this.stderr.write(`${this.#paint(36, "…")} ${name}`);
      this.#line = true;
    } else {
      this.stderr.write(
        `${terminal ? "\r\x1b[2K" : ""}${this.#paint(32, "✓")} ${name} ${this.#paint(2, `${event.seconds?.toFixed(2)} s`)}\n`,
      );
      this.#line = false;
    }
  };

  /** Prints an error. @returns the exit code */
  fail(error: unknown): number {
    this.#endLine();
    const known = asNimforgeError(error);
    const exit = exitCodeOf(known, error);
    if (this.options.json)
      this.stdout.write(`${JSON.stringify({ schemaVersion, error: { ...known.toJSON(), exit } })}\n`);
    else
      this.stderr.write(`${printable(known.format()).replace(/^error\[[^\]]*\]/, (head) => this.#paint(31, head))}\n`);
    if (this.options.verbose && known.kind !== "interrupted") this.stderr.write(`${stackOf(error)}\n`);
    return exit;
  }

  #paint(code: number, text: string): string {
    return this.#color ? `\x1b[${code}m${text}\x1b[0m` : text;
  }

  #endLine(): void {
    if (this.#line) this.stderr.write("\r\x1b[2K");
    this.#line = false;
  }
}

/** The reason of an abort by a signal. */
export class Interrupted extends Error {
  constructor(readonly signal: "SIGINT" | "SIGTERM") {
    super(`interrupted by ${signal}`);
  }
}

function exitCodeOf(known: NimforgeError, error: unknown): number {
  const reason =
    known.kind === "interrupted" ? (error instanceof Interrupted ? error : (error as Error).cause) : undefined;
  return reason instanceof Interrupted && reason.signal === "SIGTERM" ? 143 : known.exitCode;
}

function asNimforgeError(error: unknown): NimforgeError {
  // Two copies of the package in one process have two classes of the one name.
  if (error instanceof Error && error.name === "NimforgeError") return error as NimforgeError;
  if (error instanceof Interrupted)
    return new NimforgeError("interrupted", "interrupted", error.message, { cause: error });
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (syscall !== undefined && code !== undefined && code in systemFaults)
    return new NimforgeError(
      systemFaults[code] as keyof typeof exitCodes,
      code.toLowerCase(),
      (error as Error).message,
      { file: path, cause: error },
    );
  return internalError(error instanceof Error ? error.message : String(error), { cause: error });
}

/** Faults of the machine, not of the program. */
const systemFaults: Record<string, keyof typeof exitCodes> = {
  ENOSPC: "io",
  EACCES: "io",
  EPERM: "io",
  EROFS: "io",
  EDQUOT: "io",
  ENOMEM: "limit",
  EMFILE: "limit",
};

function stackOf(error: unknown): string {
  const lines: string[] = [];
  for (let at: unknown = error; at instanceof Error; at = at.cause) lines.push(at.stack ?? at.message);
  return lines.join("\ncaused by: ");
}
