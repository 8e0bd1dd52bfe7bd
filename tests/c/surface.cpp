// latentblend.hpp, every part of it: what works, what throws, and what a callback throws. Prints the same
// frame's checksum as surface.c.
#include "check.h"

#include <latentblend.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

namespace lb = latentblend;

// Owners move and are not copied; nothing of it throws.
template <typename Owner>
constexpr bool moves_only = !std::is_copy_constructible_v<Owner> &&
                            !std::is_copy_assignable_v<Owner> &&
                            std::is_nothrow_move_constructible_v<Owner> &&
                            std::is_nothrow_move_assignable_v<Owner>;
static_assert(moves_only<lb::Model> && moves_only<lb::Session> && moves_only<lb::Cancel> &&
              moves_only<lb::Log>);
// A handle and nothing else.
static_assert(sizeof(lb::Session) == sizeof(lb_session *));
static_assert(sizeof(lb::BlendOptions) == sizeof(lb_blend_options));
static_assert(sizeof(lb::Image) == sizeof(lb_image));
static_assert(lb::bytes_per_pixel(LB_FORMAT_RGB_U8) == 3);
static_assert(lb::bytes_per_pixel(LB_FORMAT_RGBA_F16) == 8);
static_assert(lb::bytes_per_pixel(LB_FORMAT_RGB_F32) == 12);

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

static lb::Session transition(const lb::Model &model) {
    lb::BlendOptions options;
    static_cast<lb_blend_options &>(options) = small();
    return lb::Session(model, {{"a castle at dusk", 1}, {"a lake by day", 2}}, options);
}

static lb::Image rgb(Pixels &pixels) {
    pixels.resize(FRAME);
    return lb::Image(pixels.data(), SIDE, SIDE, LB_FORMAT_RGB_U8);
}

static void what_a_callback_throws(const lb::Session &session, const Pixels &wanted) {
    Pixels pixels;
    lb::Image image = rgb(pixels);
    int told = 0;
    session.purge();
    // Of a type of its own, which neither the library nor the wrapper knows.
    const lb::Call throws = lb::Call().on_progress([&](const lb::Progress &) {
        if (++told == 2) {
            throw Thrown{42};
        }
    });
    try {
        session.render(0.25, image, throws);
        CHECK(false);
    } catch (const Thrown &thrown) {
        CHECK(thrown.number == 42);
    }
    CHECK(told == 2 && pixels == Pixels(FRAME));
    // The next call with it isn't troubled by the last one.
    session.render(0.25, image, throws);
    CHECK(told > 2 && pixels == wanted);
    try {
        session.purge();
        session.prepare(lb::Call().on_progress([](const lb::Progress &) -> lb::Flow {
            throw std::runtime_error("no more");
        }));
        CHECK(false);
    } catch (const std::runtime_error &error) {
        CHECK(std::string(error.what()) == "no more");
    }
    try {
        lb::Model::demo(lb::ModelOptions(),
                        lb::Call().on_progress([](const lb::Progress &) { throw Thrown{7}; }));
        CHECK(false);
    } catch (const Thrown &thrown) {
        CHECK(thrown.number == 7);
    }
    // Thrown by a call within a callback, through both.
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "t 9",
            session.purge();
            session.render(0.25, image, lb::Call().on_progress([&](const lb::Progress &) {
                session.render(9, image);
            })));
}

static void calls(const lb::Session &session, const Pixels &wanted) {
    Pixels pixels;
    const lb::Image image = rgb(pixels);
    lb::Cancel token;
    CHECK(token && !token.requested());
    double fraction = 0;
    bool rises = true;
    lb::Call call;
    call.cancel(token).on_progress([&](const lb::Progress &progress) {
        rises = rises && progress.fraction >= fraction;
        fraction = progress.fraction;
    });
    session.render(0.25, image, call);
    CHECK(rises && fraction == 1.0 && pixels == wanted);
    token.share().request();
    CHECK(token.requested());
    REFUSED(LB_ERROR_CANCELLED, "cancel", session.render(0.25, image, call));
    // The call keeps the token.
    token = lb::Cancel();
    REFUSED(LB_ERROR_CANCELLED, "cancel", session.prepare(call));
    session.purge();
    REFUSED(LB_ERROR_CANCELLED, "cancel",
            session.prepare(lb::Call().on_progress(
                [](const lb::Progress &) { return lb::Flow::cancel; })));
    session.prepare(lb::Call().cancel(token).on_progress(
        [](const lb::Progress &) { return lb::Flow::go_on; }));
    CHECK(session.info().evaluations == session.info().frame_steps);
}

static void owners(const lb::Model &model) {
    lb::Session first = transition(model), second = first.share();
    lb::Session moved = std::move(first);
    CHECK(!first && moved && moved.get() == second.get());
    first = std::move(moved);
    CHECK(first && !moved);
    lb::Session &itself = first;
    first = std::move(itself);
    CHECK(first);
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "session is NULL", moved.info());
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "session is NULL", moved.prepare());
    REFUSED(LB_ERROR_INVALID_ARGUMENT, "no object", moved.share());
    moved.purge();
    // To C and back.
    lb_session *raw = second.release();
    CHECK(!second && lb::Session::adopt(raw).info().width == SIDE);
    CHECK(first.info().width == SIDE);
    lb_model *same = model.share().release();
    CHECK(lb::Model::adopt(same).info().native_width == 128);
    lb_cancel *token = lb::Cancel().release();
    CHECK(!lb::Cancel::adopt(token).requested());
}

