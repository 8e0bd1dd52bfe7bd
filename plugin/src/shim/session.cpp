#include "session.h"

#include <cmath>
#include <condition_variable>
#include <list>
#include <mutex>

#include "geometry.h"
#include "models.h"

namespace latentblend {

using namespace ofx;

namespace {

constexpr size_t kMostModels = 2;
constexpr size_t kMostSessions = 16;

// The recipe of drafts: fixed, so that a draft never depends on what is held.
constexpr unsigned kDraftSteps = 8;
constexpr double kDraftPlaces = 16.0;

OfxStatus status_of(lb_status status) {
    switch (status) {
        case LB_ERROR_OUT_OF_MEMORY: return kOfxStatErrMemory;
        case LB_ERROR_UNSUPPORTED: return kOfxStatErrUnsupported;
        default: return kOfxStatFailed;
    }
}

// Throws what a call of the engine came to. `error` is freed; by reference, since the call that is the other
// argument may be evaluated after it.
void check(const Engine &engine, lb_status status, lb_error *const &error) {
    if (status == LB_OK) return;
    const std::string message = engine.lb_error_message(error);
    engine.lb_error_free(error);
    if (status == LB_ERROR_CANCELLED) throw Aborted{};
    throw Failure{status_of(status), message.empty() ? engine.lb_status_name(status) : message};
}

int32_t told(void *user, const lb_progress *progress) {
    // Called by the engine: nothing may be thrown through it.
    try {
        return (*static_cast<const Poll *>(user))(progress->fraction) ? 1 : 0;
    } catch (...) {
        return 1;
    }
}

lb_call watched(const Poll &poll) {
    lb_call call{};
    call.struct_size = sizeof call;
    call.progress = told;
    call.user = const_cast<Poll *>(&poll);
    return call;
}

// A key of the parts, in which no part can pose as another.
class Key {
  public:
    Key &add(const std::string &part) {
        text_ += std::to_string(part.size()) + ":" + part;
        return *this;
    }
    Key &add(double part) {
        char text[40];
        std::snprintf(text, sizeof text, "%a", part);
        return add(std::string(text));
    }
    const std::string &text() const { return text_; }

  private:
    std::string text_;
};

struct Model {
    const Engine &engine;
    lb_model *handle;
    lb_model_info info;
    ~Model() { engine.lb_model_release(handle); }
};

// A few of the last things used, newest first. NULL stands for what another thread is making.
template <class T>
class Latest {
  public:
    explicit Latest(size_t most) : most_(most) {}

    std::shared_ptr<T> *find(const std::string &key) {
        for (auto at = items_.begin(); at != items_.end(); ++at)
            if (at->first == key) {
                items_.splice(items_.begin(), items_, at);
                return &items_.front().second;
            }
        return nullptr;
    }
    void put(const std::string &key, std::shared_ptr<T> value) {
        if (auto *slot = find(key)) *slot = std::move(value);
        else items_.emplace_front(key, std::move(value));
        for (auto at = items_.end(); items_.size() > most_ && at != items_.begin();)
            if ((--at)->second) at = items_.erase(at);
    }
    void remove(const std::string &key) {
        items_.remove_if([&](const auto &item) { return item.first == key; });
    }
    // What is being made stays.
    void clear() {
        items_.remove_if([](const auto &item) { return item.second != nullptr; });
    }
    template <class F>
    void each(F f) {
        for (auto &item : items_)
            if (item.second) f(*item.second);
    }
    size_t size() const {
        size_t count = 0;
        for (const auto &item : items_) count += item.second != nullptr;
        return count;
    }

