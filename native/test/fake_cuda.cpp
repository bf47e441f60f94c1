// A CUDA driver (and NVML) without a GPU: device memory is memory of the process that only "the device" can touch, streams
// run what they were given when they are waited for, and a module is an emulated image (an ELF file, or PTX that carries
// one) whose kernels run on the emulator. So the whole CUDA path of the runtime is tested on any machine.
//
// Environment, read at every call:
//   FAKE_CUDA_DEVICES      compute capabilities of the devices, `8.0,9.0`; empty: none (default 8.0)
//   FAKE_CUDA_VERSION      13000
//   FAKE_CUDA_MEMORY       bytes of each device (1 GiB)
//   FAKE_CUDA_NO_POOLS     the devices have no memory pools
//   FAKE_CUDA_OOM_FROM     allocations from this one on fail; FAKE_CUDA_OOM_AT: this one alone (counted from the setting on)
//   FAKE_CUDA_REFUSE_LOAD  result of cuModuleLoadDataEx
//   FAKE_CUDA_LAUNCH_ERROR kernel whose launch is refused
//   FAKE_CUDA_CRASH        kernel that ends in an illegal address when it runs
//   FAKE_CUDA_REVIVE       the device works again after a crash
//   FAKE_CUDA_LOG          file that gets a line for each call
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../emulator/emulator.h"
#include "devices/cpu/image_loader.h"
#include "devices/cuda/driver.h"

using namespace nimforge;
using namespace nimforge::cuda;
using Clock = std::chrono::steady_clock;