static void what_c_refuses(const lb::Model &model, const lb::Session &session) {
    Pixels pixels;
    const lb::Image image = rgb(pixels);
    lb::BlendOptions options;
    CHECK(options.struct_size == sizeof options && options.guidance == 4.0);
    options.width = 500;
    options.height = 64;
    const auto bad = LB_ERROR_INVALID_ARGUMENT;
    REFUSED(bad, "width 500 is not a multiple of 8", lb::Session(model, {{"", 1}}, options));
    REFUSED(bad, "0 keyframes", lb::Session(model, std::vector<lb::Keyframe>()));
    REFUSED(bad, "prompt is not UTF-8", lb::Session(model, {{"a\xff", 1}}));
    REFUSED(bad, "prompt holds a NUL", lb::Session(model, {{std::string("a\0b", 3), 1}}));
    REFUSED(bad, "negative_prompt holds a NUL",
            lb::Session(model, {{"a", 1, std::string(1, '\0')}}));
    REFUSED(bad, "path holds a NUL", lb::Model::load(std::string("a\0b", 3)));
    REFUSED(LB_ERROR_NOT_FOUND, "no/such", lb::Model::load("no/such/place"));
    REFUSED(bad, "t NaN", session.render(std::numeric_limits<double>::quiet_NaN(), image));
    REFUSED(bad, "", session.render(0.5, lb::Image()));
    REFUSED(bad, "", session.render(0.5, lb::Image::bottom_up(nullptr, SIDE, SIDE, LB_FORMAT_RGB_U8)));
    REFUSED(bad, "1 images for 2 values of t", session.render_many({0.0, 1.0}, {image}));
    REFUSED(bad, "device", lb::device(lb::device_count()));
    lb::ModelOptions cuda;
    cuda.precision = 99;
    REFUSED(bad, "precision 99", lb::Model::demo(cuda));
    CHECK(pixels == Pixels(FRAME));
}

static void logs(const lb::Model &model) {
    std::atomic<int> first{0}, second{0};
    const auto fail = [&] { REFUSED(LB_ERROR_INVALID_ARGUMENT, "", lb::device(99)); };
    {
        lb::Log one([&](lb_log_level, std::string_view target, std::string_view message) {
            first += target.substr(0, 11) == "latentblend" && !message.empty();
        }, LB_LOG_DEBUG);
        fail();
        CHECK(first == 1);
        {
            // A later one takes its place, and with it the messages; nobody has them after it.
            lb::Log two([&](lb_log_level, std::string_view, std::string_view) {
                second++;
                throw Thrown{3};
            }, LB_LOG_INFO);
            fail();
            fail();
            CHECK(first == 1 && second == 2);
            try {
                two.rethrow();
                CHECK(false);
            } catch (const Thrown &thrown) {
                CHECK(thrown.number == 3);
            }
            two.rethrow();
            lb::Log moved = std::move(two);
            two.rethrow();
            fail();
            CHECK(second == 3);
        }
        fail();
        one = lb::Log([&](lb_log_level, std::string_view, std::string_view) { second++; },
                      LB_LOG_INFO);
        fail();
        CHECK(first == 1 && second == 4);
    }
    fail();
    CHECK(first == 1 && second == 4);
    const lb::Log none(nullptr);
    transition(model);
}

int main() {
    CHECK(lb::version() == LB_VERSION && lb::abi_version() == LB_ABI_VERSION);
    CHECK(lb::version_string()[0] != 0 && lb::device_count() >= 1);
    CHECK(lb::device(0).name[0] != 0);
    CHECK(lb::device_of(LB_DEVICE_BY_NAME, "cpu").kind == LB_DEVICE_CPU);
    CHECK(lb::doctor().front() == '{' && lb::doctor("no/such/place").back() == '}');
    const lb::Model model = lb::Model::demo();
    CHECK(model.info().size_multiple == 8);
    const lb::Session session = transition(model);
    Pixels alone, first(FRAME), second(FRAME);
    session.render(0.25, rgb(alone));
    std::uint32_t sum = 0;
    for (const unsigned char byte : alone) {
        sum = sum * 31 + byte;
    }
    std::printf("frame %08x\n", static_cast<unsigned>(sum));

    // What is idle after a frame goes, and all of it at once.
    model.trim();
    CHECK(model.trim() == 0);
    CHECK(model.unload() > 0 && model.unload() == 0);
    session.render_many({0.25, 1.0}, {lb::Image::bottom_up(first.data(), SIDE, SIDE, LB_FORMAT_RGB_U8),
                                      lb::Image(second.data(), SIDE, SIDE, LB_FORMAT_RGB_U8, ROW)});
    for (int row = 0; row < SIDE; row++) {
        CHECK(std::equal(&alone[row * ROW], &alone[row * ROW] + ROW, &first[(SIDE - 1 - row) * ROW]));
    }
    lb::Placement placement;
    placement.bounds[2] = placement.bounds[3] = SIDE;
    placement.window[2] = placement.window[3] = SIDE;
    lb::Image placed = rgb(second);
    placed.placement = &placement;
    session.render(0.25, placed);
    CHECK(second == alone);

    calls(session, alone);
    what_a_callback_throws(session, alone);
    owners(model);
    what_c_refuses(model, session);
    logs(model);

    // One call and one session from two threads; an exception stays with its own.
    Pixels others;
    std::thread other([&] {
        session.render(0.25, rgb(others), lb::Call().on_progress([](const lb::Progress &) {}));
    });
    Pixels pixels;
    try {
        session.render(0.25, rgb(pixels),
                       lb::Call().on_progress([](const lb::Progress &) { throw Thrown{1}; }));
        CHECK(false);
    } catch (const Thrown &) {
    }
    other.join();
    CHECK(others == alone);
    return finish();
}
