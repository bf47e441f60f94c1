// Runs one kernel of an emulated image in a process of its own, every buffer's end at an inaccessible page.
//
//   emulator_runner IMAGE KERNEL --blocks N [--shared BYTES] [--dims A,B,...] [--seeds FROM[-TO]] [--timeout SECONDS] [--align BYTES]
//                   BUFFER...
//
//   IMAGE      a shared library of an emulated target; KERNEL one of its entries
//   --blocks   blocks of the grid
//   --shared   bytes of dynamic shared memory of a block (0)
//   --dims     the launch's integer arguments
//   --seeds    seeds of the thread order (1); a range runs the kernel once for each, on fresh buffers
//   --timeout  of the whole run (60): a kernel may loop for ever without asking the emulator for anything
//   --align    alignment of the buffers' starts (16); between a buffer's end and the page lie fewer bytes than that, which
//              must keep their value
//
// Buffers in the launch's order:
//   in:FILE                      the file's bytes; the kernel must not change them
//   inout:FILE[:FILE2]           the file's bytes; afterwards written to FILE2 (of the last seed)
//   out:BYTES[:FILE]             poisoned with 0xFF; afterwards written to FILE
//   expect:FILE[:TYPE:TOLERANCE] poisoned, as large as FILE, whose elements it must hold at the end: exactly, or as TYPE (f64, f32, f16,
//                                bf16) with |x - y| <= TOLERANCE * max(1, |y|), NaN equal to NaN
//   zero:BYTES                   zeros, for counters and scratch; not looked at
//
// Prints what went wrong, one line for the first seed that fails, and exits with 0 when every run was right; 1 usage; 2 a fault that
// the emulator found (out of bounds, divergence, deadlock ...); 3 a result that differs; 4 the kernel set the launch's error word;
// 5 a buffer that changed where it must not; 6 the time was up.

#include <dlfcn.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../emulator.h"
#include "../memory.h"

using namespace nimforge;

namespace {

enum Exit { kRight, kUsage, kFault, kDiffers, kErrorWord, kOverwritten, kTime };
enum class Role { in, inout, out, expect, zero };

struct Usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Bytes = std::vector<unsigned char>;

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Usage("cannot read " + path);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

void write(const std::string& path, const unsigned char* data, std::size_t size) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(data), std::streamsize(size));
  if (!file) throw Usage("cannot write " + path);
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out(1);
  for (char c : text)
    if (c == at) out.emplace_back();
    else out.back() += c;
  return out;
}

std::size_t number(const std::string& text) {
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 0);
  if (text.empty() || *end) throw Usage("\"" + text + "\" is not a number");
  return std::size_t(value);
}

double decode(const std::string& type, const unsigned char* p) {
  if (type == "f64") {
    double x;
    std::memcpy(&x, p, 8);
    return x;
  }
  if (type == "f32") {
    float x;
    std::memcpy(&x, p, 4);
    return double(x);
  }
  std::uint16_t h;
  std::memcpy(&h, p, 2);
  if (type == "bf16") return double(std::bit_cast<float>(std::uint32_t(h) << 16));
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                           : exponent     ? std::ldexp(1024 + mantissa, exponent - 25)
                                          : std::ldexp(mantissa, -24);
  return h >> 15 ? -magnitude : magnitude;
}

int width(const std::string& type) {
  if (type == "f64") return 8;
  if (type == "f32") return 4;
  if (type == "f16" || type == "bf16") return 2;
  throw Usage("type " + type + ": f64, f32, f16 or bf16");
}

struct Spec {
  Role role;
  Bytes contents;  // in, inout: what it starts with; expect: what it must be; else only the size counts
  std::string target, type;
  double tolerance = 0;
};

