/** A command as data: what the parser, the help text and the documentation test all read. */
import type { Console } from "./console.js";

export interface OptionSpec {
  /** As commander reads it: `-o, --out <path>`. */
  flags: string;
  description: string;
  /** Heading of its group in the help text. */
  group: string;
  /** Reads one value, given those before it; a flag without a value has none. */
  // biome-ignore lint/suspicious/noExplicitAny: commander's own type; each command knows the types of its values
  parse?: (text: string, before: any) => unknown;
}

export interface CommandSpec {
  /** `""` is the command without a name. */
  name: string;
  /** As commander reads them: `<model>`. */
  arguments: string;
  /** One sentence. */
  summary: string;
  /** Three, each runnable as written. */
  examples: readonly string[];
  options: readonly OptionSpec[];
  /** @returns the exit code */
  run(args: string[], options: Record<string, never>, context: CommandContext): Promise<number>;
}

export interface CommandContext {
  console: Console;
  /** Fires on SIGINT and SIGTERM. */
  signal: AbortSignal;
}

/** Options of every command. */
export const commonOptions: readonly OptionSpec[] = [
  { flags: "--json", description: "one JSON value on stdout, also on failure", group: "Output" },
  { flags: "--quiet", description: "no progress, no warnings", group: "Output" },
  { flags: "--verbose", description: "stack traces of errors", group: "Output" },
  { flags: "--no-color", description: "plain text (also: NO_COLOR=1)", group: "Output" },
];
