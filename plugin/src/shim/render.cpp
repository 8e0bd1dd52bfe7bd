// In: a render action. Out: the picture at its time, in the host's memory, or in that of its GPU.
#include <cstring>
#include <vector>

#include "actions.h"
#include "calls.h"
#include "card.h"
#include "colour.h"
#include "geometry.h"
#include "image.h"
#include "gpu.h"
#include "openfx/gpu.h"
#include "pictures.h"
#include "session.h"

namespace latentblend {

using namespace ofx;

namespace {

// What a render action asks for.
struct Asked {
    double time;
    OfxRectI window;
    double scale[2];
    bool draft;
    // Every second line from this one on (0 lower, 1 upper); -1: all.
    int field;
};

Asked asked(const Props &in) {
    Asked a{in.real(kOfxPropTime), {0, 0, 0, 0}, {1.0, 1.0}, false, -1};
    int window[4];
    if (!in.numbers(kOfxImageEffectPropRenderWindow, 4, window))
        throw Failure{kOfxStatFailed, "The host gave no render window"};
    a.window = {window[0], window[1], window[2], window[3]};
    in.reals(kOfxImageEffectPropRenderScale, 2, a.scale);
    a.draft = in.flag(kOfxImageEffectPropRenderQualityDraft) || in.flag(kOfxImageEffectPropThumbnailRender);
    const std::string field = in.text(kOfxImageEffectPropFieldToRender, kOfxImageFieldNone);
    a.field = field == kOfxImageFieldLower ? 0 : field == kOfxImageFieldUpper ? 1 : -1;
    return a;
}

// Whether the host put its pixels where this engine cannot write.
bool out_of_reach(const Props &in) {
    for (const char *name :
         {kOfxImageEffectPropOpenGLEnabled, kOfxImageEffectPropOpenCLEnabled, kOfxImageEffectPropMetalEnabled})
        if (in.flag(name)) return true;
    return false;
}

// OpenFX counts lines upwards, the engine downwards.
void turned(const OfxRectI &up, int32_t down[4]) {
    down[0] = up.x1;
    down[1] = -up.y2;
    down[2] = up.x2;
    down[3] = -up.y1;
}

bool card_wanted(const Values &values) {
    switch (values.integer(ErrorCard)) {
        case CardAlways: return true;
        case CardNever: return false;
        // Their renderers end well, whatever failed.
        default: return host_is("MLT") || host_is("natron");
    }
}

// Where a frame is written: the host's memory, or, where not all of a frame goes there at once, lines of our own.
class Canvas {
  public:
    Canvas(const Image &image, const OfxRectI &window, bool own) : image_(image), window_(window) {
        if (own) make_lines();
    }

    // What the engine is to fill: a part of the window.
    lb_image part(const Engine &engine, const OfxRectI &part, lb_transfer transfer) {
        lb_image target;
        engine.lb_image_init(&target, sizeof target);
        target.width = static_cast<uint32_t>(part.x2 - part.x1);
        target.height = static_cast<uint32_t>(part.y2 - part.y1);
        target.format = image_.format();
        target.transfer = transfer;
        if (lines_.empty()) {
            target.data = image_.pixel(part.x1, part.y2 - 1);
            target.row_bytes = -image_.row_bytes();
            describe_to(&target, image_.memory());
        } else {
            const size_t left = static_cast<size_t>(part.x1 - window_.x1) * image_.pixel_bytes();
            target.data = line(part.y2 - 1) + left;
            target.row_bytes = static_cast<ptrdiff_t>(row());
        }
        return target;
    }

    // Nothing at all: black and transparent.
    void clear() {
        if (image_.memory().cuda) make_lines();
        for (int y = window_.y1; y < window_.y2; ++y)
            std::memset(lines_.empty() ? image_.pixel(window_.x1, y) : line(y), 0, row());
    }

