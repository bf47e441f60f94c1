// The addon's JavaScript face: see packages/device/src/native.ts for its types.
#include <napi.h>

#include "abi.h"
#include "addon/convert.h"
#include "addon/devices.h"
#include "addon/run_queue.h"
#include "arena.h"
#include "cpu_features.h"
#include "devices/select.h"
#include "host/registry.h"

namespace nimforge {
namespace {

Napi::Value signature(Napi::Env env, const Program& program, const std::vector<TensorInfo>& tensors) {
  Napi::Array out = Napi::Array::New(env, tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::vector<std::string> shape;
    for (int expr : tensors[i].shape) shape.push_back(program.text(expr));
    Napi::Object info = Napi::Object::New(env);
    info.Set("name", tensors[i].name);
    info.Set("dtype", dtypeName(tensors[i].dtype));
    info.Set("shape", strings(env, shape));
    out[i] = info;
  }
  return out;
}

struct SessionRequest {
  std::shared_ptr<Engine> engine;
  Wish wish;
  int threads;
  bool profile;
};

class NativeSession : public Napi::ObjectWrap<NativeSession> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeSession",
                       {InstanceMethod<&NativeSession::run>("run"), InstanceMethod<&NativeSession::runSync>("runSync"),
                        InstanceMethod<&NativeSession::cancel>("cancel"), InstanceMethod<&NativeSession::memory>("memory"),
                        InstanceMethod<&NativeSession::profile>("profile"), InstanceMethod<&NativeSession::threads>("threads"),
                        InstanceMethod<&NativeSession::device>("device"), InstanceMethod<&NativeSession::program>("program"),
                        InstanceMethod<&NativeSession::close>("close")});
  }

  // (External<SessionRequest>), from NativeEngine alone.
  explicit NativeSession(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "sessions come from an engine");
    auto& request = *info[0].As<Napi::External<SessionRequest>>().Data();
    profiles_ = request.profile;
    guarded(info.Env(), [&] {
      const Choice choice = choose(request.engine->file(), request.wish);
      program_ = choice.program;
      session_ = std::make_unique<Session>(request.engine, choice.program, choice.device, request.threads);
    });
    // Threads must be gone before the environment is.
    napi_add_env_cleanup_hook(info.Env(), stopAtExit, this);
  }

  ~NativeSession() override { stopAndForget(); }

 private:
  Session& session(Napi::Env env) {
    if (!session_) throw toJs(env, usage("closed", "the session is closed"));
    return *session_;
  }

  Napi::Value run(const Napi::CallbackInfo& info) {
    Session& open = session(info.Env());
    if (!queue_) queue_ = std::make_unique<RunQueue>(info.Env(), open, profiles_);
    return guarded(info.Env(), [&] { return queue_->push(info.This().As<Napi::Object>(), info[0].As<Napi::Array>(), info[1].ToNumber().Int64Value()); });
  }

  Napi::Value runSync(const Napi::CallbackInfo& info) {
    Session& open = session(info.Env());
    return guarded(info.Env(), [&] {
      const auto views = inputViews(info[0].As<Napi::Array>());
      return toJs(info.Env(), open.run(views, std::atomic<bool>(false), profiles_));
    });
  }

  void cancel(const Napi::CallbackInfo& info) {
    if (queue_) queue_->cancel(info[0].ToNumber().Int64Value());
  }

  Napi::Value memory(const Napi::CallbackInfo& info) { return toJs(info.Env(), session(info.Env()).memory()); }

  Napi::Value profile(const Napi::CallbackInfo& info) {
    Session& open = session(info.Env());
    const auto times = open.profile();
    Napi::Array out = Napi::Array::New(info.Env(), times.size());
    for (std::size_t i = 0; i < times.size(); ++i) {
      const Step& step = open.program().steps[times[i].step];
      Napi::Object row = Napi::Object::New(info.Env());
      row.Set("name", step.name);
      row.Set("origin", strings(info.Env(), step.origin));
      row.Set("nanoseconds", double(times[i].nanoseconds));
      out[i] = row;
    }
    return out;
  }

  Napi::Value threads(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), session(info.Env()).threads()); }

  Napi::Value device(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), session(info.Env()).device().name()); }

  // Its index in the engine.
  Napi::Value program(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), program_); }

  void close(const Napi::CallbackInfo&) { stopAndForget(); }

  static void stopAtExit(void* self) { static_cast<NativeSession*>(self)->stop(); }

  void stopAndForget() {
    if (session_) napi_remove_env_cleanup_hook(Env(), stopAtExit, this);
    stop();
  }

  void stop() {
    queue_.reset();
    session_.reset();
  }

  bool profiles_ = false;
  int program_ = 0;
  std::unique_ptr<Session> session_;
  std::unique_ptr<RunQueue> queue_;
};

