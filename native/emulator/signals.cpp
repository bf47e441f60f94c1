// A wrong access of a kernel ends its launch instead of the process.

#include <csignal>
#include <memory>
#include <mutex>

#include "block.h"

namespace nimforge {

#ifdef __SANITIZE_ADDRESS__

void catchSignals() {}  // the sanitizer reports better

#else

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
struct sigaction earlier[sizeof kSignals / sizeof *kSignals];

void onSignal(int signal, siginfo_t* info, void* context) {
  if (Block* block = Block::running()) block->stopFromSignal(signal, info->si_addr);
  for (std::size_t i = 0; i < sizeof kSignals / sizeof *kSignals; ++i) {
    if (kSignals[i] != signal) continue;
    const struct sigaction& before = earlier[i];
    if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
    // The instruction runs again, now without a handler.
    sigaction(signal, &before, nullptr);
  }
}

// The handler cannot run on a fiber whose stack has overflowed.
class SignalStack {
 public:
  SignalStack() {
    stack_t now{};
    if (sigaltstack(nullptr, &now) != 0 || !(now.ss_flags & SS_DISABLE)) return;
    memory_ = std::make_unique<unsigned char[]>(kBytes);
    stack_t own{};
    own.ss_sp = memory_.get();
    own.ss_size = kBytes;
    sigaltstack(&own, nullptr);
  }
  ~SignalStack() {
    stack_t now{}, none{};
    if (!memory_ || sigaltstack(nullptr, &now) != 0 || now.ss_sp != memory_.get()) return;
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr);
  }

 private:
  static constexpr std::size_t kBytes = 64 << 10;
  std::unique_ptr<unsigned char[]> memory_;
};

}  // namespace

void catchSignals() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (std::size_t i = 0; i < sizeof kSignals / sizeof *kSignals; ++i) {
      struct sigaction action {};
      action.sa_sigaction = onSignal;
      // The handler is left by a jump: the signal must not stay blocked.
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      sigaction(kSignals[i], &action, &earlier[i]);
    }
  });
  thread_local SignalStack stack;
  (void)stack;
}

#endif

}  // namespace nimforge
