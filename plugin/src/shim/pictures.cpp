#include "pictures.h"

#include <algorithm>
#include <cmath>

#include "colour.h"
#include "failure.h"
#include "geometry.h"
#include "gpu.h"

namespace latentblend {

using namespace ofx;

namespace {

// Order of the parameter's options.
enum MaskChoice { MaskAlpha, MaskRed, MaskGreen, MaskBlue, MaskLuminance };
enum OutputChoice { OutputComposite, OutputPatch };

double within(const OfxImageClipHandle clip, double time) {
    double range[2];
    if (!frames_of(clip, range)) return time;
    return std::fmin(std::fmax(time, range[0]), range[1]);
}

void check_time(double wanted, double now, const char *name) {
    if (wanted == now || host_has_other_times()) return;
    throw Failure{kOfxStatFailed, std::string("This host gives pictures of the present only, and ") + name +
                                      " is to be held at another frame: switch 'Hold a frame' off"};
}

// How much of the pixel at `at` is repainted.
float marked(const unsigned char *at, const Pixels &pixels, int choice) {
    const auto channel = [&](unsigned c) { return value_of(at + c * pixels.value_bytes(), pixels.format); };
    if (pixels.channels() == 1) return channel(0);
    switch (choice) {
        case MaskAlpha: return channel(3);
        case MaskGreen: return channel(1);
        case MaskBlue: return channel(2);
        // Rec.709's weights of what the numbers are, whatever they stand for.
        case MaskLuminance: return 0.2126f * channel(0) + 0.7152f * channel(1) + 0.0722f * channel(2);
        default: return channel(0);
    }
}

// The mask on `bounds`: what lies beyond the picture isn't set.
void read_mask(const Pixels &pixels, const OfxRectI &bounds, const Values &values, const char *name, Pictures *to) {
    const int choice = values.integer(MaskChannel);
    if (choice == MaskAlpha && pixels.channels() == 3)
        throw Failure{kOfxStatErrImageFormat, std::string("'Mask channel' is Alpha, and ") + name +
                                                  " has none: choose another channel, or connect one with alpha"};
    const bool inverted = values.on(MaskInvert);
    to->mask_width = static_cast<uint32_t>(bounds.x2 - bounds.x1);
    to->mask_height = static_cast<uint32_t>(bounds.y2 - bounds.y1);
    to->mask.reserve(static_cast<size_t>(to->mask_width) * to->mask_height);
    const OfxRectI seen = common(pixels.bounds, bounds);
    for (int y = bounds.y2 - 1; y >= bounds.y1; --y)
        for (int x = bounds.x1; x < bounds.x2; ++x) {
            const bool inside = x >= seen.x1 && x < seen.x2 && y >= seen.y1 && y < seen.y2;
            float value = inside ? marked(pixels.at(x, y), pixels, choice) : 0.0f;
            if (inverted) value = 1.0f - value;
            to->marks = to->marks || value > 0.0f;
            to->mask.push_back(value);
        }
}

std::unique_ptr<Picture> read_source(const Instance &instance, const Values &values, double time, const Plane &plane) {
    OfxImageClipHandle clip = instance.source();
    return std::make_unique<Picture>(clip, time, kOfxImageEffectSimpleSourceClipName, plane,
                                     transfer_of(input_colour(values, clip)));
}

void read_repainted(const Instance &instance, const Values &values, const Reading &reading, const Plane &plane,
                    const Poll &poll, Pictures *pictures) {
    const char *name = kOfxImageEffectSimpleSourceClipName;
    if (!connected(instance.source()))
        throw Failure{kOfxStatFailed, "'Repaint the Source' is on, but no Source is connected"};
    check_time(reading.source_time, reading.time, name);
    pictures->source = read_source(instance, values, reading.source_time, plane);
    const Pixels &source = pictures->source->pixels();
    if (reading.mask) {
        check_time(reading.mask_time, reading.time, kMaskClip);
        const Picture mask(instance.mask(), reading.mask_time, kMaskClip, plane, LB_TRANSFER_SRGB, true);
        // One of other pixels is left as it is: the engine brings it to the source's size.
        const bool together = mask.on_plane() && pictures->source->on_plane();
        read_mask(mask.pixels(), together ? source.bounds : mask.pixels().bounds, values, kMaskClip, pictures);
    } else {
        read_mask(source, source.bounds, values, name, pictures);
    }
    pictures->place = pictures->source->on_plane() ? source.bounds : plane.whole;
    if (!reading.plate) return;
    pictures->plate = read_source(instance, values, reading.time, plane);
    // A plate that stands still is the source, and costs nothing.
    if (pictures->plate->key(poll) == pictures->source->key(poll) &&
        same(pictures->plate->pixels().bounds, pictures->source->pixels().bounds))
        pictures->plate.reset();
}

}  // namespace

bool host_has_other_times() { return host_props().number(kOfxImageEffectPropTemporalClipAccess, 1) != 0; }

Reading reading_of(const Instance &instance, const Values &values, OfxTime time) {
    Reading r;
    r.time = time;
    const bool transition = instance.in(kOfxImageEffectContextTransition);
    const double held = values.on(Hold) ? values.number[HoldFrame] : time;
    r.source_time = r.mask_time = r.from_time = r.to_time = held;
    if (instance.source()) r.source = values.on(Inpaint);
    r.mask = r.source && connected(instance.mask());
    r.plate = r.source && r.source_time != time && values.integer(OutputMode) == OutputComposite;
    if (values.on(ClipsAsKeyframes)) {
        r.from = connected(instance.from());
        r.to = connected(instance.to());
    }
    if (!transition) return r;
    r.from_time = r.to_time = time;
    double range[2];
    // At its ends a transition is the clips, and they move.
    const bool between = values.transition > 0.0 && values.transition < 1.0;
    if (between && values.on(Hold) && transition_range(instance, range)) {
        r.from_time = within(instance.from(), range[0]);
        r.to_time = within(instance.to(), range[1]);
    }
    return r;
}

Plane plane_of(const Image &image, const OfxRectI &window) {
    Plane plane;
    plane.whole = image.picture(window);
    plane.pixel_aspect = image.pixel_aspect();
    image.scale(plane.scale);
    plane.premultiplication = image.premultiplication();
    plane.memory = image.memory();
    return plane;
}

Plane plane_at(const Instance &instance, OfxTime time) {
    Plane plane;
    const Props props = clip_props(instance.output());
    const double aspect = props.real(kOfxImagePropPixelAspectRatio, 1.0);
    plane.pixel_aspect = aspect >= 0.01 && aspect <= 100.0 ? aspect : 1.0;
    plane.premultiplication = props.text(kOfxImageEffectPropPreMultiplication);
    OfxRectD region;
    if (picture_region(instance, time, &region)) plane.whole = pixels_of(region, plane.pixel_aspect);
    return plane;
}

Picture::Picture(OfxImageClipHandle clip, OfxTime time, const char *name, const Plane &plane, lb_transfer transfer,
                 bool mask)
    : image_(std::make_unique<Image>(clip, time, name, plane.memory, mask)), view_(image_->pixels()), transfer_(transfer) {
    if (empty(view_.bounds)) throw Failure{kOfxStatFailed, std::string("The host's image of ") + name + " is empty"};
    // What it shows is looked at, to tell it from others.
    if (plane.memory.cuda) own_ = fetched(*image_);
    double scale[2];
    image_->scale(scale);
    for (int i = 0; i < 2; ++i)
        on_plane_ = on_plane_ && (scale[i] == plane.scale[i] || scale[i] == 0.0 || plane.scale[i] == 0.0);
    on_plane_ = on_plane_ && std::fabs(image_->pixel_aspect() / plane.pixel_aspect - 1.0) < 1e-6;
    if (mask) return;
    // Colours are to be as the output's are.
    const std::string state = image_->premultiplication();
    const bool times = state == kOfxImageUnPreMultiplied && plane.premultiplication == kOfxImagePreMultiplied;
    const bool parted = state == kOfxImagePreMultiplied && plane.premultiplication == kOfxImageUnPreMultiplied;
    if ((times || parted) && !opaque(pixels())) own_ = by_alpha(pixels(), times);
}

void Picture::lay(const OfxRectI &bounds) {
    if (same(pixels().bounds, bounds)) return;
    own_ = laid(pixels(), bounds);
    key_.clear();
}

lb_source Picture::source() const {
    const Pixels &p = pixels();
    lb_source source{};
    source.struct_size = sizeof source;
    source.data = p.top;
    source.row_bytes = p.down;
    source.width = static_cast<uint32_t>(p.width());
    source.height = static_cast<uint32_t>(p.height());
    source.format = p.format;
    source.transfer = transfer_;
    source.memory = LB_MEMORY_HOST;
    return source;
}

const std::string &Picture::key(const Poll &poll) const {
    const Pixels &p = pixels();
    if (key_.empty())
        key_ = std::to_string(p.width()) + "x" + std::to_string(p.height()) + " " + std::to_string(p.format) + " " +
               std::to_string(transfer_) + " " + hash_of(p, poll);
    return key_;
}

size_t Picture::bytes() const {
    const Pixels &p = pixels();
    return p.pixel_bytes() * static_cast<size_t>(p.width()) * static_cast<size_t>(p.height());
}

lb_source Pictures::mask_source() const {
    lb_source source{};
    source.struct_size = sizeof source;
    source.data = mask.data();
    source.row_bytes = static_cast<ptrdiff_t>(mask_width * sizeof(float));
    source.width = mask_width;
    source.height = mask_height;
    source.format = LB_FORMAT_A_F32;
    source.transfer = LB_TRANSFER_SRGB;
    source.memory = LB_MEMORY_HOST;
    return source;
}

std::string Pictures::key(const Poll &poll) const {
    std::string key;
    if (from) key += "from " + from->key(poll) + ";";
    if (to) key += "to " + to->key(poll) + ";";
    if (!source) return key;
    const auto *bytes = reinterpret_cast<const unsigned char *>(mask.data());
    const OfxRectI bounds{0, 0, static_cast<int>(mask_width), static_cast<int>(mask_height)};
    const Pixels values{LB_FORMAT_A_F32, bounds, bytes, static_cast<ptrdiff_t>(mask_width * sizeof(float))};
    key += "source " + source->key(poll) + "; mask " + std::to_string(mask_width) + "x" + std::to_string(mask_height);
    return key + " " + hash_of(values, poll) + ";";
}

size_t Pictures::bytes() const {
    size_t sum = mask.size() * sizeof(float);
    for (const auto *picture : {&from, &to, &source})
        if (*picture) sum += (*picture)->bytes();
    return sum;
}

Pictures read_pictures(const Instance &instance, const Values &values, const Reading &reading, const Plane &plane,
                       const Poll &poll) {
    Pictures pictures;
    if (reading.source) read_repainted(instance, values, reading, plane, poll, &pictures);
    const auto keyframe = [&](bool wanted, OfxImageClipHandle clip, double time, const char *name) {
        std::unique_ptr<Picture> picture;
        if (!wanted) return picture;
        check_time(time, reading.time, name);
        picture = std::make_unique<Picture>(clip, time, name, plane, transfer_of(input_colour(values, clip)));
        // It lies among the node's pixels where it lies among the host's. One of other pixels fills them.
        const OfxRectI &bounds = reading.source ? pictures.place : plane.whole;
        if (picture->on_plane() && !empty(bounds)) picture->lay(bounds);
        return picture;
    };
    pictures.from =
        keyframe(reading.from, instance.from(), reading.from_time, kOfxImageEffectTransitionSourceFromClipName);
    pictures.to = keyframe(reading.to, instance.to(), reading.to_time, kOfxImageEffectTransitionSourceToClipName);
    return pictures;
}

}  // namespace latentblend
