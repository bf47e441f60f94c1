export type { MemoryFigures, StepTime } from "@nimforge/device";
export {
  type LoadOptions,
  loadEngine,
  loadEngineBytes,
  type RunOptions,
  Session,
  type TensorDescription,
} from "./session.js";
export { requireTrusted, type Trust } from "./trust.js";