class NativeEngine : public Napi::ObjectWrap<NativeEngine> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeEngine",
                       {InstanceMethod<&NativeEngine::table>("table"), InstanceMethod<&NativeEngine::programs>("programs"),
                        InstanceMethod<&NativeEngine::segment>("segment"), InstanceMethod<&NativeEngine::createSession>("createSession"),
                        InstanceMethod<&NativeEngine::close>("close")});
  }

  // (path or bytes, { verifyWeights })
  explicit NativeEngine(const Napi::CallbackInfo& info);

 private:
  Engine& engine(Napi::Env env) {
    if (!engine_) throw toJs(env, usage("closed", "the engine is closed"));
    return *engine_;
  }

  Napi::Value table(const Napi::CallbackInfo& info) {
    const auto bytes = engine(info.Env()).file().table();
    return Napi::Buffer<std::byte>::Copy(info.Env(), bytes.data(), bytes.size());
  }

  Napi::Value programs(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    const EngineInfo& engineInfo = engine(env).file().info();
    const auto& programs = engineInfo.programs;
    Napi::Array out = Napi::Array::New(env, programs.size());
    for (std::size_t i = 0; i < programs.size(); ++i) {
      const Program& program = programs[i];
      Napi::Object item = Napi::Object::New(env);
      item.Set("name", program.name);
      item.Set("target", targetOf(engineInfo, program));
      item.Set("inputs", signature(env, program, program.inputs));
      item.Set("outputs", signature(env, program, program.outputs));
      Napi::Array symbols = Napi::Array::New(env, program.symbols.size());
      for (std::size_t k = 0; k < program.symbols.size(); ++k) {
        const Symbol& s = program.symbols[k];
        Napi::Object symbol = Napi::Object::New(env);
        symbol.Set("name", s.name);
        symbol.Set("min", double(s.min));
        symbol.Set("max", double(s.max));
        symbols[k] = symbol;
      }
      item.Set("symbols", symbols);
      item.Set("steps", double(program.steps.size()));
      out[i] = item;
    }
    return out;
  }

  // (index, offset, length): a copy.
  Napi::Value segment(const Napi::CallbackInfo& info) {
    const EngineFile& file = engine(info.Env()).file();
    const double index = info[0].ToNumber(), offset = info[1].ToNumber(), length = info[2].ToNumber();
    if (!(index >= 0 && index < file.segmentCount())) throw toJs(info.Env(), usage("segment", "the engine has no such segment"));
    const auto bytes = file.segment(int(index));
    if (!(offset >= 0 && length >= 0 && offset + length <= double(bytes.size())))
      throw toJs(info.Env(), usage("segment", "the segment is shorter"));
    return Napi::Buffer<std::byte>::Copy(info.Env(), bytes.data() + std::size_t(offset), std::size_t(length));
  }

  Napi::Value createSession(const Napi::CallbackInfo& info);

  void close(const Napi::CallbackInfo&) { engine_.reset(); }

  std::shared_ptr<Engine> engine_;
};

class NativeAddon : public Napi::Addon<NativeAddon> {
 public:
  NativeAddon(Napi::Env env, Napi::Object exports) {
    engineClass_ = Napi::Persistent(NativeEngine::define(env));
    sessionClass_ = Napi::Persistent(NativeSession::define(env));
    DefineAddon(exports, {InstanceMethod<&NativeAddon::openEngine>("openEngine"), InstanceMethod<&NativeAddon::plan>("planArena"),
                          InstanceMethod<&NativeAddon::levels>("cpuLevels"), InstanceMethod<&NativeAddon::cuda>("cudaDevices"),
                          InstanceMethod<&NativeAddon::info>("addonInfo")});
  }

  Napi::Object newSession(const std::vector<napi_value>& arguments) { return sessionClass_.New(arguments); }

 private:
  Napi::Value openEngine(const Napi::CallbackInfo& info) { return engineClass_.New({info[0], info[1]}); }

