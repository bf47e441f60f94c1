// Integer expressions over the sizes of a run, evaluated front to back with checked int64 arithmetic. A fault (overflow,
// division by zero) belongs to the expression that made it: `select`, `and`, `or` do not see the fault of a branch they do not take.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "generated/engine_generated.h"

namespace nimforge {

using engine::ExprOp;

struct Expr {
  ExprOp op;
  int a, b, c;
  std::int64_t value;
};

enum class Fault : std::uint8_t { none, overflow, division, unknown };

struct Value {
  std::int64_t number = 0;
  Fault fault = Fault::unknown;
};

// `unknown` for a symbol that is not known yet, and what is computed from it.
std::vector<Value> evaluate(const std::vector<Expr>& exprs, const std::vector<Value>& symbols);

// As a user would write it; `symbols` are names.
std::string exprText(const std::vector<Expr>& exprs, int index, const std::vector<std::string>& symbols);

}  // namespace nimforge
