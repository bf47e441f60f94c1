export type { MemoryFigures, StepTime } from "@nimforge/device";
export { loadEngine, loadEngineBytes, type LoadOptions, type RunOptions, Session, type TensorDescription } from "./session.js";
export { requireTrusted, type Trust } from "./trust.js";
