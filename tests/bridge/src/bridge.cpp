#include "latentblend-bridge/src/bridge.h"

#include "latentblend-bridge/src/lib.rs.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace bridge {

using latentblend::Adapt;
using latentblend::BlendOptions;
using latentblend::Call;
using latentblend::Error;
using latentblend::Flow;
using latentblend::Image;
using latentblend::InpaintingOptions;
using latentblend::Keyframe;
using latentblend::Log;
using latentblend::Lpips;
using latentblend::ModelOptions;
using latentblend::Progress;
using latentblend::Segment;
using latentblend::Source;
using latentblend::Timing;

namespace {

/// Memory for a frame of a session.
rust::Vec<std::uint8_t> room(const lb_session_info &info, std::size_t frames = 1) {
    const std::size_t bytes = frames * info.width * info.height * 3;
    rust::Vec<std::uint8_t> pixels;
    pixels.reserve(bytes);
    while (pixels.size() < bytes) {
        pixels.push_back(0);
    }
    return pixels;
}

std::vector<Keyframe> keyframes_of(rust::Slice<const Frame> frames) {
    std::vector<Keyframe> keyframes;
    for (const Frame &frame : frames) {
        keyframes.emplace_back(std::string(frame.prompt), frame.seed,
                               std::string(frame.negative_prompt));
    }
    return keyframes;
}

BlendOptions options_of(std::uint32_t width, std::uint32_t height) {
    BlendOptions options;
    options.preset = LB_PRESET_LOWEST;
    options.width = width;
    options.height = height;
    return options;
}

rust::Vec<double> numbers(const std::vector<double> &values) {
    rust::Vec<double> all;
    for (const double value : values) {
        all.push_back(value);
    }
    return all;
}

Call watched(Watcher &watcher) {
    return Call().on_progress([&](const Progress &progress) {
        return watcher.tell(progress.fraction) ? Flow::go_on : Flow::cancel;
    });
}

rust::Vec<std::uint8_t> render_with(const Session &session, double t, const Call &call) {
    const lb_session_info info = session.info();
    auto pixels = room(info);
    session.render(t, Image(pixels.data(), info.width, info.height, LB_FORMAT_RGB_U8), call);
    return pixels;
}

} // namespace

std::unique_ptr<Model> demo() {
    return std::make_unique<Model>(Model::demo());
}

std::unique_ptr<Model> load(rust::Str path) {
    return std::make_unique<Model>(Model::load(std::string(path)));
}

std::unique_ptr<Model> share_model(const Model &model) {
    return std::make_unique<Model>(model.share());
}

std::unique_ptr<Session> session(const Model &model, rust::Slice<const Frame> frames,
                                 std::uint32_t width, std::uint32_t height) {
    return std::make_unique<Session>(model, keyframes_of(frames), options_of(width, height));
}

std::unique_ptr<Session> share(const Session &session) {
    return std::make_unique<Session>(session.share());
}

std::unique_ptr<Session> move_out(Session &session) {
    return std::make_unique<Session>(std::move(session));
}

rust::Vec<std::uint8_t> render(const Session &session, double t) {
    return render_with(session, t, Call());
}

rust::Vec<std::uint8_t> render_bottom_up(const Session &session, double t) {
    const lb_session_info info = session.info();
    auto pixels = room(info);
    session.render(t, Image::bottom_up(pixels.data(), info.width, info.height, LB_FORMAT_RGB_U8));
    return pixels;
}

rust::Vec<std::uint8_t> render_many(const Session &session, rust::Slice<const double> t) {
    const lb_session_info info = session.info();
    auto pixels = room(info, t.size());
    const std::size_t frame = std::size_t(info.width) * info.height * 3;
    std::vector<Image> images;
    for (std::size_t index = 0; index < t.size(); ++index) {
        images.emplace_back(pixels.data() + index * frame, info.width, info.height,
                            LB_FORMAT_RGB_U8);
    }
    session.render_many(std::vector<double>(t.begin(), t.end()), images);
    return pixels;
}

