/* latentblend for C++17: owners of the handles of latentblend.h, its options with defaults, its errors as
 * exceptions. Header-only; link what a program in C links. MIT OR Apache-2.0.
 *
 * Conventions
 *   Every member function makes one call of C, under the same name (unless its comment says otherwise), so
 *   latentblend.h says the rest: ranges, threads, how long it takes. What it says about threads holds here: every function from any thread, but
 *   one object must not be moved from, or assigned to, while another thread uses it.
 *   A call that fails throws Error, with the status and the message. No exception ever crosses C: what a
 *   callback throws ends its call and is thrown again by the function that made the call.
 *   Owners are move-only. share() gives another owner of the same object; the order in which they go
 *   doesn't matter. A moved-from owner may be assigned to or destroyed; its calls throw Error.
 *   Options and descriptions are the structs of C, with the defaults of the library that is loaded; their
 *   members are set by name, with the LB_ constants. Pointers in them are borrowed.
 *   Memory is allocated for an Error, and where a function's comment says so; pixels are always the
 *   caller's.
 */

#ifndef LATENTBLEND_HPP
#define LATENTBLEND_HPP

#include "latentblend.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace latentblend {

/// What a failed call throws: a status for the program, what() for a person.
class Error : public std::runtime_error {
public:
    /// An error of this kind, an LB_ERROR value, with this message.
    Error(lb_status status, const std::string &message)
        : std::runtime_error(message), status_(status) {}

    /// An LB_ERROR value.
    lb_status status() const noexcept { return status_; }

    /// Its name, such as "LB_ERROR_BAD_MODEL".
    const char *status_name() const noexcept { return lb_status_name(status_); }

private:
    lb_status status_;
};

/// LB_VERSION of the library that is loaded, not of the header.
inline std::uint32_t version() noexcept { return lb_version(); }

/// LB_ABI_VERSION of the library that is loaded.
inline std::uint32_t abi_version() noexcept { return lb_abi_version(); }

/// The version as text, such as "0.1.0".
inline const char *version_string() noexcept { return lb_version_string(); }

/// Whether the call goes on. What a progress callback returns, unless it returns nothing.
enum class Flow {
    /// The call goes on.
    go_on,
    /// The call ends with LB_ERROR_CANCELLED.
    cancel
};

/// One report of a running call.
using Progress = lb_progress;

namespace detail {

/// Throws what `error` says, and frees it, if `status` is a failure.
inline void check(lb_status status, lb_error *error) {
    if (status == LB_OK) {
        return;
    }
    const std::unique_ptr<lb_error, void (*)(lb_error *)> owned(error, lb_error_free);
    throw Error(error != nullptr ? lb_error_status(error) : status, lb_error_message(error));
}

/// Makes a call of C: `make` is given an lb_error ** and returns an lb_status. Throws what it came to.
template <typename Make>
void run(Make &&make) {
    lb_error *error = nullptr;
    const lb_status status = std::forward<Make>(make)(&error);
    check(status, error);
}

/// Throws unless the loaded library means what this header means.
inline void check_abi() {
    const std::uint32_t loaded = lb_abi_version();
    if (loaded != LB_ABI_VERSION) {
        throw Error(LB_ERROR_UNSUPPORTED, "the library that is loaded has ABI " +
                                              std::to_string(loaded) + ", wanted " +
                                              std::to_string(LB_ABI_VERSION));
    }
}

/// The text for C, which would lose what comes after a NUL.
inline const char *c_text(const std::string &text, const char *name) {
    if (text.find('\0') != std::string::npos) {
        throw Error(LB_ERROR_INVALID_ARGUMENT, std::string(name) + " holds a NUL");
    }
    return text.c_str();
}

/// One reference to an object of the library.
template <typename T, T *(*retain)(T *), void (*let_go)(T *)>
class Handle {
public:
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            let_go(std::exchange(handle_, std::exchange(other.handle_, nullptr)));
        }
        return *this;
    }
    ~Handle() { let_go(handle_); }

    /// The handle, for functions of C. The reference stays here.
    T *get() const noexcept { return handle_; }

    /// Gives the handle and its reference away.
    T *release() noexcept { return std::exchange(handle_, nullptr); }

    /// Whether there is a handle: false only after a move or release().
    explicit operator bool() const noexcept { return handle_ != nullptr; }

