/** The ONNX backend suite in memory: fixtures/onnx-node's archive (brotli over GNU tar) and its index. */
import { readFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { type ProtoValue, readOptionalProto, readSequenceProto, readTensorProto } from "@nimforge/ir";
import { internalError } from "@nimforge/tensor";
import { repositoryRoot } from "./root.js";

/** A value's declared type as the index writes it. */
export interface CaseType {
  readonly name?: string;
  readonly type?: string;
  readonly sequence?: CaseType;
  readonly optional?: CaseType;
}

export interface Case {
  readonly name: string;
  /** node, simple, pytorch-converted, pytorch-operator or light. */
  readonly kind: string;
  /** core, lowbit, sequence, string, ml or random-training. */
  readonly group: string;
  readonly dir: string;
  readonly flags: readonly string[];
  /** Graph inputs that are not initializers, in order: what input_0.pb, input_1.pb, … feed. */
  readonly inputs: readonly CaseType[];
  readonly outputs: readonly CaseType[];
  readonly ops: Readonly<Record<string, number>>;
  readonly dataSets: number;
  readonly rtol: number;
  readonly atol: number;
  /** What onnxruntime 1.30 does with the case. */
  readonly ort: { readonly result: "pass" | "mismatch" | "unsupported" | "error" };
}

export interface DataSet {
  readonly inputs: readonly ProtoValue[];
  readonly outputs: readonly ProtoValue[];
}

const folder = new URL("fixtures/onnx-node/", repositoryRoot);

/** The cases, in the index's order. */
export function readIndex(): Case[] {
  return (JSON.parse(readFileSync(new URL("index.json", folder), "utf8")) as { cases: Case[] }).cases;
}

/** The suite with its files; half a second and 40 MB, so each process opens it once. */
export class Suite {
  readonly cases: ReadonlyMap<string, Case> = new Map(readIndex().map((entry) => [entry.name, entry]));
  readonly #files = readTar(brotliDecompressSync(readFileSync(new URL("onnx-cases-1.23.1.tar.br", folder))));

  case(name: string): Case {
    const entry = this.cases.get(name);
    if (!entry) throw internalError(`the suite has no case ${name}`);
    return entry;
  }

  model(entry: Case): Uint8Array {
    return this.#file(`cases/${entry.dir}/model.onnx`);
  }

  dataSet(entry: Case, k: number): DataSet {
    const read = (side: "input" | "output", types: readonly CaseType[]) =>
      types.map((type, i) => readValue(type, this.#file(`cases/${entry.dir}/test_data_set_${k}/${side}_${i}.pb`)));
    return { inputs: read("input", entry.inputs), outputs: read("output", entry.outputs) };
  }

  #file(path: string): Uint8Array {
    const bytes = this.#files.get(path);
    if (!bytes) throw internalError(`the suite's archive has no ${path}`);
    return bytes;
  }
}

function readValue(type: CaseType, bytes: Uint8Array): ProtoValue {
  return type.optional ? readOptionalProto(bytes) : type.sequence ? readSequenceProto(bytes) : readTensorProto(bytes);
}

/** Files of a tar archive by path; names longer than a header holds come as GNU 'L' entries before theirs. */
export function readTar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (from: number, length: number) => {
    const end = archive.indexOf(0, from);
    return Buffer.from(archive.subarray(from, end >= 0 && end < from + length ? end : from + length)).toString();
  };
  let longName: string | undefined;
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const type = text(at + 156, 1);
    const body = at + 512;
    if (type === "L") longName = text(body, size);
    else {
      if (type === "0") files.set(longName ?? text(at, 100), archive.subarray(body, body + size));
      longName = undefined;
    }
    at = body + Math.ceil(size / 512) * 512;
  }
  return files;
}
