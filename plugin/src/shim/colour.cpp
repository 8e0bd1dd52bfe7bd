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

ColourChoice output_colour(const Instance &instance, const Values &values) {
    const auto chosen = static_cast<ColourChoice>(values.integer(OutputColour));
    if (chosen != ColourHost) return chosen;
    // A host that manages colour has written what this node answered last, and relies on it.
    const ColourChoice managed = colour_named(clip_props(instance.output()).text(kOfxImageClipPropColourspace));
    if (managed != ColourHost) return managed;
    const auto saved = static_cast<ColourChoice>(values.integer(HostColour));
    return saved != ColourHost ? saved : colour_of_host();
}

}  // namespace latentblend
