#include "devices/cpu/elf.h"

#include <elf.h>

#include <cstring>
#include <vector>

#include "error.h"

#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR 36
#define DT_RELRENT 37
#endif

namespace nimforge {
namespace {

constexpr std::uint64_t kElfPage = 4096;

Error refuse(const char* code, const std::string& what) {
  return malformed(code, "the engine's code image is refused: " + what)
      .want("a shared object of code and data alone (no libraries, constructors, TLS or undefined symbols)")
      .have(what);
}

[[noreturn]] void broken(const char* what) { throw refuse("image-malformed", what); }

class ElfReader {
 public:
  ElfReader(std::span<const std::byte> bytes, const std::string& target) : bytes_(bytes) {
    const auto header = at<Elf64_Ehdr>(0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_DYN)
      broken("not an ELF64 little-endian shared object");
    arm_ = target.starts_with("cpu-aarch64");
    if (header.e_machine != (arm_ ? EM_AARCH64 : EM_X86_64)) throw refuse("image-machine", "code for another machine than " + target);
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > 64) broken("wrong program headers");
    for (int i = 0; i < header.e_phnum; ++i) segments_.push_back(at<Elf64_Phdr>(add(header.e_phoff, i * sizeof(Elf64_Phdr))));
  }

  void check() {
    checkSegments();
    readDynamic();
    checkRelocations(rela_, relaSize_);
    checkRelocations(jmprel_, jmprelSize_);
    checkSymbols();
  }

 private:
  static std::uint64_t add(std::uint64_t a, std::uint64_t b) {
    if (a > UINT64_MAX - b) broken("an offset overflows");
    return a + b;
  }

  template <typename T>
  T at(std::uint64_t offset) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset) broken("it ends early");
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  // The value at a virtual address, through the loaded segments.
  template <typename T>
  T load(std::uint64_t address) const {
    for (const Elf64_Phdr& s : segments_)
      if (s.p_type == PT_LOAD && address >= s.p_vaddr && address - s.p_vaddr < s.p_filesz &&
          sizeof(T) <= s.p_filesz - (address - s.p_vaddr))
        return at<T>(add(s.p_offset, address - s.p_vaddr));
    broken("an address outside its segments");
  }

  void checkSegments() {
    bool stack = false;
    std::uint64_t end = 0;
    for (const Elf64_Phdr& s : segments_) {
      switch (s.p_type) {
        case PT_LOAD:
          if ((s.p_flags & PF_W) && (s.p_flags & PF_X)) throw refuse("image-writable-code", "a segment is writable and executable");
          if (s.p_filesz > s.p_memsz || add(s.p_offset, s.p_filesz) > bytes_.size() || add(s.p_vaddr, s.p_memsz) > (1ull << 40) ||
              (s.p_vaddr - s.p_offset) % kElfPage != 0 || s.p_vaddr / kElfPage * kElfPage < end)
            broken("wrong segments");
          end = s.p_vaddr + s.p_memsz;
          break;
        case PT_GNU_STACK:
          stack = true;
          if (s.p_flags & PF_X) throw refuse("image-executable-stack", "it asks for an executable stack");
          break;
        case PT_TLS: throw refuse("image-tls", "it has thread-local storage");
        case PT_INTERP: throw refuse("image-interpreter", "it names a program interpreter");
        case PT_DYNAMIC:
          if (dynamic_.p_type == PT_DYNAMIC) broken("two dynamic sections");
          dynamic_ = s;
          break;
        case PT_GNU_RELRO: {
          bool inside = false;
          for (const Elf64_Phdr& o : segments_)
            inside |= o.p_type == PT_LOAD && (o.p_flags & PF_W) && s.p_vaddr >= o.p_vaddr && s.p_memsz <= o.p_memsz &&
                      s.p_vaddr - o.p_vaddr <= alignedSize(o) - s.p_memsz;
          if (!inside) broken("a relro range outside its data");
          break;
        }
        case PT_NULL:
        case PT_NOTE:
        case PT_PHDR:
        case PT_GNU_EH_FRAME:
        case PT_GNU_PROPERTY: break;
        default: broken("an unknown kind of segment");
      }
    }
    if (!stack) throw refuse("image-executable-stack", "it does not say that its stack is not executable");
    if (dynamic_.p_type != PT_DYNAMIC) broken("no dynamic section");
  }

  static std::uint64_t alignedSize(const Elf64_Phdr& s) { return (s.p_memsz + kElfPage - 1) / kElfPage * kElfPage + kElfPage; }

