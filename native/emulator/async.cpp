// What happens as late as it may: cp.async, mbarriers and what completes on them, groups of deferred operations.

#include <cstring>

#include "block.h"

namespace nimforge {
namespace {

// The 8 bytes of an mbarrier. A phase is complete when no arrival is pending and as many bytes have come as were expected.
struct MBarrier {
  std::uint16_t count;    // arrivals of a phase
  std::uint16_t pending;  // of this phase
  std::int32_t bytes : 31;
  std::uint32_t phase : 1;
};
static_assert(sizeof(MBarrier) == 8);
constexpr int kMostArrivals = 0xFFFE;

}  // namespace

// ---- cp.async

void Block::copyAsync(Fiber& f, void* to, const void* from, int bytes, int valid) {
  auto* const p = static_cast<unsigned char*>(to);
  const auto memory = shared_.bytes();
  if (p < memory.data() || p + bytes > memory.data() + memory.size())
    stop(f, [&] { return "an asynchronous copy of " + std::to_string(bytes) + " bytes to outside shared memory: " + describe(to); });
  // An invalid source is a fault of this call, not of the wait.
  if (valid > 0) {
    const auto* source = static_cast<const volatile unsigned char*>(from);
    (void)source[0], (void)source[valid - 1];
  }
  std::memset(to, 0xFF, std::size_t(bytes));
  auto& queue = copies_[f.thread.thread];
  queue.entries.push_back({to, from, std::uint8_t(bytes), std::uint8_t(valid), queue.groups});
  usedQueues_ = true;
}

void Block::copyCommit(Fiber& f) { ++copies_[f.thread.thread].groups; }

void Block::copyWait(Fiber& f, int pending) {
  idleRounds_ = 0;
  copies_[f.thread.thread].apply(pending, [](const Copy& c) {
    std::memcpy(c.to, c.from, c.valid);
    std::memset(static_cast<unsigned char*>(c.to) + c.valid, 0, std::size_t(c.bytes - c.valid));
  });
}

// ---- mbarriers

static MBarrier* checked(void* p, std::span<unsigned char> shared) {
  const auto* const at = static_cast<const unsigned char*>(p);
  const bool inside = at >= shared.data() && at + sizeof(MBarrier) <= shared.data() + shared.size();
  return inside && reinterpret_cast<std::uintptr_t>(p) % 8 == 0 ? static_cast<MBarrier*>(p) : nullptr;
}

void Block::mbarrierInit(Fiber& f, void* barrier, int count) {
  MBarrier* const b = checked(barrier, shared_.bytes());
  if (!b) stop(f, [&] { return "an mbarrier must be 8 aligned bytes of shared memory: " + describe(barrier); });
  if (count <= 0 || count > kMostArrivals) stop(f, [&] { return "an mbarrier for " + std::to_string(count) + " arrivals"; });
  *b = {std::uint16_t(count), std::uint16_t(count), 0, 0};
}

// Completes the phase if nothing is missing.
void Block::advance(void* barrier) {
  auto& b = *static_cast<MBarrier*>(barrier);
  if (b.pending != 0 || b.bytes != 0) return;
  b.phase ^= 1;
  b.pending = b.count;
  awake(barrier, false);
}

void Block::mbarrierArrive(Fiber& f, void* barrier, int count, NfInt bytes) {
  MBarrier* const b = checked(barrier, shared_.bytes());
  if (!b || b->count > kMostArrivals) stop(f, [&] { return "arrives at what is no initialized mbarrier: " + describe(barrier); });
  if (count < 0 || count > b->pending)
    stop(f, [&] {
      return "more arrivals at an mbarrier than its phase expects: " + std::to_string(count) + ", and " + std::to_string(b->pending) +
             " are pending";
    });
  idleRounds_ = 0;
  b->bytes += std::int32_t(bytes);
  b->pending = std::uint16_t(b->pending - count);
  advance(barrier);
}

void Block::mbarrierWait(Fiber& f, void* barrier, int parity) {
  for (;;) {
    MBarrier* const b = checked(barrier, shared_.bytes());
    if (!b || b->count > kMostArrivals) stop(f, [&] { return "waits for what is no initialized mbarrier: " + describe(barrier); });
    if (b->phase != (parity & 1u)) return;
    bool applied = false;
    for (std::size_t i = 0; i < deferred_.size();) {
      if (deferred_[i].barrier != barrier) {
        ++i;
        continue;
      }
      const Deferred d = deferred_[i];
      deferred_.erase(deferred_.begin() + std::ptrdiff_t(i));
      d.apply(d.payload);
      b->bytes -= std::int32_t(d.bytes);
      applied = true;
    }
    if (applied) {
      idleRounds_ = 0;
      advance(barrier);
      continue;
    }
    await(f, barrier);
  }
}

// ---- deferred operations

Deferred Block::later(Fiber& f, NfDeferred apply, const void* payload, int size) {
  if (size < 0 || size > Deferred::kMostPayload)
    stop(f, [&] { return "a deferred operation with " + std::to_string(size) + " bytes of payload"; });
  Deferred d;
  d.apply = apply;
  std::memcpy(d.payload, payload, std::size_t(size));
  return d;
}

void Block::defer(Fiber& f, void* barrier, NfInt bytes, NfDeferred apply, const void* payload, int size) {
  const MBarrier* const b = checked(barrier, shared_.bytes());
  if (!b || b->count > kMostArrivals)
    stop(f, [&] { return "an asynchronous copy on what is no initialized mbarrier: " + describe(barrier); });
  Deferred d = later(f, apply, payload, size);
  d.barrier = barrier;
  d.bytes = bytes;
  deferred_.push_back(d);
  // A thread that waits already takes it up.
  awake(barrier, true);
}

void Block::deferGroup(Fiber& f, int queue, NfDeferred apply, const void* payload, int size) {
  if (queue < 0 || queue >= 4) stop(f, [&] { return std::string("there are queues 0 to 3 of deferred operations"); });
  auto& q = groups_[f.thread.thread][queue];
  Deferred d = later(f, apply, payload, size);
  d.group = q.groups;
  q.entries.push_back(d);
  usedQueues_ = true;
}

void Block::deferCommit(Fiber& f, int queue) { ++groups_[f.thread.thread][queue & 3].groups; }

void Block::deferWait(Fiber& f, int queue, int pending) {
  idleRounds_ = 0;
  groups_[f.thread.thread][queue & 3].apply(pending, [](const Deferred& d) { d.apply(d.payload); });
}

}  // namespace nimforge
