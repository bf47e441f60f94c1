// Just enough of a test frame: cases register themselves; CHECK prints what failed and goes on.
#pragma once
#include <cstdio>
#include <vector>

struct Case {
  const char* name;
  void (*run)();
};
std::vector<Case>& cases();
extern int failures;

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

#define TEST(name)                                \
  static void test_##name();                      \
  static Register register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) ++failures, std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
  } while (0)
