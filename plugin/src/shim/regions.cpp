// In: what a host wants to know before it renders. Out: region, identity, clip preferences, colourspace.
#include "actions.h"
#include "colour.h"
#include "geometry.h"
#include "openfx/colour.h"

namespace latentblend {

using namespace ofx;

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

OfxStatus clip_preferences(Instance &instance, const Props &out) {
    // A transition may change none.
    if (instance.in(kOfxImageEffectContextTransition)) return kOfxStatReplyDefault;
    const Values values = instance.at(0.0);
    out.set(kOfxImageEffectFrameVarying, values.integer(Timing) == TimingClip ? 1 : 0);
    out.set(kOfxImageClipPropContinuousSamples, 1);
    out.set(kOfxImageEffectPropPreMultiplication, kOfxImageOpaque);
    if (instance.source()) {
        // Any of the three is read; converting is left to whom it costs least.
        static const char *name = keep(std::string(kOfxImageClipPropPreferredColourspaces) + "_Source");
        int index = 0;
        for (const char *space : {kOfxColourspaceSrgbTx, kOfxColourspaceLinRec709Srgb, kOfxColourspaceACEScg})
            out.set(name, space, index++);
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
