#include "image.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "failure.h"

namespace latentblend {

using namespace ofx;

namespace {

// A time as people count: without zeros behind a whole number.
std::string frame_of(OfxTime time) {
    char text[40];
    std::snprintf(text, sizeof text, "%.10g", time);
    return text;
}

}  // namespace

Image::Image(OfxImageClipHandle clip, OfxTime time, const std::string &what, const Memory &memory, bool mask)
    : props_(nullptr), clip_(clip_props(clip)), memory_(memory) {
    auto *e = suites().effect;
    OfxPropertySetHandle handle = nullptr;
    if (!clip || !e || !e->clipGetImage || !e->clipReleaseImage ||
        e->clipGetImage(clip, time, nullptr, &handle) != kOfxStatOK || !handle)
        throw Failure{kOfxStatFailed, "The host gave no image of " + what + " at frame " + frame_of(time)};
    props_ = Props(handle);
    try {
        read(what, mask);
    } catch (...) {
        e->clipReleaseImage(handle);
        throw;
    }
}

void Image::read(const std::string &what, bool mask) {
    data_ = static_cast<unsigned char *>(props_.pointer(kOfxImagePropData));
    int bounds[4];
    if (!data_ || !props_.numbers(kOfxImagePropBounds, 4, bounds))
        throw Failure{kOfxStatFailed, "The host's image of " + what + " has no pixels"};
    bounds_ = {bounds[0], bounds[1], bounds[2], bounds[3]};
    const std::string depth = props_.text(kOfxImageEffectPropPixelDepth, "none");
    const std::string components = props_.text(kOfxImageEffectPropComponents, "none");
    const int channels = components == kOfxImageComponentRGBA            ? 4
                         : components == kOfxImageComponentRGB           ? 3
                         : mask && components == kOfxImageComponentAlpha ? 1
                                                                         : 0;
    const int kind = depth == kOfxBitDepthByte    ? 0x01
                     : depth == kOfxBitDepthShort ? 0x02
                     : depth == kOfxBitDepthHalf  ? 0x12
                     : depth == kOfxBitDepthFloat ? 0x14
                                                  : 0;
    if (channels == 0 || kind == 0)
        throw Failure{kOfxStatErrImageFormat, "The host's image of " + what + " is of " + components + ", " + depth +
                                                  ": wanted " + (mask ? "Alpha, " : "") +
                                                  "RGB or RGBA of byte, short, half or float"};
    format_ = static_cast<lb_format>(channels << 8 | kind);
    row_bytes_ = props_.number(kOfxImagePropRowBytes);
    const auto least = static_cast<ptrdiff_t>(pixel_bytes()) * (static_cast<ptrdiff_t>(bounds_.x2) - bounds_.x1);
    // Hosts are known whose buffers on a GPU have no gaps, and who say no more of it.
    if (memory_.cuda && row_bytes_ == 0) row_bytes_ = least;
    if (std::abs(row_bytes_) < least)
        throw Failure{kOfxStatFailed, "The host's image of " + what + " has rows of " + std::to_string(row_bytes_) +
                                          " bytes: its width wants " + std::to_string(least)};
}

Image::~Image() { suites().effect->clipReleaseImage(props_.handle()); }

OfxRectI Image::picture(const OfxRectI &window) const {
    int values[4];
    if (props_.numbers(kOfxImagePropRegionOfDefinition, 4, values)) {
        const OfxRectI region{values[0], values[1], values[2], values[3]};
        // Hosts are known whose regions are of another scale than their pixels: one that doesn't hold what is to
        // be rendered is not believed.
        const OfxRectI seen = common(region, window);
        // Pictures are laid out over it, so an endless one isn't either.
        constexpr int farthest = 1000000;
        const auto near = [](int c) { return c > -farthest && c < farthest; };
        if (!std::all_of(values, values + 4, near)) return bounds_;
        if (!empty(region) && seen.x1 == window.x1 && seen.y1 == window.y1 && seen.x2 == window.x2 && seen.y2 == window.y2)
            return region;
    }
    return bounds_;
}

void Image::scale(double across_and_up[2]) const {
    across_and_up[0] = across_and_up[1] = 0.0;
    props_.reals(kOfxImageEffectPropRenderScale, 2, across_and_up);
}

std::string Image::premultiplication() const {
    const std::string own = props_.text(kOfxImageEffectPropPreMultiplication);
    return own.empty() ? clip_.text(kOfxImageEffectPropPreMultiplication) : own;
}

double Image::pixel_aspect() const {
    const double own = props_.real(kOfxImagePropPixelAspectRatio);
    const double aspect = own > 0.0 ? own : clip_.real(kOfxImagePropPixelAspectRatio, 1.0);
    return aspect >= 0.01 && aspect <= 100.0 ? aspect : 1.0;
}

}  // namespace latentblend