protected:
    explicit Handle(T *owned) noexcept : handle_(owned) {}

    /// Another reference; throws Error if there is no object.
    T *another() const {
        T *const same = retain(handle_);
        if (same == nullptr) {
            throw Error(LB_ERROR_INVALID_ARGUMENT, "there is no object to share");
        }
        return same;
    }

private:
    T *handle_;
};

/// A struct of C, filled with defaults by its own function.
template <typename T, void (*fill)(T *, std::size_t)>
struct Filled : T {
    Filled() noexcept : T() { fill(this, sizeof(T)); }
};

} // namespace detail

/// A token that stops one operation, from any thread.
class Cancel : public detail::Handle<lb_cancel, lb_cancel_retain, lb_cancel_release> {
public:
    /// A token that isn't requested. Use one for one operation.
    Cancel() : Handle((detail::check_abi(), lb_cancel_new())) {}

    /// Another owner of the same token.
    Cancel share() const { return Cancel(another()); }

    /// The owner of a reference that was C's.
    static Cancel adopt(lb_cancel *owned) noexcept { return Cancel(owned); }

    /// Asks the operation that runs, or will run, with this token to stop. For good.
    void request() const noexcept { lb_cancel_request(get()); }

    /// Whether request() was called, on any owner.
    bool requested() const noexcept { return lb_cancel_requested(get()); }

private:
    explicit Cancel(lb_cancel *owned) noexcept : Handle(owned) {}
};

/// Watches and stops calls: `Call().on_progress(...).cancel(token)`. May be used for several calls, one
/// after the other, or at once if its callback allows that.
class Call {
public:
    /// A call that nobody watches.
    Call() noexcept = default;

    /// Stops the calls when `token` is requested, within one evaluation of the UNet or one decode. Shares
    /// the token.
    Call &cancel(const Cancel &token) & {
        token_ = std::make_shared<const Cancel>(token.share());
        return *this;
    }
    /// The same.
    Call &&cancel(const Cancel &token) && { return std::move(cancel(token)); }

    /// Tells `callback` how far a call is, on the thread that made the call, at least every 20 ms. It is
    /// given a const Progress & and returns nothing, or a Flow; it is copied. What it throws ends the call
    /// and is thrown again there.
    template <typename Callback>
    Call &on_progress(Callback &&callback) & {
        using Result = std::invoke_result_t<std::decay_t<Callback> &, const Progress &>;
        static_assert(std::is_void_v<Result> || std::is_same_v<Result, Flow>,
                      "a progress callback returns nothing, or a latentblend::Flow");
        if constexpr (std::is_void_v<Result>) {
            progress_ = [told = std::forward<Callback>(callback)](const Progress &report) mutable {
                told(report);
                return Flow::go_on;
            };
        } else {
            progress_ = std::forward<Callback>(callback);
        }
        return *this;
    }
    /// The same.
    template <typename Callback>
    Call &&on_progress(Callback &&callback) && {
        return std::move(on_progress(std::forward<Callback>(callback)));
    }

    /// Makes a call of C under watch: `make` is given a const lb_call * and an lb_error ** and returns an
    /// lb_status. Throws what the callback threw, or what the call came to.
    template <typename Make>
    void run(Make &&make) const {
        Watch watch{progress_, nullptr};
        lb_call call = {};
        call.struct_size = sizeof call;
        call.cancel = token_ != nullptr ? token_->get() : nullptr;
        call.progress = progress_ ? &tell : nullptr;
        call.user = &watch;
        lb_error *error = nullptr;
        const lb_status status = std::forward<Make>(make)(&call, &error);
        if (watch.thrown) {
            lb_error_free(error);
            std::rethrow_exception(watch.thrown);
        }
        detail::check(status, error);
    }

private:
    /// One call under way.
    struct Watch {
        const std::function<Flow(const Progress &)> &progress;
        std::exception_ptr thrown;
    };

    static std::int32_t tell(void *user, const lb_progress *report) noexcept {
        Watch &watch = *static_cast<Watch *>(user);
        if (watch.thrown) {
            return 1;
        }
        try {
            return watch.progress(*report) == Flow::go_on ? 0 : 1;
        } catch (...) {
            watch.thrown = std::current_exception();
            return 1;
        }
    }

    std::function<Flow(const Progress &)> progress_;
    std::shared_ptr<const Cancel> token_;
};

