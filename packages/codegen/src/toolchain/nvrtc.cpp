// Compiles one CUDA file with libnvrtc, which is opened at run time: NAME OUTPUT LIBRARY FILE OPTIONS...
// Writes the cubin for an sm_* architecture, else the PTX; the log goes to standard error. `NAME --version LIBRARY` prints the version.
#include <dirent.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Program = void*;

struct Nvrtc {
  void* library;
  int (*version)(int* major, int* minor);
  const char* (*errorString)(int);
  int (*createProgram)(Program*, const char* source, const char* name, int headers, const char* const*, const char* const*);
  int (*compileProgram)(Program, int options, const char* const*);
  int (*getLogSize)(Program, size_t*);
  int (*getLog)(Program, char*);
  int (*getPtxSize)(Program, size_t*);
  int (*getPtx)(Program, char*);
  int (*getCubinSize)(Program, size_t*);
  int (*getCubin)(Program, char*);
};

template <class F>
bool find(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  if (!function) std::fprintf(stderr, "the library has no %s\n", name);
  return function;
}

// NVRTC opens its built-in headers by name alone, which the loader finds only on its own paths: those beside the library are opened first.
void openBuiltins(const std::string& library) {
  const std::string folder = library.substr(0, library.rfind('/') + 1);
  DIR* dir = opendir(folder.empty() ? "." : folder.c_str());
  if (!dir) return;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name.starts_with("libnvrtc-builtins.so")) dlopen((folder + name).c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
  closedir(dir);
}

bool open(const char* path, Nvrtc& nvrtc) {
  openBuiltins(path);
  nvrtc.library = dlopen(path, RTLD_NOW);
  if (!nvrtc.library) {
    std::fprintf(stderr, "%s\n", dlerror());
    return false;
  }
  void* const l = nvrtc.library;
  return find(l, "nvrtcVersion", nvrtc.version) && find(l, "nvrtcGetErrorString", nvrtc.errorString) &&
         find(l, "nvrtcCreateProgram", nvrtc.createProgram) && find(l, "nvrtcCompileProgram", nvrtc.compileProgram) &&
         find(l, "nvrtcGetProgramLogSize", nvrtc.getLogSize) && find(l, "nvrtcGetProgramLog", nvrtc.getLog) &&
         find(l, "nvrtcGetPTXSize", nvrtc.getPtxSize) && find(l, "nvrtcGetPTX", nvrtc.getPtx) &&
         find(l, "nvrtcGetCUBINSize", nvrtc.getCubinSize) && find(l, "nvrtcGetCUBIN", nvrtc.getCubin);
}

bool readFile(const char* path, std::string& text) {
  FILE* file = std::fopen(path, "rb");
  if (!file) return false;
  char part[65536];
  for (size_t n; (n = std::fread(part, 1, sizeof part, file)) > 0;) text.append(part, n);
  const bool ok = !std::ferror(file);
  std::fclose(file);
  return ok;
}

bool writeFile(const char* path, const std::string& bytes) {
  FILE* file = std::fopen(path, "wb");
  if (!file) return false;
  const bool ok = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  return std::fclose(file) == 0 && ok;
}

int compile(const Nvrtc& nvrtc, const char* output, const char* file, const std::vector<const char*>& options) {
  const auto failed = [&](int code, const char* what) {
    if (code != 0) std::fprintf(stderr, "%s: %s\n", what, nvrtc.errorString(code));
    return code != 0;
  };
  std::string source;
  if (!readFile(file, source)) {
    std::fprintf(stderr, "cannot read %s\n", file);
    return 2;
  }
  Program program = nullptr;
  if (failed(nvrtc.createProgram(&program, source.c_str(), file, 0, nullptr, nullptr), "nvrtcCreateProgram")) return 2;
  const int compiled = nvrtc.compileProgram(program, int(options.size()), options.data());
  size_t size = 0;
  if (nvrtc.getLogSize(program, &size) == 0 && size > 1) {
    std::string log(size, '\0');
    if (nvrtc.getLog(program, log.data()) == 0) std::fprintf(stderr, "%s\n", log.c_str());
  }
  if (failed(compiled, "nvrtcCompileProgram")) return 1;
  bool cubin = false;
  for (const char* option : options) cubin = cubin || std::strstr(option, "architecture=sm_");
  if (failed(cubin ? nvrtc.getCubinSize(program, &size) : nvrtc.getPtxSize(program, &size), "size of the result")) return 2;
  std::string result(size, '\0');
  if (failed(cubin ? nvrtc.getCubin(program, result.data()) : nvrtc.getPtx(program, result.data()), "result")) return 2;
  // PTX is a string with its terminating zero.
  if (!cubin && !result.empty() && result.back() == '\0') result.pop_back();
  if (writeFile(output, result)) return 0;
  std::fprintf(stderr, "cannot write %s\n", output);
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<const char*> a(arguments, arguments + count);
  const bool version = count == 3 && std::strcmp(a[1], "--version") == 0;
  if (!version && count < 4) {
    std::fprintf(stderr, "usage: OUTPUT LIBRARY FILE OPTIONS... or --version LIBRARY\n");
    return 2;
  }
  Nvrtc nvrtc;
  if (!open(a[2], nvrtc)) return 2;
  if (!version) return compile(nvrtc, a[1], a[3], {a.begin() + 4, a.end()});
  int major = 0, minor = 0;
  if (nvrtc.version(&major, &minor) != 0) return 2;
  std::printf("%d.%d\n", major, minor);
  return 0;
}
