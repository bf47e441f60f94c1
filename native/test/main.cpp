// Runs every test; with an argument, those whose name contains it.
#include <cstring>

#include "check.h"

int failures = 0;

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

int main(int count, char** arguments) {
  for (const Case& test : cases()) {
    if (count > 1 && !std::strstr(test.name, arguments[1])) continue;
    const int before = failures;
    test.run();
    std::printf("%s %s\n", failures == before ? "ok  " : "FAIL", test.name);
  }
  return failures == 0 ? 0 : 1;
}