/// Sends the library's messages to a callback, for as long as it lives. A process has one at a time: a
/// later Log takes an earlier one's place. Neither made nor destroyed within its own callback.
class Log {
public:
    /// Is told an LB_LOG value, the part of the library, and the message, from any thread. Must not call
    /// the library. What it throws is kept: see rethrow().
    using Callback =
        std::function<void(lb_log_level level, std::string_view target, std::string_view message)>;

    /// Sends messages up to `max_level`, an LB_LOG value. Allocates.
    explicit Log(Callback callback, lb_log_level max_level = LB_LOG_WARN)
        : state_(std::make_unique<State>()) {
        detail::check_abi();
        state_->callback = std::move(callback);
        const std::lock_guard<std::mutex> lock(current().mutex);
        lb_set_log_callback(state_->callback ? &tell : nullptr, state_.get(), max_level);
        current().state = state_.get();
    }

    Log(Log &&) noexcept = default;
    Log &operator=(Log &&other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    Log(const Log &) = delete;
    Log &operator=(const Log &) = delete;

    /// Silences the library, unless another Log has taken this one's place.
    ~Log() {
        if (state_ == nullptr) {
            return;
        }
        const std::lock_guard<std::mutex> lock(current().mutex);
        if (current().state == state_.get()) {
            lb_set_log_callback(nullptr, nullptr, LB_LOG_OFF);
            current().state = nullptr;
        }
    }

    /// Throws the first exception that the callback threw since the last time, if there is one. A message
    /// belongs to no call, so nothing else throws it.
    void rethrow() {
        if (state_ == nullptr) {
            return;
        }
        std::exception_ptr thrown;
        {
            const std::lock_guard<std::mutex> lock(state_->mutex);
            thrown = std::exchange(state_->thrown, nullptr);
        }
        if (thrown) {
            std::rethrow_exception(thrown);
        }
    }

private:
    struct State {
        Callback callback;
        std::mutex mutex;
        std::exception_ptr thrown;
    };

    struct Current {
        std::mutex mutex;
        const State *state = nullptr;
    };

    static Current &current() noexcept {
        static Current current;
        return current;
    }

    static void tell(void *user, lb_log_level level, const char *target,
                     const char *message) noexcept {
        State &state = *static_cast<State *>(user);
        try {
            state.callback(level, target, message);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(state.mutex);
            if (!state.thrown) {
                state.thrown = std::current_exception();
            }
        }
    }

    std::unique_ptr<State> state_;
};

/// How many devices a model can be loaded onto. The CPU is always there.
inline std::size_t device_count() noexcept { return lb_device_count(); }

/// What device `index` is.
inline lb_device_info device(std::size_t index) {
    lb_device_info info = {};
    info.struct_size = sizeof info;
    detail::run([&](lb_error **error) { return lb_device_get(index, &info, error); });
    return info;
}

/// The device that `what` names in the way that an LB_DEVICE_BY value says: memory, a stream, a UUID, ...
inline lb_device_info device_of(lb_device_by by, const void *what) {
    lb_device_info info = {};
    info.struct_size = sizeof info;
    detail::run([&](lb_error **error) { return lb_device_find(by, what, &info, error); });
    return info;
}

/// A report for whoever has to say why something does not work here: one JSON object, in which `path` is
/// the first place where a model is sought; NULL: none is given. Waits for a turn of the device.
/// Allocates.
inline std::string doctor(const char *path = nullptr) {
    std::string text(std::size_t(1) << 16, '\0');
    for (;;) {
        std::size_t length = 0;
        detail::run([&](lb_error **error) {
            return lb_doctor(path, text.data(), text.size(), &length, error);
        });
        if (length < text.size()) {
            text.resize(length);
            return text;
        }
        // It was cut off, and is another one the next time.
        text.resize(length + (std::size_t(1) << 12));
    }
}

/// Width and height, in pixels.
struct Size {
    /// Pixels from left to right.
    std::uint32_t width;
    /// Pixels from top to bottom.
    std::uint32_t height;
};

/// How a model is loaded.
using ModelOptions = detail::Filled<lb_model_options, lb_model_options_init>;

/// A loaded model.
class Model : public detail::Handle<lb_model, lb_model_retain, lb_model_release> {
public:
    /// The model at `path`, in UTF-8. May take seconds; reports LB_STAGE_LOAD and can be cancelled.
    static Model load(const std::string &path, const lb_model_options &options = ModelOptions(),
                      const Call &call = Call()) {
        return load_c(detail::c_text(path, "path"), options, call);
    }

