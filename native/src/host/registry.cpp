#include "host/registry.h"

#include "host/ops.h"

namespace nimforge {
namespace {

struct Row {
  std::string_view name;
  HostOp op;
};
// A version changes when an operator's meaning or operands change; old rows stay for old engines.
constexpr Row kOps[] = {
    {"NonZero@1", host::nonZero},
    {"copy@1", host::copy},
};

}  // namespace

HostOp findHostOp(std::string_view name) {
  for (const Row& row : kOps)
    if (row.name == name) return row.op;
  return nullptr;
}

std::vector<std::string> hostOpNames() {
  std::vector<std::string> names;
  for (const Row& row : kOps) names.emplace_back(row.name);
  return names;
}

}  // namespace nimforge
