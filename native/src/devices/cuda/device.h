// NVIDIA GPUs: their facts, contexts and memory, and which compute capability's code runs on which.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "devices/cuda/driver.h"
#include "devices/device.h"

namespace nimforge::cuda {

// A compute capability as targets write it: sm_86, sm_90a.
struct Capability {
  int major = 0, minor = 0;
  char suffix = 0;  // 'a': this capability alone; 'f': this family; 0: none
  std::string target() const;
};
std::optional<Capability> capabilityOf(const std::string& target);
bool isCudaTarget(const std::string& target);
// That of a PTX text's `.target` line.
std::optional<Capability> ptxCapability(std::span<const std::byte> ptx);

// How well a device runs binary code, or PTX, of another capability; 0: not at all.
int binaryScore(const Capability& code, const Capability& device);
int ptxScore(const Capability& ptx, const Capability& device);

// As the driver tells them; 0 for what it does not.
struct Facts {
  int ordinal = 0;
  std::string name, pciBusId;
  Capability capability;
  std::int64_t memoryBytes = 0;
  int multiprocessors = 0;
  std::int64_t sharedBytes = 0;  // of a block, at most
  std::int64_t l2Bytes = 0;
  std::int64_t clockHz = 0;
  std::int64_t memoryBytesPerSecond = 0;  // peak
};

class CudaDevice : public nimforge::Device {
 public:
  explicit CudaDevice(int ordinal);
  const Facts& facts() const { return facts_; }

  const std::string& name() const override { return name_; }
  std::string description() const override;
  std::string target() const override;
  bool knows(const std::string& target) const override { return isCudaTarget(target); }
  Fit fit(const EngineFile& file, const Program& program) const override;
  std::unique_ptr<LoadedEngine> load(const EngineFile& file) override;

  // Makes the device's primary context the thread's own, as long as this lives.
  class Current {
   public:
    explicit Current(CudaDevice& device);
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
  };

  // In the order of the stream where the device has memory pools. Throws limit with the figures. The context is current.
  DevicePointer allocate(std::int64_t bytes, const char* what, Stream stream);
  void free(DevicePointer memory, Stream stream) noexcept;

 private:
  friend class Current;
  Context context();
  Result tryAllocate(DevicePointer* memory, std::int64_t bytes, Stream stream);

  DeviceHandle handle_ = 0;
  std::string name_;
  Facts facts_;
  std::mutex mutex_;
  Context context_ = nullptr;  // the primary one, kept to the end of the process
  MemoryPool pool_ = nullptr;
};

// This machine's, in the driver's order; at least one. Throws as `driver`.
std::vector<std::shared_ptr<nimforge::Device>> devices();

}  // namespace nimforge::cuda