    /// The embedded demo model.
    static Model demo(const lb_model_options &options = ModelOptions(), const Call &call = Call()) {
        return load_c(nullptr, options, call);
    }

    /// Another owner of the same model.
    Model share() const { return Model(another()); }

    /// The owner of a reference that was C's.
    static Model adopt(lb_model *owned) noexcept { return Model(owned); }

    /// What the model is.
    lb_model_info info() const {
        lb_model_info info = {};
        info.struct_size = sizeof info;
        detail::run([&](lb_error **error) { return lb_model_get_info(get(), &info, error); });
        return info;
    }

    /// Lets go of idle memory that the model keeps so that its next call is quick; returns how many bytes that
    /// were. Frames stay the same.
    std::uint64_t trim() const noexcept { return lb_model_trim(get()); }

    /// Lets go of the weights, now (returns how many bytes that were) or, while calls run, when the last of them
    /// is done (returns 0). The next call loads them again, reports LB_STAGE_LOAD, and makes the same bytes.
    std::uint64_t unload() const {
        std::uint64_t bytes = 0;
        detail::run([&](lb_error **error) { return lb_model_unload(get(), &bytes, error); });
        return bytes;
    }

    /// The size at which the model works best for a plate of this size, whose pixels are `pixel_aspect`
    /// times as wide as high: for BlendOptions, where frames go into a Placement.
    Size working_size(Size plate, double pixel_aspect = 1.0) const {
        Size size = {};
        detail::run([&](lb_error **error) {
            return lb_model_working_size(get(), plate.width, plate.height, pixel_aspect,
                                         &size.width, &size.height, error);
        });
        return size;
    }

private:
    explicit Model(lb_model *owned) noexcept : Handle(owned) {}

    static Model load_c(const char *path, const lb_model_options &options, const Call &call) {
        detail::check_abi();
        lb_model *loaded = nullptr;
        call.run([&](const lb_call *watched, lb_error **error) {
            return lb_model_load(path, &options, watched, &loaded, error);
        });
        return Model(loaded);
    }
};

/// A function through points. Owns them.
struct Curve {
    /// The curve through (x, y), (x, y), ..., with an LB_INTERPOLATION value between them.
    Curve(std::initializer_list<std::pair<double, double>> points,
          lb_interpolation between = LB_INTERPOLATION_MONOTONE_CUBIC)
        : interpolation(between) {
        x.reserve(points.size());
        y.reserve(points.size());
        for (const auto &point : points) {
            x.push_back(point.first);
            y.push_back(point.second);
        }
    }
    /// The same, of as many values as places.
    Curve(std::vector<double> places, std::vector<double> values,
          lb_interpolation between = LB_INTERPOLATION_MONOTONE_CUBIC) noexcept
        : x(std::move(places)), y(std::move(values)), interpolation(between) {}

    /// The places, rising.
    std::vector<double> x;
    /// The value at each.
    std::vector<double> y;
    /// An LB_INTERPOLATION value.
    lb_interpolation interpolation;

    /// The same for C, which borrows the points from here: what BlendOptions and Timing point to.
    lb_curve c() const {
        if (x.size() != y.size()) {
            throw Error(LB_ERROR_INVALID_ARGUMENT, std::to_string(y.size()) + " values at " +
                                                       std::to_string(x.size()) + " places");
        }
        lb_curve curve = {};
        curve.struct_size = sizeof curve;
        curve.x = x.data();
        curve.y = y.data();
        curve.count = x.size();
        curve.interpolation = interpolation;
        return curve;
    }
};

/// How a transition is made. What its members point to is borrowed until the
/// session is made.
using BlendOptions = detail::Filled<lb_blend_options, lb_blend_options_init>;

/// Where a frame lies in a larger picture plane.
using Placement = detail::Filled<lb_placement, lb_placement_init>;

/// Bytes of one pixel of an LB_FORMAT value.
constexpr std::size_t bytes_per_pixel(lb_format format) noexcept {
    return static_cast<std::size_t>(format >> 8 & 0xff) * (format & 0xf);
}

namespace detail {

/// From a row to the next, without gaps.
constexpr std::ptrdiff_t packed(std::uint32_t columns, lb_format pixels) noexcept {
    return static_cast<std::ptrdiff_t>(columns * bytes_per_pixel(pixels));
}

/// A struct of C that describes pixels: `Byte` is what their memory is to it.
template <typename T, void (*fill)(T *, std::size_t), typename Byte>
struct Pixels : Filled<T, fill> {
    /// No pixels yet: `data`, `row_bytes`, `width` and `height` are to be set.
    Pixels() noexcept = default;