namespace {

constexpr Result kInvalidValue = 1, kInvalidContext = 201, kInvalidHandle = 400, kNotFound = 500, kIllegalAddress = 700,
                 kOutOfResources = 701, kLaunchFailed = 719, kNotInCapture = 900;

std::string variable(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value ? value : otherwise;
}

std::recursive_mutex mutex;
Result lost = kSuccess;  // after a fault on the device, every call fails

// ---- devices

std::vector<std::pair<int, int>> capabilities() {
  std::vector<std::pair<int, int>> out;
  std::istringstream list(variable("FAKE_CUDA_DEVICES", "8.0"));
  for (std::string item; std::getline(list, item, ',');) out.emplace_back(std::stoi(item), std::stoi(item.substr(item.find('.') + 1)));
  return out;
}

thread_local std::vector<int> contexts;  // devices
Result current(int* device) {
  if (!variable("FAKE_CUDA_REVIVE").empty()) lost = kSuccess;
  if (lost) return lost;
  if (contexts.empty()) return kInvalidContext;
  *device = contexts.back();
  return kSuccess;
}

// ---- memory: inaccessible but while the device runs; never used twice

struct Allocation {
  std::size_t bytes, pages;
  int device;
};
constexpr std::size_t kSpace = std::size_t{1} << 40, kPage = 4096;
std::map<DevicePointer, Allocation> allocations;
std::map<int, std::size_t> used;
DevicePointer space = 0, top = 0;

std::size_t totalBytes() { return std::stoull(variable("FAKE_CUDA_MEMORY", "1073741824")); }

bool refused() {
  static std::string setting;
  static int count = 0;
  const std::string at = variable("FAKE_CUDA_OOM_AT"), from = variable("FAKE_CUDA_OOM_FROM");
  if (setting != at + "/" + from) setting = at + "/" + from, count = 0;
  ++count;
  return (!at.empty() && count == std::stoi(at)) || (!from.empty() && count >= std::stoi(from));
}

Result allocate(DevicePointer* memory, std::size_t bytes) {
  int device;
  if (const Result result = current(&device)) return result;
  if (bytes == 0) return kInvalidValue;
  if (refused() || used[device] + bytes > totalBytes()) return kOutOfMemory;
  if (!space) {
    void* base = mmap(nullptr, kSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return kOutOfMemory;
    space = top = reinterpret_cast<DevicePointer>(base);
  }
  const std::size_t pages = (bytes + kPage - 1) / kPage * kPage;
  // The end of the memory is the end of a page, as far as 256-byte alignment lets it be.
  *memory = top + (pages - (bytes + 255) / 256 * 256) % kPage;
  allocations[*memory] = {bytes, pages, device};
  top += pages + kPage;
  used[device] += bytes;
  return kSuccess;
}

DevicePointer pageOf(DevicePointer memory) { return memory / kPage * kPage; }

Result release(DevicePointer memory) {
  const auto at = allocations.find(memory);
  if (at == allocations.end()) return kInvalidValue;
  madvise(reinterpret_cast<void*>(pageOf(memory)), at->second.pages, MADV_DONTNEED);
  used[at->second.device] -= at->second.bytes;
  allocations.erase(at);
  return kSuccess;
}

// The allocation that holds the range, or null.
const Allocation* holding(DevicePointer memory, std::size_t bytes) {
  auto at = allocations.upper_bound(memory);
  if (at == allocations.begin()) return nullptr;
  --at;
  return memory + bytes <= at->first + at->second.bytes ? &at->second : nullptr;
}

bool onDevice(DevicePointer memory) { return space && memory >= space && memory < space + kSpace; }

void protect(int protection) {
  for (const auto& [memory, allocation] : allocations) mprotect(reinterpret_cast<void*>(pageOf(memory)), allocation.pages, protection);
}

// ---- streams, graphs, events

using Work = std::function<Result()>;
struct FakeStream {
  int device;
  std::deque<Work> queue;
  std::vector<Work>* captured = nullptr;
};
std::set<FakeStream*> streams;
FakeStream* of(Stream stream) { return reinterpret_cast<FakeStream*>(stream); }
thread_local int capturing = 0;

Result drain(FakeStream& stream) {
  if (stream.captured) return kNotInCapture;
  if (stream.queue.empty()) return lost;
  protect(PROT_READ | PROT_WRITE);
  while (!stream.queue.empty()) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (lost == kSuccess) lost = work();
  }
  protect(PROT_NONE);
  return lost;
}

Result enqueue(Stream handle, Work work) {
  int device;
  if (const Result result = current(&device)) return result;
  if (!handle) {
    FakeStream now{device, {std::move(work)}, nullptr};
    return drain(now);
  }
  FakeStream* stream = of(handle);
  if (!streams.count(stream) || stream->device != device) return kInvalidHandle;
  stream->captured ? stream->captured->push_back(std::move(work)) : stream->queue.push_back(std::move(work));
  return kSuccess;
}

struct FakeEvent {
  Clock::time_point time;
  bool recorded = false;
};

// ---- modules and kernels

struct FakeFunction {
  std::string name;
  NfKernel entry;
  int device;
  int sharedLimit = 48 << 10;
};
struct FakeModule {
  int device;
  std::unique_ptr<LoadedImage> image;
  std::vector<std::unique_ptr<FakeFunction>> functions;
};

// An ELF file says by itself where it ends: its section headers are last.
std::size_t elfBytes(const unsigned char* image) {
  std::uint64_t table;
  std::uint16_t entry, count;
  std::memcpy(&table, image + 40, 8);
  std::memcpy(&entry, image + 58, 2);
  std::memcpy(&count, image + 60, 2);
  return table + std::size_t(entry) * count;
}

std::vector<std::byte> fromHex(const std::string& text) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) out.push_back(std::byte(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

void say(unsigned options, int* keys, void** values, const char* text) {
  char* log = nullptr;
  std::size_t bytes = 0;
  for (unsigned i = 0; i < options; ++i) {
    if (keys[i] == kJitErrorLog) log = static_cast<char*>(values[i]);
    if (keys[i] == kJitErrorLogBytes) bytes = reinterpret_cast<std::size_t>(values[i]);
  }
  if (log && bytes > 0) std::snprintf(log, bytes, "%s", text);
}

int expectedThreads = 0;
int (*emulatorRun)(const NfLaunch*, int, void (*)(const NfLaunch*)) = nullptr;
int checkedRun(const NfLaunch* launch, int threads, void (*body)(const NfLaunch*)) {
  return threads == expectedThreads ? emulatorRun(launch, threads, body) : 99;
}

// buffers (addresses of the device), dims, error: the last word.
Result run(const FakeFunction& function, std::vector<std::uint64_t> words, unsigned blocks, unsigned threads, unsigned shared) {
  if (variable("FAKE_CUDA_CRASH") == function.name) return kIllegalAddress;
  std::size_t buffers = 0;
  while (buffers + 1 < words.size() && onDevice(words[buffers])) ++buffers;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i >= buffers && i + 1 < words.size()) continue;
    const Allocation* memory = holding(words[i], 1);
    if (!memory || memory->device != function.device) return kIllegalAddress;
  }
  NfEmulator table = emulatorFor(blocks);
  emulatorRun = table.run;
  expectedThreads = int(threads);
  table.run = checkedRun;
  NfLaunch launch{};
  launch.buffers = reinterpret_cast<void* const*>(words.data());
  launch.dims = reinterpret_cast<const NfInt*>(words.data() + buffers);
  launch.end = blocks;
  launch.threads = 1;
  launch.error = reinterpret_cast<NfError*>(words.back());
  launch.scratchBytes = shared;
  launch.emulator = &table;
  if (const int status = function.entry(&launch)) {
    std::fprintf(stderr, "fake CUDA: %s: %d %s\n", function.name.c_str(), status, lastEmulatorFault().c_str());
    return kLaunchFailed;
  }
  return kSuccess;
}