  void readDynamic() {
    for (std::uint64_t i = 0;; ++i) {
      if ((i + 1) * sizeof(Elf64_Dyn) > dynamic_.p_filesz) broken("a dynamic section without an end");
      const auto entry = load<Elf64_Dyn>(add(dynamic_.p_vaddr, i * sizeof(Elf64_Dyn)));
      const std::uint64_t value = entry.d_un.d_val;
      switch (entry.d_tag) {
        case DT_NULL: return;
        case DT_NEEDED: throw refuse("image-needs-library", "it needs other libraries (DT_NEEDED)");
        case DT_INIT:
        case DT_FINI:
        case DT_INIT_ARRAY:
        case DT_FINI_ARRAY:
        case DT_PREINIT_ARRAY:
        case DT_INIT_ARRAYSZ:
        case DT_FINI_ARRAYSZ:
        case DT_PREINIT_ARRAYSZ: throw refuse("image-constructor", "it has constructors or destructors");
        case DT_TEXTREL: throw refuse("image-text-relocations", "it has text relocations");
        case DT_FLAGS:
          if (value & DF_TEXTREL) throw refuse("image-text-relocations", "it has text relocations");
          if (value & DF_STATIC_TLS) throw refuse("image-tls", "it has thread-local storage");
          if (value & DF_ORIGIN) broken("an unexpected dynamic entry");
          break;
        case DT_FLAGS_1:
          if (value & ~std::uint64_t(DF_1_NOW | DF_1_NODELETE)) broken("an unexpected dynamic entry");
          break;
        case DT_SYMTAB: symtab_ = value; break;
        case DT_SYMENT:
          if (value != sizeof(Elf64_Sym)) broken("a wrong symbol size");
          break;
        case DT_HASH: hash_ = value; break;
        case DT_GNU_HASH: gnuHash_ = value; break;
        case DT_RELA: rela_ = value; break;
        case DT_RELASZ: relaSize_ = value; break;
        case DT_RELAENT:
          if (value != sizeof(Elf64_Rela)) broken("a wrong relocation size");
          break;
        case DT_JMPREL: jmprel_ = value; break;
        case DT_PLTRELSZ: jmprelSize_ = value; break;
        case DT_PLTREL:
          if (value != DT_RELA) broken("an unexpected kind of relocation");
          break;
        case DT_STRTAB:
        case DT_STRSZ:
        case DT_SONAME:
        case DT_PLTGOT:
        case DT_RELACOUNT:
        case DT_SYMBOLIC:
        case DT_BIND_NOW: break;
        default: broken("an unexpected dynamic entry");
      }
    }
  }

  void checkRelocations(std::uint64_t table, std::uint64_t size) const {
    for (std::uint64_t i = 0; i < size / sizeof(Elf64_Rela); ++i) {
      const auto relocation = load<Elf64_Rela>(add(table, i * sizeof(Elf64_Rela)));
      const auto type = ELF64_R_TYPE(relocation.r_info);
      const bool plain = arm_ ? type == R_AARCH64_RELATIVE || type == R_AARCH64_ABS64 || type == R_AARCH64_GLOB_DAT ||
                                    type == R_AARCH64_JUMP_SLOT
                              : type == R_X86_64_RELATIVE || type == R_X86_64_64 || type == R_X86_64_GLOB_DAT ||
                                    type == R_X86_64_JUMP_SLOT;
      if (!plain) throw refuse("image-relocation", "a relocation of type " + std::to_string(type));
      if (!writable(relocation.r_offset)) throw refuse("image-text-relocations", "a relocation outside its data");
    }
  }

  bool writable(std::uint64_t address) const {
    for (const Elf64_Phdr& s : segments_)
      if (s.p_type == PT_LOAD && (s.p_flags & PF_W) && address >= s.p_vaddr && address - s.p_vaddr < s.p_memsz &&
          s.p_memsz - (address - s.p_vaddr) >= 8)
        return true;
    return false;
  }

  void checkSymbols() const {
    if (!symtab_ || (!hash_ && !gnuHash_)) broken("no symbol table");
    for (std::uint64_t i = 1, count = symbolCount(); i < count; ++i) {
      const auto symbol = load<Elf64_Sym>(add(symtab_, i * sizeof(Elf64_Sym)));
      const int type = ELF64_ST_TYPE(symbol.st_info);
      if (symbol.st_shndx == SHN_UNDEF) throw refuse("image-undefined-symbol", "it has undefined symbols");
      if (type == STT_GNU_IFUNC) throw refuse("image-ifunc", "it has functions chosen at load time (ifunc)");
      if (type == STT_TLS) throw refuse("image-tls", "it has thread-local storage");
    }
  }

  std::uint64_t symbolCount() const {
    if (hash_) return load<std::uint32_t>(add(hash_, 4));
    // The GNU table has no count: the last symbol is the end of the chain that starts last.
    const auto buckets = load<std::uint32_t>(gnuHash_), first = load<std::uint32_t>(add(gnuHash_, 4));
    const auto bloom = load<std::uint32_t>(add(gnuHash_, 8));
    const std::uint64_t bucketTable = add(gnuHash_, 16 + 8ull * bloom), chains = add(bucketTable, 4ull * buckets);
    std::uint64_t last = 0;
    for (std::uint64_t i = 0; i < buckets; ++i)
      last = std::max<std::uint64_t>(last, load<std::uint32_t>(add(bucketTable, 4 * i)));
    if (last < first) return first;
    while (!(load<std::uint32_t>(add(chains, 4 * (last - first))) & 1)) ++last;
    return last + 1;
  }

  std::span<const std::byte> bytes_;
  bool arm_ = false;
  std::vector<Elf64_Phdr> segments_;
  Elf64_Phdr dynamic_{};
  std::uint64_t symtab_ = 0, hash_ = 0, gnuHash_ = 0, rela_ = 0, relaSize_ = 0, jmprel_ = 0, jmprelSize_ = 0;
};

}  // namespace

void checkElf(std::span<const std::byte> image, const std::string& target) { ElfReader(image, target).check(); }

}  // namespace nimforge
