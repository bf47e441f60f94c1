// Everything about a run that follows from its sizes: expression values, places in the arena, bound launches.
#pragma once
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "abi.h"
#include "program.h"

namespace nimforge {

struct BoundLaunch {
  int kernel = -1;
  std::vector<NfInt> dims;
  std::int64_t items = 0, grain = 1, scratch = 0;
};

struct MemoryFigures {
  std::int64_t arena = 0;            // bytes that the runtime allocates for intermediate values
  std::int64_t arenaLowerBound = 0;  // largest sum over steps of live unpadded intermediate bytes
  std::int64_t lowerBound = 0;       // the same with inputs and outputs
  std::int64_t inputs = 0, outputs = 0;
  std::int64_t scratch = 0;          // for each worker
};

struct Plan {
  int phase = 0;
  std::vector<Value> symbols, values;
  std::vector<std::int64_t> bytes;  // of each buffer; -1: not known yet
  std::vector<std::int64_t> place;  // of each buffer: bytes from the arena's start, or from its root's own storage
  std::vector<BoundLaunch> launches;  // of each step; those up to the next step that defines symbols
  MemoryFigures memory;

  std::int64_t size(const Program& program, int expr) const;  // throws when the expression faults
  std::vector<std::int64_t> shape(const Program& program, const std::vector<int>& exprs) const;
};

// Plans of one program, the most recent kept. Throws usage (ranges, assertions), limit (overflow), malformed (engine).
class Planner {
 public:
  explicit Planner(const Program& program) : program_(program) {}

  // Before the first step: `symbols` bound from inputs.
  std::shared_ptr<const Plan> begin(std::vector<Value> symbols);
  // After host step `step` gave its symbols their values.
  std::shared_ptr<const Plan> extend(const Plan& before, int step, std::span<const std::int64_t> defined);

 private:
  std::shared_ptr<const Plan> find(std::vector<Value> symbols, int phase, const Plan* before);
  std::shared_ptr<const Plan> make(std::vector<Value> symbols, int phase, const Plan* before) const;
  void checkSymbols(const Plan& plan) const;
  void sizeBuffers(Plan& plan) const;
  void placeArena(Plan& plan, const Plan* before) const;
  void measure(Plan& plan) const;
  void bindLaunches(Plan& plan) const;

  using Key = std::vector<std::int64_t>;
  struct Entry {
    Key key;
    std::shared_ptr<const Plan> plan;
  };
  const Program& program_;
  std::list<Entry> recent_;
  std::map<Key, std::list<Entry>::iterator> byKey_;
};

}  // namespace nimforge
