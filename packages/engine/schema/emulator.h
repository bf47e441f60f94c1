/* The emulated device: what the image of an emulated target calls.
 *
 * A CUDA kernel compiled by a C++ compiler is a CPU image whose work item is one block. Its entry hands the kernel's body to
 * `run`, which executes blocks [begin, end) of the launch on the calling thread: every CUDA thread is a fiber with its own
 * stack, and whatever must wait for others (a barrier, a warp's collective, an asynchronous copy) is a call through this table.
 * The image needs no symbols and no thread-local storage for that: a stack is NF_STACK_BYTES long and aligned to its length, and the
 * thread's NfThread lies near its end, so code finds its own thread from its frame address (nf_thread_of).
 *
 * The table only ever grows at its end. `function` and `line` say where in the kernel a call stands, for the text of a fault.
 * Plain C.
 */
#ifndef NF_EMULATOR_H
#define NF_EMULATOR_H

#include "abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NF_STACK_BYTES 262144
#define NF_THREAD_BYTES 256

/* What a thread knows about itself; the runtime keeps its own data behind these members. */
typedef struct NfThread {
  const struct NfEmulator* emulator;
  NfInt block, blocks;    /* this block, and how many the grid has */
  int thread, threads;    /* this thread of the block, and how many it has */
  unsigned char* shared;  /* the block's dynamic shared memory: 128-byte aligned, poisoned with 0xFF, inaccessible outside */
  NfInt sharedBytes;
} NfThread;

/* The thread of a frame address. One of 16 places in the last page of the stack, so that all threads of a block do not
 * compete for the same lines of the cache. */
static inline NfThread* nf_thread_of(const void* frame) {
  const unsigned long long at = (unsigned long long)frame;
  return (NfThread*)((at | (NF_STACK_BYTES - 1)) + 1 - (at / NF_STACK_BYTES % 16 + 1) * NF_THREAD_BYTES);
}

/* Computes a collective, once, when its last thread has arrived: participants[i] is what lane i deposited, null for a lane outside
 * `mask`. The deposits lie on the lanes' stacks, so results are written into them. */
typedef void (*NfCombine)(void* const* participants, unsigned mask);

/* Runs late: see `defer`. `payload` is a copy of what was given. */
typedef void (*NfDeferred)(const void* payload);

typedef struct NfEmulator {
  /* Blocks of the grid; 0: the range of the call is the grid. */
  NfInt blocks;

  /* Runs blocks [L->begin, L->end) of `threads` threads each. Returns 0, or non-zero after a fault of the emulator. The body gets a
   * copy of *L whose scratch is the block's shared memory. */
  int (*run)(const NfLaunch* L, int threads, void (*body)(const NfLaunch* L));

  /* Barrier `id` (0..15) for `count` threads; wait = 0 arrives without waiting (bar.arrive). */
  void (*barrier)(int id, int count, int wait, const char* function, int line);

  /* A warp's rendezvous: returns in every lane of `mask` when all of them have called, after `combine` (may be null) has run. All
   * lanes of a rendezvous must give the same combine. */
  void (*exchange)(unsigned mask, void* own, NfCombine combine, const char* function, int line);

  /* cp.async: the copy happens in copy_wait, as late as it may; until then the destination is poisoned. `valid` bytes are read, the
   * rest of `bytes` is zero. copy_commit closes a group; copy_wait leaves at most `pending` of the thread's newest groups open. */
  void (*copy_async)(void* shared, const void* global, int bytes, int valid, const char* function, int line);
  void (*copy_commit)(void);
  void (*copy_wait)(int pending);

  /* For loops that wait for another thread's store: lets all others run first. */
  void (*yield)(const char* function, int line);

  /* Ends the launch with an error; does not return. The text becomes "<what>", the address is described, `value` appended if not 0. */
  void (*fault)(const char* what, const void* address, NfInt value, const char* function, int line);

  /* ---- compute capability 9.0 */

  /* A rendezvous of the four warps of a warpgroup (threads 128 g .. 128 g + 127), mask ~0: participants has 128 entries. */
  void (*exchange_group)(void* own, NfCombine combine, const char* function, int line);

  /* mbarrier objects: 8 bytes of shared memory, 8-byte aligned. `arrive` counts `count` arrivals and expects `bytes` more bytes of
   * asynchronous copies; `wait` returns once the phase of the given parity is complete, and runs what is deferred on the barrier first. */
  void (*mbarrier_init)(void* barrier, int count, const char* function, int line);
  void (*mbarrier_arrive)(void* barrier, int count, NfInt bytes, const char* function, int line);
  void (*mbarrier_wait)(void* barrier, int parity, const char* function, int line);

  /* An asynchronous operation that completes on an mbarrier (bulk copies): apply(payload) runs when a thread waits for the barrier, and
   * `bytes` are then counted as arrived. At most 256 bytes of payload. The caller poisons what the operation will write. */
  void (*defer)(void* barrier, NfInt bytes, NfDeferred apply, const void* payload, int size, const char* function, int line);

  /* The same for operations in groups that a thread commits and waits for (wgmma, bulk stores): apply(payload) runs in defer_wait of the
   * thread, at the latest moment. `queue` is 0..3; each has its own groups. */
  void (*defer_group)(int queue, NfDeferred apply, const void* payload, int size, const char* function, int line);
  void (*defer_commit)(int queue);
  void (*defer_wait)(int queue, int pending);
} NfEmulator;

#ifdef __cplusplus
}
#endif
#endif
