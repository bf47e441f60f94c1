/* The kernel ABI: what a kernel image and the runtime agree on.
 *
 * A launch covers a grid of `items` independent work items; the runtime splits [0, items) among workers and calls the
 * kernel once for each part. Both structs only ever grow at their end; NF_ABI_VERSION names the layout, and the engine
 * records the version its images were compiled for. Plain C: no other header is needed.
 */
#ifndef NF_ABI_H
#define NF_ABI_H

#define NF_ABI_VERSION 2

#ifdef __cplusplus
extern "C" {
#endif

typedef long long NfInt;

/* The launch's error word. `code` is 0 until a fault; the first fault wins (nf_fault in nf.hpp). */
typedef struct NfError {
  int code;    /* 0 none, 1 index out of range, 2 division by zero, 3 other */
  int operand; /* which load of the kernel faulted (its ordinal in the engine's fault table) */
  NfInt value; /* the offending value */
} NfError;

struct NfEmulator;

typedef struct NfLaunch {
  void* const* buffers; /* the launch's arguments, in the order of the step; 64-byte aligned except for caller's memory */
  const NfInt* dims;    /* the launch's integer arguments: sizes, strides in elements, offsets */
  NfInt begin, end;     /* half-open range of work items of this call */
  int thread, threads;  /* this worker and how many there are */
  void* scratch;        /* this worker's scratch, 64-byte aligned, of the size the step declares */
  NfError* error;
  /* Since version 2. */
  NfInt scratchBytes;                 /* size of `scratch` */
  const struct NfEmulator* emulator;  /* what an image of an emulated target calls (emulator.h); null for other images */
} NfLaunch;

/* Returns 0, or a non-zero code that ends the run as an internal error. */
typedef int (*NfKernel)(const NfLaunch*);

#ifdef __cplusplus
}
#endif
#endif
