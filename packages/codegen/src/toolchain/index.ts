/** From C++ text to native code: compiler, flags, images, cache. */
export { type CacheGcOptions, type CacheInfo, cacheGc, cacheInfo, cachePlace } from "./cache.js";
export { type Compiler, detectCompiler, installHint } from "./compiler.js";
export { compileImage, type ImageOptions, type SourceFile } from "./image.js";
export { type CpuLevel, compileFlags, cpuLevels, type OptimizationLevel } from "./levels.js";
