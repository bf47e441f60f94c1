/** The protobuf layer: bytes to typed messages with clean errors, and 64-bit integers without loss. */
import { NimforgeError } from "@nimforge/tensor";
import protobuf from "protobufjs/minimal.js";
import { onnx } from "./generated/codec.js";
import type { Int64, ModelProto, OptionalProto, SequenceProto, TensorProto } from "./generated/messages.js";

interface Messages {
  ModelProto: ModelProto;
  TensorProto: TensorProto;
  SequenceProto: SequenceProto;
  OptionalProto: OptionalProto;
}

/** The longest message that one decode can address; protobuf itself allows no more. */
export const maxMessageBytes = 2 ** 31 - 1;

/**
 * Decodes one message. `bytes` fields are views into the given bytes. Messages nest at most 100 deep, as in protoc.
 * @throws NimforgeError malformed, with the byte offset at which decoding stopped; limit over 2 GiB.
 */
export function decodeMessage<Name extends keyof Messages>(
  name: Name,
  bytes: Uint8Array,
  file?: string,
): Messages[Name] {
  if (bytes.length > maxMessageBytes) throw tooLarge(bytes.length, file);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reader = protobuf.Reader.create(buffer);
  try {
    return onnx[name].decode(reader) as Messages[Name];
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const place = `at byte ${reader.pos} of ${bytes.length}`;
    const fault = reason.includes("max depth")
      ? `messages nest deeper than 100 levels ${place}`
      : cause instanceof RangeError
        ? `the data ends or a field runs over its message ${place}`
        : `not a protobuf message ${place} (${reason})`;
    throw new NimforgeError("malformed", "bad-protobuf", `cannot decode ${name}: ${fault}`, {
      file,
      expected: "an ONNX protobuf file",
      cause,
    });
  }
}

/** The error for a file that no single protobuf message can hold. */
export function tooLarge(size: number, file?: string): NimforgeError {
  return new NimforgeError(
    "limit",
    "file-too-large",
    "the model file is larger than 2 GiB, the limit of a protobuf message",
    {
      file,
      expected: `at most ${maxMessageBytes} bytes`,
      found: `${size} bytes`,
      fix: "save the weights as external data beside the model (onnx.save_model(..., save_as_external_data=True))",
    },
  );
}

/** Protobuf bytes of a message, for writing fixtures and tests. Fields that are left out take their defaults. */
export function encodeMessage(name: keyof Messages, message: object): Uint8Array {
  return onnx[name].encode(message).finish() as Uint8Array;
}

export function toBigInt(value: Int64): bigint {
  const high = value.unsigned ? value.high >>> 0 : value.high | 0;
  return (BigInt(high) << 32n) | BigInt(value.low >>> 0);
}

/** A number where it is exact, else a bigint. */
export function toInteger(value: Int64): number | bigint {
  const high = value.unsigned ? value.high >>> 0 : value.high | 0;
  const number = high * 2 ** 32 + (value.low >>> 0);
  return Number.isSafeInteger(number) ? number : toBigInt(value);
}
