// Fibers: a context is where a suspended flow of control goes on. Hand-written for x86-64 (a swapcontext makes two system calls);
// elsewhere, or with NIMFORGE_EMULATOR_UCONTEXT, it is ucontext.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(NIMFORGE_EMULATOR_UCONTEXT)
#define NIMFORGE_UCONTEXT 1
#include <ucontext.h>
#endif

#ifndef NIMFORGE_UCONTEXT
// The registers that a call preserves go onto the stack, the rest is the caller's; *from becomes the stack's pointer.
extern "C" void nimforge_switch(void** from, void* to);
#endif

namespace nimforge {

class Context {
 public:
  // A new flow of control that calls entry(), which never returns, on the stack [bottom, top); top is 16-byte aligned.
  void start(void* bottom, void* top, void (*entry)());

  // Suspends the running flow as *this and goes on as `to`.
#if defined(NIMFORGE_UCONTEXT) || defined(__SANITIZE_ADDRESS__)
  void switchTo(Context& to);
#else
  void switchTo(Context& to) { nimforge_switch(&stack_, to.stack_); }
#endif

  // What an entry calls first.
  static void entered();

  // The flow on this stack was abandoned: its remains are no error of the next one.
  static void forget(void* bottom, void* top);

 private:
#ifdef NIMFORGE_UCONTEXT
  ucontext_t context_;
#else
  void* stack_ = nullptr;
#endif
#ifdef __SANITIZE_ADDRESS__
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
#endif
};

}  // namespace nimforge