    // Hands over what isn't the host's yet: every second line from `field` on, or all (-1).
    void show(int field) {
        if (lines_.empty()) return;
        if (image_.memory().cuda) return send(field);
        for (int y = window_.y1; y < window_.y2; ++y)
            if (field < 0 || (y & 1) == field) std::memcpy(image_.pixel(window_.x1, y), line(y), row());
    }

  private:
    void make_lines() { lines_.resize(row() * static_cast<size_t>(window_.y2 - window_.y1)); }

    // `show`, into a device's memory.
    void send(int field) {
        const int step = field < 0 ? 1 : 2;
        int top = window_.y2 - 1;
        if (field >= 0 && (top & 1) != field) --top;
        const int count = (top - window_.y1 + step) / step;
        if (top < window_.y1) return;
        hand_over({line(top), static_cast<ptrdiff_t>(row()) * step, window_.x1, window_.x2 - window_.x1, top, count, step},
                  image_);
    }

    size_t row() const { return static_cast<size_t>(window_.x2 - window_.x1) * image_.pixel_bytes(); }
    unsigned char *line(int y) { return &lines_[static_cast<size_t>(window_.y2 - 1 - y) * row()]; }

    const Image &image_;
    OfxRectI window_;
    std::vector<unsigned char> lines_;
};

// A frame of a session in `window`; `bounds` is what the whole of it covers.
struct Shot {
    const Engine &engine;
    Canvas &canvas;
    const Poll &poll;
    lb_placement placement;
    lb_transfer transfer;

