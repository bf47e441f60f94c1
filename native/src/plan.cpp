#include "plan.h"

#include <algorithm>

#include "arena.h"
#include "error.h"
#include "memory.h"

namespace nimforge {
namespace {

constexpr std::size_t kKeptPlans = 32;

bool isStorage(const Program& program, std::size_t buffer, BufferKind kind) {
  const Buffer& b = program.buffers[buffer];
  return b.root == int(buffer) && b.kind == kind;
}

}  // namespace

std::int64_t Plan::size(const Program& program, int expr) const {
  const Value& value = values[expr];
  switch (value.fault) {
    case Fault::none: return value.number;
    case Fault::overflow:
      throw limit("size-overflow", "a size computed from the inputs' shapes does not fit 64 bits: " + program.text(expr));
    case Fault::division:
      throw usage("division-by-zero", "a size computed from the inputs' shapes divides by zero: " + program.text(expr));
    default: throw Error("internal", "unknown-size", "internal: a size is used before it is known: " + program.text(expr));
  }
}

std::vector<std::int64_t> Plan::shape(const Program& program, const std::vector<int>& exprs) const {
  std::vector<std::int64_t> out;
  for (int expr : exprs) out.push_back(size(program, expr));
  return out;
}

std::shared_ptr<const Plan> Planner::begin(std::vector<Value> symbols) { return find(std::move(symbols), 0, nullptr); }

std::shared_ptr<const Plan> Planner::extend(const Plan& before, int step, std::span<const std::int64_t> defined) {
  const auto& defines = program_.steps[step].host->defines;
  if (defined.size() != defines.size())
    throw malformed("host-op", "step \"" + program_.steps[step].name + "\" declares another number of symbols than its operator defines");
  std::vector<Value> symbols = before.symbols;
  for (std::size_t i = 0; i < defines.size(); ++i) symbols[defines[i]] = {defined[i], Fault::none};
  return find(std::move(symbols), step + 1, &before);
}

std::shared_ptr<const Plan> Planner::find(std::vector<Value> symbols, int phase, const Plan* before) {
  Key key{phase};
  for (const Value& s : symbols) key.push_back(s.fault == Fault::none ? s.number : -1);  // sizes are not negative
  if (const auto known = byKey_.find(key); known != byKey_.end()) {
    recent_.splice(recent_.begin(), recent_, known->second);
    return recent_.front().plan;
  }
  auto plan = make(std::move(symbols), phase, before);
  recent_.push_front({key, plan});
  byKey_[key] = recent_.begin();
  if (recent_.size() > kKeptPlans) {
    byKey_.erase(recent_.back().key);
    recent_.pop_back();
  }
  return plan;
}

std::shared_ptr<const Plan> Planner::make(std::vector<Value> symbols, int phase, const Plan* before) const {
  auto plan = std::make_shared<Plan>();
  plan->phase = phase;
  plan->symbols = std::move(symbols);
  checkSymbols(*plan);
  plan->values = evaluate(program_.exprs, plan->symbols);
  for (const Assertion& a : program_.assertions)
    if (program_.exprPhase[a.expr] == phase && plan->size(program_, a.expr) == 0)
      throw usage("assertion", a.message.empty() ? "the inputs' shapes do not fit each other" : a.message)
          .want(program_.text(a.expr))
          .have("it does not hold for these shapes");
  sizeBuffers(*plan);
  placeArena(*plan, before);
  measure(*plan);
  bindLaunches(*plan);
  return plan;
}

void Planner::checkSymbols(const Plan& plan) const {
  for (std::size_t i = 0; i < plan.symbols.size(); ++i) {
    const Value& value = plan.symbols[i];
    const Symbol& s = program_.symbols[i];
    if (value.fault != Fault::none || (value.number >= s.min && value.number <= s.max)) continue;
    const std::string where = s.input >= 0 ? "input \"" + program_.inputs[s.input].name + "\", axis " + std::to_string(s.axis)
                                           : "step \"" + program_.steps[s.step].name + "\"";
    throw usage("dimension-range", where + ": " + s.name + " is out of its range")
        .want(s.name + " from " + std::to_string(s.min) + " to " + std::to_string(s.max))
        .have(std::to_string(value.number))
        .advise("use a size in this range, or build the engine with a wider one (--range " + s.name + "=LOW..HIGH)");
  }
}

void Planner::sizeBuffers(Plan& plan) const {
  const auto& buffers = program_.buffers;
  plan.bytes.assign(buffers.size(), -1);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].phase > plan.phase) continue;
    plan.bytes[i] = plan.size(program_, buffers[i].bytes);
    if (plan.bytes[i] < 0) throw malformed("engine-size", "buffer \"" + buffers[i].name + "\" has a negative size");
  }
  // A view's place within its root, through the views between.
  plan.place.assign(buffers.size(), 0);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (plan.bytes[i] < 0) continue;
    for (const Buffer* b = &buffers[i]; b->alias >= 0; b = &buffers[b->alias]) {
      const std::int64_t offset = b->offset >= 0 ? plan.size(program_, b->offset) : 0;
      const std::int64_t whole = plan.bytes[b->alias], part = plan.bytes[b - buffers.data()];
      if (offset < 0 || offset > whole || part > whole - offset)
        throw malformed("engine-size", "buffer \"" + b->name + "\" does not lie inside the buffer that it views");
      plan.place[i] += offset;
    }
  }
}

