export { type Grouping, type GroupRules, group } from "./group.js";
export {
  ANCHOR,
  type AnchorMatch,
  type AnchorOperand,
  buildKernel,
  isMaterializedSource,
  type Kernel,
} from "./kernel.js";
export { channelsLast, chooseLayouts, type Layout, offsetOf, rowMajor, stridesOf } from "./layout.js";
export { type OptimizeOptions, optimize, type Pass, pipeline } from "./pipeline.js";
export { castToHalf, type HalfGraph, type HalfType, isIsland } from "./precision.js";
export { inline } from "./simplify.js";