    /// Rows from the top one downwards, each `stride` bytes after the one above it; 0: without gaps.
    Pixels(Byte *top, std::uint32_t columns, std::uint32_t rows, lb_format pixels,
           std::ptrdiff_t stride) noexcept {
        this->data = top;
        this->width = columns;
        this->height = rows;
        this->format = pixels;
        this->row_bytes = stride != 0 ? stride : packed(columns, pixels);
    }

protected:
    /// The same from the bottom row upwards, each row `stride` bytes after the one below it.
    void turn_over(Byte *bottom) noexcept {
        using Plain = std::conditional_t<std::is_const_v<Byte>, const unsigned char, unsigned char>;
        const std::ptrdiff_t below =
            this->height > 0 ? static_cast<std::ptrdiff_t>(this->height) - 1 : 0;
        auto *const first = static_cast<Plain *>(bottom);
        this->data = first != nullptr ? first + below * this->row_bytes : nullptr;
        this->row_bytes = -this->row_bytes;
    }
};

} // namespace detail

/// A caller's pixels, to be filled; nothing here owns them.
struct Image : detail::Pixels<lb_image, lb_image_init, void> {
    /// No pixels yet: `data`, `row_bytes`, `width` and `height` are to be set.
    Image() noexcept = default;

    /// `rows` rows of `columns` pixels of an LB_FORMAT value, from the top one at `top` downwards, each
    /// `stride` bytes after the one above it; 0: without gaps.
    Image(void *top, std::uint32_t columns, std::uint32_t rows, lb_format pixels,
          std::ptrdiff_t stride = 0) noexcept
        : Pixels(top, columns, rows, pixels, stride) {}

    /// The same from the bottom row at `bottom` upwards, each row `stride` bytes after the one below it.
    static Image bottom_up(void *bottom, std::uint32_t columns, std::uint32_t rows,
                           lb_format pixels, std::ptrdiff_t stride = 0) noexcept {
        Image image(bottom, columns, rows, pixels, stride);
        image.turn_over(bottom);
        return image;
    }
};

/// A caller's picture or mask, to be read; nothing here owns its pixels, which must be there until what it
/// is given to is made.
struct Source : detail::Pixels<lb_source, lb_source_init, const void> {
    /// No pixels yet: `data`, `row_bytes`, `width` and `height` are to be set.
    Source() noexcept = default;

    /// `rows` rows of `columns` pixels of an LB_FORMAT value, from the top one at `top` downwards, each
    /// `stride` bytes after the one above it; 0: without gaps. A mask may be of an LB_FORMAT_A value.
    Source(const void *top, std::uint32_t columns, std::uint32_t rows, lb_format pixels,
           std::ptrdiff_t stride = 0) noexcept
        : Pixels(top, columns, rows, pixels, stride) {}

    /// The same from the bottom row at `bottom` upwards, each row `stride` bytes after the one below it.
    static Source bottom_up(const void *bottom, std::uint32_t columns, std::uint32_t rows,
                            lb_format pixels, std::ptrdiff_t stride = 0) noexcept {
        Source source(bottom, columns, rows, pixels, stride);
        source.turn_over(bottom);
        return source;
    }
};

/// Copies pixels of one size and format as they are, from any memory to any: the host's, or a device's.
inline void copy(const lb_source &from, const lb_image &to) {
    detail::run([&](lb_error **error) { return lb_copy(&from, &to, error); });
}

/// One end of a transition. Owns its text, which is UTF-8, but not the pixels of its image.
struct Keyframe {
    /// A picture that shows one text, and not the other, from the noise of a seed.
    Keyframe(std::string shows, std::uint64_t noise, std::string shows_not = {})
        : prompt(std::move(shows)), seed(noise), negative_prompt(std::move(shows_not)) {}

    /// A caller's picture, of which the text says what it shows.
    explicit Keyframe(const Source &picture, std::string shows = {})
        : prompt(std::move(shows)), seed(0), image(picture) {}

