#include "cpu_features.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <thread>
#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nimforge {
namespace {

#if defined(__x86_64__)
enum Register { eax, ebx, ecx, edx };
enum Xcr0 : unsigned { none = 0, ymm = 0x06, zmm = 0xe6, tile = 0x60000 };  // XCR0 bits that must be set

// Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.
struct Bit {
  const char* name;
  unsigned leaf, sub;
  Register reg;
  int bit;
  Xcr0 state;
};
constexpr unsigned kExtended = 0x80000001;
constexpr Bit kBits[] = {
    {"sse2", 1, 0, edx, 26, none},          {"sse3", 1, 0, ecx, 0, none},           {"ssse3", 1, 0, ecx, 9, none},
    {"cx16", 1, 0, ecx, 13, none},          {"sse4_1", 1, 0, ecx, 19, none},        {"sse4_2", 1, 0, ecx, 20, none},
    {"popcnt", 1, 0, ecx, 23, none},        {"lahf_lm", kExtended, 0, ecx, 0, none},
    {"avx", 1, 0, ecx, 28, ymm},            {"avx2", 7, 0, ebx, 5, ymm},            {"fma", 1, 0, ecx, 12, ymm},
    {"f16c", 1, 0, ecx, 29, ymm},           {"bmi1", 7, 0, ebx, 3, none},           {"bmi2", 7, 0, ebx, 8, none},
    {"lzcnt", kExtended, 0, ecx, 5, none},  {"movbe", 1, 0, ecx, 22, none},
    {"avx512f", 7, 0, ebx, 16, zmm},        {"avx512dq", 7, 0, ebx, 17, zmm},       {"avx512cd", 7, 0, ebx, 28, zmm},
    {"avx512bw", 7, 0, ebx, 30, zmm},       {"avx512vl", 7, 0, ebx, 31, zmm},       {"avx512_vnni", 7, 0, ecx, 11, zmm},
    {"avx512_bf16", 7, 1, eax, 5, zmm},     {"avx512_fp16", 7, 0, edx, 23, zmm},    {"avx_vnni", 7, 1, eax, 4, ymm},
    {"amx_tile", 7, 0, edx, 24, tile},      {"amx_int8", 7, 0, edx, 25, tile},      {"amx_bf16", 7, 0, edx, 22, tile},
    {"sha_ni", 7, 0, ebx, 29, none},
};

// __get_cpuid_count checks the highest leaf first: past it, a CPU answers with another leaf's bits.
unsigned readRegister(const Bit& bit) {
  unsigned r[4] = {};
  if (!__get_cpuid_count(bit.leaf, bit.sub, &r[eax], &r[ebx], &r[ecx], &r[edx])) return 0;
  return r[bit.reg];
}

unsigned enabledStates() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;  // OSXSAVE
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return a;
}

const std::vector<std::string>& detected() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    const unsigned states = enabledStates();
    for (const Bit& bit : kBits)
      if ((states & bit.state) == bit.state && (readRegister(bit) >> bit.bit & 1)) found.push_back(bit.name);
    return found;
  }();
  return names;
}

struct LevelRow {
  const char* name;
  std::vector<std::string> adds;
};
const LevelRow kLevels[] = {
    {"cpu-x86-64", {"sse2"}},
    {"cpu-x86-64-v3",
     {"sse3", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2",
      "lzcnt", "movbe"}},
    {"cpu-x86-64-v4", {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"}},
};
#else
const std::vector<std::string>& detected() {
  static const std::vector<std::string> names;
  return names;
}
#endif

#ifdef __linux__
// A container's share of the machine: "MAX PERIOD" in cpu.max, MAX may be the word max.
int quotaCores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double max, period;
  return file >> max >> period && period > 0 ? std::max(1, int(max / period + 0.5)) : 1 << 20;
}
#endif

}  // namespace

std::vector<CpuLevel> cpuLevels() {
  std::vector<CpuLevel> levels;
#if defined(__x86_64__)
  std::vector<std::string> features;
  for (const LevelRow& row : kLevels) {
    features.insert(features.end(), row.adds.begin(), row.adds.end());
    const bool runs = std::all_of(features.begin(), features.end(), [](const auto& name) { return hasCpuFeature(name); });
    levels.push_back({row.name, features, runs});
  }
#endif
  return levels;
}

bool hasCpuFeature(std::string_view name) {
  const auto& all = detected();
  return std::find(all.begin(), all.end(), name) != all.end();
}

std::vector<std::string> cpuFeatures() { return detected(); }

int usableCores() {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::set<std::string> cores;  // one entry for all hardware threads of a core
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      std::string siblings;
      if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
      cores.insert(siblings);
    }
    return std::max(1, std::min<int>(int(cores.size()), quotaCores()));
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace nimforge
