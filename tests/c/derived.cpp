// latentblend.hpp: sessions that are made of pictures, of other sessions and of files.
#include "check.h"
#include "weights.h"

#include <latentblend.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace lb = latentblend;

static_assert(!std::is_copy_constructible_v<lb::Lpips> &&
              std::is_nothrow_move_constructible_v<lb::Lpips> &&
              std::is_nothrow_move_assignable_v<lb::Lpips>);
// Structs of C and nothing else.
static_assert(sizeof(lb::Source) == sizeof(lb_source) && sizeof(lb::Timing) == sizeof(lb_timing));
static_assert(sizeof(lb::InpaintingOptions) == sizeof(lb_inpainting_options));
// Options that would point to what is gone are refused by the compiler.
static_assert(std::is_constructible_v<lb::InpaintingOptions, lb::Source &, const lb::Source &>);
static_assert(!std::is_constructible_v<lb::InpaintingOptions, lb::Source, lb::Source &>);
static_assert(!std::is_constructible_v<lb::InpaintingOptions, lb::Source &, lb::Source>);
static_assert(lb::bytes_per_pixel(LB_FORMAT_A_U8) == 1 && lb::bytes_per_pixel(LB_FORMAT_A_F16) == 2);

// What `work` throws, as it is meant to.
template <typename Work>
static void refused(int line, lb_status status, const char *text, Work work) {
    try {
        work();
        check(0, __FILE__, line, "it went well");
    } catch (const lb::Error &error) {
        check(error.status() == status, __FILE__, line, error.status_name());
        check(std::strstr(error.what(), text) != nullptr, __FILE__, line, error.what());
    }
}
#undef REFUSED
#define REFUSED(status, text, ...) refused(__LINE__, status, text, [&] { __VA_ARGS__; })

struct Thrown {
    int number;
};

using Pixels = std::vector<unsigned char>;

static lb::BlendOptions quick() {
    lb::BlendOptions options;
    static_cast<lb_blend_options &>(options) = small();
    return options;
}

static lb::Session transition(const lb::Model &model) {
    return lb::Session(model, {{"a castle at dusk", 1}, {"a lake by day", 2}}, quick());
}

static Pixels frame(const lb::Session &session, double t) {
    Pixels pixels(FRAME);
    session.render(t, lb::Image(pixels.data(), SIDE, SIDE, LB_FORMAT_RGB_U8));
    return pixels;
}

static Pixels stripes() {
    Pixels pixels(FRAME);
    for (int index = 0; index < FRAME; index++) {
        pixels[index] = static_cast<unsigned char>(index % ROW + 2 * (index / ROW));
    }
    return pixels;
}

// Rows the other way around.
static Pixels turned(const Pixels &pixels) {
    Pixels other;
    for (int row = SIDE - 1; row >= 0; row--) {
        other.insert(other.end(), &pixels[row * ROW], &pixels[row * ROW] + ROW);
    }
    return other;
}

static void pictures(const lb::Model &model) {
    Pixels plate = stripes(), upside_down = turned(plate);
    const lb::Source picture(plate.data(), SIDE, SIDE, LB_FORMAT_RGB_U8);
    const auto same = lb::Source::bottom_up(upside_down.data(), SIDE, SIDE, LB_FORMAT_RGB_U8, ROW);
    for (const lb::Source &source : {picture, same}) {
        Pixels copied(FRAME);
        lb::copy(source, lb::Image(copied.data(), SIDE, SIDE, LB_FORMAT_RGB_U8));
        CHECK(copied == plate);
        const lb::Session session(
            model, std::vector<lb::Keyframe>{lb::Keyframe(source, "stripes"), {"a lake by day", 2}},
            quick());
        CHECK(frame(session, 0.0) == plate && frame(session, 0.5) != plate);
    }
    // One that is repainted is another picture.
    lb::Keyframe repainted(picture, "a lake");
    repainted.image_strength = 0.5;
    CHECK(frame(lb::Session(model, {repainted}, quick()), 0.0) != plate);
    repainted.image_strength = 2.0;
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "image strength 2", lb::Session(model, {repainted}, quick()));
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "lb_keyframe.image",
            lb::Session(model, {lb::Keyframe(lb::Source())}, quick()));

    Pixels marks(SIDE * SIDE);
    std::fill(marks.begin(), marks.begin() + SIDE * SIDE / 2, static_cast<unsigned char>(255));
    const lb::Source mask(marks.data(), SIDE, SIDE, LB_FORMAT_A_U8);
    lb::InpaintingOptions inpainting(picture, mask);
    inpainting.feather = -1;
    const std::vector<lb::Keyframe> keyframes{{"a castle at dusk", 1}, {"a lake by day", 2}};
    const lb::Session session = lb::Session::inpainting(model, keyframes, inpainting, quick());
    Pixels shown = frame(session, 0.5);
    CHECK(std::equal(plate.begin() + FRAME / 2, plate.end(), shown.begin() + FRAME / 2));
    CHECK(!std::equal(plate.begin(), plate.begin() + FRAME / 2, shown.begin()));
    Pixels moved(FRAME, 9), over(FRAME);
    const lb::Source next(moved.data(), SIDE, SIDE, LB_FORMAT_RGB_U8);
    lb::Image target(over.data(), SIDE, SIDE, LB_FORMAT_RGB_U8);
    target.plate = &next;
    session.render(0.5, target);
    CHECK(std::equal(over.begin(), over.begin() + FRAME / 2, shown.begin()) && over.back() == 9);
    inpainting.mask = nullptr;
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "mask: lb_source is NULL",
            lb::Session::inpainting(model, keyframes, inpainting, quick()));
}