void Planner::placeArena(Plan& plan, const Plan* before) const {
  const auto& buffers = program_.buffers;
  const int now = plan.phase - 1;  // the step that is running; what is live at it stays where it is
  std::vector<ArenaItem> items;
  std::vector<int> which;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& b = buffers[i];
    if (!isStorage(program_, i, BufferKind::arena) || plan.bytes[i] < 0 || b.last < now) continue;
    const bool placed = before && before->bytes[i] >= 0 && b.first <= now;
    items.push_back({plan.bytes[i], b.first, b.last, placed ? before->place[i] : -1});
    which.push_back(int(i));
  }
  const ArenaPlan arena = planArena(items, kAlignment);
  for (std::size_t k = 0; k < which.size(); ++k) plan.place[which[k]] = arena.offsets[k];
  // Views are placed with their roots.
  for (std::size_t i = 0; i < buffers.size(); ++i)
    if (buffers[i].root != int(i) && plan.bytes[i] >= 0 && buffers[buffers[i].root].kind == BufferKind::arena)
      plan.place[i] += plan.place[buffers[i].root];
  plan.memory.arena = std::max(arena.bytes, before ? before->memory.arena : 0);
}

void Planner::measure(Plan& plan) const {
  const auto& buffers = program_.buffers;
  const int end = std::max(int(program_.steps.size()) - 1, 0);
  std::vector<ArenaItem> arena, all;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& b = buffers[i];
    if (b.root != int(i) || plan.bytes[i] < 0 || b.kind == BufferKind::constant) continue;
    ArenaItem item{plan.bytes[i], b.first, b.last, -1};
    if (item.first < 0 || item.last < item.first) item.first = 0, item.last = end;
    all.push_back(item);
    if (b.kind == BufferKind::arena) arena.push_back(item);
    if (b.kind == BufferKind::input) plan.memory.inputs += item.bytes;
    if (b.kind == BufferKind::output) plan.memory.outputs += item.bytes;
  }
  plan.memory.arenaLowerBound = peakBytes(arena, 1);
  plan.memory.lowerBound = peakBytes(all, 1);
}

void Planner::bindLaunches(Plan& plan) const {
  plan.launches.resize(program_.steps.size());
  for (std::size_t s = plan.phase; s < program_.steps.size(); ++s) {
    const Step& step = program_.steps[s];
    if (step.host && !step.host->defines.empty()) break;
    if (!step.launch) continue;
    const auto sizeOr = [&](int expr, std::int64_t otherwise) { return expr < 0 ? otherwise : plan.size(program_, expr); };
    const auto& variants = step.launch->variants;
    const auto v = std::find_if(variants.begin(), variants.end(), [&](const Variant& variant) { return sizeOr(variant.guard, 1) != 0; });
    if (v == variants.end()) throw malformed("no-variant", "step \"" + step.name + "\" has no kernel for these shapes");
    BoundLaunch& bound = plan.launches[s];
    bound.kernel = v->kernel;
    bound.items = sizeOr(v->items, 1);
    bound.grain = sizeOr(v->grain, 1);
    bound.scratch = sizeOr(v->scratch, 0);
    if (bound.items < 0 || bound.scratch < 0) throw malformed("engine-size", "step \"" + step.name + "\" has a negative size");
    for (int expr : step.launch->dims) bound.dims.push_back(plan.size(program_, expr));
    plan.memory.scratch = std::max(plan.memory.scratch, bound.scratch);
  }
}

}  // namespace nimforge