void note(const char* call) {
  const std::string path = variable("FAKE_CUDA_LOG");
  if (path.empty()) return;
  if (FILE* file = std::fopen(path.c_str(), "a")) {
    std::fprintf(file, "%s\n", call);
    std::fclose(file);
  }
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) Result
#define CALL                                     \
  std::lock_guard<std::recursive_mutex> lock(mutex); \
  note(__func__)
#define IN_CONTEXT       \
  CALL;                  \
  int device = 0;        \
  if (const Result wrong = current(&device)) return wrong

API cuInit(unsigned) {
  CALL;
  return capabilities().empty() ? Result(kNoDevice) : Result(kSuccess);
}
API cuDriverGetVersion(int* version) { return *version = std::stoi(variable("FAKE_CUDA_VERSION", "13000")), kSuccess; }
API cuGetErrorName(Result result, const char** name) {
  static const std::map<Result, const char*> names = {
      {kInvalidValue, "CUDA_ERROR_INVALID_VALUE"},   {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"},
      {kNoDevice, "CUDA_ERROR_NO_DEVICE"},           {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE"},
      {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT"}, {kNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
      {kInvalidPtx, "CUDA_ERROR_INVALID_PTX"},       {kUnsupportedPtxVersion, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
      {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {kOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
      {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED"},
  };
  const auto at = names.find(result);
  *name = at == names.end() ? nullptr : at->second;
  return *name ? kSuccess : kInvalidValue;
}
API cuGetErrorString(Result, const char** text) { return *text = "as the fake driver was told", kSuccess; }

API cuDeviceGetCount(int* count) {
  CALL;
  return *count = int(capabilities().size()), kSuccess;
}
API cuDeviceGet(DeviceHandle* device, int ordinal) {
  CALL;
  return *device = ordinal, ordinal >= 0 && ordinal < int(capabilities().size()) ? Result(kSuccess) : Result(kInvalidValue);
}
API cuDeviceGetName(char* name, int length, DeviceHandle device) { return std::snprintf(name, length, "Fake GPU %d", device), kSuccess; }
API cuDeviceGetAttribute(int* value, int attribute, DeviceHandle device) {
  CALL;
  const auto capability = capabilities().at(device);
  switch (attribute) {
    case kCapabilityMajor: *value = capability.first; break;
    case kCapabilityMinor: *value = capability.second; break;
    case kMultiprocessors: *value = 108; break;
    case kSharedMemoryPerBlock: *value = 48 << 10; break;
    case kSharedMemoryPerBlockOptin: *value = 163 << 10; break;
    case kL2CacheSize: *value = 40 << 20; break;
    case kClockRate: *value = 1'410'000; break;
    case kMemoryClockRate: *value = 1'215'000; break;
    case kMemoryBusWidth: *value = 5120; break;
    case kMemoryPoolsSupported: *value = variable("FAKE_CUDA_NO_POOLS").empty(); break;
    default: return kInvalidValue;
  }
  return kSuccess;
}
API cuDeviceTotalMem_v2(std::size_t* bytes, DeviceHandle) { return *bytes = totalBytes(), kSuccess; }
API cuDeviceGetPCIBusId(char* id, int length, DeviceHandle device) { return std::snprintf(id, length, "0000:%02x:00.0", device), kSuccess; }
API cuDeviceGetDefaultMemPool(MemoryPool* pool, DeviceHandle device) {
  return *pool = reinterpret_cast<MemoryPool>(std::size_t(device) + 1), kSuccess;
}
API cuMemPoolSetAttribute(MemoryPool, int, void*) { return kSuccess; }
API cuMemPoolTrimTo(MemoryPool, std::size_t) {
  CALL;
  return kSuccess;
}

API cuDevicePrimaryCtxRetain(Context* context, DeviceHandle device) {
  CALL;
  return *context = reinterpret_cast<Context>(std::size_t(device) + 1), kSuccess;
}
API cuCtxPushCurrent_v2(Context context) { return contexts.push_back(int(reinterpret_cast<std::size_t>(context)) - 1), kSuccess; }
API cuCtxPopCurrent_v2(Context* context) {
  if (contexts.empty()) return kInvalidContext;
  *context = reinterpret_cast<Context>(std::size_t(contexts.back()) + 1);
  return contexts.pop_back(), kSuccess;
}

API cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  IN_CONTEXT;
  return *total = totalBytes(), *free = *total - std::min(*total, used[device]), kSuccess;
}
API cuMemAlloc_v2(DevicePointer* memory, std::size_t bytes) {
  CALL;
  return capturing ? kNotInCapture : allocate(memory, bytes);
}
API cuMemFree_v2(DevicePointer memory) {
  CALL;
  for (FakeStream* stream : streams) drain(*stream);  // it waits for the device
  return release(memory);
}
API cuMemAllocAsync(DevicePointer* memory, std::size_t bytes, Stream) {
  CALL;
  return !variable("FAKE_CUDA_NO_POOLS").empty() ? Result(kNotSupported) : capturing ? kNotInCapture : allocate(memory, bytes);
}
API cuMemFreeAsync(DevicePointer memory, Stream stream) {
  CALL;
  return enqueue(stream, [=] { return release(memory); });
}
API cuMemHostAlloc(void** memory, std::size_t bytes, unsigned) {
  IN_CONTEXT;
  *memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  return *memory ? Result(kSuccess) : Result(kOutOfMemory);
}
API cuMemFreeHost(void* memory) { return std::free(memory), kSuccess; }

API cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, std::size_t bytes, Stream stream) {
  CALL;
  return enqueue(stream, [=] { return holding(to, bytes) ? (std::memcpy(reinterpret_cast<void*>(to), from, bytes), kSuccess) : kInvalidValue; });
}
API cuMemcpyHtoD_v2(DevicePointer to, const void* from, std::size_t bytes) {
  CALL;
  return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
}
API cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, std::size_t bytes, Stream stream) {
  CALL;
  return enqueue(stream, [=] { return holding(from, bytes) ? (std::memcpy(to, reinterpret_cast<void*>(from), bytes), kSuccess) : kInvalidValue; });
}
API cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, std::size_t bytes, Stream stream) {
  CALL;
  return enqueue(stream, [=] {
    if (!holding(to, bytes) || !holding(from, bytes)) return kInvalidValue;
    return std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes), Result(kSuccess);
  });
}
API cuMemsetD8Async(DevicePointer to, unsigned char value, std::size_t bytes, Stream stream) {
  CALL;
  return enqueue(stream, [=] { return holding(to, bytes) ? (std::memset(reinterpret_cast<void*>(to), value, bytes), kSuccess) : kInvalidValue; });
}

API cuModuleLoadDataEx(Module* module, const void* image, unsigned options, int* keys, void** values) {
  IN_CONTEXT;
  if (const auto result = variable("FAKE_CUDA_REFUSE_LOAD"); !result.empty()) return std::stoi(result);
  const auto* bytes = static_cast<const unsigned char*>(image);
  auto made = std::make_unique<FakeModule>();
  made->device = device;
  if (std::memcmp(bytes, "\x7f" "ELF", 4) == 0) {
    made->image = std::make_unique<LoadedImage>(std::span(static_cast<const std::byte*>(image), elfBytes(bytes)));
  } else {
    const std::string text(static_cast<const char*>(image)), word = "//image:";
    const auto at = text.find(word);
    if (at == text.npos) return say(options, keys, values, "ptxas fatal : Unresolved extern function 'nothing'"), Result(kInvalidPtx);
    made->image = std::make_unique<LoadedImage>(fromHex(text.substr(at + word.size())));
  }
  *module = reinterpret_cast<Module>(made.release());
  return kSuccess;
}
API cuModuleUnload(Module module) {
  IN_CONTEXT;
  return delete reinterpret_cast<FakeModule*>(module), kSuccess;
}
API cuModuleGetFunction(Function* function, Module handle, const char* name) {
  IN_CONTEXT;
  auto& module = *reinterpret_cast<FakeModule*>(handle);
  try {
    module.functions.push_back(std::make_unique<FakeFunction>(FakeFunction{name, module.image->kernel(name), module.device}));
  } catch (const Error&) {
    return kNotFound;
  }
  return *function = reinterpret_cast<Function>(module.functions.back().get()), kSuccess;
}
API cuFuncSetAttribute(Function function, int attribute, int value) {
  IN_CONTEXT;
  if (attribute != kMaxDynamicSharedBytes || value > 163 << 10) return kInvalidValue;
  return reinterpret_cast<FakeFunction*>(function)->sharedLimit = value, kSuccess;
}
API cuLaunchKernel(Function handle, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned shared, Stream stream,
                   void** parameters, void** extra) {
  IN_CONTEXT;
  const auto& function = *reinterpret_cast<FakeFunction*>(handle);
  if (function.name == variable("FAKE_CUDA_LAUNCH_ERROR")) return kOutOfResources;
  if (x == 0 || y != 1 || z != 1 || threads == 0 || threads > 1024 || int(shared) > function.sharedLimit || parameters || !extra) return kInvalidValue;
  if (extra[0] != kLaunchBuffer || extra[2] != kLaunchBufferSize || extra[4] != kLaunchEnd) return kInvalidValue;
  const std::size_t bytes = *static_cast<std::size_t*>(extra[3]);
  if (bytes % 8 != 0 || function.device != device) return kInvalidValue;
  std::vector<std::uint64_t> words(bytes / 8);
  std::memcpy(words.data(), extra[1], bytes);
  return enqueue(stream, [=, &function] { return run(function, words, x, threads, shared); });
}

API cuStreamCreate(Stream* stream, unsigned) {
  IN_CONTEXT;
  auto* made = new FakeStream{device, {}, nullptr};
  return streams.insert(made), *stream = reinterpret_cast<Stream>(made), kSuccess;
}
API cuStreamDestroy_v2(Stream stream) {
  CALL;
  drain(*of(stream));
  return streams.erase(of(stream)), delete of(stream), kSuccess;
}
API cuStreamSynchronize(Stream stream) {
  IN_CONTEXT;
  return stream ? drain(*of(stream)) : lost;
}
API cuStreamBeginCapture_v2(Stream stream, int) {
  IN_CONTEXT;
  if (of(stream)->captured) return kInvalidValue;
  ++capturing;
  return of(stream)->captured = new std::vector<Work>, kSuccess;
}
API cuStreamEndCapture(Stream stream, Graph* graph) {
  CALL;
  if (!of(stream)->captured) return kInvalidValue;
  --capturing;
  return *graph = reinterpret_cast<Graph>(std::exchange(of(stream)->captured, nullptr)), kSuccess;
}
API cuGraphInstantiateWithFlags(GraphExec* exec, Graph graph, unsigned long long) {
  IN_CONTEXT;
  return *exec = reinterpret_cast<GraphExec>(new std::vector<Work>(*reinterpret_cast<std::vector<Work>*>(graph))), kSuccess;
}
API cuGraphLaunch(GraphExec exec, Stream stream) {
  CALL;
  for (const Work& work : *reinterpret_cast<std::vector<Work>*>(exec))
    if (const Result result = enqueue(stream, work)) return result;
  return kSuccess;
}
API cuGraphExecDestroy(GraphExec exec) {
  CALL;
  return delete reinterpret_cast<std::vector<Work>*>(exec), kSuccess;
}
API cuGraphDestroy(Graph graph) {
  CALL;
  return delete reinterpret_cast<std::vector<Work>*>(graph), kSuccess;
}

API cuEventCreate(Event* event, unsigned) {
  IN_CONTEXT;
  return *event = reinterpret_cast<Event>(new FakeEvent), kSuccess;
}
API cuEventDestroy_v2(Event event) { return delete reinterpret_cast<FakeEvent*>(event), kSuccess; }
API cuEventRecord(Event event, Stream stream) {
  CALL;
  return enqueue(stream, [=] { return *reinterpret_cast<FakeEvent*>(event) = {Clock::now(), true}, kSuccess; });
}
API cuEventElapsedTime(float* milliseconds, Event first, Event second) {
  CALL;
  const auto &a = *reinterpret_cast<FakeEvent*>(first), &b = *reinterpret_cast<FakeEvent*>(second);
  if (!a.recorded || !b.recorded) return kInvalidHandle;
  return *milliseconds = std::chrono::duration<float, std::milli>(b.time - a.time).count(), kSuccess;
}

// ---- NVML

API nvmlInit_v2() { return 0; }
API nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) { return *device = const_cast<char*>(id), 0; }
API nvmlDeviceGetMemoryInfo(void*, unsigned long long* totalFreeUsed) {
  CALL;
  const std::size_t total = totalBytes();
  return totalFreeUsed[0] = total, totalFreeUsed[1] = total / 4, totalFreeUsed[2] = total - total / 4, 0;
}
API nvmlDeviceGetUtilizationRates(void*, unsigned* gpuMemory) { return gpuMemory[0] = 37, gpuMemory[1] = 12, 0; }
API nvmlDeviceGetTemperature(void*, int, unsigned* celsius) { return *celsius = 51, 0; }
API nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) { return *milliwatts = 72'500, 0; }
API nvmlDeviceGetClockInfo(void*, int, unsigned* megahertz) { return *megahertz = 1320, 0; }
