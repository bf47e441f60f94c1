// Put before every test program of the mutation test. The kernels it includes have all faults in, each behind NF_FAULT(its number), of which
// the environment switches one on; and the first failure ends the program.
#pragma once
#include <cstdio>
#include <unistd.h>

extern int nf_fault;               // 0: none
extern unsigned char nf_reached[];  // by number, whether a kernel came by it

#define NF_FAULT(number) (::nf_reached[number] = 1, ::nf_fault == (number))

// Takes the place of the program's count of failures.
struct NfFailures {
  int count;
  int operator++() {
    std::fflush(stdout);
    _exit(1);
  }
  operator int() const { return count; }
};
