// A session's runs, in order, on a thread of their own; promises settle on the JavaScript thread.
#pragma once
#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "addon/convert.h"

namespace nimforge {

class RunQueue {
 public:
  RunQueue(Napi::Env env, Session& session, bool profile);
  // Ends the run in progress at its next step and drops the rest. On the JavaScript thread.
  ~RunQueue();
  RunQueue(const RunQueue&) = delete;
  RunQueue& operator=(const RunQueue&) = delete;

  // `id` names the run for cancel; `owner`, the session's object, lives until the run is over.
  Napi::Promise push(const Napi::Object& owner, const Napi::Array& inputs, std::int64_t id);
  void cancel(std::int64_t id);

 private:
  struct Job {
    Job(const Napi::Object& owner, const Napi::Array& array, std::int64_t id)
        : id(id),
          views(inputViews(array)),
          owner(Napi::Persistent(owner)),
          memory(Napi::Persistent(Napi::Object(memoryOf(array)))),
          promise(Napi::Promise::Deferred::New(array.Env())) {}
    static Napi::Array memoryOf(const Napi::Array& inputs);

    std::int64_t id;
    std::vector<InputView> views;
    Napi::ObjectReference owner, memory;  // memory: the arrays that the views point into
    Napi::Promise::Deferred promise;
    std::atomic<bool> cancel{false};
    std::vector<OutputTensor> outputs;
    std::optional<Error> error;
  };
  static void settle(Napi::Env env, Napi::Function, RunQueue* queue, Job* job);
  using Settle = Napi::TypedThreadSafeFunction<RunQueue, Job, settle>;
  void work();
  void execute(Job& job);

  Session& session_;
  const bool profile_;
  Napi::Env env_;
  Settle settle_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> waiting_;
  Job* current_ = nullptr;
  bool stop_ = false;
  int unsettled_ = 0;  // JavaScript thread only; the event loop lives as long as it is not 0
  std::thread thread_;
};

}  // namespace nimforge
