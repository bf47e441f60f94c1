// The part of the CUDA driver API that is used, opened at run time: nothing of CUDA is needed to build or to start. Types
// and numbers are those of NVIDIA's documentation of the driver API.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "error.h"

namespace nimforge::cuda {

using Result = int;
using DeviceHandle = int;
using DevicePointer = unsigned long long;
using Context = struct CUctx_st*;
using Module = struct CUmod_st*;
using Function = struct CUfunc_st*;
using Stream = struct CUstream_st*;
using Event = struct CUevent_st*;
using Graph = struct CUgraph_st*;
using GraphExec = struct CUgraphExec_st*;
using MemoryPool = struct CUmemPoolHandle_st*;

enum : Result {
  kSuccess = 0,
  kOutOfMemory = 2,
  kNoDevice = 100,
  kInvalidImage = 200,
  kNoBinaryForGpu = 209,
  kInvalidPtx = 218,
  kUnsupportedPtxVersion = 222,
  kNotSupported = 801,
};

// CUdevice_attribute.
enum Attribute : int {
  kSharedMemoryPerBlock = 8,
  kClockRate = 13,  // kHz
  kMultiprocessors = 16,
  kMemoryClockRate = 36,  // kHz
  kMemoryBusWidth = 37,   // bits
  kL2CacheSize = 38,
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kSharedMemoryPerBlockOptin = 97,
  kMemoryPoolsSupported = 115,
  kIntegrated = 18,
};

constexpr int kMaxDynamicSharedBytes = 8;            // CUfunction_attribute
constexpr int kPoolReleaseThreshold = 4;             // CUmemPool_attribute
constexpr int kCaptureThreadLocal = 1;               // CUstreamCaptureMode
constexpr unsigned kStreamNonBlocking = 1;           // CUstream_flags
constexpr int kJitErrorLog = 5, kJitErrorLogBytes = 6;  // CUjit_option
inline void* const kLaunchEnd = nullptr;             // CU_LAUNCH_PARAM_*
inline void* const kLaunchBuffer = reinterpret_cast<void*>(1);
inline void* const kLaunchBufferSize = reinterpret_cast<void*>(2);

// Member, exported symbol, parameters.
#define NIMFORGE_CUDA_DRIVER(F)                                                                                     \
  F(init, cuInit, (unsigned flags))                                                                                 \
  F(driverGetVersion, cuDriverGetVersion, (int* version))                                                           \
  F(getErrorName, cuGetErrorName, (Result, const char** name))                                                      \
  F(getErrorString, cuGetErrorString, (Result, const char** text))                                                  \
  F(deviceGetCount, cuDeviceGetCount, (int* count))                                                                 \
  F(deviceGet, cuDeviceGet, (DeviceHandle*, int ordinal))                                                           \
  F(deviceGetName, cuDeviceGetName, (char* name, int length, DeviceHandle))                                         \
  F(deviceGetAttribute, cuDeviceGetAttribute, (int* value, int attribute, DeviceHandle))                            \
  F(deviceTotalMem, cuDeviceTotalMem_v2, (std::size_t * bytes, DeviceHandle))                                       \
  F(deviceGetPCIBusId, cuDeviceGetPCIBusId, (char* id, int length, DeviceHandle))                                   \
  F(deviceGetDefaultMemPool, cuDeviceGetDefaultMemPool, (MemoryPool*, DeviceHandle))                                \
  F(memPoolSetAttribute, cuMemPoolSetAttribute, (MemoryPool, int attribute, void* value))                           \
  F(memPoolTrimTo, cuMemPoolTrimTo, (MemoryPool, std::size_t keep))                                                 \
  F(primaryCtxRetain, cuDevicePrimaryCtxRetain, (Context*, DeviceHandle))                                           \
  F(ctxPushCurrent, cuCtxPushCurrent_v2, (Context))                                                                 \
  F(ctxPopCurrent, cuCtxPopCurrent_v2, (Context*))                                                                  \
  F(memGetInfo, cuMemGetInfo_v2, (std::size_t * free, std::size_t* total))                                          \
  F(memAlloc, cuMemAlloc_v2, (DevicePointer*, std::size_t bytes))                                                   \
  F(memFree, cuMemFree_v2, (DevicePointer))                                                                         \
  F(memAllocAsync, cuMemAllocAsync, (DevicePointer*, std::size_t bytes, Stream))                                    \
  F(memFreeAsync, cuMemFreeAsync, (DevicePointer, Stream))                                                          \
  F(memHostAlloc, cuMemHostAlloc, (void**, std::size_t bytes, unsigned flags))                                      \
  F(memFreeHost, cuMemFreeHost, (void*))                                                                            \
  F(memcpyHtoD, cuMemcpyHtoD_v2, (DevicePointer, const void*, std::size_t bytes))                                   \
  F(memcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (DevicePointer, const void*, std::size_t bytes, Stream))                 \
  F(memcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void*, DevicePointer, std::size_t bytes, Stream))                       \
  F(memcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (DevicePointer, DevicePointer, std::size_t bytes, Stream))               \
  F(memsetD8Async, cuMemsetD8Async, (DevicePointer, unsigned char value, std::size_t bytes, Stream))                \
  F(moduleLoadDataEx, cuModuleLoadDataEx, (Module*, const void* image, unsigned options, int* keys, void** values)) \
  F(moduleUnload, cuModuleUnload, (Module))                                                                         \
  F(moduleGetFunction, cuModuleGetFunction, (Function*, Module, const char* name))                                  \
  F(funcSetAttribute, cuFuncSetAttribute, (Function, int attribute, int value))                                     \
  F(launchKernel, cuLaunchKernel,                                                                                   \
    (Function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY, unsigned blockZ,   \
     unsigned sharedBytes, Stream, void** parameters, void** extra))                                                \
  F(streamCreate, cuStreamCreate, (Stream*, unsigned flags))                                                        \
  F(streamDestroy, cuStreamDestroy_v2, (Stream))                                                                    \
  F(streamSynchronize, cuStreamSynchronize, (Stream))                                                               \
  F(streamBeginCapture, cuStreamBeginCapture_v2, (Stream, int mode))                                                \
  F(streamEndCapture, cuStreamEndCapture, (Stream, Graph*))                                                         \
  F(graphInstantiate, cuGraphInstantiateWithFlags, (GraphExec*, Graph, unsigned long long flags))                   \
  F(graphLaunch, cuGraphLaunch, (GraphExec, Stream))                                                                \
  F(graphExecDestroy, cuGraphExecDestroy, (GraphExec))                                                              \
  F(graphDestroy, cuGraphDestroy, (Graph))                                                                          \
  F(eventCreate, cuEventCreate, (Event*, unsigned flags))                                                           \
  F(eventDestroy, cuEventDestroy_v2, (Event))                                                                       \
  F(eventRecord, cuEventRecord, (Event, Stream))                                                                    \
  F(eventElapsedTime, cuEventElapsedTime, (float* milliseconds, Event, Event))

struct Driver {
#define NIMFORGE_MEMBER(member, symbol, parameters) Result(*member) parameters = nullptr;
  NIMFORGE_CUDA_DRIVER(NIMFORGE_MEMBER)
#undef NIMFORGE_MEMBER
  int version = 0;  // 1000 * major + 10 * minor of the newest CUDA that it supports

  // `CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered`
  std::string text(Result result) const;
};

// The process's driver, opened and started on first use; a failure is tried again the next time. The environment variable
// NIMFORGE_LIBCUDA names another library. Throws incompatible: no driver, no device, driver too old.
const Driver& driver();

// `13.0` for 13000.
std::string versionText(int version);

// What a failed call means, as an error that names `what` was done: limit for memory, else internal.
Error failure(Result result, const std::string& what);
inline void check(Result result, const char* what) {
  if (result != kSuccess) throw failure(result, what);
}

}  // namespace nimforge::cuda
