#include "geometry.h"

#include <algorithm>
#include <cmath>

namespace latentblend {

using namespace ofx;

namespace {

// Regions beyond this are a host's way to say that something has no end.
constexpr double kFarthest = 1e6;

bool sane(const OfxRectD &r) {
    for (double c : {r.x1, r.y1, r.x2, r.y2})
        if (!(std::fabs(c) < kFarthest)) return false;
    return r.x2 > r.x1 && r.y2 > r.y1;
}

}  // namespace

bool clip_region(OfxImageClipHandle clip, OfxTime time, OfxRectD *region) {
    auto *e = suites().effect;
    OfxRectD found{0, 0, 0, 0};
    if (!connected(clip) || !e || !e->clipGetRegionOfDefinition) return false;
    if (e->clipGetRegionOfDefinition(clip, time, &found) != kOfxStatOK || !sane(found)) return false;
    *region = found;
    return true;
}

OfxRectI pixels_of(const OfxRectD &region, double aspect) {
    // What is whole but for rounding is whole.
    constexpr double kSlack = 1e-6;
    const auto below = [](double c) { return static_cast<int>(std::floor(c + kSlack)); };
    const auto above = [](double c) { return static_cast<int>(std::ceil(c - kSlack)); };
    return {below(region.x1 / aspect), below(region.y1), above(region.x2 / aspect), above(region.y2)};
}

bool picture_region(const Instance &instance, OfxTime time, OfxRectD *region) {
    if (clip_region(instance.source(), time, region)) return true;
    const Props props = effect_props(instance.effect());
    double size[2], offset[2] = {0, 0};
    if (props.reals(kOfxImageEffectPropProjectSize, 2, size)) {
        props.reals(kOfxImageEffectPropProjectOffset, 2, offset);
        const OfxRectD whole{offset[0], offset[1], offset[0] + size[0], offset[1] + size[1]};
        if (sane(whole)) {
            *region = whole;
            return true;
        }
    }
    if (props.reals(kOfxImageEffectPropProjectExtent, 2, size)) {
        const OfxRectD whole{0, 0, size[0], size[1]};
        if (sane(whole)) {
            *region = whole;
            return true;
        }
    }
    OfxRectD from, to;
    const bool starts = clip_region(instance.from(), time, &from), ends = clip_region(instance.to(), time, &to);
    if (!starts && !ends) return false;
    if (!starts) from = to;
    if (!ends) to = from;
    *region = {std::min(from.x1, to.x1), std::min(from.y1, to.y1), std::max(from.x2, to.x2), std::max(from.y2, to.y2)};
    return true;
}

bool frames_of(OfxImageClipHandle clip, double range[2]) {
    double found[2];
    if (!clip || !clip_props(clip).reals(kOfxImageEffectPropFrameRange, 2, found)) return false;
    if (!(found[1] > found[0]) || !(std::fabs(found[0]) < kFarthest) || !(std::fabs(found[1]) < kFarthest)) return false;
    range[0] = found[0];
    range[1] = found[1];
    return true;
}

namespace {

bool by_duration(const Instance &instance, double range[2]) {
    const double duration = effect_props(instance.effect()).real(kOfxImageEffectInstancePropEffectDuration);
    if (!(duration > 1.0 && duration < kFarthest)) return false;
    range[0] = 0.0;
    range[1] = duration - 1.0;
    return true;
}

}  // namespace

bool transition_range(const Instance &instance, double range[2]) {
    return instance.transition_keys(range) || frames_of(instance.output(), range) || by_duration(instance, range);
}

bool clip_range(const Instance &instance, double range[2]) {
    if (connected(instance.source()) && frames_of(instance.source(), range)) return true;
    if (frames_of(instance.output(), range) || by_duration(instance, range)) return true;
    auto *t = suites().timeline;
    double first = 0.0, last = 0.0;
    if (t && t->getTimeBounds && t->getTimeBounds(instance.effect(), &first, &last) == kOfxStatOK && last > first) {
        range[0] = first;
        range[1] = last;
        return true;
    }
    return false;
}

}  // namespace latentblend
