// Runs the kernels of emulated images (targets "emulated-..."): each CUDA thread is a fiber on the calling worker thread.
//
// What a launch needs, beside the members that every image gets:
//
//   const NfEmulator table = nimforge::emulatorFor(items);   // once for each launch: it carries the grid's size
//   launch.emulator = &table;
//   launch.scratchBytes = bytes of shared memory;            // `scratch` itself may be null: the emulator has its own
//   if (kernel(&launch) != 0) text = nimforge::lastEmulatorFault();   // on the same thread, at once
//
// A non-zero result means that the emulator stopped the launch (a misaligned access, a divergent barrier, an access outside shared
// memory, a deadlock ...); the text says what, where and in which thread. Faults of the data go through NfLaunch.error as ever.
//
// Threads give way to each other only where they call the emulator: a loop that waits for another thread's store must call spin() of
// device.cuh, and one that calls nothing and never ends is not noticed here (the runner has a --timeout).
//
// Threads run in an order of random priorities, redrawn at every full barrier, so that some warp is far ahead and a missing
// barrier shows; asynchronous copies happen as late as they may; shared memory starts as NaN. The order depends on the seed and the
// block alone: NIMFORGE_EMULATOR_SEED, or setEmulatorOptions.
#pragma once

#include <cstdint>
#include <string>

#include "../../packages/engine/schema/emulator.h"

namespace nimforge {

struct EmulatorOptions {
  std::uint64_t seed = 1;
  // How long the threads of a block may spin without any of them getting on before the launch is stopped.
  double patienceSeconds = 5;
};
EmulatorOptions emulatorOptions();
void setEmulatorOptions(const EmulatorOptions& options);

// The table for a launch of `blocks` blocks in all.
NfEmulator emulatorFor(NfInt blocks);
// The table for callers that run the whole grid in one call.
const NfEmulator* emulator();

// What stopped the last launch on this thread; empty if it went well.
const std::string& lastEmulatorFault();

// Fibers and shared memory of this thread are given back now instead of at the thread's end.
void releaseEmulator();

}  // namespace nimforge
