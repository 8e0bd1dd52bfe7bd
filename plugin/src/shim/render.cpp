// In: a render action. Out: the picture at its time, in the host's memory.
#include <cstring>
#include <vector>

#include "actions.h"
#include "card.h"
#include "colour.h"
#include "geometry.h"
#include "image.h"
#include "openfx/gpu.h"
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
bool on_gpu(const Props &in) {
    for (const char *name : {kOfxImageEffectPropCudaEnabled, kOfxImageEffectPropOpenGLEnabled,
                             kOfxImageEffectPropOpenCLEnabled, kOfxImageEffectPropMetalEnabled})
        if (in.flag(name)) return true;
    return false;
}

lb_transfer transfer_of(ColourChoice colour) {
    switch (colour) {
        case ColourLinear: return LB_TRANSFER_LINEAR;
        case ColourAcescg: return LB_TRANSFER_ACESCG;
        default: return LB_TRANSFER_SRGB;
    }
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

void picture(Instance &instance, const Asked &a, const Values &values, const Image &image, const OfxRectI &window) {
    const Poll poll = [&](double) {
        auto *e = suites().effect;
        return e->abort && e->abort(instance.effect()) != 0;
    };
    const OfxRectI whole = image.picture(window);
    double aspect = image.pixel_aspect();
    double shape = shape_at(instance, a.time);
    if (shape <= 0.0) shape = (double(whole.x2) - whole.x1) * aspect / (double(whole.y2) - whole.y1);
    // A proxy may be scaled more one way than the other.
    if (a.scale[0] > 0.0 && a.scale[1] > 0.0) aspect *= a.scale[1] / a.scale[0];
    double range[2];
    const bool transition = instance.in(kOfxImageEffectContextTransition);
    const bool known = !transition && clip_range(instance, range);
    const double t = place_of(values, transition, a.time, known ? range : nullptr, a.draft);
    const auto session = session_for(recipe_of(values, shape, a.draft), poll);
    const Engine &engine = *engine_if_open();

    lb_placement placement;
    engine.lb_placement_init(&placement, sizeof placement);
    turned(whole, placement.bounds);
    turned(window, placement.window);
    placement.fit = static_cast<lb_fit>(values.integer(Fit));
    placement.filter = static_cast<lb_filter>(values.integer(Filter));
    placement.pixel_aspect = aspect;

    lb_image target;
    engine.lb_image_init(&target, sizeof target);
    target.width = static_cast<uint32_t>(window.x2 - window.x1);
    target.height = static_cast<uint32_t>(window.y2 - window.y1);
    target.placement = &placement;
    target.format = image.format();
    target.transfer = transfer_of(output_colour(instance, values));
    if (a.field < 0) {
        target.data = image.pixel(window.x1, window.y2 - 1);
        target.row_bytes = -image.row_bytes();
        session->render(t, target, poll);
        return;
    }
    // Every second line, by way of a picture with all of them.
    const size_t row = target.width * image.pixel_bytes();
    std::vector<unsigned char> lines(row * target.height);
    target.data = lines.data();
    target.row_bytes = static_cast<ptrdiff_t>(row);
    session->render(t, target, poll);
    for (int y = window.y1; y < window.y2; ++y)
        if ((y & 1) == a.field)
            std::memcpy(image.pixel(window.x1, y), &lines[static_cast<size_t>(window.y2 - 1 - y) * row], row);
}

}  // namespace

OfxStatus render(Instance &instance, const Props &in) {
    // Not a byte behind these pointers is the CPU's to touch.
    if (on_gpu(in)) {
        instance.tell("This version renders into the CPU's memory only: switch the host's GPU rendering off for this node");
        return kOfxStatGPURenderFailed;
    }
    const Asked a = asked(in);
    const Image image(instance.output(), a.time);
    const OfxRectI window = common(a.window, image.bounds());
    if (empty(window)) return kOfxStatOK;
    const Values values = instance.at(a.time);
    try {
        picture(instance, a, values, image, window);
        instance.tell("");
        return kOfxStatOK;
    } catch (const Aborted &) {
        // The host asked for it; nothing was written.
        return kOfxStatOK;
    } catch (const Failure &failure) {
        if (!card_wanted(values)) throw;
        draw_card(image, window, image.picture(window), failure.message);
        instance.tell(failure.message);
        // A host would throw the picture away with any other status.
        return kOfxStatOK;
    }
}

}  // namespace latentblend
