// Which of an engine's programs runs where: programs of several targets share a name, machines have several devices.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "devices/device.h"

namespace nimforge {

struct Wish {
  int index = -1;       // exactly this program; -1: by name
  std::string program;  // a name; empty: that of the engine's first program
  std::string target;   // empty: any
  std::string device;   // "cpu", "cuda", "cuda:1"; empty: any
  bool allowEmulated = true;
};

struct Choice {
  int program;
  std::shared_ptr<Device> device;
};

// The program whose target a device runs best. Throws usage (no such program, target or device name) and incompatible
// (nothing fits: what the engine holds, what the machine has, and how to build what is missing).
Choice choose(const EngineFile& file, const Wish& wish);

}  // namespace nimforge