    /// What the picture shows.
    std::string prompt;
    /// The seed of its noise.
    std::uint64_t seed;
    /// What it must not show.
    std::string negative_prompt;
    /// The picture itself; none: by prompt and seed.
    std::optional<Source> image;
    /// How much of the image is kept; below 1 it is repainted.
    double image_strength = 1.0;
    /// How far the image's own pixels reach into the transition, in t; 0: the library's default.
    double image_blend = 0.0;
    /// The value that the highlight curve brings to 1; 0: the image's highest.
    double image_peak = 0.0;
    /// An LB_FIT value: how an image of another shape than the session's is brought into its bounds.
    lb_fit image_fit = LB_FIT_CROP;

    /// The same for C, which borrows text and image from here.
    lb_keyframe c() const {
        lb_keyframe keyframe = {};
        keyframe.struct_size = sizeof keyframe;
        keyframe.prompt = detail::c_text(prompt, "prompt");
        keyframe.negative_prompt = detail::c_text(negative_prompt, "negative_prompt");
        keyframe.seed = seed;
        if (image) {
            keyframe.image = &*image;
            keyframe.image_strength = image_strength;
            keyframe.image_blend = image_blend;
            keyframe.image_peak = image_peak;
            keyframe.image_fit = image_fit;
        }
        return keyframe;
    }
};

/// What is repainted, and how. Borrows both pictures until the session is made.
struct InpaintingOptions : detail::Filled<lb_inpainting_options, lb_inpainting_options_init> {
    /// No pictures yet: `source` and `mask` are to be set.
    InpaintingOptions() noexcept = default;

    /// Repaints what `marks` marks of `picture`.
    InpaintingOptions(const lb_source &picture, const lb_source &marks) noexcept {
        source = &picture;
        mask = &marks;
    }
    /// Pictures that are gone before the session is made.
    InpaintingOptions(const lb_source &&, const lb_source &) = delete;
    /// The same.
    InpaintingOptions(const lb_source &, const lb_source &&) = delete;
    /// The same.
    InpaintingOptions(const lb_source &&, const lb_source &&) = delete;
};

/// The weights of the LPIPS distance.
class Lpips : public detail::Handle<lb_lpips, lb_lpips_retain, lb_lpips_release> {
public:
    /// The weights in the safetensors file at `path`, in UTF-8.
    static Lpips load(const std::string &path) {
        detail::check_abi();
        lb_lpips *loaded = nullptr;
        detail::run([&](lb_error **error) {
            return lb_lpips_load(detail::c_text(path, "path"), &loaded, error);
        });
        return Lpips(loaded);
    }

    /// Another owner of the same weights.
    Lpips share() const { return Lpips(another()); }

    /// The owner of a reference that was C's.
    static Lpips adopt(lb_lpips *owned) noexcept { return Lpips(owned); }

private:
    explicit Lpips(lb_lpips *owned) noexcept : Handle(owned) {}
};

/// How time goes through a transition. What its members point to is borrowed until the session is made.
using Timing = detail::Filled<lb_timing, lb_timing_init>;

/// One segment in time.
struct Segment {
    /// In proportion to the other segments.
    double length = 1.0;
    /// An LB_EASING value.
    lb_easing easing = LB_EASING_LINEAR;
    /// A curve from (0, 0) to (1, 1) that stands in for the easing.
    std::optional<Curve> curve = std::nullopt;
};

/// How branches are placed by what they show. `lpips` is borrowed until the session is made.
using Adapt = detail::Filled<lb_adapt, lb_adapt_init>;

/// How a saved session is taken up again.
using RestoreOptions = detail::Filled<lb_restore_options, lb_restore_options_init>;

/// A transition through keyframes.
class Session : public detail::Handle<lb_session, lb_session_retain, lb_session_release> {
public:
    /// A transition through `count` keyframes. Nothing is computed yet. Allocates for the call.
    Session(const Model &model, const Keyframe *keyframes, std::size_t count,
            const lb_blend_options &options = BlendOptions())
        : Handle(make(model, keyframes, count, options)) {}
    /// The same.
    Session(const Model &model, std::initializer_list<Keyframe> keyframes,
            const lb_blend_options &options = BlendOptions())
        : Session(model, keyframes.begin(), keyframes.size(), options) {}
    /// The same.
    Session(const Model &model, const std::vector<Keyframe> &keyframes,
            const lb_blend_options &options = BlendOptions())
        : Session(model, keyframes.data(), keyframes.size(), options) {}

