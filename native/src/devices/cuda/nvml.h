// What a GPU is doing, from the driver's management library (libnvidia-ml.so.1), where that is there.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace nimforge::cuda {

// -1: not known.
struct Metrics {
  std::int64_t memoryUsedBytes = -1, memoryFreeBytes = -1;
  int utilizationPercent = -1;  // of the time, some kernel ran
  int temperatureCelsius = -1;
  std::int64_t powerMilliwatts = -1;
  std::int64_t clockHz = -1;  // of the multiprocessors, now
};

// NIMFORGE_LIBNVML names another library. Nothing when the library or the device is not there.
std::optional<Metrics> metrics(const std::string& pciBusId);

}  // namespace nimforge::cuda