Spec parse(const std::string& argument) {
  const auto parts = split(argument, ':');
  const std::string& kind = parts[0];
  if (parts.size() < 2) throw Usage("buffer \"" + argument + "\": KIND:...");
  Spec spec{};
  if (kind == "in") spec.role = Role::in, spec.contents = read(parts[1]);
  else if (kind == "inout") spec.role = Role::inout, spec.contents = read(parts[1]);
  else if (kind == "out") spec.role = Role::out, spec.contents = Bytes(number(parts[1]), 0xFF);
  else if (kind == "zero") spec.role = Role::zero, spec.contents = Bytes(number(parts[1]), 0);
  else if (kind == "expect") {
    spec.role = Role::expect;
    spec.contents = read(parts[1]);
    if (parts.size() == 4) {
      spec.type = parts[2];
      spec.tolerance = std::strtod(parts[3].c_str(), nullptr);
      if (spec.contents.size() % std::size_t(width(spec.type))) throw Usage(parts[1] + " does not hold whole elements of " + spec.type);
    } else if (parts.size() != 2) {
      throw Usage("buffer \"" + argument + "\": expect:FILE or expect:FILE:TYPE:TOLERANCE");
    }
    return spec;
  } else {
    throw Usage("buffer \"" + argument + "\": in, inout, out, expect or zero");
  }
  if (parts.size() == 3 && (kind == "inout" || kind == "out")) spec.target = parts[2];
  else if (parts.size() != 2) throw Usage("buffer \"" + argument + "\" has too many parts");
  return spec;
}

// A buffer whose end is an inaccessible page's start, as near as the alignment of its start allows.
class Buffer {
 public:
  Buffer(const Spec& spec, std::size_t align)
      : spec_(spec), opened_((spec.contents.size() + align + page() - 1) / page() * page()), pages_(opened_ + 2 * page(), page()) {
    pages_.open(page(), opened_);
    unsigned char* const end = pages_.begin() + page() + opened_;
    data_ = pages_.begin() + page() + (opened_ - spec.contents.size()) / align * align;
    std::memset(pages_.begin() + page(), around(), opened_);
    std::memset(data_, 0xFF, spec.contents.size());
    if (spec.role != Role::expect) std::memcpy(data_, spec.contents.data(), spec.contents.size());
    before_ = std::size_t(data_ - pages_.begin()) - page();
    behind_ = std::size_t(end - data_) - spec.contents.size();
  }

  void* data() const { return data_; }

  // What is wrong with it, and the exit code for that.
  std::optional<std::pair<std::string, Exit>> wrong() const {
    const std::size_t size = spec_.contents.size();
    for (std::size_t i = 0; i < before_; ++i)
      if (data_[-1 - std::ptrdiff_t(i)] != around()) return {{"written " + std::to_string(i + 1) + " bytes before its start", kOverwritten}};
    for (std::size_t i = 0; i < behind_; ++i)
      if (data_[size + i] != around()) return {{"written " + std::to_string(i) + " bytes behind its end", kOverwritten}};
    if (spec_.role == Role::in && std::memcmp(data_, spec_.contents.data(), size) != 0) return {{"an input was written", kOverwritten}};
    if (spec_.role != Role::expect) return {};
    if (spec_.type.empty()) {
      for (std::size_t i = 0; i < size; ++i)
        if (data_[i] != spec_.contents[i])
          return {{"byte " + std::to_string(i) + " is " + std::to_string(data_[i]) + ", expected " + std::to_string(spec_.contents[i]), kDiffers}};
      return {};
    }
    const std::size_t step = std::size_t(width(spec_.type));
    for (std::size_t i = 0; i < size; i += step) {
      const double x = decode(spec_.type, data_ + i), y = decode(spec_.type, spec_.contents.data() + i);
      const bool same = x == y || (x != x && y != y) || std::fabs(x - y) <= spec_.tolerance * std::fmax(1, std::fabs(y));
      if (!same) return {{"element " + std::to_string(i / step) + " is " + std::to_string(x) + ", expected " + std::to_string(y), kDiffers}};
    }
    return {};
  }

  void save() const {
    if (!spec_.target.empty()) write(spec_.target, data_, spec_.contents.size());
  }

 private:
  // NaN around what is read. What is written has another value around it: a NaN that was read there and written shows.
  unsigned char around() const { return spec_.role == Role::in ? 0xFF : 0x7F; }
  static std::size_t page() { return Pages::pageBytes(); }

