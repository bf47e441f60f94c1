/** The command line: commander does the parsing, the commands' own data the help text. */

import { existsSync } from "node:fs";
import { version } from "@nimforge/compiler";
import { NimforgeError } from "@nimforge/tensor";
import { Command, CommanderError, Option } from "commander";
import { type CommandSpec, commonOptions, type OptionSpec } from "./command.js";
import { buildCommand } from "./commands/build.js";
import { cacheGcCommand, cacheInfoCommand } from "./commands/cache.js";
import { inspectCommand } from "./commands/inspect.js";
import { runCommand } from "./commands/run.js";
import { targetsCommand } from "./commands/targets.js";
import { verifyCommand } from "./commands/verify.js";
import { Console, Interrupted } from "./console.js";

/** In the order of the help text; a name of two words is a command of a command. */
export const commands: readonly CommandSpec[] = [
  buildCommand,
  runCommand,
  verifyCommand,
  inspectCommand,
  targetsCommand,
  cacheInfoCommand,
  cacheGcCommand,
];

export const exitCodeLine =
  "0 ok · 1 bug · 2 usage · 3 unsupported · 4 bad file · 5 accuracy · 6 wrong target\n  7 cache or network · 8 signature · 9 toolchain · 10 limit · 130 SIGINT · 143 SIGTERM";
export const docsLink = "docs/cli.md";

/** The parser. A command that has run leaves its exit code in `outcome`. */
export function createProgram(
  signal: AbortSignal,
  outcome: { exit: number },
  root = new Command("nim-build"),
): Command {
  for (const spec of commands) {
    const command = commandFor(root, spec.name);
    for (const argument of spec.arguments.split(" ").filter(Boolean)) command.argument(argument);
    for (const { flags, description, parse } of optionsOf(spec)) {
      const option = new Option(flags, description);
      if (parse) option.argParser(parse);
      command.addOption(option);
    }
    command.helpInformation = () => helpText(spec);
    command.action(async () => {
      const options = command === root ? root.opts() : withCommonOptions(root, command);
      const console = new Console(options);
      outcome.exit = await spec.run(command.args, options as Record<string, never>, { console, signal });
    });
  }
  root.version(version, "--version").enablePositionalOptions();
  for (const command of [root, ...root.commands, ...root.commands.flatMap((child) => child.commands)])
    command
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
      .helpCommand(false)
      .helpOption("--help")
      .allowExcessArguments(false);
  for (const group of root.commands.filter((child) => child.commands.length > 0)) {
    const names = group.commands.map((child) => `nim-build ${group.name()} ${child.name()}`);
    group.allowExcessArguments().action(() => {
      const found = group.args[0];
      throw new NimforgeError("usage", "no-command", `${group.name()} needs a command`, {
        expected: names.join(" or "),
        found,
        fix: `run ${names[0]}`,
      });
    });
  }
  return root;
}

/** Options of a command; those of output may also come before its name. */
function withCommonOptions(root: Command, command: Command): Record<string, unknown> {
  const options = command.opts();
  const common = new Set(commonOptions.map(({ flags }) => new Option(flags).attributeName()));
  for (const name of Object.keys(root.opts())) {
    if (root.getOptionValueSource(name) !== "cli") continue;
    if (!common.has(name))
      throw new NimforgeError("usage", "misplaced-option", "options come after the command", {
        fix: `write them after nim-build ${command.name()}`,
      });
    options[name] = root.getOptionValue(name);
  }
  return options;
}

export const optionsOf = (spec: CommandSpec): readonly OptionSpec[] => [...spec.options, ...commonOptions];

function commandFor(root: Command, name: string): Command {
  let command = root;
  for (const word of name.split(" ").filter(Boolean))
    command = command.commands.find((child) => child.name() === word) ?? command.command(word);
  return command;
}

export function helpText(spec: CommandSpec): string {
  const groups = new Map<string, OptionSpec[]>();
  for (const option of optionsOf(spec)) groups.set(option.group, [...(groups.get(option.group) ?? []), option]);
  const others =
    spec.name === ""
      ? [
          "",
          `Commands: ${commands
            .map(({ name }) => name)
            .filter(Boolean)
            .join(", ")} (each with --help)`,
        ]
      : [];
  const usage = ["nim-build", spec.name, spec.arguments, "[options]"].filter(Boolean).join(" ");
  return [
    `Usage: ${usage}`,
    "",
    spec.summary,
    "",
    "Examples:",
    ...spec.examples.map((example) => `  ${example}`),
    ...others,
    "",
    ...[...groups].flatMap(([group, options]) => [
      `${group}:`,
      ...options.map(({ flags, description }) => `  ${flags.padEnd(24)} ${description}`),
    ]),
    `Exit codes: ${exitCodeLine}`,
    `Documentation: ${docsLink}`,
    "",
  ].join("\n");
}

/** Runs one command line. @returns the exit code */
export async function runCommandLine(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const outcome = { exit: 0 };
  // Until an option is parsed, only the words themselves say how to print an error.
  const console = new Console({
    json: argv.includes("--json"),
    verbose: argv.includes("--verbose"),
    quiet: argv.includes("--quiet"),
    color: !argv.includes("--no-color"),
  });
  try {
    if (argv.length === 0) {
      process.stderr.write(helpText(buildCommand));
      return 2;
    }
    await createProgram(signal, outcome).parseAsync(argv, { from: "user" });
    return outcome.exit;
  } catch (error) {
    if (signal.aborted) return console.fail(signal.reason instanceof Interrupted ? signal.reason : error);
    if (!(error instanceof CommanderError)) return console.fail(error);
    if (error.exitCode === 0) return 0;
    return console.fail(usageError(error, argv));
  }
}

/** Commander's message ("error: unknown option '--shpe'\n(Did you mean --shape?)") as one of our errors. */
function usageError(error: CommanderError, argv: readonly string[]): NimforgeError {
  const [fault = "", hint] = error.message.replace(/^error: /, "").split("\n");
  const first = argv.find((word) => !word.startsWith("-"));
  const command = first && !existsSync(first) ? nearestCommand(first) : undefined;
  const suggestion = hint
    ? hint.replace(/[()]/g, "")
    : command && error.code === "commander.excessArguments"
      ? `Did you mean nim-build ${command}?`
      : undefined;
  return new NimforgeError(
    "usage",
    error.code.replace(/^commander\./, "").replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`),
    fault,
    {
      fix: suggestion ? `${suggestion} See nim-build --help` : "see nim-build --help",
    },
  );
}

/** The command that a misspelt word most likely means. */
export function nearestCommand(word: string): string | undefined {
  const names = [...new Set(commands.map(({ name }) => name.split(" ")[0] as string).filter(Boolean))];
  const ranked = names
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0] && ranked[0].distance <= 2 ? ranked[0].name : undefined;
}

/** Insertions, deletions, replacements and swaps of neighbours (Damerau). */
function editDistance(a: string, b: string): number {
  const rows: number[][] = Array.from({ length: a.length + 1 }, (_, i) => [i]);
  for (let j = 1; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const replace = rows[i - 1]![j - 1]! + Number(a[i - 1] !== b[j - 1]);
      let best = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, replace);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = best;
    }
  return rows[a.length]![b.length]!;
}