    /// A transition of a part of a picture only: what the mask marks goes through the keyframes, and the rest
    /// stays what it is. Allocates for the call.
    static Session inpainting(const Model &model, const std::vector<Keyframe> &keyframes,
                              const lb_inpainting_options &inpainting,
                              const lb_blend_options &options = BlendOptions()) {
        return Session(with(keyframes.data(), keyframes.size(),
                            [&](const lb_keyframe *const *frames, lb_session **made,
                                lb_error **error) {
                                return lb_session_new_inpainting(model.get(), frames,
                                                                 keyframes.size(), &options,
                                                                 &inpainting, made, error);
                            }));
    }

    /// The session that save() wrote to the file `path`, in UTF-8, with the model that it was made with.
    static Session load(const Model &model, const std::string &path,
                        const lb_restore_options &options = RestoreOptions(),
                        const Call &call = Call()) {
        detail::check_abi();
        return made_by(call, [&](const lb_call *watched, lb_session **made, lb_error **error) {
            return lb_session_load(model.get(), detail::c_text(path, "path"), &options, watched,
                                   made, error);
        });
    }

    /// Another owner of the same session.
    Session share() const { return Session(another()); }

    /// The owner of a reference that was C's.
    static Session adopt(lb_session *owned) noexcept { return Session(owned); }

    /// What the session is, and what it holds at present.
    lb_session_info info() const {
        lb_session_info info = {};
        info.struct_size = sizeof info;
        detail::run([&](lb_error **error) { return lb_session_get_info(get(), &info, error); });
        return info;
    }

    /// Computes, and keeps as far as the cache allows, what frames start from. Optional.
    void prepare(const Call &call = Call()) const {
        call.run([&](const lb_call *watched, lb_error **error) {
            return lb_session_prepare(get(), watched, error);
        });
    }

    /// Lets go of everything that can be made again.
    void purge() const noexcept { lb_session_purge(get()); }

    /// Writes the frame at `t` into `image`: a pure function of session and t. On failure no pixel is
    /// written, unless a CUDA device fails while it writes into its own memory.
    void render(double t, const lb_image &image, const Call &call = Call()) const {
        call.run([&](const lb_call *watched, lb_error **error) {
            return lb_session_render(get(), t, &image, watched, error);
        });
    }

    /// Writes the frames at `count` places into as many images, of which no two share memory: the same
    /// bytes as one by one, only sooner.
    void render_many(const double *t, const lb_image *const *images, std::size_t count,
                     const Call &call = Call()) const {
        call.run([&](const lb_call *watched, lb_error **error) {
            return lb_session_render_many(get(), t, images, count, watched, error);
        });
    }
    /// The same. Allocates one pointer an image.
    void render_many(const std::vector<double> &t, const std::vector<Image> &images,
                     const Call &call = Call()) const {
        if (t.size() != images.size()) {
            throw Error(LB_ERROR_INVALID_ARGUMENT, std::to_string(images.size()) + " images for " +
                                                       std::to_string(t.size()) + " values of t");
        }
        std::vector<const lb_image *> pointers;
        pointers.reserve(images.size());
        for (const Image &image : images) {
            pointers.push_back(&image);
        }
        render_many(t.data(), pointers.data(), pointers.size(), call);
    }

    /// Writes the session to the file `path`, in UTF-8: whole, or not at all.
    void save(const std::string &path, const Call &call = Call()) const {
        call.run([&](const lb_call *watched, lb_error **error) {
            return lb_session_save(get(), detail::c_text(path, "path"), watched, error);
        });
    }

    /// The same frames under another time: t_at() and frame_times() go as `timing` says.
    Session timed(const lb_timing &timing = Timing(), const Call &call = Call()) const {
        return made_by(call, [&](const lb_call *watched, lb_session **made, lb_error **error) {
            return lb_session_timed(get(), &timing, watched, made, error);
        });
    }
    /// The same with these segments in place of those that `timing` points to. Allocates for the call.
    Session timed(lb_timing timing, const std::vector<Segment> &segments,
                  const Call &call = Call()) const {
        std::vector<double> lengths;
        std::vector<lb_easing> easings;
        std::vector<lb_curve> curves;
        std::vector<const lb_curve *> own;
        curves.reserve(segments.size());
        for (const Segment &segment : segments) {
            lengths.push_back(segment.length);
            easings.push_back(segment.easing);
            if (segment.curve) {
                curves.push_back(segment.curve->c());
            }
            own.push_back(segment.curve ? &curves.back() : nullptr);
        }
        timing.lengths = lengths.data();
        timing.easings = easings.data();
        timing.easing_curves = own.data();
        timing.segments = segments.size();
        return timed(timing, call);
    }