  const Spec& spec_;
  std::size_t opened_;
  Pages pages_;
  unsigned char* data_;
  std::size_t before_, behind_;
};

struct Options {
  std::string image, kernel;
  NfInt blocks = -1, shared = 0;
  std::vector<NfInt> dims;
  std::uint64_t firstSeed = 1, lastSeed = 1;
  unsigned timeout = 60;
  std::size_t align = 16;
  std::vector<Spec> buffers;
};

Options parse(int count, char** arguments) {
  Options o;
  std::vector<std::string> words(arguments + 1, arguments + count);
  if (words.size() < 2) throw Usage("IMAGE KERNEL --blocks N ... BUFFER...");
  o.image = words[0];
  o.kernel = words[1];
  for (std::size_t i = 2; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.rfind("--", 0) != 0) {
      o.buffers.push_back(parse(word));
      continue;
    }
    if (++i == words.size()) throw Usage(word + " needs a value");
    const std::string& value = words[i];
    if (word == "--blocks") o.blocks = NfInt(number(value));
    else if (word == "--shared") o.shared = NfInt(number(value));
    else if (word == "--timeout") o.timeout = unsigned(number(value));
    else if (word == "--align") o.align = number(value);
    else if (word == "--dims") {
      for (const auto& d : split(value, ',')) o.dims.push_back(std::strtoll(d.c_str(), nullptr, 0));
    } else if (word == "--seeds") {
      const auto range = split(value, '-');
      o.firstSeed = number(range[0]);
      o.lastSeed = number(range.back());
    } else {
      throw Usage("unknown option " + word);
    }
  }
  if (o.blocks < 0) throw Usage("--blocks is missing");
  if (!std::has_single_bit(o.align)) throw Usage("--align must be a power of two");
  return o;
}

int run(const Options& o, NfKernel kernel, std::uint64_t seed) {
  EmulatorOptions options = emulatorOptions();
  options.seed = seed;
  setEmulatorOptions(options);
  std::vector<Buffer> buffers;
  buffers.reserve(o.buffers.size());
  std::vector<void*> pointers;
  for (const Spec& spec : o.buffers) pointers.push_back(buffers.emplace_back(spec, o.align).data());
  std::vector<NfInt> dims = o.dims;
  NfError error{};
  const NfEmulator table = emulatorFor(o.blocks);
  const NfLaunch launch{pointers.data(), dims.data(), 0, o.blocks, 0, 1, nullptr, &error, o.shared, &table};
  if (kernel(&launch) != 0) {
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), lastEmulatorFault().c_str());
    return kFault;
  }
  if (error.code != 0) {
    std::printf("seed %llu: error %d of operand %d, value %lld\n", static_cast<unsigned long long>(seed), error.code, error.operand, error.value);
    return kErrorWord;
  }
  for (std::size_t i = 0; i < buffers.size(); ++i)
    if (const auto wrong = buffers[i].wrong()) {
      std::printf("seed %llu: buffer %zu: %s\n", static_cast<unsigned long long>(seed), i, wrong->first.c_str());
      return wrong->second;
    }
  if (seed == o.lastSeed)
    for (const Buffer& b : buffers) b.save();
  return kRight;
}

}  // namespace

int main(int count, char** arguments) try {
  const Options options = parse(count, arguments);
  void* const image = dlopen(options.image.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!image) throw Usage(dlerror());
  const auto kernel = reinterpret_cast<NfKernel>(dlsym(image, options.kernel.c_str()));
  if (!kernel) throw Usage("no kernel " + options.kernel + " in " + options.image);
  std::signal(SIGALRM, [](int) {
    static const char text[] = "the time was up\n";
    if (::write(1, text, sizeof text - 1) < 0) _exit(kTime);
    _exit(kTime);
  });
  alarm(options.timeout);
  for (std::uint64_t seed = options.firstSeed; seed <= options.lastSeed; ++seed)
    if (const int wrong = run(options, kernel, seed)) return wrong;
  return kRight;
} catch (const Usage& wrong) {
  std::fprintf(stderr, "emulator_runner: %s\n", wrong.what());
  return kUsage;
}
