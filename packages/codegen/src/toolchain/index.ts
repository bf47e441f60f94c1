/** From C++ text to native code: compiler, flags, images, cache. */
export { type CacheGcOptions, cacheGc, type CacheInfo, cacheInfo, cachePlace } from "./cache.js";
export { type Compiler, detectCompiler, installHint } from "./compiler.js";
export { compileImage, type ImageOptions, type SourceFile } from "./image.js";
export { compileFlags, type CpuLevel, cpuLevels, type OptimizationLevel } from "./levels.js";
