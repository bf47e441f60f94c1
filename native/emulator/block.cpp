#include "block.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "emulator.h"

namespace nimforge {
namespace {

thread_local Block* runningBlock = nullptr;

std::string text(const Site& site) {
  return site.line > 0 ? std::string(site.function) + ", line " + std::to_string(site.line) : std::string(site.function);
}

std::string hex(unsigned mask) {
  char out[16];
  std::snprintf(out, sizeof out, "0x%08x", mask);
  return out;
}

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Block::Block() { catchSignals(); }
Block::~Block() = default;

Block* Block::running() { return runningBlock; }

// ---- running blocks

void Block::entry() {
  Context::entered();
  Fiber& f = self();
  Block& block = *f.block;
  for (;;) {
    block.body_(&block.launch_);
    block.exited(f);
  }
}

// Fibers of all threads stand at the head of their loop, and know the launch.
void Block::reserve(int threads) {
  stacks_.reserve(threads);
  if (int(contexts_.size()) < stacks_.count()) {
    // A context may not move once its fiber has run: all start anew.
    contexts_ = std::vector<Context>(stacks_.count());
    copies_.resize(stacks_.count());
    groups_.resize(stacks_.count());
    started_ = 0;
  }
  for (; started_ < threads; ++started_) {
    unsigned char* const bottom = stacks_.bottom(started_);
    Context::forget(bottom, bottom + Stacks::kBytes);
    contexts_[started_].start(bottom, &fiber(started_), entry);
  }
  for (int i = 0; i < threads; ++i) {
    Fiber& f = fiber(i);
    f.thread = {launch_.emulator, 0, launch_.emulator->blocks > 0 ? launch_.emulator->blocks : launch_.end, i, threads,
                shared_.bytes().data(), NfInt(shared_.bytes().size())};
    f.block = this;
  }
}

int Block::run(const NfLaunch& launch, int threads, void (*body)(const NfLaunch*)) {
  fault_.clear();
  if (threads <= 0 || threads > Priorities::kMostThreads || threads % 32 != 0)
    return fault_ = "a block of " + std::to_string(threads) + " threads: it must be a multiple of 32, at most 1024", 1;
  if (launch.scratchBytes < 0 || launch.scratchBytes > NfInt(SharedMemory::kMost))
    return fault_ = std::to_string(launch.scratchBytes) + " bytes of shared memory are more than any device has", 1;
  shared_.prepare(std::size_t(launch.scratchBytes));
  launch_ = launch;
  launch_.scratch = shared_.bytes().data();
  body_ = body;
  threads_ = threads;
  reserve(threads);
  const EmulatorOptions options = emulatorOptions();
  seed_ = options.seed;
  patience_ = std::int64_t(options.patienceSeconds * 1e9);
  runningBlock = this;
  if (sigsetjmp(abandoned_, 0) == 0)
    for (number_ = launch_.begin; number_ < launch_.end && runOne(); ++number_) {}
  runningBlock = nullptr;
  if (fault_.empty()) return 0;
  started_ = 0;
  return 1;
}

bool Block::runOne() {
  shared_.prepare(shared_.bytes().size());
  priorities_.begin(threads_, Random(seed_ * 0x9e3779b97f4a7c15ull ^ std::uint64_t(number_)).next());
  for (Barrier& b : barriers_) b.arrived = b.waiting = 0;
  for (int w = 0; w < threads_ / 32; ++w) warps_[w].meetings = warps_[w].exited = 0;
  for (Group& g : meetings_) g.arrived = 0;
  for (int i = 0; i < threads_; ++i) {
    Fiber& f = fiber(i);
    f.thread.block = number_;
    f.wait = Wait::none;
    f.site = {};
  }
  if (usedQueues_)
    for (int i = 0; i < threads_; ++i) {
      copies_[i].clear();
      for (auto& queue : groups_[i]) queue.clear();
    }
  usedQueues_ = false;
  deferred_.clear();
  live_ = threads_;
  idleRounds_ = 0;
  bool round = false;
  current_ = priorities_.take(round);
  main_.switchTo(contexts_[current_]);
  if (!fault_.empty()) return false;
  if (const unsigned char* at = shared_.written()) {
    fault_ = "block " + std::to_string(number_) + ": wrote outside its shared memory: " + describe(at);
    return false;
  }
  return true;
}

// ---- which thread runs

// Gives the processor to the next ready thread; returns when `f` is that again.
inline void Block::reschedule(Fiber& f, Wait wait) {
  f.wait = wait;
  bool round = false;
  const int thread = priorities_.take(round);
  if (thread < 0) [[unlikely]]
    stop(f, [&] { return stuck(); });
  if (round) newRound(f);
  if (thread != current_) {
    Context& self = contexts_[std::size_t(current_)];
    current_ = thread;
    self.switchTo(contexts_[std::size_t(thread)]);
  }
  f.wait = Wait::none;
}

// All ready threads had their turn and have been put off: they may spin for good.
void Block::newRound(Fiber& f) {
  if (++idleRounds_ % 256 != 0) return;
  const std::int64_t time = now();
  if (idleRounds_ == 256) spinningSince_ = time;
  else if (time - spinningSince_ > patience_) stop(f, [&] { return stuck(); });
}

inline void Block::resume(int thread, bool late) {
  if (late) priorities_.putOff(thread);
  else priorities_.wake(thread);
}

void Block::yield(Fiber& f) {
  priorities_.putOff(f.thread.thread);
  reschedule(f, Wait::spin);
}

void Block::exited(Fiber& f) {
  idleRounds_ = 0;
  const int lane = f.thread.thread % 32;
  Warp& warp = warps_[f.thread.thread / 32];
  warp.exited |= 1u << lane;
  for (unsigned left = warp.meetings; left; left &= left - 1) {
    const Meeting& m = warp.meeting[std::countr_zero(left)];
    if (m.mask >> lane & 1) stop(f, [&] { return missedMeeting(m); });
  }
  if (--live_ > 0) return reschedule(f, Wait::exited);
  contexts_[f.thread.thread].switchTo(main_);
}

// ---- what threads wait for

void Block::barrier(Fiber& f, int id, int count, bool wait) {
  Barrier& b = barriers_[id & 15];
  idleRounds_ = 0;
  if (b.arrived == 0) {
    b.count = count;
    b.site = f.site;
  }
  if ((id & ~15) || count <= 0 || count > threads_ || count % 32 || b.count != count ||
      (id == 0 && count == threads_ && b.site.line != f.site.line)) [[unlikely]]
    stop(f, [&] { return wrongBarrier(id, count); });
  if (wait) b.waiters[b.waiting++] = std::uint16_t(f.thread.thread);
  if (++b.arrived < count) {
    if (!wait) return;
    f.barrier = std::uint8_t(id);
    return reschedule(f, Wait::barrier);
  }
  if (b.waiting == threads_) priorities_.redraw();
  for (int i = 0; i < b.waiting; ++i) resume(b.waiters[i]);
  b.arrived = b.waiting = 0;
  if (wait) reschedule(f, Wait::none);
}

void Block::exchange(Fiber& f, unsigned mask, void* own, NfCombine combine) {
  const int thread = f.thread.thread;
  const unsigned lane = unsigned(thread) % 32;
  Warp& warp = warps_[unsigned(thread) / 32];
  idleRounds_ = 0;
  if (!(mask >> lane & 1) || (mask & warp.exited)) [[unlikely]]
    stop(f, [&] { return wrongMask(f, mask, warp); });
  int slot = -1;
  for (unsigned left = warp.meetings; left; left &= left - 1) {
    const int i = std::countr_zero(left);
    const Meeting& m = warp.meeting[i];
    if (m.mask == mask) {
      slot = i;
      break;
    }
    if (m.arrived & mask && m.mask >> lane & 1) [[unlikely]]
      stop(f, [&] { return wrongMask(f, mask, warp); });
  }
  if (slot < 0) {
    slot = std::countr_one(warp.meetings);
    warp.meetings |= 1u << slot;
    Meeting& m = warp.meeting[slot];
    m.mask = mask;
    m.arrived = 0;
    m.combine = combine;
    m.site = f.site;
    if (mask != ~0u) std::memset(m.participants, 0, sizeof m.participants);
  }
  Meeting& m = warp.meeting[slot];
  if (m.combine != combine) [[unlikely]]
    stop(f, [&] { return wrongCollective("lanes of the warp", m.site); });
  m.participants[lane] = own;
  m.arrived |= 1u << lane;
  if (m.arrived != mask) return reschedule(f, Wait::warp);
  if (combine) combine(m.participants, mask);
  warp.meetings &= ~(1u << slot);
  const bool late = priorities_.chance(16);
  for (unsigned left = mask; left; left &= left - 1) resume(thread - int(lane) + std::countr_zero(left), late);
  reschedule(f, Wait::none);
}

void Block::exchangeGroup(Fiber& f, void* own, NfCombine combine) {
  const int thread = f.thread.thread, first = thread / 128 * 128;
  Group& group = meetings_[thread / 128];
  idleRounds_ = 0;
  if (first + 128 > threads_) stop(f, [&] { return std::string("a warpgroup's instruction in a warpgroup of fewer than 128 threads"); });
  if (group.arrived == 0) {
    group.combine = combine;
    group.site = f.site;
  } else if (group.combine != combine) {
    stop(f, [&] { return wrongCollective("others of the warpgroup", group.site); });
  }
  group.participants[thread - first] = own;
  if (++group.arrived < 128) return reschedule(f, Wait::group);
  if (combine) combine(group.participants, ~0u);
  group.arrived = 0;
  for (int i = 0; i < 128; ++i) resume(first + i);
  reschedule(f, Wait::none);
}

// Sleeps until the phase of an mbarrier is complete.
void Block::await(Fiber& f, const void* barrier) {
  f.object = barrier;
  reschedule(f, Wait::mbarrier);
}

void Block::awake(const void* barrier, bool late) {
  for (int i = 0; i < threads_; ++i) {
    Fiber& g = fiber(i);
    if (g.wait != Wait::mbarrier || g.object != barrier) continue;
    g.wait = Wait::none;
    resume(i, late);
  }
}

// ---- faults

void Block::report(const Fiber& f, const char* place, const std::string& what) {
  const int thread = f.thread.thread;
  fault_ = "block " + std::to_string(f.thread.block) + ", thread " + std::to_string(thread) + " (warp " + std::to_string(thread / 32) +
           ", lane " + std::to_string(thread % 32) + ")" + (*f.site.function ? place + text(f.site) : "") + ": " + what;
}

void Block::leave(Fiber& f) {
  contexts_[f.thread.thread].switchTo(main_);
  std::abort();  // an abandoned fiber never runs again
}

void Block::stopFromSignal(int signal, const void* address) {
  const bool access = signal == SIGSEGV || signal == SIGBUS;
  report(fiber(current_), ", after ",
         stacks_.guards(address) ? "stack overflow"
         : access                ? "invalid access: " + describe(address)
         : signal == SIGFPE      ? "an integer division by zero"
                                 : "an invalid instruction");
  siglongjmp(abandoned_, 1);
}

std::string Block::wrongBarrier(int id, int count) const {
  const std::string name = "barrier " + std::to_string(id);
  if (id & ~15) return name + ": there are barriers 0 to 15";
  if (count <= 0 || count > threads_ || count % 32)
    return name + " for " + std::to_string(count) + " threads: it must be a multiple of 32, at most the block's " +
           std::to_string(threads_);
  const Barrier& b = barriers_[id];
  if (b.count != count)
    return "divergent barrier: " + name + " for " + std::to_string(count) + " threads, where others wait for " + std::to_string(b.count) +
                " (" + text(b.site) + ")";
  return "divergent barrier: others wait at another barrier of the whole block (" + text(b.site) + ")";
}

std::string Block::wrongMask(const Fiber& f, unsigned mask, const Warp& warp) {
  const std::string wrong = "wrong mask: " + hex(mask);
  const int lane = f.thread.thread % 32;
  if (!(mask >> lane & 1)) return wrong + " is without the calling lane";
  if (mask & warp.exited) return wrong + " names lanes " + hex(mask & warp.exited) + ", which have exited";
  for (unsigned left = warp.meetings; left; left &= left - 1) {
    const Meeting& m = warp.meeting[std::countr_zero(left)];
    if (m.arrived & mask && m.mask >> lane & 1)
      return wrong + ", but lanes " + hex(m.arrived) + " wait for this one with mask " + hex(m.mask) + " (" + text(m.site) + ")";
  }
  return wrong;
}

std::string Block::wrongCollective(const char* others, const Site& site) {
  return "divergent collective: " + std::string(others) + " wait in another one (" + text(site) + ")";
}

std::string Block::missedMeeting(const Meeting& m) {
  return "exits, but lanes " + hex(m.arrived) + " of its warp wait for it in a collective with mask " + hex(m.mask) + " (" + text(m.site) +
         ")";
}

// No thread can run, or all that can only spin.
std::string Block::stuck() const {
  struct Same {
    Wait wait;
    int barrier, line, count, first;
    Site site;
  };
  std::vector<Same> all;
  bool atBarrier = false;
  for (int i = 0; i < threads_; ++i) {
    const Fiber& g = fiber(i);
    const int id = g.wait == Wait::barrier ? g.barrier : 0, line = g.wait == Wait::exited ? 0 : g.site.line;
    atBarrier |= g.wait == Wait::barrier;
    const auto same = std::find_if(all.begin(), all.end(),
                                   [&](const Same& s) { return s.wait == g.wait && s.barrier == id && s.line == line; });
    if (same == all.end()) all.push_back({g.wait, id, line, 1, i, g.site});
    else ++same->count;
  }
  std::string out = atBarrier ? "divergent barrier: " : "deadlock: ";
  for (const Same& s : all) {
    out += (&s == all.data() ? "" : "; ") + std::to_string(s.count) + (s.count == 1 ? " thread (" : " threads (first ") +
           std::to_string(s.first) + ") ";
    switch (s.wait) {
      case Wait::barrier:
        out += "at barrier " + std::to_string(s.barrier) + " for " + std::to_string(barriers_[s.barrier].count);
        break;
      case Wait::warp: out += "in a warp's collective"; break;
      case Wait::group: out += "in a warpgroup's collective"; break;
      case Wait::mbarrier: out += "at an mbarrier"; break;
      case Wait::exited: out += "exited"; continue;
      default: out += "spinning"; break;
    }
    out += " (" + text(s.site) + ")";
  }
  return out;
}

std::string Block::describe(const void* address) const {
  const auto* p = static_cast<const unsigned char*>(address);
  const auto memory = shared_.bytes();
  if (shared_.guards(address) || (p >= memory.data() && p < memory.data() + memory.size())) {
    const auto offset = p - memory.data();
    return "shared memory " + std::string(offset < 0 ? "- " : "+ ") + std::to_string(offset < 0 ? -offset : offset) + " (it has " +
           std::to_string(memory.size()) + " bytes)";
  }
  char out[32];
  std::snprintf(out, sizeof out, "address %p", address);
  return out;
}

}  // namespace nimforge
