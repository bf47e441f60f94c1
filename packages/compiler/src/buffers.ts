/** Where a program's values lie in memory for given sizes: what `inspect --memory` shows. */
import { planArena } from "@nimforge/device";
import type { ExprSpec, ProgramSpec } from "@nimforge/engine";
import { internalError } from "@nimforge/tensor";

export interface BufferPlace {
  name: string;
  kind: string;
  dtype: string;
  /** null: known only during a run. */
  bytes: number | null;
  /** Steps over which it is live; arena buffers only. */
  first?: number | undefined;
  last?: number | undefined;
  /** From the arena's start; null as `bytes`, left out for other kinds. */
  offset?: number | null;
  /** The buffer that this one is a view of. */
  alias?: string;
}

export interface MemoryReport {
  /** Bytes that the runtime allocates for intermediate values. */
  arena: number;
  /** Largest sum over steps of live unpadded bytes: of the arena's buffers alone, and with inputs and outputs. */
  arenaLowerBound: number;
  lowerBound: number;
  /** arena / arenaLowerBound: 1 is the least that any placement needs. */
  ratio: number;
  /** Bytes of constants, each counted once. */
  weights: number;
  /** The inputs' shapes that the figures are for. */
  shapes: Record<string, number[]>;
}

/** Whether every buffer has a size that is possible. */
export function sizesFit(program: ProgramSpec<unknown>, shapes: Readonly<Record<string, readonly number[]>>): boolean {
  const values = evaluateExprs(program, shapes);
  return program.buffers.every(({ bytes }) => (values[bytes] ?? 0) >= 0);
}

/** What a run takes for given shapes of the inputs; values whose size is known only during a run are not counted. */
export function memoryOf(program: ProgramSpec, shapes: Record<string, number[]>): MemoryReport {
  const values = evaluateExprs(program, shapes);
  const roots = program.buffers.map((_, k) => k).filter((k) => program.buffers[k]!.alias === undefined);
  const items = (kinds: readonly string[]) =>
    roots.flatMap((k) => {
      const { kind, bytes } = program.buffers[k]!;
      const size = values[bytes] ?? null;
      return size === null || !kinds.includes(kind) ? [] : [{ bytes: size, ...lifetime(program, k) }];
    });
  const { bytes: arena, lowerBound: arenaLowerBound } = planArena(items(["arena"]));
  const { lowerBound } = planArena(items(["arena", "input", "output"]), 1);
  const constants = new Set(program.buffers.flatMap(({ kind, data }) => (kind === "constant" && data ? [data] : [])));
  const weights = [...constants].reduce((sum, data) => sum + data.length, 0);
  return {
    arena,
    arenaLowerBound,
    lowerBound,
    ratio: arenaLowerBound === 0 ? 1 : arena / arenaLowerBound,
    weights,
    shapes,
  };
}

/** @param shapes concrete shapes of the program's inputs, by name */
export function placeBuffers(
  program: ProgramSpec<unknown>,
  shapes: Readonly<Record<string, readonly number[]>>,
): BufferPlace[] {
  const values = evaluateExprs(program, shapes);
  const bytesOf = (k: number): number | null => values[program.buffers[k]!.bytes] ?? null;
  const arena = program.buffers
    .map((_, k) => k)
    .filter((k) => program.buffers[k]!.kind === "arena" && program.buffers[k]!.alias === undefined);
  const known = arena.filter((k) => bytesOf(k) !== null);
  const plan = planArena(known.map((k) => ({ bytes: bytesOf(k)!, ...lifetime(program, k) })));
  const offsets = new Map(known.map((k, i) => [k, plan.offsets[i]!]));
  return program.buffers.map((buffer, k) => {
    const place: BufferPlace = { name: buffer.name, kind: buffer.kind, dtype: buffer.dtype, bytes: bytesOf(k) };
    if (buffer.kind === "arena") Object.assign(place, { first: buffer.first, last: buffer.last });
    if (buffer.alias !== undefined) place.alias = program.buffers[buffer.alias]!.name;
    else if (buffer.kind === "arena") place.offset = offsets.get(k) ?? null;
    return place;
  });
}

/** A buffer lives as long as its views; one without a stated lifetime lives throughout. */
function lifetime(program: ProgramSpec<unknown>, root: number): { first: number; last: number } {
  let first = program.buffers[root]!.first ?? 0;
  let last = program.buffers[root]!.last ?? Math.max(program.steps.length - 1, 0);
  program.buffers.forEach((buffer, k) => {
    if (k === root || rootOf(program, k) !== root) return;
    first = Math.min(first, buffer.first ?? first);
    last = Math.max(last, buffer.last ?? last);
  });
  return { first, last };
}

/** The buffer that a view, or a view of a view, lies in. */
export function rootOf(program: ProgramSpec<unknown>, k: number): number {
  let root = k;
  for (let next = program.buffers[root]!.alias; next !== undefined; next = program.buffers[root]!.alias) root = next;
  return root;
}

/** Values of all expressions; null where a symbol is not bound by an input. */
export function evaluateExprs(
  program: ProgramSpec<unknown>,
  shapes: Readonly<Record<string, readonly number[]>>,
): (number | null)[] {
  const symbols = program.symbols.map(({ input, axis }) =>
    input === undefined ? null : (shapes[program.inputs[input]!.name]?.[axis ?? 0] ?? null),
  );
  const values: (number | null)[] = [];
  for (const expr of program.exprs) values.push(evaluateExpr(expr, values, symbols));
  return values;
}

type Operator = (a: number, b: number) => number;
const operators: Partial<Record<ExprSpec["op"], Operator>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  floordiv: (a, b) => Math.floor(a / b),
  ceildiv: (a, b) => Math.ceil(a / b),
  mod: (a, b) => a - b * Math.floor(a / b),
  min: Math.min,
  max: Math.max,
  eq: (a, b) => Number(a === b),
  ne: (a, b) => Number(a !== b),
  lt: (a, b) => Number(a < b),
  le: (a, b) => Number(a <= b),
  and: (a, b) => Number(a !== 0 && b !== 0),
  or: (a, b) => Number(a !== 0 || b !== 0),
};

function evaluateExpr(
  expr: ExprSpec,
  values: readonly (number | null)[],
  symbols: readonly (number | null)[],
): number | null {
  const at = (index: number | undefined): number | null => (index === undefined ? null : (values[index] ?? null));
  if (expr.op === "constant") return Number(expr.value ?? 0);
  if (expr.op === "symbol") return symbols[expr.a ?? 0] ?? null;
  const a = at(expr.a);
  if (a === null) return null;
  if (expr.op === "not") return Number(a === 0);
  if (expr.op === "select") return a !== 0 ? at(expr.b) : at(expr.c);
  const b = at(expr.b);
  const operator = operators[expr.op];
  if (!operator) throw internalError(`unknown size operator ${expr.op}`);
  return b === null ? null : operator(a, b);
}
