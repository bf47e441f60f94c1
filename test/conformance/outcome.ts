/** What became of a case on a target. */
import { exitCodes, NimforgeError } from "@nimforge/tensor";

export interface Outcome {
  readonly status: "pass" | "fail" | "unsupported" | "error";
  /** Passed, but with at least one step on the host instead of the device. */
  readonly onHost?: boolean;
  readonly reason?: string;
  /** The operator to blame, where it is known. */
  readonly op?: string | undefined;
  readonly maxError?: number | undefined;
}

/** An exception as an outcome: exit code 3 is an honest "unsupported", anything else is an error of ours. */
export function outcomeOf(error: unknown): Outcome {
  if (!(error instanceof NimforgeError))
    return {
      status: "error",
      reason: firstLine(error instanceof Error ? `${error.name}: ${error.message}` : String(error)),
    };
  const op = error.op && `${error.domain ? `${error.domain}:` : ""}${error.op}`;
  const detail =
    error.expected === undefined
      ? ""
      : ` (expected ${error.expected}${error.found === undefined ? "" : `, found ${error.found}`})`;
  const unsupported = error.exitCode === exitCodes.unsupported;
  return {
    status: unsupported ? "unsupported" : "error",
    op,
    reason: firstLine(unsupported ? error.message : `${error.kind}: ${error.message}${detail}`),
  };
}

/** The first line, and of a compiler's output its first error. */
function firstLine(text: string): string {
  const [first = "", ...rest] = text.split("\n");
  const fault = rest.find((line) => line.includes("error: "));
  return `${first}${fault ? ` … ${fault.slice(fault.indexOf("error: "))}` : ""}`.slice(0, 300);
}
