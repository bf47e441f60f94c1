/**
 * Writes src/import/onnx/generated/ from onnx.proto: the codec (static code by pbjs, as a .ts file so that tsc emits it)
 * and the message types (by reflection; pbts would write 80 KB of comments).
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const folder = fileURLToPath(new URL("../src/import/onnx/", import.meta.url));
const source = `${folder}onnx.proto`;
const pbjs = createRequire(import.meta.url).resolve("protobufjs-cli/bin/pbjs");
const flags = ["create", "verify", "convert", "delimited", "typeurl", "comments", "service"].map(
  (name) => `--no-${name}`,
);
const code = execFileSync(
  process.execPath,
  [pbjs, "-t", "static-module", "-w", "esm", "-r", "nimforge-onnx", "--force-long", ...flags, source],
  {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  },
);
mkdirSync(`${folder}generated`, { recursive: true });
const header = "// Written by scripts/generate-proto.mjs from onnx.proto; do not edit.\n";
const body = code.replace(/^\/\*eslint.*\n/, "").replace("export const onnx =", "export const onnx: any =");
writeFileSync(`${folder}generated/codec.ts`, `${header}// @ts-nocheck\n${body}`);

const { root } = protobuf.parse(readFileSync(source, "utf8"));
const scalars = {
  string: "string",
  bytes: "Uint8Array",
  int32: "number",
  float: "number",
  double: "number",
  int64: "Int64",
  uint64: "Int64",
};
const lines = [];
function describe(type) {
  const prefix = type.parent instanceof protobuf.Type ? type.parent.name : "";
  lines.push(`export interface ${prefix}${type.name} {`);
  for (const field of type.fieldsArray) {
    const resolved = field.resolve().resolvedType;
    const base =
      resolved === null
        ? scalars[field.type]
        : resolved instanceof protobuf.Enum
          ? "number"
          : `${resolved.parent instanceof protobuf.Type ? resolved.parent.name : ""}${resolved.name}`;
    const name = protobuf.util.camelCase(field.name);
    if (field.repeated) lines.push(`  ${name}: ${base}[];`);
    else if (field.partOf || resolved instanceof protobuf.Type) lines.push(`  ${name}?: ${base} | null;`);
    else lines.push(`  ${name}: ${base};`);
  }
  lines.push("}");
  for (const nested of type.nestedArray) if (nested instanceof protobuf.Type) describe(nested);
}
for (const type of root.lookup("onnx").nestedArray) if (type instanceof protobuf.Type) describe(type);
const int64 = `/** The face of a Long that is used here. */\nexport interface Int64 {\n  readonly low: number;\n  readonly high: number;\n  readonly unsigned: boolean;\n}\n`;
writeFileSync(`${folder}generated/messages.ts`, `${header}${int64}${lines.join("\n")}\n`);
