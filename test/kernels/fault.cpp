// Which fault is on: NF_FAULT. How much processor time a program may take: NF_SECONDS. At a normal end it writes to the file NF_REPORT its
// processor time, and the numbers of the faults that kernels came by.
#include <sys/resource.h>

#include <cstdlib>

#include "fault.h"

static int number(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : 0;
}

int nf_fault = number("NF_FAULT");
unsigned char nf_reached[NF_FAULTS + 1];

static struct Frame {
  Frame() {
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    if (const rlim_t seconds = number("NF_SECONDS")) {
      const rlimit limit{seconds, seconds};
      setrlimit(RLIMIT_CPU, &limit);
    }
  }
  ~Frame() {
    const char* path = std::getenv("NF_REPORT");
    std::FILE* file = path ? std::fopen(path, "w") : nullptr;
    if (!file) return;
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    std::fprintf(file, "%ld.%06ld\n", (long)usage.ru_utime.tv_sec, (long)usage.ru_utime.tv_usec);
    for (int i = 1; i <= NF_FAULTS; ++i)
      if (nf_reached[i]) std::fprintf(file, "%d\n", i);
    std::fclose(file);
  }
} frame;
