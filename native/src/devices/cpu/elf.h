// What a CPU image may be: an ELF64 shared object that is code and data only. Everything through which loading it could run
// code, find other libraries or change the process (constructors, DT_NEEDED, undefined symbols, TLS, ifuncs, text
// relocations, writable code, executable stack) is refused before the dynamic linker sees it.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace nimforge {

// Throws a malformed error `image-…`. `target` says the machine: cpu-x86-64…, cpu-aarch64….
void checkElf(std::span<const std::byte> image, const std::string& target);

}  // namespace nimforge
