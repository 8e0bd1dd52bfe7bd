// In: a node's clips. Out: the pictures that a transition is made of besides its prompts, each read at the right
// time, in its own colour, on the plane on which the node's picture lies.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "image.h"
#include "instance.h"
#include "latentblend.h"

namespace latentblend {

// Which clips a picture is made of, and when each is read: known before any of them is.
struct Reading {
    // Source is repainted; its mask is Mask, or a channel of Source itself.
    bool source = false, mask = false;
    // What is laid under a held patch is the Source of the present.
    bool plate = false;
    // The clip is the first keyframe, the last one.
    bool from = false, to = false;
    double time = 0.0, source_time = 0.0, mask_time = 0.0, from_time = 0.0, to_time = 0.0;

    bool nothing() const { return !source && !from && !to; }
};

Reading reading_of(const Instance &instance, const Values &values, ofx::OfxTime time);

// Whether the node may ask the host for pictures of other times than the present.
bool host_has_other_times();

// Where the node's picture lies, and how.
struct Plane {
    // What the whole picture covers, in the output's pixels.
    ofx::OfxRectI whole{0, 0, 0, 0};
    double pixel_aspect = 1.0;
    // 0: not known.
    double scale[2] = {0.0, 0.0};
    std::string premultiplication;
    Memory memory;
};

// That of an image to be filled; that at full size, where there is no image yet.
Plane plane_of(const Image &image, const ofx::OfxRectI &window);
Plane plane_at(const Instance &instance, ofx::OfxTime time);

// A clip's picture at a time: the host's own memory as long as it will do, else a copy.
class Picture {
  public:
    Picture(ofx::OfxImageClipHandle clip, ofx::OfxTime time, const char *name, const Plane &plane, lb_transfer transfer,
            bool mask = false);

    const Pixels &pixels() const { return own_ ? own_->view : view_; }
    // Whether its pixels are the output's, so that one's place is the other's.
    bool on_plane() const { return on_plane_; }
    // Brings it onto a plane of the same pixels.
    void lay(const ofx::OfxRectI &bounds);
    // What the engine is to read; as long as this lives.
    lb_source source() const;
    // Tells this content from any other's. Throws Aborted.
    const std::string &key(const Poll &poll) const;
    size_t bytes() const;

  private:
    std::unique_ptr<Image> image_;
    std::optional<OwnPixels> own_;
    Pixels view_;
    lb_transfer transfer_;
    bool on_plane_ = true;
    mutable std::string key_;
};

// All of them.
struct Pictures {
    std::unique_ptr<Picture> from, to, source;
    // The Source of the present, where it is another than `source`.
    std::unique_ptr<Picture> plate;
    // What of the source is repainted, 0 to 1, top row first.
    std::vector<float> mask;
    uint32_t mask_width = 0, mask_height = 0;
    // Whether it marks anything at all.
    bool marks = false;
    // What the source covers, in the output's pixels.
    ofx::OfxRectI place{0, 0, 0, 0};

    bool nothing() const { return !from && !to && !source; }
    lb_source mask_source() const;
    // Of all but the plate, which no session knows.
    std::string key(const Poll &poll) const;
    size_t bytes() const;
};

// Throws Failure where a clip is missing, or has no picture; Aborted.
Pictures read_pictures(const Instance &instance, const Values &values, const Reading &reading, const Plane &plane,
                       const Poll &poll);

}  // namespace latentblend