  private:
    size_t most_;
    std::list<std::pair<std::string, std::shared_ptr<T>>> items_;
};

struct Registry {
    std::mutex mutex;
    std::condition_variable changed;
    Latest<Model> models{kMostModels};
    Latest<Session> sessions{kMostSessions};
};

Registry &registry() {
    static auto *one = new Registry;
    return *one;
}

std::string model_key(const Recipe &r) {
    return Key().add(r.model).add(r.device).add(r.ordinal).add(r.precision).text();
}

std::shared_ptr<Model> load(const Engine &engine, const Recipe &recipe, const Poll &poll) {
    lb_model_options options;
    engine.lb_model_options_init(&options, sizeof options);
    options.device = recipe.device;
    options.ordinal = recipe.ordinal;
    options.precision = recipe.precision;
    const lb_call call = watched(poll);
    lb_model *handle = nullptr;
    lb_error *error = nullptr;
    const char *path = recipe.model.empty() ? nullptr : recipe.model.c_str();
    check(engine, engine.lb_model_load(path, &options, &call, &handle, &error), error);
    auto model = std::shared_ptr<Model>(new Model{engine, handle, {}});
    model->info.struct_size = sizeof model->info;
    check(engine, engine.lb_model_get_info(handle, &model->info, &error), error);
    return model;
}

// One thread loads; others that want the same model wait for it, and listen to their hosts.
std::shared_ptr<Model> model_for(const Engine &engine, const Recipe &recipe, const Poll &poll) {
    Registry &all = registry();
    const std::string key = model_key(recipe);
    std::unique_lock<std::mutex> lock(all.mutex);
    while (auto *slot = all.models.find(key)) {
        if (*slot) return *slot;
        all.changed.wait_for(lock, std::chrono::milliseconds(20));
        lock.unlock();
        if (poll(0.0)) throw Aborted{};
        lock.lock();
    }
    all.models.put(key, nullptr);
    lock.unlock();
    std::shared_ptr<Model> model;
    try {
        model = load(engine, recipe, poll);
    } catch (...) {
        lock.lock();
        all.models.remove(key);
        all.changed.notify_all();
        throw;
    }
    lock.lock();
    all.models.put(key, model);
    all.changed.notify_all();
    return model;
}

// The node's values as the engine's options: with `wired` in params.h, the place where what the engine learns is
// handed on.
lb_blend_options to_options(const Engine &engine, const Recipe &recipe, const lb_model_info &model) {
    const Values &v = recipe.values;
    lb_blend_options options;
    engine.lb_blend_options_init(&options, sizeof options);
    if (recipe.aspect > 0.0) {
        const unsigned native[2] = {model.native_width, model.native_height};
        unsigned size[2];
        working_size(native, model.size_multiple, recipe.aspect, size);
        options.width = size[0];
        options.height = size[1];
    }
    options.preset = static_cast<lb_preset>(LB_PRESET_LOWEST + v.integer(Preset));
    options.steps = static_cast<uint32_t>(v.integer(Steps));
    options.frames = static_cast<uint32_t>(v.integer(Frames));
    options.depth = v.number[Depth];
    options.mid_compression = v.number[MidCompression];
    options.guidance = v.number[Guidance];
    options.guidance_mid_damper = v.number[GuidanceMid];
    options.noise = v.integer(Noise) == 1 ? LB_NOISE_CPU : LB_NOISE_CUDA;
    options.look = v.integer(Look) == 1 ? LB_LOOK_COMPAT_2022 : LB_LOOK_CURRENT;
    if (recipe.draft) {
        options.preset = LB_PRESET_LOWEST;
        options.steps = kDraftSteps;
    }
    return options;
}

std::string session_key(const Recipe &recipe, const lb_blend_options &o) {
    Key key;
    key.add(model_key(recipe)).add(recipe.negative);
    for (const auto &[prompt, seed] : recipe.keyframes) key.add(prompt).add(seed);
    key.add("options").add(o.width).add(o.height).add(o.preset).add(o.steps).add(o.frames).add(o.noise).add(o.look);
    key.add(o.depth).add(o.mid_compression).add(o.guidance).add(o.guidance_mid_damper);
    return key.text();
}

std::shared_ptr<Session> make(const Engine &engine, const Model &model, const Recipe &recipe,
                              const lb_blend_options &options) {
    std::vector<lb_keyframe> frames;
    std::vector<const lb_keyframe *> pointers;
    for (const auto &[prompt, seed] : recipe.keyframes) {
        lb_keyframe frame{};
        frame.struct_size = sizeof frame;
        frame.prompt = prompt.c_str();
        frame.negative_prompt = recipe.negative.c_str();
        frame.seed = seed;
        frames.push_back(frame);
    }
    for (const lb_keyframe &frame : frames) pointers.push_back(&frame);
    lb_session *handle = nullptr;
    lb_error *error = nullptr;
    check(engine,
          engine.lb_session_new(model.handle, pointers.data(), pointers.size(), &options, &handle, &error), error);
    lb_session_info info{};
    info.struct_size = sizeof info;
    const lb_status status = engine.lb_session_get_info(handle, &info, &error);
    if (status != LB_OK) engine.lb_session_release(handle);
    check(engine, status, error);
    return std::make_shared<Session>(engine, handle, model.info, info);
}

double eased(int easing, double x) {
    switch (easing) {
        case EasingInOut: return x * x * (3.0 - 2.0 * x);
        case EasingIn: return x * x;
        case EasingOut: return x * (2.0 - x);
        default: return x;
    }
}

}  // namespace

Recipe recipe_of(const Values &values, double aspect, bool draft) {
    Recipe recipe;
    recipe.model = find_model(values.text[ModelPath]);
    switch (values.integer(Device)) {
        case DeviceCpu: recipe.device = LB_DEVICE_CPU; break;
        case DeviceGpu:
            recipe.device = LB_DEVICE_CUDA;
            recipe.ordinal = static_cast<unsigned>(values.integer(GpuNumber));
            break;
        default: break;
    }
    recipe.precision = static_cast<lb_precision>(values.integer(Precision));
    for (int i = 0; i < values.integer(KeyframeCount); ++i)
        recipe.keyframes.emplace_back(values.text[kPrompts[i]], static_cast<unsigned>(values.integer(kSeeds[i])));
    recipe.negative = values.text[Negative];
    recipe.values = values;
    recipe.draft = draft;
    recipe.aspect = values.integer(SizeMode) == SizeModel ? 0.0 : aspect;
    return recipe;
}

double place_of(const Values &values, bool transition, double time, const double *range, bool draft) {
    const double last = values.number[KeyframeCount] - 1.0;
    double t = values.number[Fraction];
    if (transition) {
        t = values.transition * last;
    } else if (values.integer(Timing) == TimingClip) {
        if (!range)
            throw Failure{kOfxStatFailed, "Timing is 'Over the clip's length', but the host does not say how long the clip is"};
        t = (time - range[0]) / (range[1] - range[0]) * last;
    } else if (values.integer(FractionScale) == ScaleWhole) {
        t *= last;
    }
    t = std::fmin(std::fmax(t, 0.0), last);
    const double segment = std::fmin(std::floor(t), last - 1.0);
    t = segment + eased(values.integer(Easing), t - segment);
    return draft ? std::round(t * kDraftPlaces) / kDraftPlaces : t;
}

void Session::render(double t, const lb_image &image, const Poll &poll) const {
    const lb_call call = watched(poll);
    lb_error *error = nullptr;
    check(engine_, engine_.lb_session_render(handle_, t, &image, &call, &error), error);
}

void Session::prepare(const Poll &poll) const {
    const lb_call call = watched(poll);
    lb_error *error = nullptr;
    check(engine_, engine_.lb_session_prepare(handle_, &call, &error), error);
}

std::shared_ptr<Session> session_for(const Recipe &recipe, const Poll &poll) {
    std::string why;
    const Engine *engine = latentblend::engine(&why);
    if (!engine) throw Failure{kOfxStatFailed, why};
    const std::shared_ptr<Model> model = model_for(*engine, recipe, poll);
    const lb_blend_options options = to_options(*engine, recipe, model->info);
    const std::string key = session_key(recipe, options);
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    if (auto *slot = all.sessions.find(key)) return *slot;
    // At once: nothing is computed yet.
    auto session = make(*engine, *model, recipe, options);
    all.sessions.put(key, session);
    return session;
}

void purge_all() {
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    all.sessions.each([](const Session &session) { session.purge(); });
}

void free_all() {
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    all.sessions.clear();
    all.models.clear();
}

void held(size_t *models, size_t *sessions) {
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    *models = all.models.size();
    *sessions = all.sessions.size();
}

}  // namespace latentblend
