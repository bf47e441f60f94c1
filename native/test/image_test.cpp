#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "devices/cpu/elf.h"
#include "devices/cpu/image_loader.h"
#include "error.h"

using namespace nimforge;

static std::vector<std::byte> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

static int valueOf(const LoadedImage& image) { return image.kernel("value")(nullptr); }

// The dynamic linker knows libraries by path: a descriptor's number that came back would give the old image.
TEST(image_each_load_is_its_own) {
  const auto one = read(IMAGE_ONE), two = read(IMAGE_TWO);
  checkElf(one, "cpu-x86-64");
  for (auto from : {LoadedImage::From::memory, LoadedImage::From::file}) {
    for (int round = 0; round < 3; ++round) {
      auto a = std::make_unique<LoadedImage>(one, from);
      auto b = std::make_unique<LoadedImage>(two, from);
      CHECK(valueOf(*a) == 1);
      CHECK(valueOf(*b) == 2);
      a.reset();
      LoadedImage c(two, from);
      CHECK(valueOf(c) == 2);
      CHECK(valueOf(*b) == 2);
    }
  }
}

TEST(image_without_the_kernel) {
  const LoadedImage image(read(IMAGE_ONE));
  bool refused = false;
  try {
    image.kernel("other");
  } catch (const Error& error) {
    refused = error.code == "image-kernel";
  }
  CHECK(refused);
}
