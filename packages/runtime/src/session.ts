/** Sessions by name: what users load and run. */
import {
  type DeviceEngine,
  type DeviceSession,
  type MemoryFigures,
  openEngine,
  type ProgramSignature,
  type StepTime,
} from "@nimforge/device";
import { type DType, NimforgeError, type Tensor } from "@nimforge/tensor";
import { requireTrusted, type Trust } from "./trust.js";

export interface LoadOptions {
  /** Workers of the CPU; one for each usable core when left out. */
  threads?: number | undefined;
  /** Whose engines may run; "local" when left out. */
  trust?: Trust | undefined;
  /** Name of the program (the first's when left out), of which the target that this machine runs best is taken; or an index. */
  program?: string | number | undefined;
  /** Only a program compiled for this target, such as `sm_90`. */
  target?: string | undefined;
  /** Only on this device: `cpu`, `cuda` (the GPU that fits best) or `cuda:1`. */
  device?: string | undefined;
  /** Whether programs for emulated targets, which are for tests, may run; true when left out. */
  allowEmulated?: boolean | undefined;
  /** Also check the hashes of weights and assets (reads the whole file). */
  verifyWeights?: boolean | undefined;
  /** Record the time of each step, for `profile()`. */
  profile?: boolean | undefined;
}

export interface RunOptions {
  signal?: AbortSignal | undefined;
}

/** One input or output: sizes are numbers or expressions such as `W` or `floor((W - 1) / 4) + 1`. */
export interface TensorDescription {
  name: string;
  dtype: DType;
  shape: string[];
}

/**
 * Loads an engine and prepares it to run here.
 * @throws NimforgeError usage (no such file or program), signature (not to be trusted), malformed (damaged),
 *   incompatible (other format, or nothing in it runs on this machine), limit (memory, threads).
 */
export async function loadEngine(path: string, options: LoadOptions = {}): Promise<Session> {
  requireTrusted(path, options.trust ?? "local");
  const engine = openEngine(path, { verifyWeights: options.verifyWeights ?? false });
  return sessionOf(engine, options);
}

/** The same for an engine in memory, which is trusted as the program is that holds it. */
export async function loadEngineBytes(bytes: Uint8Array, options: Omit<LoadOptions, "trust"> = {}): Promise<Session> {
  return sessionOf(openEngine(bytes, { verifyWeights: options.verifyWeights ?? false }), options);
}

function sessionOf(engine: DeviceEngine, options: LoadOptions): Session {
  try {
    const { threads, program, target, device, allowEmulated, profile } = options;
    if (threads !== undefined && !(threads >= 1))
      throw new NimforgeError("usage", "threads", "threads must be a whole number from 1 to 1024", {
        found: String(threads),
      });
    const session = engine.createSession({ program, target, device, allowEmulated, profile, threads });
    return new Session(session, engine.file);
  } finally {
    engine.close(); // the session keeps what it needs
  }
}

export class Session {
  readonly name: string;
  /** What the program was compiled for: `cpu-x86-64-v3`, `sm_90`; empty when it runs anywhere. */
  readonly target: string;
  /** What it runs on: `cpu`, `cuda:0`. */
  readonly device: string;
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
  /** Ranges of the sizes that shapes name. */
  readonly symbols: ProgramSignature["symbols"];
  private readonly inputNames: Set<string>;

  /** @internal Use loadEngine. */
  constructor(
    private readonly session: DeviceSession,
    private readonly file: string | undefined,
  ) {
    const { name, target, inputs, outputs, symbols } = session.signature;
    this.name = name;
    this.target = target;
    this.device = session.device;
    this.inputs = inputs as TensorDescription[];
    this.outputs = outputs as TensorDescription[];
    this.symbols = symbols;
    this.inputNames = new Set(inputs.map((input) => input.name));
  }

  get threads(): number {
    return this.session.threads;
  }

  /** Of the last run. */
  get memory(): MemoryFigures {
    return this.session.memory();
  }

  /**
   * Off the event loop; runs of a session are executed one after the other. The inputs' data must not change until the
   * promise settles.
   * @throws NimforgeError usage (an input is missing, unknown, or of wrong dtype or shape), malformed (index out of range),
   *   limit (memory), interrupted (signal).
   */
  async run(inputs: Record<string, Tensor>, options: RunOptions = {}): Promise<Record<string, Tensor>> {
    return this.named(await this.session.run(this.ordered(inputs), options));
  }

  /** On the calling thread: for models of microseconds. Errors as `run`. */
  runSync(inputs: Record<string, Tensor>): Record<string, Tensor> {
    return this.named(this.session.runSync(this.ordered(inputs)));
  }

  /** Times of the last run's steps; empty unless loaded with `profile`. */
  profile(): StepTime[] {
    return this.session.profile();
  }

  /** Aborts what is running or waiting and frees threads and memory. */
  async close(): Promise<void> {
    await this.session.close();
  }

  private ordered(inputs: Record<string, Tensor>): Tensor[] {
    const tensors = this.inputs.map(({ name }) => (Object.hasOwn(inputs, name) ? inputs[name] : undefined));
    const missing = this.inputs.filter((_, i) => tensors[i] === undefined);
    const unknown = Object.keys(inputs).filter((name) => !this.inputNames.has(name));
    if (missing.length === 0 && unknown.length === 0) return tensors as Tensor[];
    const first = missing[0] === undefined ? "unknown-input" : "missing-input";
    const fault = [
      ...missing.map(({ name }) => `input "${name}" is missing`),
      ...unknown.map((name) => `there is no input "${name}"`),
    ].join("; ");
    throw new NimforgeError("usage", first, fault, {
      file: this.file,
      expected: this.inputs.map(describe).join(", ") || "no inputs",
      found: Object.keys(inputs).join(", ") || "no inputs",
      fix: "give every input of the engine by its name",
    });
  }

  private named(outputs: Tensor[]): Record<string, Tensor> {
    return Object.fromEntries(this.outputs.map(({ name }, i) => [name, outputs[i] as Tensor]));
  }
}

function describe({ name, dtype, shape }: TensorDescription): string {
  return `${name}: ${dtype}[${shape.join(", ")}]`;
}
