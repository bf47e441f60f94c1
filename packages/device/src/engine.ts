/** Verified engines and the sessions that run their programs. Nothing here knows names or trust: that is the runtime's. */
import { type DataRef, type EngineTable, readEngineTable } from "@nimforge/engine";
import { type DType, NimforgeError, type Tensor, tensorFromBytes } from "@nimforge/tensor";
import {
  addon,
  fromNative,
  type MemoryFigures,
  type NativeEngine,
  type NativeSession,
  native,
  type ProgramSignature,
  type StepTime,
} from "./native.js";

export interface OpenOptions {
  /** Also check the hashes of weights and assets (reads the whole file). */
  verifyWeights?: boolean;
}

export interface SessionOptions {
  /** A name (of the first program when left out), of which the target that this machine runs best is taken; or an index. */
  program?: number | string | undefined;
  /** Only a program compiled for this target, such as `sm_90`. */
  target?: string | undefined;
  /** Only on this device: `cpu`, `cuda` (the GPU that fits best) or `cuda:1`. */
  device?: string | undefined;
  /** Whether programs for emulated targets, which are for tests, may run; true when left out. */
  allowEmulated?: boolean | undefined;
  /** Workers of the CPU, the caller included; one for each usable core when left out. */
  threads?: number | undefined;
  /** Record the time of each step. */
  profile?: boolean | undefined;
}

/**
 * Maps and verifies an engine: frame, table, padding and code. No code of it runs before a session is created.
 * @throws NimforgeError usage (no such file), malformed (damaged or hostile), incompatible (another format).
 */
export function openEngine(source: string | Uint8Array, options: OpenOptions = {}): DeviceEngine {
  const file = typeof source === "string" ? source : undefined;
  return new DeviceEngine(
    native(() => addon().openEngine(source, { verifyWeights: options.verifyWeights ?? false }), file),
    file,
  );
}

export class DeviceEngine {
  private parsed: EngineTable | undefined;

  /** @internal Use openEngine. */
  constructor(
    private readonly handle: NativeEngine,
    readonly file: string | undefined,
  ) {}

  /** The table as plain objects; read on first use. */
  get table(): EngineTable {
    this.parsed ??= readEngineTable(this.call(() => this.handle.table()));
    return this.parsed;
  }

  programs(): ProgramSignature[] {
    return this.call(() => this.handle.programs());
  }

  /** A copy of a range of a segment; without `length`, to its end. */
  read(data: DataRef, length?: number): Uint8Array {
    const whole = this.table.segments[data.segment]?.length ?? 0;
    return this.call(() => this.handle.segment(data.segment, data.offset, length ?? whole - data.offset));
  }

  /** Whether some program is for an emulated target. */
  get emulated(): boolean {
    return this.programs().some(({ target }) => isEmulated(target));
  }

  /**
   * @throws NimforgeError usage (no such program or device), incompatible (nothing in the engine runs on this machine: it
   *   names what the engine holds, what the machine has, and the build that is missing), limit (memory, threads).
   */
  createSession(options: SessionOptions = {}): DeviceSession {
    const { program, target, device, allowEmulated = true, threads = 0, profile = false } = options;
    if (!Number.isInteger(threads) || threads < 0 || threads > 1024)
      throw new NimforgeError("usage", "threads", "threads must be a whole number from 1 to 1024", {
        found: String(threads),
      });
    const session = this.call(() =>
      this.handle.createSession({ program, target, device, allowEmulated, threads, profile }),
    );
    return new DeviceSession(session, this.programs()[session.program()] as ProgramSignature, this.file);
  }

  /** Sessions live on. */
  close(): void {
    this.handle.close();
  }

  private call<T>(body: () => T): T {
    return native(body, this.file);
  }
}

/** Whether a target's engines run on the emulator: they are for tests. */
export function isEmulated(target: string): boolean {
  return target.startsWith("emulated-");
}

export function createSession(engine: DeviceEngine, options: SessionOptions = {}): DeviceSession {
  return engine.createSession(options);
}

/** Runs one program; runs are executed one after the other. */
export class DeviceSession {
  private nextRun = 1;
  private readonly pending = new Map<number, Promise<unknown>>();
  private closed = false;

  /** @internal Use createSession. */
  constructor(
    private readonly handle: NativeSession,
    readonly signature: ProgramSignature,
    private readonly file: string | undefined,
  ) {}

  /**
   * Inputs and outputs in the signature's order. The inputs' data must not change until the promise settles.
   * @throws NimforgeError usage (dtype, shape), malformed (a fault inside the program), limit (memory), interrupted (signal).
   */
  async run(inputs: readonly Tensor[], options: { signal?: AbortSignal | undefined } = {}): Promise<Tensor[]> {
    const { signal } = options;
    this.requireOpen();
    if (signal?.aborted) throw aborted(signal);
    const id = this.nextRun++;
    const cancel = () => this.handle.cancel(id);
    try {
      const running = this.handle.run(nativeTensors(inputs), id);
      this.pending.set(id, running);
      signal?.addEventListener("abort", cancel, { once: true });
      return outputTensors(await running);
    } catch (error) {
      throw signal?.aborted && (error as { code?: string }).code === "aborted"
        ? aborted(signal)
        : fromNative(error, this.file);
    } finally {
      signal?.removeEventListener("abort", cancel);
      this.pending.delete(id);
    }
  }

  /** On the calling thread: for models of microseconds. Waits for a run in progress. */
  runSync(inputs: readonly Tensor[]): Tensor[] {
    this.requireOpen();
    return native(() => outputTensors(this.handle.runSync(nativeTensors(inputs))), this.file);
  }

  /** Of the last run; zeros before the first. */
  memory(): MemoryFigures {
    return native(() => this.handle.memory());
  }

  /** Of the last run; empty unless the session profiles. */
  profile(): StepTime[] {
    return native(() => this.handle.profile());
  }

  get threads(): number {
    return native(() => this.handle.threads());
  }

  /** `cpu` or `cuda:0`. */
  get device(): string {
    return native(() => this.handle.device());
  }

  /** Cancels what is running or waiting, then frees threads and memory. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    for (const id of this.pending.keys()) this.handle.cancel(id);
    await Promise.allSettled(this.pending.values());
    this.handle.close();
  }

  private requireOpen(): void {
    if (this.closed) throw new NimforgeError("usage", "closed", "the session is closed");
  }
}

function aborted(signal: AbortSignal): NimforgeError {
  return new NimforgeError("interrupted", "aborted", "the run was aborted", { cause: signal.reason });
}

function nativeTensors(inputs: readonly Tensor[]) {
  return inputs.map(({ dtype, shape, data }, i) => {
    if (!ArrayBuffer.isView(data))
      throw new NimforgeError("usage", "input-type", `input ${i}: a program takes no strings`, {
        expected: "a typed array",
      });
    return { dtype, shape, data };
  });
}

function outputTensors(outputs: { dtype: string; shape: number[]; data: ArrayBuffer }[]): Tensor[] {
  return outputs.map(({ dtype, shape, data }) => tensorFromBytes(dtype as DType, shape, new Uint8Array(data)));
}
