// An engine on a GPU: its modules and kernels, and its constants, uploaded once for all sessions.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "devices/cuda/device.h"

namespace nimforge::cuda {

// Which of an image's codes a device takes.
struct ImageChoice {
  int score = 0;
  int segment = -1;
  bool ptx = false;
  std::string held;  // for errors: `sm_80 and PTX of sm_80`
};
ImageChoice chooseImage(const EngineFile& file, const Image& image, const Capability& device);

struct CudaKernel {
  Function function = nullptr;
  int threads = 0;
  int sharedBytes = 0;  // dynamic shared memory that it may use so far
};

class CudaEngine : public LoadedEngine {
 public:
  CudaEngine(CudaDevice& device, const EngineFile& file);
  ~CudaEngine() override;
  std::unique_ptr<Executor> executor(const Program& program, int threads) override;

  CudaDevice& device() const { return device_; }
  const EngineFile& file() const { return file_; }
  // The context is current for these. Kernels and constants live as long as the engine.
  CudaKernel& kernel(int index);
  // The segment's bytes on the device.
  DevicePointer constants(int segment);
  // Lets the kernel use so much dynamic shared memory.
  void allowShared(CudaKernel& kernel, std::int64_t bytes);

 private:
  Module module(int image);

  CudaDevice& device_;
  const EngineFile& file_;
  std::mutex mutex_;
  std::vector<Module> modules_;
  std::map<int, CudaKernel> kernels_;
  std::map<int, DevicePointer> constants_;
};

}  // namespace nimforge::cuda
