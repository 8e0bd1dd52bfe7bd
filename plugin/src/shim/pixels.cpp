#include "pixels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace latentblend {

using namespace ofx;

OfxRectI common(const OfxRectI &a, const OfxRectI &b) {
    return {std::max(a.x1, b.x1), std::max(a.y1, b.y1), std::min(a.x2, b.x2), std::min(a.y2, b.y2)};
}

bool empty(const OfxRectI &r) { return r.x2 <= r.x1 || r.y2 <= r.y1; }

bool same(const OfxRectI &a, const OfxRectI &b) {
    return a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2;
}

namespace {

float of_half(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float value;
    if (exponent == 0) value = std::ldexp(static_cast<float>(mantissa), -24);
    else if (exponent < 31) value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
    else value = mantissa ? NAN : INFINITY;
    return bits & 0x8000 ? -value : value;
}

// A running hash: four sums of 64 bits, each of which every eighth word of four goes into by a multiplication
// and a rotation, both of which can be undone, so that no sum forgets.
class Hash {
  public:
    void add(const unsigned char *bytes, size_t count) {
        for (; count >= 32; bytes += 32, count -= 32)
            for (int lane = 0; lane < 4; ++lane) mix(lane, word(bytes + 8 * lane, 8));
        for (int lane = 0; count > 0; lane = (lane + 1) & 3) {
            const size_t part = std::min<size_t>(count, 8);
            mix(lane, word(bytes, part));
            bytes += part;
            count -= part;
        }
    }
    std::string text() const {
        const uint64_t a = stirred(lanes_[0] + turned(lanes_[1], 17) + turned(lanes_[2], 41) + turned(lanes_[3], 53));
        const uint64_t b =
            stirred(lanes_[3] ^ (lanes_[0] * kOdd) ^ turned(lanes_[1] * kOther, 29) ^ turned(lanes_[2], 7));
        char text[40];
        std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(a),
                      static_cast<unsigned long long>(b));
        return text;
    }

  private:
    // Odd, with about as many bits set as not: the fractions of the golden ratio and of the root of two.
    static constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u, kOther = 0x6a09e667f3bcc909u;

    static uint64_t word(const unsigned char *bytes, size_t count) {
        uint64_t value = 0;
        std::memcpy(&value, bytes, count);
        return value;
    }
    static uint64_t turned(uint64_t value, int by) { return value << by | value >> (64 - by); }
    static uint64_t stirred(uint64_t value) {
        for (int round = 0; round < 3; ++round) value = (value ^ value >> 31) * kOther;
        return value ^ value >> 29;
    }
    void mix(int lane, uint64_t value) { lanes_[lane] = turned((lanes_[lane] ^ value) * kOdd, 27) + kOther; }

    uint64_t lanes_[4] = {kOdd, kOther, kOdd ^ kOther, kOdd + kOther};
};

}  // namespace

OwnPixels room(lb_format format, const OfxRectI &plane) {
    OwnPixels own;
    own.view.format = format;
    own.view.bounds = plane;
    const size_t row = own.view.pixel_bytes() * static_cast<size_t>(own.view.width());
    own.bytes.resize(row * static_cast<size_t>(own.view.height()));
    own.view.top = own.bytes.data();
    own.view.down = static_cast<ptrdiff_t>(row);
    return own;
}

float value_of(const unsigned char *at, lb_format format) {
    switch (format & 0xff) {
        case 0x01: return *at / 255.0f;
        case 0x02: case 0x12: {
            uint16_t code;
            std::memcpy(&code, at, 2);
            return (format & 0x10) ? of_half(code) : code / 65535.0f;
        }
        default: {
            float value;
            std::memcpy(&value, at, 4);
            return value;
        }
    }
}

OwnPixels laid(const Pixels &pixels, const OfxRectI &plane) {
    OwnPixels own = room(pixels.format, plane);
    const OfxRectI seen = common(pixels.bounds, plane);
    if (empty(seen)) return own;
    const size_t length = static_cast<size_t>(seen.x2 - seen.x1) * pixels.pixel_bytes();
    for (int y = seen.y1; y < seen.y2; ++y)
        std::memcpy(const_cast<unsigned char *>(own.view.at(seen.x1, y)), pixels.at(seen.x1, y), length);
    return own;
}

OwnPixels by_alpha(const Pixels &pixels, bool times) {
    OwnPixels own = room(LB_FORMAT_RGBA_F32, pixels.bounds);
    auto *out = own.bytes.data();
    const size_t step = pixels.value_bytes();
    for (int y = pixels.bounds.y2 - 1; y >= pixels.bounds.y1; --y) {
        const unsigned char *in = pixels.at(pixels.bounds.x1, y);
        for (int x = 0; x < pixels.width(); ++x, in += 4 * step, out += 16) {
            float values[4];
            for (int c = 0; c < 4; ++c) values[c] = value_of(in + static_cast<size_t>(c) * step, pixels.format);
            for (int c = 0; c < 3; ++c)
                if (times) values[c] *= values[3];
                else if (values[3] > 0.0f) values[c] /= values[3];
            std::memcpy(out, values, 16);
        }
    }
    return own;
}

bool opaque(const Pixels &pixels) {
    if (pixels.channels() != 4) return true;
    const size_t step = pixels.value_bytes();
    for (int y = pixels.bounds.y1; y < pixels.bounds.y2; ++y) {
        const unsigned char *alpha = pixels.at(pixels.bounds.x1, y) + 3 * step;
        for (int x = 0; x < pixels.width(); ++x, alpha += 4 * step)
            if (value_of(alpha, pixels.format) != 1.0f) return false;
    }
    return true;
}

std::string hash_of(const Pixels &pixels, const Poll &poll) {
    // Some milliseconds' worth.
    constexpr size_t kPart = size_t{1} << 20;
    Hash hash;
    const size_t length = static_cast<size_t>(pixels.width()) * pixels.pixel_bytes();
    size_t since = kPart;
    for (int y = pixels.bounds.y2 - 1; y >= pixels.bounds.y1; --y) {
        since += length;
        if (since >= kPart) {
            if (poll(0.0)) throw Aborted{};
            since = 0;
        }
        hash.add(pixels.at(pixels.bounds.x1, y), length);
    }
    return hash.text();
}

}  // namespace latentblend
