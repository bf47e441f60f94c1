export * from "./dim.js";
export * from "./graph.js";
export * from "./op.js";
export * from "./scalar.js";
export * from "./types.js";
export { evaluate, evaluateNode, evaluateValues, isTensorValue } from "./interpreter/index.js";
export { families, findOp } from "./ops/index.js";
export * from "./import/onnx/index.js";
