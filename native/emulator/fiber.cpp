#include "fiber.h"

#include <cstdint>
#include <cstring>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef NIMFORGE_UCONTEXT
asm(R"(
  .text
  .p2align 4
  .globl nimforge_switch
  .hidden nimforge_switch
  .type nimforge_switch, @function
nimforge_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size nimforge_switch, . - nimforge_switch
)");
#endif

namespace nimforge {
#ifdef __SANITIZE_ADDRESS__
namespace {
// The context that the running flow came from: its stack's bounds are known only on arrival.
thread_local Context* previous;
}  // namespace
#endif

void Context::start(void* bottom, void* top, void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
  bottom_ = bottom;
  size_ = static_cast<char*>(top) - static_cast<char*>(bottom);
#endif
#ifdef NIMFORGE_UCONTEXT
  getcontext(&context_);
  context_.uc_stack.ss_sp = bottom;
  context_.uc_stack.ss_size = static_cast<char*>(top) - static_cast<char*>(bottom);
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#else
  (void)bottom;
  // Six registers, the entry as the return address, and above it a slot so that the entry finds the stack as after a call.
  void** stack = static_cast<void**>(top) - 8;
  std::memset(stack, 0, 8 * sizeof(void*));
  stack[6] = reinterpret_cast<void*>(entry);
  stack_ = stack;
#endif
}

#if defined(NIMFORGE_UCONTEXT) || defined(__SANITIZE_ADDRESS__)
void Context::switchTo(Context& to) {
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  previous = this;
  __sanitizer_start_switch_fiber(&fake, to.bottom_, to.size_);
#endif
#ifdef NIMFORGE_UCONTEXT
  swapcontext(&context_, &to.context_);
#else
  nimforge_switch(&stack_, to.stack_);
#endif
#ifdef __SANITIZE_ADDRESS__
  Context& from = *previous;
  __sanitizer_finish_switch_fiber(fake, &from.bottom_, &from.size_);
#endif
}
#endif

void Context::entered() {
#ifdef __SANITIZE_ADDRESS__
  Context& from = *previous;
  __sanitizer_finish_switch_fiber(nullptr, &from.bottom_, &from.size_);
#endif
}

void Context::forget([[maybe_unused]] void* bottom, [[maybe_unused]] void* top) {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(bottom, static_cast<char*>(top) - static_cast<char*>(bottom));
#endif
}

}  // namespace nimforge
