/** nim-build targets: what can be built for here, and what runs here. */
import { checkTargets, listDevices } from "@nimforge/compiler";
import type { CommandSpec } from "../command.js";
import { table } from "../text.js";

export const targetsCommand: CommandSpec = {
  name: "targets",
  arguments: "",
  summary: "Lists the targets, which of them this machine builds engines for, and which it runs.",
  examples: ["nim-build targets", "nim-build targets --json", "nim-build targets --no-color"],
  options: [],
  async run(_args, _options, { console }) {
    const targets = await checkTargets();
    const devices = listDevices();
    const rows = targets.map(({ name, builds, device, emulated, aliases }) => [
      name,
      builds ? "builds here" : "cannot be built here",
      device === undefined ? "does not run here" : `runs on ${device}${emulated ? ", for tests" : ""}`,
      aliases.join(", "),
    ]);
    const notes = [
      ...devices.map(({ name, product }) => `${name}: ${product}`),
      ...unique(targets.map(({ reason }) => reason)).map((reason) => `not run: ${reason}`),
      ...unique(targets.map(({ missing }) => missing)).map((fix) => `not built: ${fix}`),
    ];
    return console.result({ targets, devices }, [table(rows), "", ...notes].join("\n"));
  },
};

const unique = (texts: readonly (string | undefined)[]): string[] => [
  ...new Set(texts.filter((text) => text !== undefined)),
];
