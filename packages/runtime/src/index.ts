export { isEmulated, type MemoryFigures, type StepTime } from "@nimforge/device";
export { type DType, NimforgeError, type Tensor, tensor } from "@nimforge/tensor";
export {
  type LoadOptions,
  loadEngine,
  loadEngineBytes,
  type RunOptions,
  Session,
  type TensorDescription,
} from "./session.js";
export { requireTrusted, type Trust } from "./trust.js";
