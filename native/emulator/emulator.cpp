#include "emulator.h"

#include <cstdlib>
#include <memory>
#include <mutex>

#include "block.h"

namespace nimforge {
namespace {

std::mutex optionsLock;

EmulatorOptions& options() {
  static EmulatorOptions options = [] {
    EmulatorOptions out;
    if (const char* seed = std::getenv("NIMFORGE_EMULATOR_SEED")) out.seed = std::strtoull(seed, nullptr, 0);
    return out;
  }();
  return options;
}

// What a worker thread keeps from launch to launch.
thread_local std::unique_ptr<Block> worker;

// The calling fiber, which is at this place of the kernel.
Fiber& at(const char* function, int line) {
  Fiber& f = Block::self();
  f.site = {function, line};
  return f;
}

int run(const NfLaunch* launch, int threads, void (*body)(const NfLaunch*)) {
  if (!worker) worker = std::make_unique<Block>();
  return worker->run(*launch, threads, body);
}
void barrier(int id, int count, int wait, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->barrier(f, id, count, wait != 0);
}
void exchange(unsigned mask, void* own, NfCombine combine, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->exchange(f, mask, own, combine);
}
void exchangeGroup(void* own, NfCombine combine, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->exchangeGroup(f, own, combine);
}
void copyAsync(void* to, const void* from, int bytes, int valid, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->copyAsync(f, to, from, bytes, valid);
}
void copyCommit() {
  Fiber& f = Block::self();
  f.block->copyCommit(f);
}
void copyWait(int pending) {
  Fiber& f = Block::self();
  f.block->copyWait(f, pending);
}
void yield(const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->yield(f);
}
void fault(const char* what, const void* address, NfInt value, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->stop(f, [&] {
    std::string out = what;
    if (value != 0) out += " " + std::to_string(value);
    if (address) out += ": " + f.block->describe(address);
    return out;
  });
}
void mbarrierInit(void* object, int count, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->mbarrierInit(f, object, count);
}
void mbarrierArrive(void* object, int count, NfInt bytes, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->mbarrierArrive(f, object, count, bytes);
}
void mbarrierWait(void* object, int parity, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->mbarrierWait(f, object, parity);
}
void defer(void* object, NfInt bytes, NfDeferred apply, const void* payload, int size, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->defer(f, object, bytes, apply, payload, size);
}
void deferGroup(int queue, NfDeferred apply, const void* payload, int size, const char* function, int line) {
  Fiber& f = at(function, line);
  f.block->deferGroup(f, queue, apply, payload, size);
}
void deferCommit(int queue) {
  Fiber& f = Block::self();
  f.block->deferCommit(f, queue);
}
void deferWait(int queue, int pending) {
  Fiber& f = Block::self();
  f.block->deferWait(f, queue, pending);
}

}  // namespace

EmulatorOptions emulatorOptions() {
  const std::lock_guard lock(optionsLock);
  return options();
}

void setEmulatorOptions(const EmulatorOptions& given) {
  const std::lock_guard lock(optionsLock);
  options() = given;
}

NfEmulator emulatorFor(NfInt blocks) {
  return {blocks,        run,          barrier,        exchange,      copyAsync,    copyCommit, copyWait,   yield,       fault,
          exchangeGroup, mbarrierInit, mbarrierArrive, mbarrierWait,  defer,        deferGroup, deferCommit, deferWait};
}

const NfEmulator* emulator() {
  static const NfEmulator table = emulatorFor(0);
  return &table;
}

const std::string& lastEmulatorFault() {
  static const std::string none;
  return worker ? worker->fault() : none;
}

void releaseEmulator() { worker.reset(); }

}  // namespace nimforge