    void take(const Session &session, double t, const OfxRectI &bounds, const OfxRectI &window, const lb_source *plate,
              lb_output output) {
        turned(bounds, placement.bounds);
        turned(window, placement.window);
        lb_image target = canvas.part(engine, window, transfer);
        target.placement = &placement;
        target.plate = plate;
        target.output = output;
        session.render(t, target, poll);
    }
};

// A frame in which a part of the Source is repainted.
void repaint(Shot &shot, const Recipe &recipe, Pictures &pictures, double place, const OfxRectI &window) {
    const Values &values = recipe.values;
    const bool alone = values.integer(OutputMode) == 1;
    const bool on_plane = pictures.source->on_plane();
    const auto show = [&] {
        const Picture &present = pictures.plate ? *pictures.plate : *pictures.source;
        const OfxRectI &bounds = present.on_plane() ? present.pixels().bounds : pictures.place;
        shot.take(*session_showing(recipe, present, shot.poll), 0.0, bounds, window, nullptr, LB_OUTPUT_PICTURE);
    };
    std::shared_ptr<Session> session;
    try {
        if (!pictures.marks) throw NothingMarked{};
        session = session_for(recipe, shot.poll);
    } catch (const NothingMarked &) {
        // A mask that comes and goes is no failure: there is no patch at present.
        if (!alone) return show();
        return shot.canvas.clear();
    }
    const double t = recipe.draft ? draft_place(session->moved(place)) : session->moved(place);
    if (alone) return shot.take(*session, t, pictures.place, window, nullptr, LB_OUTPUT_PATCH);
    if (!pictures.plate) return shot.take(*session, t, pictures.place, window, nullptr, LB_OUTPUT_PICTURE);
    // The plate may have grown since the held frame, or moved away from it.
    OfxRectI seen = window;
    if (on_plane && !same(pictures.plate->pixels().bounds, pictures.place)) {
        show();
        seen = common(window, pictures.place);
        if (empty(seen)) return;
        pictures.plate->lay(pictures.place);
    }
    const lb_source plate = pictures.plate->source();
    shot.take(*session, t, pictures.place, seen, &plate, LB_OUTPUT_PICTURE);
}

// `on_cpu`: a model that may be anywhere is not to be on a GPU.
void picture(Instance &instance, const Asked &a, const Values &values, const Image &image, const OfxRectI &window,
             bool on_cpu) {
    const Poll poll = [&](double) {
        auto *e = suites().effect;
        return e->abort && e->abort(instance.effect()) != 0;
    };
    const Plane plane = plane_of(image, window);
    const Reading reading = reading_of(instance, values, a.time);
    double aspect = image.pixel_aspect();
    double shape = shape_at(instance, reading.source ? reading.source_time : a.time);
    if (shape <= 0.0)
        shape = (double(plane.whole.x2) - plane.whole.x1) * aspect / (double(plane.whole.y2) - plane.whole.y1);
    // A proxy may be scaled more one way than the other.
    if (a.scale[0] > 0.0 && a.scale[1] > 0.0) aspect *= a.scale[1] / a.scale[0];
    double range[2];
    const bool transition = instance.in(kOfxImageEffectContextTransition);
    const bool known = !transition && clip_range(instance, range);
    const double place = place_of(values, transition, a.time, known ? range : nullptr);
    Pictures pictures = read_pictures(instance, values, reading, plane, poll);
    Recipe recipe = recipe_of(values, shape, a.draft, &pictures);
    if (on_cpu && recipe.device == LB_DEVICE_AUTO) recipe.device = LB_DEVICE_CPU;

    const Engine *engine = &opened_engine();
    if (image.memory().cuda) stay_near(image, &recipe);
    // What is written in two parts is shown when both are there.
    Canvas canvas(image, window, a.field >= 0 || pictures.plate);
    Shot shot{*engine, canvas, poll, {}, transfer_of(output_colour(instance, values))};
    engine->lb_placement_init(&shot.placement, sizeof shot.placement);
    shot.placement.filter = static_cast<lb_filter>(values.integer(Filter));
    if (pictures.nothing()) {
        shot.placement.fit = static_cast<lb_fit>(values.integer(Fit));
        shot.placement.pixel_aspect = aspect;
    } else {
        // Pictures lie where they lie: a pixel of theirs is one of the output's.
        shot.placement.fit = LB_FIT_STRETCH;
    }
    if (pictures.source) {
        repaint(shot, recipe, pictures, place, window);
    } else {
        const auto session = session_for(recipe, poll);
        const double t = a.draft ? draft_place(session->moved(place)) : session->moved(place);
        shot.take(*session, t, plane.whole, window, nullptr, LB_OUTPUT_PICTURE);
    }
    canvas.show(a.field);
}

}  // namespace

namespace {

OfxStatus rendered(Instance &instance, const Props &in, const Memory &memory) {
    const Asked a = asked(in);
    const Image image(instance.output(), a.time, kOfxImageEffectOutputClipName, memory);
    const OfxRectI window = common(a.window, image.bounds());
    if (empty(window)) return kOfxStatOK;
    const Values values = instance.at(a.time);
    try {
        try {
            picture(instance, a, values, image, window, false);
        } catch (const Failure &failure) {
            if (!failure.device) throw;
            // Whatever is on that device is of no use any more.
            free_all();
            if (memory.cuda || values.integer(Device) == DeviceGpu) throw;
            picture(instance, a, values, image, window, true);
        }
        instance.tell("");
        return kOfxStatOK;
    } catch (const Aborted &) {
        // The host asked for it; nothing was written.
        return kOfxStatOK;
    } catch (const Failure &failure) {
        if (memory.cuda || !card_wanted(values)) throw;
        draw_card(image, window, image.picture(window), failure.message);
        instance.tell(failure.message);
        // A host would throw the picture away with any other status.
        return kOfxStatOK;
    }
}

}  // namespace

OfxStatus render(Instance &instance, const Props &in) {
    // Not a byte behind these pointers can be reached.
    if (out_of_reach(in)) {
        instance.tell("This node renders into the CPU's memory or CUDA's only: switch the host's other GPU rendering off");
        return kOfxStatGPURenderFailed;
    }
    const Memory memory = memory_of(in);
    if (!memory.cuda) return rendered(instance, in, memory);
    try {
        return rendered(instance, in, memory);
    } catch (const Failure &failure) {
        // The host may make room, or try again with the CPU's memory: then the reason is shown as it is there.
        instance.tell(failure.message);
        return failure.status == kOfxStatErrMemory ? kOfxStatGPUOutOfMemory : kOfxStatGPURenderFailed;
    }
}

}  // namespace latentblend