    /// The t at `time`, a share of the whole time from 0 to 1.
    double t_at(double time) const {
        double t = 0.0;
        detail::run([&](lb_error **error) { return lb_session_t_at(get(), time, &t, error); });
        return t;
    }

    /// The t of each of `count` frames, evenly in time. Allocates.
    std::vector<double> frame_times(std::size_t count) const {
        // One more, so that there is memory for none.
        std::vector<double> times(count + 1);
        detail::run([&](lb_error **error) {
            return lb_session_frame_times(get(), count, times.data(), error);
        });
        times.resize(count);
        return times;
    }

    /// How much changes from frame to frame of `frames` frames, by an LB_DISTANCE value: `frames` - 1
    /// values, or in a loop `frames`. Renders them all. Allocates, and calls info() first.
    std::vector<double> changes(std::size_t frames, lb_distance distance = LB_DISTANCE_FRAMES,
                                const Call &call = Call()) const {
        return changes_by(frames, distance, nullptr, call);
    }
    /// The same by LPIPS.
    std::vector<double> changes(std::size_t frames, const Lpips &lpips,
                                const Call &call = Call()) const {
        return changes_by(frames, LB_DISTANCE_LPIPS, lpips.get(), call);
    }

    /// A session through the same keyframes whose branches lie denser where pictures change more.
    Session adapted(const lb_adapt &adapt = Adapt(), const Call &call = Call()) const {
        return made_by(call, [&](const lb_call *watched, lb_session **made, lb_error **error) {
            return lb_session_adapted(get(), &adapt, watched, made, error);
        });
    }

    /// A change of mind: a session from the frame at `from_t`, which is its first, bit for bit, to `to`.
    Session extend(double from_t, const Keyframe &to, const Call &call = Call()) const {
        const lb_keyframe keyframe = to.c();
        return made_by(call, [&](const lb_call *watched, lb_session **made, lb_error **error) {
            return lb_session_extend(get(), from_t, &keyframe, watched, made, error);
        });
    }

private:
    explicit Session(lb_session *owned) noexcept : Handle(owned) {}

    /// Makes a call of C under watch that writes a session.
    template <typename Make>
    static Session made_by(const Call &call, Make &&make) {
        lb_session *session = nullptr;
        call.run([&](const lb_call *watched, lb_error **error) {
            return make(watched, &session, error);
        });
        return Session(session);
    }

    std::vector<double> changes_by(std::size_t frames, lb_distance distance, const lb_lpips *lpips,
                                   const Call &call) const {
        const bool looped = info().looped != 0;
        const std::size_t wanted = looped ? frames : frames - (frames > 0 ? 1 : 0);
        // One more, so that there is memory for none.
        std::vector<double> values(wanted + 1);
        call.run([&](const lb_call *watched, lb_error **error) {
            return lb_session_changes(get(), frames, distance, lpips, values.data(), wanted,
                                      watched, error);
        });
        values.resize(wanted);
        return values;
    }

    static lb_session *make(const Model &model, const Keyframe *keyframes, std::size_t count,
                            const lb_blend_options &options) {
        return with(keyframes, count,
                    [&](const lb_keyframe *const *frames, lb_session **made, lb_error **error) {
                        return lb_session_new(model.get(), frames, count, &options, made, error);
                    });
    }

    /// Makes a call of C that writes a session, and is given keyframes.
    template <typename Make>
    static lb_session *with(const Keyframe *keyframes, std::size_t count, Make &&make) {
        detail::check_abi();
        std::vector<lb_keyframe> frames;
        std::vector<const lb_keyframe *> pointers;
        frames.reserve(count);
        pointers.reserve(count);
        for (std::size_t index = 0; index < count; ++index) {
            frames.push_back(keyframes[index].c());
            pointers.push_back(&frames.back());
        }
        lb_session *session = nullptr;
        detail::run(
            [&](lb_error **error) { return make(pointers.data(), &session, error); });
        return session;
    }
};

} // namespace latentblend

#endif // LATENTBLEND_HPP
