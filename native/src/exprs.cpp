#include "exprs.h"

#include <algorithm>

namespace nimforge {
namespace {

Value known(std::int64_t number) { return {number, Fault::none}; }
Value fail(Fault fault) { return {0, fault}; }

// `number` by reference: the call that gives `overflow` writes it, in whichever order arguments are evaluated.
Value checked(bool overflow, const std::int64_t& number) { return overflow ? fail(Fault::overflow) : known(number); }

Value divide(ExprOp op, std::int64_t a, std::int64_t b) {
  if (b == 0) return fail(Fault::division);
  if (b == -1) {  // INT64_MIN / -1 does not fit
    std::int64_t negated;
    const bool overflow = __builtin_sub_overflow(std::int64_t{0}, a, &negated);
    return op == ExprOp::mod ? known(0) : checked(overflow, negated);
  }
  const std::int64_t quotient = a / b, rest = a % b;
  const bool sameSign = (rest < 0) == (b < 0);
  switch (op) {
    case ExprOp::floordiv: return known(quotient - (rest != 0 && !sameSign));
    case ExprOp::ceildiv: return known(quotient + (rest != 0 && sameSign));
    default: return known(rest != 0 && !sameSign ? rest + b : rest);
  }
}

Value binary(ExprOp op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  switch (op) {
    case ExprOp::add: return checked(__builtin_add_overflow(a, b, &out), out);
    case ExprOp::sub: return checked(__builtin_sub_overflow(a, b, &out), out);
    case ExprOp::mul: return checked(__builtin_mul_overflow(a, b, &out), out);
    case ExprOp::floordiv:
    case ExprOp::ceildiv:
    case ExprOp::mod: return divide(op, a, b);
    case ExprOp::min: return known(std::min(a, b));
    case ExprOp::max: return known(std::max(a, b));
    case ExprOp::eq: return known(a == b);
    case ExprOp::ne: return known(a != b);
    case ExprOp::lt: return known(a < b);
    default: return known(a <= b);
  }
}

// One side can decide: the other side's fault does not matter then.
Value logic(bool decisive, const Value& a, const Value& b) {
  for (const Value* side : {&a, &b})
    if (side->fault == Fault::none && (side->number != 0) == decisive) return known(decisive);
  for (const Value* side : {&a, &b})
    if (side->fault != Fault::none) return fail(side->fault);
  return known(!decisive);
}

}  // namespace

std::vector<Value> evaluate(const std::vector<Expr>& exprs, const std::vector<Value>& symbols) {
  std::vector<Value> values;
  values.reserve(exprs.size());
  for (const Expr& e : exprs) {
    switch (e.op) {
      case ExprOp::constant: values.push_back(known(e.value)); break;
      case ExprOp::symbol: values.push_back(symbols[e.a]); break;
      case ExprOp::and_: values.push_back(logic(false, values[e.a], values[e.b])); break;
      case ExprOp::or_: values.push_back(logic(true, values[e.a], values[e.b])); break;
      case ExprOp::not_: {
        const Value a = values[e.a];
        values.push_back(a.fault == Fault::none ? known(a.number == 0) : a);
        break;
      }
      case ExprOp::select: {
        const Value a = values[e.a];
        values.push_back(a.fault != Fault::none ? a : values[a.number != 0 ? e.b : e.c]);
        break;
      }
      default: {
        const Value a = values[e.a], b = values[e.b];
        values.push_back(a.fault != Fault::none ? a : b.fault != Fault::none ? b : binary(e.op, a.number, b.number));
      }
    }
  }
  return values;
}

namespace {

// Shared operands would make the text of a deep expression exponentially long.
constexpr std::size_t kTextLimit = 200;

void print(std::string& out, const std::vector<Expr>& exprs, int index, const std::vector<std::string>& symbols) {
  if (out.size() > kTextLimit) return;
  const Expr& e = exprs[index];
  const auto infix = [&](const char* sign) {
    out += '(';
    print(out, exprs, e.a, symbols);
    out += sign;
    print(out, exprs, e.b, symbols);
    out += ')';
  };
  const auto call = [&](const char* name, std::initializer_list<int> operands) {
    out += name;
    out += '(';
    for (const int* i = operands.begin(); i != operands.end(); ++i) {
      if (i != operands.begin()) out += ", ";
      print(out, exprs, *i, symbols);
    }
    out += ')';
  };
  switch (e.op) {
    case ExprOp::constant: out += std::to_string(e.value); break;
    case ExprOp::symbol: out += symbols[e.a]; break;
    case ExprOp::add: infix(" + "); break;
    case ExprOp::sub: infix(" - "); break;
    case ExprOp::mul: infix(" * "); break;
    case ExprOp::floordiv: out += "floor", infix(" / "); break;
    case ExprOp::ceildiv: out += "ceil", infix(" / "); break;
    case ExprOp::mod: call("mod", {e.a, e.b}); break;
    case ExprOp::min: call("min", {e.a, e.b}); break;
    case ExprOp::max: call("max", {e.a, e.b}); break;
    case ExprOp::eq: infix(" == "); break;
    case ExprOp::ne: infix(" != "); break;
    case ExprOp::lt: infix(" < "); break;
    case ExprOp::le: infix(" <= "); break;
    case ExprOp::and_: infix(" and "); break;
    case ExprOp::or_: infix(" or "); break;
    case ExprOp::not_: call("not", {e.a}); break;
    case ExprOp::select: call("select", {e.a, e.b, e.c}); break;
  }
}

}  // namespace

std::string exprText(const std::vector<Expr>& exprs, int index, const std::vector<std::string>& symbols) {
  std::string out;
  print(out, exprs, index, symbols);
  if (out.size() > kTextLimit) out.resize(kTextLimit), out += "…";
  // The outermost parentheses of an infix expression say nothing.
  const ExprOp op = exprs[index].op;
  const bool infix = op != ExprOp::floordiv && op != ExprOp::ceildiv && out.front() == '(' && out.back() == ')';
  return infix ? out.substr(1, out.size() - 2) : out;
}

}  // namespace nimforge
