/** The sizes of a graph's inputs: which symbols there are, and which values stand for them where one is needed. */
import { evaluateDim, type Graph, type SymbolAtom, visitSymbols } from "@nimforge/ir";
import { NimforgeError } from "@nimforge/tensor";

/** Symbols of the inputs' shapes, in order of appearance. */
export function inputSymbols(graph: Graph): SymbolAtom[] {
  const symbols = new Map<string, SymbolAtom>();
  for (const { value } of graph.inputs) {
    if (value.type.kind !== "tensor") continue;
    for (const dim of value.type.shape) visitSymbols(dim, (symbol) => symbols.set(symbol.key, symbol));
  }
  return [...symbols.values()];
}

/**
 * A value for each symbol: what `opt` says, else the range's upper bound, else its lower one.
 * @throws NimforgeError usage when `opt` names no symbol or leaves a range
 */
export function nominalSizes(graph: Graph, opt: Readonly<Record<string, number>> = {}): Record<string, number> {
  const symbols = inputSymbols(graph);
  for (const [name, size] of Object.entries(opt)) {
    const symbol = symbols.find((candidate) => candidate.name === name);
    const names = symbols.map((candidate) => candidate.name).join(", ") || "no symbols";
    if (!symbol)
      throw new NimforgeError("usage", "unknown-symbol", `opt: no input has a size named ${JSON.stringify(name)}`, {
        expected: names,
      });
    if (size < symbol.low || size > upperBound(symbol))
      throw new NimforgeError("usage", "bad-opt", `opt: ${name} is outside its range`, {
        expected: `${symbol.low}..${upperBound(symbol)}`,
        found: String(size),
      });
  }
  return Object.fromEntries(
    symbols.map((symbol) => {
      const high = upperBound(symbol);
      return [symbol.name, opt[symbol.name] ?? (Number.isFinite(high) ? high : symbol.low)];
    }),
  );
}

/** Sizes that are not bounded and not asked for, doubled: the smallest ones may be too small for the model (a window, a stride). */
export function doubleOpenSizes(
  graph: Graph,
  sizes: Readonly<Record<string, number>>,
  opt: Readonly<Record<string, number>> = {},
): Record<string, number> {
  const open = inputSymbols(graph).filter(
    (symbol) => !Object.hasOwn(opt, symbol.name) && !Number.isFinite(upperBound(symbol)),
  );
  return { ...sizes, ...Object.fromEntries(open.map(({ name }) => [name, 2 * (sizes[name] as number)])) };
}

/** The smallest sizes that are allowed, or what `opt` says. */
export function smallSizes(graph: Graph, opt: Readonly<Record<string, number>> = {}): Record<string, number> {
  return Object.fromEntries(inputSymbols(graph).map(({ name, low }) => [name, opt[name] ?? low]));
}

const upperBound = (symbol: SymbolAtom): number =>
  typeof symbol.high === "number" ? symbol.high : Number.POSITIVE_INFINITY;

/** Concrete shapes of the inputs, by name. */
export function inputShapes(graph: Graph, sizes: Readonly<Record<string, number>>): Record<string, number[]> {
  const shapes: Record<string, number[]> = {};
  for (const { name, value } of graph.inputs)
    if (value.type.kind === "tensor")
      shapes[name] = value.type.shape.map((dim) => evaluateDim(dim, (symbol) => sizes[symbol.name]));
  return shapes;
}
