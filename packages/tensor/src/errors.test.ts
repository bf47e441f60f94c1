import { expect, test } from "vitest";
import { type ErrorKind, exitCodes, internalError, NimforgeError } from "./index.js";

test("every kind has an exit code of its own and says what to do", () => {
  const kinds = Object.keys(exitCodes) as ErrorKind[];
  expect(new Set(Object.values(exitCodes)).size).toBe(kinds.length);
  for (const kind of kinds) {
    const error = new NimforgeError(kind, "some-code", "it broke");
    expect(error.exitCode).toBe(exitCodes[kind]);
    expect(error.fix).not.toBe("");
  }
});

test("an outer layer adds what it knows and overwrites nothing", () => {
  const cause = new Error("below");
  const inner = new NimforgeError("malformed", "invalid-node", "Conv: group must divide the channels", {
    node: "conv1",
    expected: "a divisor of 6",
    cause,
  });
  const outer = inner.at({ node: "other", op: "Conv", file: "m.onnx", fix: "repair the exporter" });
  expect(outer).toMatchObject({
    kind: "malformed",
    code: "invalid-node",
    node: "conv1",
    op: "Conv",
    file: "m.onnx",
    expected: "a divisor of 6",
    fix: "repair the exporter",
    cause,
  });
  expect(outer.stack).toBe(inner.stack);
  expect(outer.at({ fix: "another" }).fix).toBe("repair the exporter");
});

test("a terminal gets place, fault, expected, found, fix", () => {
  const error = new NimforgeError("unsupported", "unsupported-op", "operator X is not supported", {
    file: "m.onnx",
    node: "n",
    op: "X",
    domain: "com.acme",
    opset: 3,
    expected: "a known op",
    found: "X",
    fix: "remove it",
  });
  expect(error.format()).toBe(
    [
      "error[unsupported-op]: operator X is not supported",
      '  at: m.onnx, node "n", op com.acme:X (opset 3)',
      "  expected: a known op",
      "  found: X",
      "  fix: remove it",
    ].join("\n"),
  );
  expect(new NimforgeError("io", "no-file", "no such file", { fix: "check it" }).format()).toBe(
    "error[no-file]: no such file\n  fix: check it",
  );
});

test("JSON holds what is known and nothing else", () => {
  const error = new NimforgeError("usage", "bad-input", "input is missing", { node: "n" });
  expect(JSON.parse(JSON.stringify(error))).toEqual({
    code: "bad-input",
    exit: 2,
    message: "input is missing",
    node: "n",
    fix: error.fix,
  });
});

test("a bug of ours asks for a report", () => {
  expect(internalError("oops")).toMatchObject({ kind: "internal", exitCode: 1, message: "internal: oops" });
  expect(internalError("oops").fix).toMatch(/report/);
});

test("a line break in a name cannot pose as a line of the message", () => {
  const error = new NimforgeError("malformed", "x", "bad", { node: "a\n  fix: run this\u202e" });
  expect(error.format().split("\n")).toHaveLength(3);
  expect(error.format()).toContain('node "a\\u{a}  fix: run this\\u{202e}"');
});