  // ({ bytes, first, last, fixed? }[], alignment) → { offsets, bytes, lowerBound }
  Napi::Value plan(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    const auto list = info[0].As<Napi::Array>();
    const std::int64_t alignment = info[1].IsNumber() ? info[1].ToNumber().Int64Value() : 64;
    if (alignment < 1) throw toJs(env, usage("alignment", "planArena: the alignment must be positive"));
    std::vector<ArenaItem> items;
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      const auto item = list.Get(i).As<Napi::Object>();
      const auto fixed = item.Get("fixed");
      items.push_back({item.Get("bytes").ToNumber().Int64Value(), item.Get("first").ToNumber().Int32Value(),
                       item.Get("last").ToNumber().Int32Value(), fixed.IsNumber() ? fixed.ToNumber().Int64Value() : -1});
      if (items.back().first > items.back().last) throw toJs(env, usage("lifetime", "planArena: an item ends before it begins"));
    }
    const ArenaPlan plan = guarded(env, [&] { return planArena(items, alignment); });
    Napi::Array offsets = Napi::Array::New(env, plan.offsets.size());
    for (std::size_t i = 0; i < plan.offsets.size(); ++i) offsets[i] = Napi::Number::New(env, double(plan.offsets[i]));
    Napi::Object out = Napi::Object::New(env);
    out.Set("offsets", offsets);
    out.Set("bytes", double(plan.bytes));
    out.Set("lowerBound", double(plan.lowerBound));
    return out;
  }

  Napi::Value levels(const Napi::CallbackInfo& info) {
    const auto levels = cpuLevels();
    Napi::Array out = Napi::Array::New(info.Env(), levels.size());
    for (std::size_t i = 0; i < levels.size(); ++i) {
      Napi::Object level = Napi::Object::New(info.Env());
      level.Set("name", levels[i].name);
      level.Set("features", strings(info.Env(), levels[i].features));
      level.Set("runs", levels[i].runs);
      out[i] = level;
    }
    return out;
  }

  Napi::Value cuda(const Napi::CallbackInfo& info) { return cudaDevices(info.Env()); }

  Napi::Value info(const Napi::CallbackInfo& info) {
    const auto env = info.Env();
    Napi::Object out = Napi::Object::New(env);
    out.Set("version", NIMFORGE_VERSION);
    out.Set("formatMajor", kFormatMajor);
    out.Set("formatMinor", kFormatMinor);
    out.Set("abi", NF_ABI_VERSION);
    out.Set("hostOps", strings(env, hostOpNames()));
    out.Set("cpuFeatures", strings(env, cpuFeatures()));
    out.Set("cores", usableCores());
    return out;
  }

  Napi::FunctionReference engineClass_, sessionClass_;
};

NativeEngine::NativeEngine(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const OpenOptions options{info[1].IsObject() && optionalBool(info[1].As<Napi::Object>(), "verifyWeights")};
  guarded(info.Env(), [&] {
    std::shared_ptr<EngineFile> file;
    if (info[0].IsString()) {
      file = EngineFile::open(info[0].ToString(), options);
    } else if (info[0].IsTypedArray()) {
      const auto array = info[0].As<Napi::TypedArray>();
      const auto* data = static_cast<const std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset();
      file = EngineFile::fromBytes({data, array.ByteLength()}, options);
    } else {
      throw usage("engine-argument", "an engine is opened from a path or from bytes");
    }
    engine_ = std::make_shared<Engine>(std::move(file));
  });
}

// ({ program?: name or index, target?, device?, allowEmulated, threads, profile })
Napi::Value NativeEngine::createSession(const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const auto options = info[0].As<Napi::Object>();
  engine(env);
  const auto text = [&](const char* name) {
    const Napi::Value value = options.Get(name);
    return value.IsString() ? std::string(value.ToString()) : std::string();
  };
  SessionRequest request{engine_, {}, options.Get("threads").ToNumber().Int32Value(), optionalBool(options, "profile")};
  if (const Napi::Value program = options.Get("program"); program.IsNumber()) {
    const double index = program.ToNumber();
    if (!(index >= 0 && index < 1e9)) throw toJs(env, usage("no-program", "the engine has no program " + std::string(program.ToString())));
    request.wish.index = int(index);
  }
  request.wish.program = text("program");
  request.wish.target = text("target");
  request.wish.device = text("device");
  request.wish.allowEmulated = optionalBool(options, "allowEmulated");
  return env.GetInstanceData<NativeAddon>()->newSession({Napi::External<SessionRequest>::New(env, &request)});
}

}  // namespace
}  // namespace nimforge

using nimforge::NativeAddon;
NODE_API_ADDON(NativeAddon)
