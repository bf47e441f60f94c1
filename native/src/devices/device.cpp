#include "devices/device.h"

namespace nimforge {

std::string targetOf(const EngineInfo& info, const Program& program) {
  if (!program.target.empty()) return program.target;
  for (const Step& step : program.steps)
    if (step.launch) return info.images[info.kernels[step.launch->variants.front().kernel].image].target;
  return "";
}

bool isEmulated(const std::string& target) { return target.starts_with("emulated-"); }

std::optional<Error> abiRefusal(const Image& image) {
  if (image.abi <= NF_ABI_VERSION) return {};
  return incompatible("image-abi", "the engine's code was compiled for another version of the kernel ABI")
      .want("ABI up to " + std::to_string(NF_ABI_VERSION))
      .have("ABI " + std::to_string(image.abi))
      .advise("build the engine again with this version: nim-build <model> --target " + image.target);
}

std::byte* nowhere() {
  alignas(64) static std::byte place[64];
  return place;
}

std::string originText(const Step& step) {
  std::string out;
  for (const auto& node : step.origin) out += (out.empty() ? "" : ", ") + node;
  return out;
}

Error faultError(const Step& step, const NfError& error) {
  const auto& faults = step.launch->faults;
  const bool named = error.operand >= 0 && std::size_t(error.operand) < faults.size();
  const std::string where = named ? faults[error.operand] : "step \"" + step.name + "\": value";
  const std::string value = std::to_string(error.value);
  switch (error.code) {
    case 1: return malformed("index-out-of-range", where + " " + value + " is out of range").have(value).at(originText(step));
    case 2: return malformed("division-by-zero", where + ": division by zero").at(originText(step));
    default: return malformed("kernel-fault", where + " " + value + " is not allowed").have(value).at(originText(step));
  }
}

}  // namespace nimforge
