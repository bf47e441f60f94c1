#include "devices/select.h"

#include <algorithm>

#include "devices/cpu/device.h"
#include "devices/cuda/device.h"

namespace nimforge {
namespace {

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : separator) + word;
  return out;
}

void addOnce(std::vector<std::string>& list, const std::string& word) {
  if (std::find(list.begin(), list.end(), word) == list.end()) list.push_back(word);
}

std::vector<int> programsNamed(const EngineInfo& info, const Wish& wish) {
  if (info.programs.empty()) throw usage("no-program", "the engine has no programs");
  if (wish.index >= 0) {
    if (std::size_t(wish.index) < info.programs.size()) return {wish.index};
    throw usage("no-program", "the engine has no program " + std::to_string(wish.index))
        .want("0 to " + std::to_string(info.programs.size() - 1));
  }
  const std::string& name = wish.program.empty() ? info.programs.front().name : wish.program;
  std::vector<int> found;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < info.programs.size(); ++i) {
    addOnce(names, info.programs[i].name);
    if (info.programs[i].name == name) found.push_back(int(i));
  }
  if (found.empty()) throw usage("no-program", "the engine has no program \"" + name + "\"").want(join(names, ", "));
  return found;
}

bool isCudaName(const std::string& device) { return device == "cuda" || device.starts_with("cuda:"); }

// A family's devices, and why there are none.
struct Family {
  std::vector<std::shared_ptr<Device>> devices;
  std::optional<Error> none;
};

Family cudaFamily() {
  try {
    return {cuda::devices(), {}};
  } catch (const Error& error) {
    return {{}, error};
  }
}

Error nothingFits(const std::string& name, const std::vector<std::string>& held, const std::vector<std::shared_ptr<Device>>& devices,
                  const Family& cuda) {
  std::vector<std::string> machine;
  std::string advised;
  for (const auto& device : devices) machine.push_back(device->description());
  for (const auto& device : devices)
    if (!cuda::isCudaTarget(advised)) advised = device->target();
  if (cuda.none) machine.push_back(cuda.none->message);
  return incompatible("wrong-target", "the engine has program \"" + name + "\" only for " + join(held, ", ") +
                                          ", which this machine does not run")
      .want("a device for " + join(held, ", "))
      .have(join(machine, "; "))
      .advise("build an engine for this machine: nim-build <model> --target " + (advised.empty() ? "native" : advised));
}

}  // namespace

Choice choose(const EngineFile& file, const Wish& wish) {
  const EngineInfo& info = file.info();
  const std::vector<int> named = programsNamed(info, wish);
  const std::string& name = info.programs[named.front()].name;
  std::vector<std::string> held;
  std::vector<int> candidates;
  for (int program : named) {
    const std::string target = targetOf(info, info.programs[program]);
    addOnce(held, target.empty() ? "any machine" : target);
    if (wish.target.empty() || wish.target == target) candidates.push_back(program);
  }
  if (candidates.empty())
    throw incompatible("no-target-program", "the engine has no program \"" + name + "\" for " + wish.target)
        .want(wish.target)
        .have(join(held, ", "))
        .advise("build it: nim-build <model> --target " + wish.target);

  // The driver is asked only when it matters: its start takes a tenth of a second and some memory.
  const bool askCuda = isCudaName(wish.device) ||
                       (wish.device.empty() && std::any_of(candidates.begin(), candidates.end(), [&](int program) {
                          return cuda::isCudaTarget(targetOf(info, info.programs[program]));
                        }));
  const Family cuda = askCuda ? cudaFamily() : Family{};
  std::vector<std::shared_ptr<Device>> devices;
  if (wish.device.empty() || wish.device == "cpu") devices.push_back(cpuDevice());
  for (const auto& device : cuda.devices)
    if (wish.device.empty() || wish.device == "cuda" || wish.device == device->name()) devices.push_back(device);
  if (devices.empty()) {
    if (cuda.none) throw *cuda.none;
    std::vector<std::string> names{"cpu"};
    for (const auto& device : cuda.devices) names.push_back(device->name());
    throw usage("no-device", "there is no device \"" + wish.device + "\"").want(join(names, ", ")).have(wish.device);
  }

  Choice best{-1, nullptr};
  int score = 0;
  std::vector<Error> refusals;
  for (int program : candidates) {
    const std::string target = targetOf(info, info.programs[program]);
    if (isEmulated(target) && !wish.allowEmulated) {
      refusals.push_back(incompatible("emulated-engine", "the engine is for " + target + ", which is for tests and not allowed here")
                             .have(target)
                             .advise("build an engine for this machine's devices: nim-build <model> --target native"));
      continue;
    }
    for (const auto& device : devices) {
      if (!device->knows(target)) continue;
      Fit fit = device->fit(file, info.programs[program]);
      if (fit.score > score) score = fit.score, best = {program, device};
      if (fit.refusal) refusals.push_back(std::move(*fit.refusal));
    }
  }
  if (best.device) return best;
  if (candidates.size() == 1 && refusals.size() == 1) throw refusals.front();
  throw nothingFits(name, held, devices, cuda);
}

}  // namespace nimforge
