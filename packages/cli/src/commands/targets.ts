/** nim-build targets: what can be built for, and what runs here. */
import { listTargets } from "@nimforge/compiler";
import type { CommandSpec } from "../command.js";
import { table } from "../text.js";

export const targetsCommand: CommandSpec = {
  name: "targets",
  arguments: "",
  summary: "Lists the targets that engines can be built for, and which of them this machine runs.",
  examples: ["nim-build targets", "nim-build targets --json", "nim-build targets --no-color"],
  options: [],
  async run(_args, _options, { console }) {
    const targets = listTargets();
    const rows = targets.map(({ name, runs, aliases }) => [
      name,
      runs ? "runs here" : "not on this machine",
      aliases.join(", "),
    ]);
    return console.result({ targets }, table(rows));
  },
};
