/**
 * Shape expressions that users write, such as `2*floor(W/4) + 1`, as Dims. mathjs parses; what it accepts beyond integer arithmetic is refused,
 * with the part of the text that is wrong. The text that formatDim prints is read back as the same Dim.
 */
import { createRequire } from "node:module";
import { NimforgeError } from "@nimforge/tensor";
import type { ConstantNode, FunctionNode, MathNode, OperatorNode, ParenthesisNode, SymbolNode } from "mathjs";
import { add, ceildiv, type Dim, floordiv, max, min, mod, mul, neg, sub } from "./dim.js";

type Parse = (text: string) => MathNode;
let parser: Parse | undefined;
/** Loaded at the first use: importing mathjs takes longer than the rest of the command line tool. */
const parse: Parse = (text) =>
  (parser ??= (createRequire(import.meta.url)("mathjs/number") as { parse: Parse }).parse)(text);

const grammar = "integers, size names, + - *, parentheses, floor(a / b), ceil(a / b), min, max, mod(a, b)";

const combining = new Map(Object.entries({ min, max, mod }));

/**
 * An integer expression over sizes.
 * @param symbolOf the size of a name, or undefined when there is none
 * @throws NimforgeError usage naming the expression and the place in it that is not understood
 */
export function parseDim(text: string, symbolOf: (name: string) => Dim | undefined): Dim {
  const bad = (fault: string, found?: string, fix = `use ${grammar}`) =>
    new NimforgeError("usage", "bad-expression", `the size expression "${text}" ${fault}`, {
      expected: grammar,
      found,
      fix,
    });
  let root: MathNode;
  try {
    root = parse(text);
  } catch (error) {
    throw bad(`cannot be read: ${error instanceof SyntaxError ? error.message : "it is nested too deeply"}`);
  }

  const checked = (node: MathNode, compute: () => Dim): Dim => {
    let result: Dim;
    try {
      result = compute();
    } catch (error) {
      if (error instanceof NimforgeError && error.kind === "internal")
        throw bad(`is not a size at "${node.toString()}"`, error.message.replace(/^internal: /, ""));
      throw error;
    }
    if (typeof result === "number" && !Number.isSafeInteger(result))
      throw bad(`exceeds 2^53 at "${node.toString()}"`, String(result), "use smaller numbers");
    return result;
  };

  const operator = (node: OperatorNode): Dim => {
    const place = node.toString();
    if ((node as OperatorNode & { implicit?: boolean }).implicit)
      throw bad(`has a product without * at "${place}"`, place, "write the * between the factors");
    if (String(node.fn) === "divide")
      throw bad(`has a division that is not rounded at "${place}"`, place, "write floor(a / b) or ceil(a / b)");
    const [a, b] = node.args.map(visit) as [Dim, Dim];
    switch (String(node.fn)) {
      case "add":
        return checked(node, () => add(a, b));
      case "subtract":
        return checked(node, () => sub(a, b));
      case "multiply":
        return checked(node, () => mul(a, b));
      case "mod":
        return checked(node, () => mod(a, b));
      case "unaryMinus":
        return neg(a);
      case "unaryPlus":
        return a;
      default:
        throw bad(`has an operator that sizes do not have at "${place}"`, node.op);
    }
  };

  const quotient = (node: FunctionNode, divide: (a: Dim, b: Dim) => Dim): Dim => {
    let [inner] = node.args as [MathNode];
    while (inner?.type === "ParenthesisNode") inner = (inner as ParenthesisNode).content;
    const division =
      inner?.type === "OperatorNode" && String((inner as OperatorNode).fn) === "divide"
        ? (inner as OperatorNode)
        : undefined;
    if (!division || node.args.length !== 1)
      throw bad(
        `rounds something that is not a division at "${node.toString()}"`,
        node.toString(),
        `write ${node.fn.name}(a / b)`,
      );
    const [a, b] = division.args.map(visit) as [Dim, Dim];
    return checked(node, () => divide(a, b));
  };

  const call = (node: FunctionNode): Dim => {
    const { name } = node.fn;
    if (name === "floor") return quotient(node, floordiv);
    if (name === "ceil") return quotient(node, ceildiv);
    const combine = combining.get(name);
    if (!combine) throw bad(`calls a function that sizes do not have at "${node.toString()}"`, name);
    const args = node.args.map(visit);
    if (name === "mod" ? args.length !== 2 : args.length === 0)
      throw bad(
        `gives ${name} the wrong number of arguments at "${node.toString()}"`,
        `${args.length}`,
        `give ${name} ${name === "mod" ? "two" : "one or more"}`,
      );
    return checked(node, () => args.reduce(combine));
  };

  const visit = (node: MathNode): Dim => {
    const place = node.toString();
    switch (node.type) {
      case "ParenthesisNode":
        return visit((node as ParenthesisNode).content);
      case "ConstantNode": {
        const { value } = node as ConstantNode;
        if (typeof value !== "number") throw bad("is empty or has something that is not a number", place);
        if (!Number.isSafeInteger(value))
          throw bad(`has a number that is not an integer below 2^53 at "${place}"`, place);
        return value;
      }
      case "SymbolNode": {
        const { name } = node as SymbolNode;
        const size = symbolOf(name);
        if (size === undefined)
          throw bad(`names an unknown size "${name}"`, name, "use a size name of the model's inputs");
        return size;
      }
      case "OperatorNode":
        return operator(node as OperatorNode);
      case "FunctionNode":
        return call(node as FunctionNode);
      default:
        throw bad(`has something that sizes do not have at "${place}"`, place);
    }
  };
  return visit(root);
}
