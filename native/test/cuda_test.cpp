#include <cstdlib>
#include <string>

#include "check.h"
#include "devices/cuda/device.h"
#include "devices/cuda/driver.h"

using namespace nimforge;
using namespace nimforge::cuda;

static Capability of(const char* target) { return *capabilityOf(target); }
static int binary(const char* code, const char* device) { return binaryScore(of(code), of(device)); }
static int ptx(const char* code, const char* device) { return ptxScore(of(code), of(device)); }

TEST(cuda_targets_are_read) {
  CHECK(of("sm_75").major == 7 && of("sm_75").minor == 5 && of("sm_75").suffix == 0);
  CHECK(of("sm_121a").major == 12 && of("sm_121a").minor == 1 && of("sm_121a").suffix == 'a');
  for (const char* target : {"sm_75", "sm_90a", "sm_100f", "sm_103"}) CHECK(of(target).target() == target);
  for (const char* other : {"", "sm_", "sm_9", "sm_90b", "sm_90aa", "sm_-80", "sm_80 ", "compute_80", "cpu-x86-64", "emulated-sm_80", "sm_99999"})
    CHECK(!isCudaTarget(other));
}

// CUDA programming guide: a cubin runs on its capability and on higher minor ones of the same major; 'a' code on its own alone;
// systems on a chip run nothing of others. PTX runs on its capability and all above.
TEST(cuda_code_runs_where_it_may) {
  CHECK(binary("sm_80", "sm_80") > binary("sm_80", "sm_86"));
  CHECK(binary("sm_86", "sm_89") > binary("sm_80", "sm_89") && binary("sm_80", "sm_89") > 0);
  CHECK(binary("sm_86", "sm_80") == 0 && binary("sm_80", "sm_90") == 0 && binary("sm_90", "sm_80") == 0);
  CHECK(binary("sm_90a", "sm_90") > binary("sm_90", "sm_90"));
  CHECK(binary("sm_100a", "sm_103") == 0 && binary("sm_100f", "sm_103") > 0 && binary("sm_120", "sm_121") > 0);
  CHECK(binary("sm_80", "sm_87") == 0 && binary("sm_87", "sm_89") == 0 && binary("sm_87", "sm_87") > 0);
  CHECK(ptx("sm_75", "sm_120") > 0 && ptx("sm_80", "sm_75") == 0 && ptx("sm_80", "sm_80") > 0);
  CHECK(ptx("sm_90a", "sm_100") == 0 && ptx("sm_90a", "sm_90") > 0);
  CHECK(ptx("sm_90", "sm_120") > ptx("sm_80", "sm_120"));
  // Exact, then a lower minor, then PTX, on any two devices.
  CHECK(binary("sm_80", "sm_80") > binary("sm_86", "sm_89") && binary("sm_80", "sm_86") > ptx("sm_121", "sm_121"));
}

TEST(cuda_ptx_says_its_capability) {
  const auto capability = [](const std::string& text) {
    return ptxCapability({reinterpret_cast<const std::byte*>(text.data()), text.size()});
  };
  CHECK(capability("//\n// Generated\n.version 9.0\n.target sm_80\n.address_size 64\n")->target() == "sm_80");
  CHECK(capability(".version 8.0\n.target sm_90a, texmode_independent\n")->target() == "sm_90a");
  CHECK(capability(".target\tsm_75")->target() == "sm_75");
  CHECK(!capability(".target") && !capability("") && !capability(".version 9.0"));
}

TEST(cuda_without_a_driver) {
  setenv("NIMFORGE_LIBCUDA", "/nowhere/libcuda.so.1", 1);
  for (int round = 0; round < 2; ++round) {
    std::string code;
    try {
      devices();
    } catch (const Error& error) {
      code = error.kind + " " + error.code;
    }
    CHECK(code == "incompatible no-cuda-driver");
  }
  unsetenv("NIMFORGE_LIBCUDA");
  CHECK(versionText(13000) == "13.0" && versionText(11080) == "11.8");
}
