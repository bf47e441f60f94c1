export interface Program {
  name: string;
  source: string;
  /** Compute capability * 10. */
  arch: number;
  defines: string[];
}
export interface Ended {
  ok: boolean;
  code: number | null;
  signal: string | null;
  output: string;
  late: boolean;
}
export const root: string;
export const programs: Program[];
export function compilerHere(): { command: string; reason?: undefined } | { command?: undefined; reason: string };
export function execute(
  command: string,
  args: string[],
  options?: { seconds?: number; env?: Record<string, string>; cwd?: string },
): Promise<Ended>;
export function buildEmulator(command: string, tree: string, out: string): Promise<string[]>;
export function buildProgram(
  command: string,
  program: Program,
  options: { tree?: string; objects: string[]; out: string; extra?: string[] },
): Promise<string>;
export function inTurn<T>(items: readonly T[], width: number, task: (item: T) => Promise<unknown>): Promise<void>;
