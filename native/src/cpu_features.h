// What this CPU and its operating system can run. Feature names are those of Linux's /proc/cpuinfo; levels are the
// x86-64 psABI's (cumulative).
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace nimforge {

struct CpuLevel {
  std::string name;                   // a target: cpu-x86-64-v3
  std::vector<std::string> features;  // all that it needs, lower levels' included
  bool runs;                          // on this CPU
};

// Lowest first; empty on an architecture without targets.
std::vector<CpuLevel> cpuLevels();
bool hasCpuFeature(std::string_view name);
// Every known feature that this CPU has.
std::vector<std::string> cpuFeatures();
// Physical cores that this process may use, at least 1.
int usableCores();

}  // namespace nimforge
