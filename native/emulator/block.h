// One block of an emulated launch: its threads as fibers, and all that they wait for.
#pragma once

#include <array>
#include <csetjmp>
#include <string>
#include <vector>

#include "../../packages/engine/schema/emulator.h"
#include "fiber.h"
#include "memory.h"
#include "priorities.h"

namespace nimforge {

class Block;

// A place in a kernel.
struct Site {
  const char* function = "";
  int line = 0;
};

enum class Wait : std::uint8_t { none, barrier, warp, group, mbarrier, spin, exited };

// At the end of a thread's stack: an NfThread with what the emulator adds.
struct Fiber {
  NfThread thread;
  Block* block;
  Site site;          // the last call
  const void* object;  // the mbarrier that it waits for
  Wait wait;
  std::uint8_t barrier;
};
static_assert(sizeof(Fiber) <= NF_THREAD_BYTES);

// Something that happens as late as it may: an asynchronous copy, or an operation of a kernel's header.
struct Deferred {
  static constexpr int kMostPayload = 256;
  void* barrier = nullptr;
  NfInt bytes = 0;
  NfDeferred apply = nullptr;
  int group = 0;
  alignas(16) unsigned char payload[kMostPayload];
};

class Block {
 public:
  Block();
  ~Block();
  Block(const Block&) = delete;

  // The block that the calling fiber belongs to; the one that runs on this thread, or null.
  __attribute__((always_inline)) static Fiber& self() {
    return *reinterpret_cast<Fiber*>(nf_thread_of(__builtin_frame_address(0)));
  }
  static Block* running();

  // All blocks of the call. Returns 0, or 1 with `fault`.
  int run(const NfLaunch& launch, int threads, void (*body)(const NfLaunch*));
  const std::string& fault() const { return fault_; }

  // Called by fibers.
  void barrier(Fiber& f, int id, int count, bool wait);
  void exchange(Fiber& f, unsigned mask, void* own, NfCombine combine);
  void exchangeGroup(Fiber& f, void* own, NfCombine combine);
  void yield(Fiber& f);
  void copyAsync(Fiber& f, void* to, const void* from, int bytes, int valid);
  void copyCommit(Fiber& f);
  void copyWait(Fiber& f, int pending);
  void mbarrierInit(Fiber& f, void* barrier, int count);
  void mbarrierArrive(Fiber& f, void* barrier, int count, NfInt bytes);
  void mbarrierWait(Fiber& f, void* barrier, int parity);
  void defer(Fiber& f, void* barrier, NfInt bytes, NfDeferred apply, const void* payload, int size);
  void deferGroup(Fiber& f, int queue, NfDeferred apply, const void* payload, int size);
  void deferCommit(Fiber& f, int queue);
  void deferWait(Fiber& f, int queue, int pending);

  // Stops the launch with the text that `what` makes; does not return. The fiber is abandoned, so that nothing on its stack may own
  // memory by then.
  template <class F> [[noreturn, gnu::cold, gnu::noinline]] void stop(Fiber& f, F what) {
    report(f, ", ", what());
    leave(f);
  }
  // The same from a signal handler: an access to an address that cannot be accessed, or an instruction that cannot be executed.
  [[noreturn]] void stopFromSignal(int signal, const void* address);
  std::string describe(const void* address) const;

 private:
  struct Copy {
    void* to;
    const void* from;
    std::uint8_t bytes, valid;
    int group;
  };
  // Operations of one thread in groups: entries from `first` on are open.
  template <class Entry> struct Queue {
    std::vector<Entry> entries;
    std::size_t first = 0;
    int groups = 0;  // that were committed
    void clear() { entries.clear(), first = 0, groups = 0; }
    template <class F> void apply(int pending, F f) {
      while (first < entries.size() && entries[first].group < groups - pending) f(entries[first++]);
      if (first == entries.size()) entries.clear(), first = 0;
    }
  };
  struct Barrier {
    int arrived = 0, count = 0, waiting = 0;
    Site site;
    std::array<std::uint16_t, Priorities::kMostThreads> waiters;
  };
  // Lanes that have called for one collective.
  struct Meeting {
    unsigned mask, arrived;
    NfCombine combine;
    Site site;
    void* participants[32];
  };
  struct Warp {
    std::uint32_t meetings = 0, exited = 0;  // which of `meeting` are in use; which lanes have exited
    std::array<Meeting, 32> meeting;
  };
  struct Group {
    int arrived = 0;
    NfCombine combine = nullptr;
    Site site;
    void* participants[128];
  };

  static void entry();
  Fiber& fiber(int thread) const { return *reinterpret_cast<Fiber*>(nf_thread_of(stacks_.bottom(thread))); }
  void reserve(int threads);
  bool runOne();
  void reschedule(Fiber& f, Wait wait);
  void newRound(Fiber& f);
  void resume(int thread, bool late = false);
  void await(Fiber& f, const void* barrier);
  void awake(const void* barrier, bool late);
  void exited(Fiber& f);
  // Texts of faults.
  [[gnu::cold]] std::string stuck() const;
  [[gnu::cold]] std::string wrongBarrier(int id, int count) const;
  [[gnu::cold]] static std::string wrongMask(const Fiber& f, unsigned mask, const Warp& warp);
  [[gnu::cold]] static std::string wrongCollective(const char* others, const Site& site);
  [[gnu::cold]] static std::string missedMeeting(const Meeting& meeting);
  [[noreturn]] void leave(Fiber& f);
  void report(const Fiber& f, const char* place, const std::string& what);
  Deferred later(Fiber& f, NfDeferred apply, const void* payload, int size);
  void advance(void* barrier);

  Stacks stacks_;
  SharedMemory shared_;
  std::vector<Context> contexts_;  // of each stack
  int started_ = 0;                // how many of them stand at the head of their fiber's loop
  Context main_;
  sigjmp_buf abandoned_;

  // The launch, and the block that runs.
  NfLaunch launch_{};
  void (*body_)(const NfLaunch*) = nullptr;
  NfInt number_ = 0;
  int threads_ = 0, live_ = 0, current_ = 0;
  std::uint64_t seed_ = 0;
  std::int64_t patience_ = 0;
  std::string fault_;

  Priorities priorities_;
  std::int64_t idleRounds_ = 0, spinningSince_ = 0;  // rounds of spinning threads since anything else happened
  std::array<Barrier, 16> barriers_;
  std::array<Warp, Priorities::kMostThreads / 32> warps_;
  std::array<Group, Priorities::kMostThreads / 128> meetings_;
  std::vector<Queue<Copy>> copies_;  // of each thread
  std::vector<std::array<Queue<Deferred>, 4>> groups_;
  std::vector<Deferred> deferred_;  // on mbarriers
  bool usedQueues_ = false;
};

// Handlers of the signals that a wrong access raises, once for the process; a stack for them for this thread.
void catchSignals();

}  // namespace nimforge
