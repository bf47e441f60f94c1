// SHA-256 (FIPS 180-4), with the CPU's SHA instructions where it has them.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace nimforge {

using Digest = std::array<std::uint8_t, 32>;
enum class ShaCode { best, portable };
Digest sha256(const void* data, std::size_t size, ShaCode code = ShaCode::best);

}  // namespace nimforge