static void time(const lb::Session &session) {
    lb::Timing linear;
    linear.pace = LB_PACE_LINEAR;
    const lb::Session even = session.timed(linear);
    CHECK((even.frame_times(5) == std::vector<double>{0.0, 0.25, 0.5, 0.75, 1.0}));
    CHECK(even.frame_times(0).empty() && even.t_at(0.375) == 0.375);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "time NaN",
            even.t_at(std::numeric_limits<double>::quiet_NaN()));
    CHECK(frame(even, 0.25) == frame(session, 0.25));

    const lb::Session slow = session.timed(linear, {{1.0, LB_EASING_IN}});
    CHECK(slow.t_at(0.5) == 0.25);
    lb::Segment bent;
    bent.curve = lb::Curve({{0.0, 0.0}, {0.5, 0.125}, {1.0, 1.0}}, LB_INTERPOLATION_LINEAR);
    CHECK(session.timed(linear, {bent}).t_at(0.5) == 0.125);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "2 segments: the transition has 1",
            session.timed(linear, {bent, bent}));
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "easing 99", session.timed(linear, {{1.0, 99}}));

    const lb::Curve there_and_back({0.0, 0.5, 1.0}, {0.0, 1.0, 0.0}, LB_INTERPOLATION_LINEAR);
    const lb_curve curve = there_and_back.c();
    lb::Timing own;
    own.pace = LB_PACE_CURVE;
    own.curve = &curve;
    CHECK(session.timed(own).t_at(0.25) == 0.5 && session.timed(own).t_at(0.75) == 0.5);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "1 values at 2 places", lb::Curve({0.0, 1.0}, {0.0}).c());

    lb::Timing measured;
    measured.pace = LB_PACE_EVEN;
    measured.samples = 3;
    int told = 0;
    const lb::Session watched = session.timed(
        measured, lb::Call().on_progress([&](const lb::Progress &) { told++; }));
    const std::vector<double> times = watched.frame_times(9);
    CHECK(told > 0 && std::is_sorted(times.begin(), times.end()) && times[8] == 1.0);
    try {
        session.purge();
        session.timed(measured,
                      lb::Call().on_progress([](const lb::Progress &) { throw Thrown{5}; }));
        CHECK(false);
    } catch (const Thrown &thrown) {
        CHECK(thrown.number == 5);
    }
}

