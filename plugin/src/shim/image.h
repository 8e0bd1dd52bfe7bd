// In: a clip of a host. Out: its pixels' memory and layout, released when done.
#pragma once

#include <cstddef>

#include "instance.h"
#include "pixels.h"

namespace latentblend {

// Where a host's images lie.
struct Memory {
    // In a CUDA device's memory, in order on the stream; NULL: on the default one, and all of it is to be done when the
    // action returns.
    bool cuda = false;
    void *stream = nullptr;
};

class Image {
  public:
    // Throws Failure where the host has no image or one of no known format. `what` is what the image is for, in a
    // message. One channel is a known format where `mask` is true.
    Image(ofx::OfxImageClipHandle clip, ofx::OfxTime time, const std::string &what, const Memory &memory,
          bool mask = false);
    ~Image();
    Image(const Image &) = delete;
    Image &operator=(const Image &) = delete;

    const ofx::OfxRectI &bounds() const { return bounds_; }
    // Addresses below are this memory's, for nobody but the engine to look at where that is a device's.
    const Memory &memory() const { return memory_; }
    // What the whole picture covers in this image's pixels.
    ofx::OfxRectI picture(const ofx::OfxRectI &window) const;
    lb_format format() const { return format_; }
    size_t pixel_bytes() const { return ((format_ >> 8) & 0xf) * (format_ & 0xf); }
    ptrdiff_t row_bytes() const { return row_bytes_; }
    double pixel_aspect() const;
    // 0 in both where the host doesn't say.
    void scale(double across_and_up[2]) const;
    // kOfxImagePreMultiplied and so on; empty where the host doesn't say.
    std::string premultiplication() const;
    // The pixel at (x, y), y up, in pixels of the image's plane; within the bounds.
    unsigned char *pixel(int x, int y) const {
        return data_ + (static_cast<ptrdiff_t>(y) - bounds_.y1) * row_bytes_ +
               (static_cast<ptrdiff_t>(x) - bounds_.x1) * static_cast<ptrdiff_t>(pixel_bytes());
    }
    Pixels pixels() const { return {format_, bounds_, pixel(bounds_.x1, bounds_.y2 - 1), -row_bytes_}; }

  private:
    void read(const std::string &what, bool mask);

    Props props_;
    Props clip_;
    Memory memory_;
    unsigned char *data_ = nullptr;
    ofx::OfxRectI bounds_{0, 0, 0, 0};
    ptrdiff_t row_bytes_ = 0;
    lb_format format_ = 0;
};

}  // namespace latentblend
