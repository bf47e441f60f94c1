#include "sha256.h"

#include <chrono>
#include <string>
#include <vector>

#include "check.h"
#include "cpu_features.h"

using namespace nimforge;

static std::string hex(const Digest& digest) {
  std::string out;
  for (unsigned byte : digest) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", byte);
    out += two;
  }
  return out;
}

// FIPS 180-4 examples, and a million times "a".
TEST(sha256_known_answers) {
  const std::string million(1000000, 'a');
  for (ShaCode code : {ShaCode::portable, ShaCode::best}) {
    CHECK(hex(sha256("", 0, code)) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hex(sha256("abc", 3, code)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, code)) ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hex(sha256(million.data(), million.size(), code)) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

TEST(sha256_paths_agree) {
  std::vector<unsigned char> data(5000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = (unsigned char)(i * 131 + i / 7);
  for (std::size_t size = 0; size < data.size(); size += size < 300 ? 1 : 97)
    CHECK(sha256(data.data(), size, ShaCode::best) == sha256(data.data(), size, ShaCode::portable));
  const std::vector<unsigned char> large(32 << 20);
  const auto start = std::chrono::steady_clock::now();
  sha256(large.data(), large.size());
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  std::printf("     sha_ni %d: %.0f MB/s\n", hasCpuFeature("sha_ni"), double(large.size()) / 1e6 / time.count());
}
