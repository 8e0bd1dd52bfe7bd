// In: what a host wants to know before it renders. Out: region, identity, clip preferences, colourspace.
#include <cstring>
#include <vector>

#include "actions.h"
#include "colour.h"
#include "geometry.h"
#include "openfx/colour.h"
#include "pictures.h"

namespace latentblend {

using namespace ofx;

namespace {

// A clip that is looked at, when, and what is to be said of it.
struct Sight {
    const char *name;
    OfxImageClipHandle clip;
    OfxTime time;
};

// Every clip that a picture at `time` is made of; one of them twice where it is looked at twice.
std::vector<Sight> sights(const Instance &instance, OfxTime time) {
    const Reading r = reading_of(instance, instance.at(time), time);
    std::vector<Sight> found;
    const auto add = [&](bool wanted, const char *name, OfxImageClipHandle clip, OfxTime when) {
        if (wanted && connected(clip)) found.push_back({name, clip, when});
    };
    add(r.source, kOfxImageEffectSimpleSourceClipName, instance.source(), r.source_time);
    add(r.plate, kOfxImageEffectSimpleSourceClipName, instance.source(), time);
    add(r.mask, kMaskClip, instance.mask(), r.mask_time);
    add(r.from, kOfxImageEffectTransitionSourceFromClipName, instance.from(), r.from_time);
    add(r.to, kOfxImageEffectTransitionSourceToClipName, instance.to(), r.to_time);
    return found;
}

}  // namespace

double shape_at(const Instance &instance, OfxTime time) {
    OfxRectD region;
    if (!picture_region(instance, time, &region)) return 0.0;
    return (region.x2 - region.x1) / (region.y2 - region.y1);
}

OfxStatus region_of_definition(Instance &instance, const Props &in, const Props &out) {
    OfxRectD region;
    if (!picture_region(instance, in.real(kOfxPropTime), &region)) return kOfxStatReplyDefault;
    const double values[4] = {region.x1, region.y1, region.x2, region.y2};
    for (int i = 0; i < 4; ++i)
        if (!out.set(kOfxImageEffectPropRegionOfDefinition, values[i], i)) return kOfxStatReplyDefault;
    return kOfxStatOK;
}

OfxStatus is_identity(Instance &instance, const Props &in, const Props &out) {
    if (!instance.in(kOfxImageEffectContextTransition)) return kOfxStatReplyDefault;
    const double time = in.real(kOfxPropTime);
    const Values values = instance.at(time);
    if (!values.on(ClipsAsKeyframes)) return kOfxStatReplyDefault;
    const bool starts = values.transition <= 0.0, ends = values.transition >= 1.0;
    if (!starts && !ends) return kOfxStatReplyDefault;
    const char *name = starts ? kOfxImageEffectTransitionSourceFromClipName : kOfxImageEffectTransitionSourceToClipName;
    if (!connected(starts ? instance.from() : instance.to())) return kOfxStatReplyDefault;
    if (!out.set(kOfxPropName, name)) return kOfxStatReplyDefault;
    out.set(kOfxPropTime, time);
    return kOfxStatOK;
}

OfxStatus frames_needed(Instance &instance, const Props &in, const Props &out) {
    bool said = false;
    const char *before = "";
    int index = 0;
    for (const Sight &sight : sights(instance, in.real(kOfxPropTime))) {
        index = std::strcmp(before, sight.name) == 0 ? index : 0;
        before = sight.name;
        const char *name = keep(std::string("OfxImageClipPropFrameRange_") + sight.name);
        for (int end = 0; end < 2; ++end) said = out.set(name, sight.time, index++) || said;
    }
    return said ? kOfxStatOK : kOfxStatReplyDefault;
}

OfxStatus regions_of_interest(Instance &instance, const Props &in, const Props &out) {
    bool said = false;
    for (const Sight &sight : sights(instance, in.real(kOfxPropTime))) {
        // The model looks at all of a picture, whatever part of the result is wanted.
        OfxRectD region;
        if (!clip_region(sight.clip, sight.time, &region)) continue;
        const char *name = keep(std::string("OfxImageClipPropRoI_") + sight.name);
        const double values[4] = {region.x1, region.y1, region.x2, region.y2};
        for (int i = 0; i < 4; ++i) said = out.set(name, values[i], i) || said;
    }
    return said ? kOfxStatOK : kOfxStatReplyDefault;
}

namespace {

// Whose alpha the output has, if any clip's; as that clip has it.
std::string premultiplication(const Instance &instance, const Values &values) {
    const Reading r = reading_of(instance, values, 0.0);
    if (r.source && values.integer(OutputMode) == 1) return kOfxImagePreMultiplied;
    const OfxImageClipHandle clip = r.source ? instance.source()
                                    : r.from ? instance.from()
                                    : r.to   ? instance.to()
                                             : nullptr;
    if (!clip) return kOfxImageOpaque;
    return clip_props(clip).text(kOfxImageEffectPropPreMultiplication, kOfxImagePreMultiplied);
}

}  // namespace

OfxStatus clip_preferences(Instance &instance, const Props &out) {
    // A transition may change none.
    if (instance.in(kOfxImageEffectContextTransition)) return kOfxStatReplyDefault;
    const Values values = instance.at(0.0);
    out.set(kOfxImageEffectFrameVarying, values.integer(Timing) == TimingClip ? 1 : 0);
    out.set(kOfxImageClipPropContinuousSamples, 1);
    out.set(kOfxImageEffectPropPreMultiplication, keep(premultiplication(instance, values)));
    // A patch is nothing without its matte.
    if (instance.source() && values.on(Inpaint) && values.integer(OutputMode) == 1)
        out.set(keep(std::string("OfxImageClipPropComponents_") + kOfxImageEffectOutputClipName), kOfxImageComponentRGBA);
    const struct {
        const char *name;
        OfxImageClipHandle clip;
    } inputs[] = {{kOfxImageEffectSimpleSourceClipName, instance.source()},
                  {kOfxImageEffectTransitionSourceFromClipName, instance.from()},
                  {kOfxImageEffectTransitionSourceToClipName, instance.to()}};
    for (const auto &input : inputs) {
        if (!input.clip) continue;
        // Any of the three is read; converting is left to whom it costs least. One that the user has chosen is asked for.
        const char *name = keep(std::string(kOfxImageClipPropPreferredColourspaces) + "_" + input.name);
        const auto chosen = static_cast<ColourChoice>(values.integer(InputColour));
        int index = 0;
        if (chosen != ColourHost) out.set(name, name_of(chosen), index++);
        for (const char *space : {kOfxColourspaceSrgbTx, kOfxColourspaceLinRec709Srgb, kOfxColourspaceACEScg})
            if (chosen == ColourHost || std::strcmp(space, name_of(chosen)) != 0) out.set(name, space, index++);
    }
    return kOfxStatOK;
}

OfxStatus output_colourspace(Instance &instance, const Props &in, const Props &out) {
    const Values values = instance.at(0.0);
    const char *answer = nullptr;
    if (values.integer(OutputColour) == ColourHost) {
        // The first of the host's wishes that can be fulfilled.
        const int wishes = in.count(kOfxImageClipPropPreferredColourspaces);
        for (int i = 0; i < wishes && !answer; ++i) {
            const std::string wish = in.text(kOfxImageClipPropPreferredColourspaces, "", i);
            if (colour_named(wish) != ColourHost) answer = keep(wish);
        }
    }
    if (!answer) answer = name_of(output_colour(instance, values));
    return out.set(kOfxImageClipPropColourspace, answer) ? kOfxStatOK : kOfxStatReplyDefault;
}

}  // namespace latentblend
