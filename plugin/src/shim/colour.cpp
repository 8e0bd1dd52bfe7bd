#include "colour.h"

#include "openfx/colour.h"

namespace latentblend {

using namespace ofx;

ColourChoice colour_of_host() {
    // Hosts whose nodes work in linear light, whatever the project. Others hand over display-encoded pixels.
    for (const char *linear : {"nuke", "natron", "gaffer"})
        if (host_is(linear)) return ColourLinear;
    return ColourSrgb;
}

ColourChoice colour_named(const std::string &name) {
    if (name == kOfxColourspaceSrgbDisplay || name == kOfxColourspaceSrgbTx || name == kOfxColourspaceOfxDisplaySdr)
        return ColourSrgb;
    if (name == kOfxColourspaceLinRec709Srgb || name == kOfxColourspaceOfxSceneLinear) return ColourLinear;
    if (name == kOfxColourspaceACEScg) return ColourAcescg;
    return ColourHost;
}

const char *name_of(ColourChoice colour) {
    switch (colour) {
        case ColourLinear: return kOfxColourspaceLinRec709Srgb;
        case ColourAcescg: return kOfxColourspaceACEScg;
        default: return kOfxColourspaceSrgbTx;
    }
}

namespace {

// A host that manages colour writes a clip's space onto it. Where none does, what is known of the host holds.
ColourChoice of_clip(const Values &values, OfxImageClipHandle clip) {
    const ColourChoice managed = colour_named(clip_props(clip).text(kOfxImageClipPropColourspace));
    if (managed != ColourHost) return managed;
    const auto saved = static_cast<ColourChoice>(values.integer(HostColour));
    return saved != ColourHost ? saved : colour_of_host();
}

}  // namespace

ColourChoice output_colour(const Instance &instance, const Values &values) {
    const auto chosen = static_cast<ColourChoice>(values.integer(OutputColour));
    // On the output it is what this node answered last, which the host relies on.
    return chosen != ColourHost ? chosen : of_clip(values, instance.output());
}

ColourChoice input_colour(const Values &values, OfxImageClipHandle clip) {
    const auto chosen = static_cast<ColourChoice>(values.integer(InputColour));
    return chosen != ColourHost ? chosen : of_clip(values, clip);
}

lb_transfer transfer_of(ColourChoice colour) {
    switch (colour) {
        case ColourLinear: return LB_TRANSFER_LINEAR;
        case ColourAcescg: return LB_TRANSFER_ACESCG;
        default: return LB_TRANSFER_SRGB;
    }
}

}  // namespace latentblend
