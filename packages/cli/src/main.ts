/** The process around a command line: signals, exit code, closed pipes. */
import { constants } from "node:os";
import { Interrupted } from "./console.js";
import { runCommandLine } from "./program.js";

export async function main(argv: readonly string[] = process.argv.slice(2)): Promise<void> {
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.on(signal, () => {
      // A second one means now; what must be removed is removed on exit.
      if (interrupt.signal.aborted) process.exit(128 + constants.signals[signal]);
      interrupt.abort(new Interrupted(signal));
    });
  // A reader that has seen enough (`| head`) is no fault.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  const exit = await runCommandLine(argv, interrupt.signal);
  // Both streams may be pipes, which are written asynchronously; work that was abandoned must not keep the process.
  await new Promise<void>((done) => process.stdout.write("", () => done()));
  await new Promise<void>((done) => process.stderr.write("", () => done()));
  process.exit(exit);
}
