export { formatVersion, hashChunkBytes, headerBytes, pageBytes } from "./format.js";
export { readEngineTable } from "./reader.js";
export { asStream, type Segment } from "./segments.js";
export * from "./spec.js";
export { type EncodedEngine, engineBytes, writeEngine, writeEngineFile } from "./writer.js";
