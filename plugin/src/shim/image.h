// In: a clip of a host. Out: its pixels' memory and layout, released when done.
#pragma once

#include <cstddef>

#include "instance.h"
#include "latentblend.h"

namespace latentblend {

class Image {
  public:
    // Throws Failure where the host has no image or one of no known format.
    Image(ofx::OfxImageClipHandle clip, ofx::OfxTime time);
    ~Image();
    Image(const Image &) = delete;
    Image &operator=(const Image &) = delete;

    const ofx::OfxRectI &bounds() const { return bounds_; }
    // What the whole picture covers in this image's pixels.
    ofx::OfxRectI picture(const ofx::OfxRectI &window) const;
    lb_format format() const { return format_; }
    size_t pixel_bytes() const { return ((format_ >> 8) & 0xf) * (format_ & 0xf); }
    ptrdiff_t row_bytes() const { return row_bytes_; }
    double pixel_aspect() const;
    // The pixel at (x, y), y up, in pixels of the image's plane; within the bounds.
    unsigned char *pixel(int x, int y) const {
        return data_ + (static_cast<ptrdiff_t>(y) - bounds_.y1) * row_bytes_ +
               (static_cast<ptrdiff_t>(x) - bounds_.x1) * static_cast<ptrdiff_t>(pixel_bytes());
    }

  private:
    void read();

    Props props_;
    Props clip_;
    unsigned char *data_ = nullptr;
    ofx::OfxRectI bounds_{0, 0, 0, 0};
    ptrdiff_t row_bytes_ = 0;
    lb_format format_ = 0;
};

// What both hold; empty (x2 <= x1 or y2 <= y1) where they hold nothing together.
ofx::OfxRectI common(const ofx::OfxRectI &a, const ofx::OfxRectI &b);
bool empty(const ofx::OfxRectI &r);

}  // namespace latentblend
