/** What ptxas reports of each kernel (`-v`): the figures that decide between variants and that `inspect` shows. */

export interface KernelResources {
  /** Registers of a thread. */
  readonly registers: number;
  /** Bytes of static shared memory of a block. */
  readonly sharedStatic: number;
  /** Bytes of a thread's stack frame. */
  readonly stack: number;
  /** Bytes written to and read from local memory for want of registers. */
  readonly spillStores: number;
  readonly spillLoads: number;
}

const number = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);

/** Reads the report; functions that are not kernels are left out. */
export function parseResources(report: string): Map<string, KernelResources> {
  const resources = new Map<string, KernelResources>();
  // A section begins with the entry's name and ends where the next entry or function does.
  for (const section of report.split(/^(?=ptxas info\s*: Compiling entry function )/m)) {
    const name = /^ptxas info\s*: Compiling entry function '([^']+)'/.exec(section)?.[1];
    if (name === undefined) continue;
    const ownLines = section
      .split(/^ptxas info\s*: Function properties for /m)
      .slice(0, 2)
      .join("");
    const registers = /Used (\d+) registers/.exec(section)?.[1];
    if (registers === undefined) continue;
    resources.set(name, {
      registers: Number(registers),
      sharedStatic: number(section, /, (\d+) bytes smem/),
      stack: number(ownLines, /(\d+) bytes stack frame/),
      spillStores: number(ownLines, /(\d+) bytes spill stores/),
      spillLoads: number(ownLines, /(\d+) bytes spill loads/),
    });
  }
  return resources;
}
