#include "addon/run_queue.h"

namespace nimforge {

RunQueue::RunQueue(Napi::Env env, Session& session, bool profile) : session_(session), profile_(profile), env_(env) {
  settle_ = Settle::New(env, "nimforge run", 0, 1, this);
  settle_.Unref(env);
  thread_ = std::thread([this] { work(); });
}

RunQueue::~RunQueue() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    if (current_) current_->cancel = true;
  }
  wake_.notify_all();
  thread_.join();
  settle_.Abort();
}

// The caller may put other arrays into its tensors while the run goes on.
Napi::Array RunQueue::Job::memoryOf(const Napi::Array& inputs) {
  Napi::Array out = Napi::Array::New(inputs.Env(), inputs.Length());
  for (std::uint32_t i = 0; i < inputs.Length(); ++i) out[i] = inputs.Get(i).As<Napi::Object>().Get("data");
  return out;
}

Napi::Promise RunQueue::push(const Napi::Object& owner, const Napi::Array& inputs, std::int64_t id) {
  auto job = std::make_unique<Job>(owner, inputs, id);
  const Napi::Promise promise = job->promise.Promise();
  if (unsettled_++ == 0) settle_.Ref(env_);
  {
    std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  wake_.notify_one();
  return promise;
}

void RunQueue::cancel(std::int64_t id) {
  std::lock_guard lock(mutex_);
  if (current_ && current_->id == id) current_->cancel = true;
  for (auto& job : waiting_)
    if (job->id == id) job->cancel = true;
}

void RunQueue::work() {
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      job = std::move(waiting_.front());
      waiting_.pop_front();
      current_ = job.get();
    }
    execute(*job);
    {
      std::lock_guard lock(mutex_);
      current_ = nullptr;
    }
    // A closing environment takes no more results; its references are its own to clear.
    Job* done = job.release();
    if (settle_.NonBlockingCall(done) != napi_ok) return;
  }
}

void RunQueue::execute(Job& job) {
  try {
    job.outputs = session_.run(job.views, job.cancel, profile_);
  } catch (const Error& error) {
    job.error = error;
  } catch (const std::bad_alloc&) {
    job.error = limit("out-of-memory", "out of memory");
  } catch (const std::exception& error) {
    job.error = Error("internal", "internal", std::string("internal: ") + error.what());
  }
}

void RunQueue::settle(Napi::Env env, Napi::Function, RunQueue* queue, Job* raw) {
  std::unique_ptr<Job> job(raw);
  if (env == nullptr) {  // the environment is closing
    job->owner.SuppressDestruct();
    job->memory.SuppressDestruct();
    return;
  }
  if (job->error)
    job->promise.Reject(toJs(env, *job->error).Value());
  else
    job->promise.Resolve(toJs(env, std::move(job->outputs)));
  if (--queue->unsettled_ == 0) queue->settle_.Unref(env);
}

}  // namespace nimforge