rust::Vec<std::uint8_t> render_watched(const Session &session, double t, Watcher &watcher) {
    return render_with(session, t, watched(watcher));
}

std::int32_t render_status(const Session &session, double t, rust::String &message) {
    try {
        render(session, t);
        return LB_OK;
    } catch (const Error &error) {
        message = error.what();
        return error.status();
    }
}

rust::Vec<std::uint32_t> working_size(const Model &model, std::uint32_t width,
                                      std::uint32_t height, double pixel_aspect) {
    const latentblend::Size size = model.working_size({width, height}, pixel_aspect);
    rust::Vec<std::uint32_t> sides;
    sides.push_back(size.width);
    sides.push_back(size.height);
    return sides;
}

std::unique_ptr<Session> repaint(const Model &model, rust::Slice<const Frame> frames,
                                 rust::Slice<const std::uint8_t> plate,
                                 rust::Slice<const std::uint8_t> mask, std::uint32_t width,
                                 std::uint32_t height) {
    const Source picture(plate.data(), width, height, LB_FORMAT_RGB_U8);
    const Source marks(mask.data(), width, height, LB_FORMAT_A_U8);
    return std::make_unique<Session>(Session::inpainting(
        model, keyframes_of(frames), InpaintingOptions(picture, marks), options_of(width, height)));
}

std::unique_ptr<Session> timed(const Session &session, std::uint32_t pace,
                               rust::Slice<const std::uint32_t> easings) {
    Timing timing;
    timing.pace = pace;
    timing.distance = LB_DISTANCE_LATENTS;
    timing.samples = 5;
    if (easings.empty()) {
        return std::make_unique<Session>(session.timed(timing));
    }
    std::vector<Segment> segments;
    for (const std::uint32_t easing : easings) {
        Segment segment;
        segment.easing = easing;
        segments.push_back(segment);
    }
    return std::make_unique<Session>(session.timed(timing, segments));
}

rust::Vec<double> frame_times(const Session &session, std::size_t count) {
    return numbers(session.frame_times(count));
}

rust::Vec<double> changes(const Session &session, std::size_t frames) {
    return numbers(session.changes(frames));
}

std::unique_ptr<Session> adapted(const Session &session, double strength) {
    Adapt adapt;
    adapt.distance = LB_DISTANCE_LATENTS;
    adapt.samples = 5;
    adapt.strength = strength;
    return std::make_unique<Session>(session.adapted(adapt));
}

std::unique_ptr<Session> extend(const Session &session, double from_t, const Frame &to,
                                Watcher &watcher) {
    const Keyframe keyframe(std::string(to.prompt), to.seed, std::string(to.negative_prompt));
    return std::make_unique<Session>(session.extend(from_t, keyframe, watched(watcher)));
}

void save(const Session &session, rust::Str path) {
    session.save(std::string(path));
}

std::unique_ptr<Session> restore(const Model &model, rust::Str path) {
    return std::make_unique<Session>(Session::load(model, std::string(path)));
}

void load_lpips(rust::Str path) {
    Lpips::load(std::string(path));
}

void prepare(const Session &session, const Cancel &cancel) {
    session.prepare(Call().cancel(cancel));
}

std::uint64_t evaluations(const Session &session) {
    return session.info().evaluations;
}

std::unique_ptr<Cancel> cancel() {
    return std::make_unique<Cancel>();
}

void logged(const Model &model, rust::Str prompt, Lines &lines) {
    const Log log([&](lb_log_level level, std::string_view, std::string_view message) {
        lines.push(level, rust::Str(message.data(), message.size()));
    });
    Session(model, {Keyframe(std::string(prompt), 1)});
}

void log_that_throws(const Model &model, rust::Str prompt) {
    Log log([](lb_log_level, std::string_view, std::string_view) {
        throw std::runtime_error("the log is full");
    });
    Session(model, {Keyframe(std::string(prompt), 1)});
    log.rethrow();
}

} // namespace bridge