static void distances(const lb::Model &model, const lb::Session &session) {
    const std::vector<double> frames = session.changes(3),
                              latents = session.changes(3, LB_DISTANCE_LATENTS);
    const auto above = [](double value) { return value > 0; };
    CHECK(frames.size() == 2 && std::all_of(frames.begin(), frames.end(), above));
    CHECK(latents.size() == 2 && latents != frames && session.changes(1).empty());
    const std::string path = "derived-lpips-of-cpp.safetensors";
    CHECK(write_lpips(path.c_str()));
    lb::Lpips lpips = lb::Lpips::load(path);
    const lb::Lpips same = lpips.share();
    lpips = lb::Lpips::adopt(lb::Lpips::load(path).release());
    std::remove(path.c_str());
    const std::vector<double> seen = session.changes(3, same);
    CHECK(seen == session.changes(3, lpips) && seen.size() == 2 && seen != frames && seen[0] > 0);
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", lb::Lpips::load("no/such/place"));
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "path holds a NUL", lb::Lpips::load(std::string("a\0b", 3)));
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "lpips is not", session.changes(3, LB_DISTANCE_LPIPS));
    const lb::Lpips gone = std::move(lpips);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "lpips is not", session.changes(3, lpips));
    // A loop changes once more, back to its beginning.
    lb::BlendOptions ring = quick();
    ring.looped = 1;
    const lb::Session loop(model, {{"a castle at dusk", 1}, {"a lake by day", 2}}, ring);
    CHECK(loop.changes(2, LB_DISTANCE_LATENTS).size() == 2);

    // The guidance scale has a curve, too: the same all along is a scale without a damper.
    lb::BlendOptions plain = quick(), curved = quick();
    const lb::Curve threefold{{0.0, 3.0}, {1.0, 3.0}};
    const lb_curve scale = threefold.c();
    plain.guidance = 3.0;
    plain.guidance_mid_damper = 1.0;
    curved.guidance_over_t = &scale;
    const std::vector<lb::Keyframe> keyframes{{"a castle at dusk", 1}, {"a lake by day", 2}};
    CHECK(frame(lb::Session(model, keyframes, plain), 0.5) ==
          frame(lb::Session(model, keyframes, curved), 0.5));

    lb::Adapt adapt;
    adapt.distance = LB_DISTANCE_LPIPS;
    adapt.samples = 3;
    adapt.lpips = gone.get();
    const lb::Session adapted = session.adapted(adapt);
    CHECK(adapted.info().leaves == session.info().leaves);
    CHECK(frame(adapted, 1.0) == frame(session, 1.0));
    adapt.strength = 2.0;
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "strength 2", session.adapted(adapt));
}

static void files(const lb::Model &model, const lb::Session &session) {
    const std::string path = "derived-session-of-cpp.safetensors";
    const lb::Session extended = session.extend(0.25, {"a red house", 3});
    CHECK(frame(extended, 0.0) == frame(session, 0.25) && extended.info().last_t == 1.0);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "t 2", session.extend(2.0, {"a red house", 3}));
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "prompt holds a NUL",
            session.extend(0.5, {std::string("a\0b", 3), 3}));
    extended.prepare();
    extended.save(path);
    const lb::Session loaded = lb::Session::load(model, path);
    CHECK(loaded.info().cached_bytes > 0 && loaded.info().evaluations_to_prepare == 0);
    CHECK(frame(loaded, 0.5) == frame(extended, 0.5));
    lb::RestoreOptions small_cache;
    small_cache.cache_bytes = 1;
    CHECK(frame(lb::Session::load(model, path, small_cache), 0.5) == frame(extended, 0.5));
    small_cache.flags = 4;
    REFUSED(LB_ERROR_UNSUPPORTED, "flags 0x4", lb::Session::load(model, path, small_cache));
    const lb::Cancel token;
    token.request();
    const lb::Call cancelled = lb::Call().cancel(token);
    REFUSED(LB_ERROR_CANCELLED, "cancel", lb::Session::load(model, path, lb::RestoreOptions(), cancelled));
    std::ofstream(path, std::ios::trunc) << "nothing";
    REFUSED(LB_ERROR_BAD_MODEL, "", lb::Session::load(model, path));
    std::remove(path.c_str());
    REFUSED(LB_ERROR_CANCELLED, "cancel", extended.save(path, cancelled));
    CHECK(!std::ifstream(path).is_open());
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", extended.save("no/such/place"));
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "path holds a NUL", extended.save(std::string("a\0b", 3)));
}

int main() {
    const lb::Model model = lb::Model::demo();
    const lb::Size wide = model.working_size({1920, 1080}), high = model.working_size({1080, 1920});
    CHECK(wide.width == 176 && wide.height == 96 && high.width == 96 && high.height == 176);
    CHECK(model.working_size({960, 1080}, 2.0).width == 176);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "width 0", model.working_size({0, 1080}));
    pictures(model);
    const lb::Session session = transition(model);
    session.prepare();
    time(session);
    distances(model, session);
    files(model, session);
    return finish();
}
