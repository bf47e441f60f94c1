#include "exprs.h"

#include "check.h"

using namespace nimforge;

static Value apply(ExprOp op, std::int64_t a, std::int64_t b, std::int64_t c = 0) {
  const std::vector<Expr> exprs = {{ExprOp::constant, 0, 0, 0, a}, {ExprOp::constant, 0, 0, 0, b}, {ExprOp::constant, 0, 0, 0, c}, {op, 0, 1, 2, 0}};
  return evaluate(exprs, {})[3];
}
static bool is(Value value, std::int64_t number) { return value.fault == Fault::none && value.number == number; }

TEST(exprs_division_rounds_towards_minus_infinity) {
  for (std::int64_t a = -9; a <= 9; ++a)
    for (std::int64_t b = -4; b <= 4; ++b) {
      if (b == 0) continue;
      const Value floor = apply(ExprOp::floordiv, a, b), ceil = apply(ExprOp::ceildiv, a, b), mod = apply(ExprOp::mod, a, b);
      CHECK(is(mod, a - b * floor.number) && (mod.number == 0 || (mod.number < 0) == (b < 0)));
      CHECK(is(ceil, -apply(ExprOp::floordiv, -a, b).number));
      CHECK(double(floor.number) <= double(a) / double(b) && double(a) / double(b) < double(floor.number) + 1);
    }
}

TEST(exprs_overflow_is_a_fault) {
  CHECK(apply(ExprOp::add, INT64_MAX, 1).fault == Fault::overflow);
  CHECK(apply(ExprOp::sub, INT64_MIN, 1).fault == Fault::overflow);
  CHECK(apply(ExprOp::mul, INT64_MAX, 2).fault == Fault::overflow);
  CHECK(apply(ExprOp::floordiv, INT64_MIN, -1).fault == Fault::overflow);
  CHECK(is(apply(ExprOp::mod, INT64_MIN, -1), 0));
  CHECK(apply(ExprOp::mod, 1, 0).fault == Fault::division);
  CHECK(is(apply(ExprOp::mul, 6, 7), 42));
}

TEST(exprs_untaken_branches_do_not_fault) {
  const std::vector<Expr> exprs = {
      {ExprOp::constant, 0, 0, 0, 0},  {ExprOp::constant, 0, 0, 0, 7},  {ExprOp::floordiv, 1, 0, 0, 0}, {ExprOp::select, 0, 2, 1, 0},
      {ExprOp::select, 1, 2, 0, 0},    {ExprOp::and_, 0, 2, 0, 0},      {ExprOp::or_, 2, 1, 0, 0},      {ExprOp::and_, 1, 2, 0, 0},
      {ExprOp::symbol, 0, 0, 0, 0},    {ExprOp::add, 8, 1, 0, 0},
  };
  const auto v = evaluate(exprs, {Value{}});
  CHECK(v[2].fault == Fault::division);
  CHECK(is(v[3], 7));
  CHECK(v[4].fault == Fault::division);
  CHECK(is(v[5], 0) && is(v[6], 1));
  CHECK(v[7].fault == Fault::division);
  CHECK(v[9].fault == Fault::unknown);
}

TEST(exprs_text) {
  const std::vector<Expr> exprs = {
      {ExprOp::symbol, 0, 0, 0, 0}, {ExprOp::constant, 0, 0, 0, 4}, {ExprOp::sub, 0, 1, 0, 0}, {ExprOp::floordiv, 2, 1, 0, 0}, {ExprOp::mul, 3, 3, 0, 0},
  };
  CHECK(exprText(exprs, 2, {"W"}) == "W - 4");
  CHECK(exprText(exprs, 3, {"W"}) == "floor((W - 4) / 4)");
  CHECK(exprText(exprs, 4, {"W"}) == "floor((W - 4) / 4) * floor((W - 4) / 4)");
}
