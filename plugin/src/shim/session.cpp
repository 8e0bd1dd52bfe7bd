#include "session.h"

#include <condition_variable>
#include <list>
#include <mutex>
#include <vector>

#include "calls.h"
#include "models.h"

namespace latentblend {

using namespace ofx;

namespace {

constexpr size_t kMostModels = 2;
constexpr size_t kMostSessions = 16;
// Of pictures, which the sessions keep copies of; the newest session may have more.
constexpr size_t kMostBytes = size_t{1} << 30;

// How the engine begins what it says of a mask that marks nothing that the model could see.
constexpr char kNothingMarked[] = "the mask marks nothing";

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

struct Model {
    const Engine &engine;
    std::string key;
    lb_model *handle;
    ~Model() { engine.lb_model_release(handle); }
};

size_t bytes_of(const Model &) { return 0; }
size_t bytes_of(const Session &session) { return session.bytes(); }

// What is let go of. It is destroyed with this, which is never under the registry's lock: a model takes its time.
using Gone = std::vector<std::shared_ptr<const void>>;

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
    // Whether there is one, or one is being made.
    bool has(const std::string &key) const {
        for (const auto &item : items_)
            if (item.first == key) return true;
        return false;
    }
    void put(const std::string &key, std::shared_ptr<T> value, Gone *gone) {
        if (auto *slot = find(key)) {
            gone->push_back(*slot);
            *slot = std::move(value);
        } else {
            items_.emplace_front(key, std::move(value));
        }
        size_t bytes = 0;
        for (const auto &item : items_)
            if (item.second) bytes += bytes_of(*item.second);
        for (auto at = items_.end(); (items_.size() > most_ || bytes > kMostBytes) && --at != items_.begin();)
            if (at->second) {
                bytes -= bytes_of(*at->second);
                gone->push_back(at->second);
                at = items_.erase(at);
            }
    }
    // Ends what is being made.
    void give_up(const std::string &key) {
        items_.remove_if([&](const auto &item) { return item.first == key; });
    }
    // What is being made stays.
    template <class F>
    void remove_if(F unwanted, Gone *gone) {
        items_.remove_if([&](const auto &item) {
            if (!item.second || !unwanted(*item.second)) return false;
            gone->push_back(item.second);
            return true;
        });
    }
    void add_to(std::vector<std::shared_ptr<T>> *all) const {
        for (const auto &item : items_)
            if (item.second) all->push_back(item.second);
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
    // The same under another time.
    Latest<Session> timed{kMostSessions};

    // Sessions of models that are not held any more, which would keep these.
    void drop_orphans(Gone *gone) {
        const auto orphan = [&](const Session &session) { return !models.has(session.model()); };
        timed.remove_if(orphan, gone);
        sessions.remove_if(orphan, gone);
    }
};

Registry &registry() {
    static auto *one = new Registry;
    return *one;
}

std::shared_ptr<Model> load(const Engine &engine, const Recipe &recipe, const Poll &poll) {
    lb_model_options options;
    engine.lb_model_options_init(&options, sizeof options);
    options.device = recipe.device;
    options.ordinal = recipe.ordinal;
    options.precision = recipe.precision;
    options.threads = recipe.threads;
    options.flags = recipe.model_flags;
    options.idle_seconds = idle_seconds();
    if (recipe.beside) {
        options.device_by = LB_DEVICE_BY_POINTER;
        options.device_what = recipe.beside;
    }
    const lb_call call = watched(poll);
    lb_model *handle = nullptr;
    lb_error *error = nullptr;
    const char *path = recipe.model.empty() ? nullptr : recipe.model.c_str();
    check(engine, engine.lb_model_load(path, &options, &call, &handle, &error), error);
    return std::shared_ptr<Model>(new Model{engine, model_key(recipe), handle});
}

// The thing of a key: one thread makes it; others that want the same wait for it, and listen to their hosts.
template <class T, class Make>
std::shared_ptr<T> once(Latest<T> Registry::*list, const std::string &key, const Poll &poll, Make make) {
    Registry &all = registry();
    Latest<T> &items = all.*list;
    Gone gone;
    std::unique_lock<std::mutex> lock(all.mutex);
    while (auto *slot = items.find(key)) {
        if (*slot) return *slot;
        all.changed.wait_for(lock, std::chrono::milliseconds(20));
        lock.unlock();
        if (poll(0.0)) throw Aborted{};
        lock.lock();
    }
    items.put(key, nullptr, &gone);
    all.drop_orphans(&gone);
    lock.unlock();
    // Before there is something new beside it.
    gone.clear();
    std::shared_ptr<T> made;
    try {
        made = make();
    } catch (...) {
        lock.lock();
        items.give_up(key);
        all.changed.notify_all();
        throw;
    }
    lock.lock();
    items.put(key, made, &gone);
    // Its model may have gone while it was made.
    all.drop_orphans(&gone);
    all.changed.notify_all();
    lock.unlock();
    return made;
}

std::shared_ptr<Model> model_for(const Engine &engine, const Recipe &recipe, const Poll &poll) {
    return once(&Registry::models, model_key(recipe), poll, [&] { return load(engine, recipe, poll); });
}

// Takes over a handle.
std::shared_ptr<Session> wrapped(const Engine &engine, lb_session *handle, size_t bytes, const std::string &model,
                                 std::shared_ptr<Session> base = nullptr) {
    lb_session_info info{};
    info.struct_size = sizeof info;
    lb_error *error = nullptr;
    const lb_status status = engine.lb_session_get_info(handle, &info, &error);
    if (status != LB_OK) engine.lb_session_release(handle);
    check(engine, status, error);
    return std::make_shared<Session>(engine, handle, info, bytes, model, std::move(base));
}

// At once but for the copies of pictures: nothing is computed yet.
std::shared_ptr<Session> make(const Engine &engine, const Model &model, const Recipe &recipe,
                              const lb_blend_options &options) {
    const Pictures none;
    const Pictures &pictures = recipe.pictures ? *recipe.pictures : none;
    const size_t count = recipe.keyframes.size();
    std::vector<lb_keyframe> frames(count);
    std::vector<const lb_keyframe *> pointers;
    lb_source ends[2] = {};
    if (pictures.from) ends[0] = pictures.from->source();
    if (pictures.to) ends[1] = pictures.to->source();
    for (size_t i = 0; i < count; ++i) {
        lb_keyframe &frame = frames[i];
        frame.struct_size = sizeof frame;
        frame.prompt = recipe.keyframes[i].first.c_str();
        frame.negative_prompt = recipe.negative.c_str();
        frame.seed = recipe.keyframes[i].second;
        if (i == 0 && pictures.from) frame.image = &ends[0];
        if (i + 1 == count && pictures.to) frame.image = &ends[1];
        // They lie on one plane, or are of other pixels for the same one.
        frame.image_fit = LB_FIT_STRETCH;
        pointers.push_back(&frame);
    }
    lb_session *handle = nullptr;
    lb_error *error = nullptr;
    if (!pictures.source) {
        check(engine, engine.lb_session_new(model.handle, pointers.data(), count, &options, &handle, &error), error);
        return wrapped(engine, handle, pictures.bytes(), model.key);
    }
    const lb_source source = pictures.source->source(), mask = pictures.mask_source();
    lb_inpainting_options inpainting;
    engine.lb_inpainting_options_init(&inpainting, sizeof inpainting);
    inpainting.source = &source;
    inpainting.mask = &mask;
    inpainting.mask_channel = LB_MASK_CHANNEL_FIRST;
    const lb_status status =
        engine.lb_session_new_inpainting(model.handle, pointers.data(), count, &options, &inpainting, &handle, &error);
    if (status != LB_OK && std::string(engine.lb_error_message(error)).rfind(kNothingMarked, 0) == 0) {
        engine.lb_error_free(error);
        throw NothingMarked{};
    }
    check(engine, status, error);
    return wrapped(engine, handle, pictures.bytes(), model.key);
}

// Even time looks at frames, which takes as long as they do.
std::shared_ptr<Session> timed(const Engine &engine, const Recipe &recipe, const std::shared_ptr<Session> &base,
                               const Poll &poll) {
    std::vector<lb_easing> easings;
    const lb_timing timing = to_timing(engine, recipe, &easings);
    const lb_call call = watched(poll);
    lb_session *handle = nullptr;
    lb_error *error = nullptr;
    check(engine, engine.lb_session_timed(base->handle(), &timing, &call, &handle, &error), error);
    // It holds its base, and so the base's pictures, for as long as it is there.
    return wrapped(engine, handle, base->bytes(), base->model(), base);
}

}  // namespace

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

double Session::moved(double t) const {
    if (!base_) return t;
    lb_error *error = nullptr;
    double found = t;
    check(engine_, engine_.lb_session_t_at(handle_, t / info_.last_t, &found, &error), error);
    return found;
}

std::shared_ptr<Session> session_for(const Recipe &recipe, const Poll &poll) {
    const Engine &engine = opened_engine();
    const std::shared_ptr<Model> model = model_for(engine, recipe, poll);
    const lb_blend_options options = to_options(engine, recipe, model->handle);
    const std::string key = session_key(recipe, options, poll);
    const auto base =
        once(&Registry::sessions, key, poll, [&] { return make(engine, *model, recipe, options); });
    if (!bends_time(recipe)) return base;
    return once(&Registry::timed, timed_key(recipe, key), poll, [&] { return timed(engine, recipe, base, poll); });
}

std::shared_ptr<Session> session_showing(const Recipe &recipe, const Picture &picture, const Poll &poll) {
    const Engine &engine = opened_engine();
    const std::shared_ptr<Model> model = model_for(engine, recipe, poll);
    lb_blend_options options;
    engine.lb_blend_options_init(&options, sizeof options);
    const lb_source source = picture.source();
    lb_keyframe frame{};
    frame.struct_size = sizeof frame;
    frame.image = &source;
    const lb_keyframe *frames[] = {&frame, &frame};
    lb_session *handle = nullptr;
    lb_error *error = nullptr;
    check(engine, engine.lb_session_new(model->handle, frames, 2, &options, &handle, &error), error);
    return wrapped(engine, handle, picture.bytes(), model->key);
}

void purge_all() {
    Registry &all = registry();
    std::vector<std::shared_ptr<Session>> sessions;
    std::vector<std::shared_ptr<Model>> models;
    {
        std::lock_guard<std::mutex> lock(all.mutex);
        all.sessions.add_to(&sessions);
        // Whose base may not be held any more.
        all.timed.add_to(&sessions);
        all.models.add_to(&models);
    }
    for (const auto &session : sessions) session->purge();
    for (const auto &model : models) {
        // A frame that is being made keeps them till it is done.
        uint64_t bytes = 0;
        model->engine.lb_model_unload(model->handle, &bytes, nullptr);
    }
}

void free_all() {
    Registry &all = registry();
    Gone gone;
    std::lock_guard<std::mutex> lock(all.mutex);
    const auto any = [](const auto &) { return true; };
    all.timed.remove_if(any, &gone);
    all.sessions.remove_if(any, &gone);
    all.models.remove_if(any, &gone);
}

void held(size_t *models, size_t *sessions) {
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    *models = all.models.size();
    *sessions = all.sessions.size();
}

}  // namespace latentblend
