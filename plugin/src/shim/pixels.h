// In: pixels in memory, of any format. Out: their values, a hash of them, the same on another plane. Knows nothing
// of hosts' clips, nor of what the numbers stand for.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "failure.h"
#include "latentblend.h"
#include "openfx/core.h"

namespace latentblend {

// What both hold; empty (x2 <= x1 or y2 <= y1) where they hold nothing together.
ofx::OfxRectI common(const ofx::OfxRectI &a, const ofx::OfxRectI &b);
bool empty(const ofx::OfxRectI &r);
bool same(const ofx::OfxRectI &a, const ofx::OfxRectI &b);

// Somebody else's pixels, y up.
struct Pixels {
    lb_format format = 0;
    ofx::OfxRectI bounds{0, 0, 0, 0};
    // The row below y2, and from there to the next one down.
    const unsigned char *top = nullptr;
    ptrdiff_t down = 0;

    int width() const { return bounds.x2 - bounds.x1; }
    int height() const { return bounds.y2 - bounds.y1; }
    unsigned channels() const { return format >> 8; }
    size_t value_bytes() const { return format & 0xf; }
    size_t pixel_bytes() const { return channels() * value_bytes(); }
    const unsigned char *at(int x, int y) const {
        return top + (static_cast<ptrdiff_t>(bounds.y2) - 1 - y) * down +
               (static_cast<ptrdiff_t>(x) - bounds.x1) * static_cast<ptrdiff_t>(pixel_bytes());
    }
};

// A channel's value: 0 to 1 in integers, as it stands in floats.
float value_of(const unsigned char *at, lb_format format);

// Pixels of one's own, packed, top row first.
struct OwnPixels {
    std::vector<unsigned char> bytes;
    Pixels view;
};

// An empty picture of `plane`.
OwnPixels room(lb_format format, const ofx::OfxRectI &plane);

// The pixels as seen on `plane`; what lies beyond their bounds is 0, black and transparent.
OwnPixels laid(const Pixels &pixels, const ofx::OfxRectI &plane);

// The same with colours multiplied by alpha, or divided where `times` is false, as 32-bit floats. RGBA only.
OwnPixels by_alpha(const Pixels &pixels, bool times);

// Whether every pixel's alpha is 1; true where there is none.
bool opaque(const Pixels &pixels);

// 32 hexadecimal digits that tell these pixels from others of the same size and format, wherever they lie. Asks
// `poll` now and then, and throws Aborted.
std::string hash_of(const Pixels &pixels, const Poll &poll);

}  // namespace latentblend
