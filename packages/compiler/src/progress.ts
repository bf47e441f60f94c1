/** What a build is doing: events for people, seconds for the result, spans for the trace. */

export interface BuildProgress {
  phase: string;
  /** The target that the phase is for; left out for what all targets share. */
  target?: string | undefined;
  state: "start" | "end";
  /** Since the phase began; with state "end". */
  seconds?: number;
}

interface Span {
  phase: string;
  target: string | undefined;
  start: number;
  end: number;
}

/** Milliseconds to seconds, to a millisecond. */
const seconds = (ms: number): number => Math.round(ms) / 1000;

export class BuildClock {
  readonly #spans: Span[] = [];
  readonly #began = performance.now();
  constructor(
    readonly signal: AbortSignal | undefined,
    readonly report: ((event: BuildProgress) => void) | undefined,
  ) {}

  /** Runs one phase. Between phases the event loop turns once, so that an interrupt is seen. */
  async phase<T>(phase: string, target: string | undefined, work: () => T | Promise<T>): Promise<T> {
    await new Promise((resolve) => setImmediate(resolve));
    this.signal?.throwIfAborted();
    const start = performance.now();
    this.report?.({ phase, target, state: "start" });
    const result = await work();
    const end = performance.now();
    this.#spans.push({ phase, target, start, end });
    this.report?.({ phase, target, state: "end", seconds: seconds(end - start) });
    return result;
  }

  /** Seconds of each phase that concerns a target (or all; without a target: of every phase), and in total since the clock was made. */
  seconds(target?: string): { total: number; [phase: string]: number } {
    const out: { total: number; [phase: string]: number } = { total: seconds(performance.now() - this.#began) };
    const spans = this.#spans.filter((span) => target === undefined || (span.target ?? target) === target);
    for (const phase of new Set(spans.map((span) => span.phase))) {
      const own = spans.filter((span) => span.phase === phase);
      out[phase] = seconds(Math.max(...own.map(({ end }) => end)) - Math.min(...own.map(({ start }) => start)));
    }
    return out;
  }

  /** The Trace Event Format, as chrome://tracing and Perfetto read it; targets are compiled at once, so each has a row of its own. */
  trace(): string {
    const rows = [...new Set(this.#spans.map(({ target }) => target))];
    const traceEvents = this.#spans.map(({ phase, target, start, end }) => ({
      name: target ? `${phase} ${target}` : phase,
      ph: "X",
      ts: Math.round((start - this.#began) * 1000),
      dur: Math.round((end - start) * 1000),
      pid: 1,
      tid: rows.indexOf(target) + 1,
    }));
    return `${JSON.stringify({ traceEvents, displayTimeUnit: "ms" })}\n`;
  }
}
