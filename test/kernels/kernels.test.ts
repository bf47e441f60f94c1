/** Every test program of the CUDA kernel templates, compiled with the emulator of CUDA's threads and run. Needs a C++ compiler, no CUDA. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildEmulator, buildProgram, compilerHere, execute, programs, root } from "./programs.mjs";

const { command, reason } = compilerHere();
const minutes = 60_000;

describe.skipIf(!command)(`the CUDA kernel templates, emulated${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "nimforge-kernels-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  // Two compilers at work: while one program runs, the next ones are built.
  const built = new Map<string, Promise<string>>();
  beforeAll(async () => {
    if (!command) return;
    const objects = await buildEmulator(command, root, folder);
    const lanes: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
    for (const [k, program] of programs.entries()) {
      const path = lanes[k % 2]!.then(() => buildProgram(command, program, { objects, out: folder }));
      lanes[k % 2] = path.catch(() => {});
      built.set(program.name, path);
    }
  }, 5 * minutes);

  it.each(programs.map(({ name }) => name))(
    "%s",
    async (name) => {
      const { ok, code, signal, late, output } = await execute(await built.get(name)!, [], { seconds: 180 });
      expect(ok, `${late ? "out of time" : (signal ?? `exit ${code}`)}:\n${output}`).toBe(true);
    },
    8 * minutes,
  );
});
