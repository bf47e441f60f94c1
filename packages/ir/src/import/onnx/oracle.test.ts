/** npm onnx-proto (ONNX 1.10) decodes every model of its age to the same message; the whole conformance archive decodes. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { inlineFunctions } from "./functions.js";
import { type ProtoValue, readModel, readOptionalProto, readSequenceProto, readTensorProto } from "./index.js";
import { decodeMessage } from "./proto.js";

const { onnx: oracle } = createRequire(import.meta.url)("onnx-proto") as {
  onnx: {
    ModelProto: {
      decode(bytes: Uint8Array): unknown;
      toObject(message: unknown, options: object): Record<string, unknown>;
    };
  };
};
/** The newest IR version that onnx-proto knows. */
const oracleIr = 8;
const fixtures = fileURLToPath(new URL("../../../../../fixtures/", import.meta.url));
const archive = `${fixtures}onnx-node/onnx-cases-1.23.1.tar.br`;

/** A decoded message as plain data: 64-bit integers as text, bytes as base64, what is empty or zero left out. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "number" && Number.isNaN(value)) return "NaN";
  if (typeof value !== "object" || value === null) return value;
  if ("low" in value && "high" in value && "unsigned" in value) {
    const { low, high, unsigned } = value as { low: number; high: number; unsigned: boolean };
    return String((BigInt(unsigned ? high >>> 0 : high) << 32n) + BigInt(low >>> 0));
  }
  const entries = Object.entries(value).filter(([key]) => !key.startsWith("_"));
  return Object.fromEntries(
    entries.map(([key, item]) => [key, plain(item)] as const).filter(([, item]) => !isEmpty(item)),
  );
}
const isEmpty = (item: unknown) =>
  item === undefined ||
  item === null ||
  item === 0 ||
  item === "" ||
  item === "0" ||
  item === false ||
  (Array.isArray(item) && item.length === 0);

function compare(bytes: Uint8Array): boolean {
  const ours = decodeMessage("ModelProto", bytes);
  if (Number(plain(ours.irVersion)) > oracleIr) return false;
  const theirs = oracle.ModelProto.toObject(oracle.ModelProto.decode(bytes), { enums: Number });
  expect(plain(ours)).toEqual(plain(theirs));
  return true;
}

/** Files of a GNU tar archive; long names come in entries of type L. */
function* untar(tar: Uint8Array): Generator<[name: string, data: Uint8Array]> {
  const text = (from: number, length: number) =>
    Buffer.from(tar.subarray(from, from + length))
      .toString("utf8")
      .replace(/\0.*$/s, "");
  let longName: string | undefined;
  for (let at = 0; at < tar.length && tar[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const data = tar.subarray(at + 512, at + 512 + size);
    const name = longName ?? text(at, 100);
    const type = text(at + 156, 1);
    longName = type === "L" ? Buffer.from(data).toString("utf8").replace(/\0.*$/s, "") : undefined;
    if (type === "0" || type === "") yield [name, data];
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

describe("onnx-proto agrees", () => {
  const models = readdirSync(`${fixtures}onnx`).filter((name) => name.endsWith(".onnx"));
  it("on the fixtures of its age", () => {
    expect(models.filter((name) => compare(readFileSync(`${fixtures}onnx/${name}`))).sort()).toEqual([
      "initializer-input.onnx",
      "opset6.onnx",
    ]);
  });
});

describe.skipIf(!existsSync(archive))("the conformance archive", () => {
  it("decodes, passes the structural checks, and agrees with onnx-proto", () => {
    let models = 0;
    let compared = 0;
    let values = 0;
    let typeOf: string[] = [];
    for (const [name, data] of untar(brotliDecompressSync(readFileSync(archive)))) {
      if (name.endsWith("model.onnx")) {
        const { source } = readModel(data, { file: name });
        inlineFunctions(source);
        typeOf = source.graph.inputs
          .filter((input) => !source.graph.constants.has(input.name))
          .map((input) => input.type?.kind ?? "tensor");
        if (compare(data)) compared++;
        models++;
      } else if (/input_\d+\.pb$/.test(name)) {
        const kind = typeOf[Number(/input_(\d+)\.pb$/.exec(name)?.[1])] ?? "tensor";
        const value: ProtoValue =
          kind === "sequence"
            ? readSequenceProto(data, name)
            : kind === "optional"
              ? readOptionalProto(data, name)
              : readTensorProto(data, name);
        if (kind === "tensor") expect((value as { dtype: string }).dtype).toBeTypeOf("string");
        values++;
      }
    }
    expect(models).toBe(2036);
    expect(values).toBeGreaterThan(2000);
    expect(compared).toBeGreaterThan(400);
  }, 120_000);
});
