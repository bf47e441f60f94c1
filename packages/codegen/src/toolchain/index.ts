/** From C++ and CUDA text to native code: compilers, flags, images, cache. */
export { type CacheGcOptions, type CacheInfo, cacheGc, cacheInfo, cachePlace } from "./cache.js";
export { type Compiler, detectCompiler, installHint } from "./compiler.js";
export { type CubinImage, type CubinOptions, compileCubins, cubinFlags } from "./cubin.js";
export { compileEmulated, type EmulatedOptions } from "./emulated.js";
export { compileImage, type ImageOptions } from "./image.js";
export { type CpuLevel, compileFlags, cpuLevels, type OptimizationLevel } from "./levels.js";
export { type CudaToolkit, cudaInstallHint, detectCuda, detectNvcc, type Nvcc } from "./nvcc.js";
export type { Nvrtc } from "./nvrtc.js";
export type { KernelResources } from "./resources.js";
export type { SourceFile } from "./sources.js";
