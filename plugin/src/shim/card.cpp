#include "card.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace latentblend {

using namespace ofx;

namespace {

// Signs of five by seven dots, a byte a row, the lowest five bits, leftmost highest; in the order of kSigns.
constexpr int kWide = 5, kHigh = 7;
constexpr char kSigns[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;'-_/()$?=";
constexpr uint8_t kDots[][kHigh] = {
    {14, 17, 17, 31, 17, 17, 17}, {30, 17, 17, 30, 17, 17, 30}, {14, 17, 16, 16, 16, 17, 14},
    {30, 17, 17, 17, 17, 17, 30}, {31, 16, 16, 30, 16, 16, 31}, {31, 16, 16, 30, 16, 16, 16},
    {14, 17, 16, 19, 17, 17, 15}, {17, 17, 17, 31, 17, 17, 17}, {14, 4, 4, 4, 4, 4, 14},
    {7, 2, 2, 2, 2, 18, 12},      {17, 18, 20, 24, 20, 18, 17}, {16, 16, 16, 16, 16, 16, 31},
    {17, 27, 21, 21, 17, 17, 17}, {17, 25, 25, 21, 19, 19, 17}, {14, 17, 17, 17, 17, 17, 14},
    {30, 17, 17, 30, 16, 16, 16}, {14, 17, 17, 17, 21, 18, 13}, {30, 17, 17, 30, 20, 18, 17},
    {15, 16, 16, 14, 1, 1, 30},   {31, 4, 4, 4, 4, 4, 4},       {17, 17, 17, 17, 17, 17, 14},
    {17, 17, 17, 17, 17, 10, 4},  {17, 17, 17, 21, 21, 27, 17}, {17, 17, 10, 4, 10, 17, 17},
    {17, 17, 10, 4, 4, 4, 4},     {31, 1, 2, 4, 8, 16, 31},     {14, 17, 19, 21, 25, 17, 14},
    {4, 12, 4, 4, 4, 4, 14},      {14, 17, 1, 6, 8, 16, 31},    {30, 1, 1, 14, 1, 1, 30},
    {2, 6, 10, 18, 31, 2, 2},     {31, 16, 30, 1, 1, 17, 14},   {6, 8, 16, 30, 17, 17, 14},
    {31, 1, 2, 4, 4, 8, 8},       {14, 17, 17, 14, 17, 17, 14}, {14, 17, 17, 15, 1, 2, 12},
    {0, 0, 0, 0, 0, 12, 12},      {0, 0, 0, 0, 12, 4, 8},       {0, 12, 12, 0, 12, 12, 0},
    {0, 12, 12, 0, 12, 4, 8},     {4, 4, 8, 0, 0, 0, 0},        {0, 0, 0, 31, 0, 0, 0},
    {0, 0, 0, 0, 0, 0, 31},       {1, 1, 2, 4, 8, 16, 16},      {2, 4, 8, 8, 8, 4, 2},
    {8, 4, 2, 2, 2, 4, 8},        {4, 15, 20, 14, 5, 30, 4},    {14, 17, 1, 2, 4, 0, 4},
    {0, 0, 31, 0, 31, 0, 0},
};
static_assert(sizeof kDots / sizeof kDots[0] == sizeof kSigns - 1);

const uint8_t *dots(char c) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    const char *at = c ? std::strchr(kSigns, c) : nullptr;
    return at ? kDots[at - kSigns] : nullptr;
}

// A text in lines of `columns` signs, broken at spaces where there are any.
std::vector<std::string> lines(const std::string &text, size_t columns) {
    std::vector<std::string> found;
    std::string rest = text;
    while (!rest.empty()) {
        size_t end = rest.size() <= columns ? rest.size() : columns;
        if (end < rest.size()) {
            const size_t space = rest.rfind(' ', columns);
            if (space != std::string::npos && space > columns / 2) end = space;
        }
        found.push_back(rest.substr(0, end));
        const size_t next = rest.find_first_not_of(' ', end);
        rest = next == std::string::npos ? std::string() : rest.substr(next);
    }
    return found;
}

// A pixel of a format; the values used are exact in each.
void pixel(unsigned char *out, lb_format format, bool ink, unsigned char *end) {
    // Ink is white; the card a dark red: 1/2, 0, 0. Alpha is 1.
    const bool full[4] = {ink, ink, ink, true};
    const unsigned channels = format >> 8;
    for (unsigned c = 0; c < channels && out < end; ++c) {
        const bool half = !ink && c == 0;
        switch (format & 0xff) {
            case 0x01: {
                *out++ = full[c] ? 255 : half ? 128 : 0;
                break;
            }
            case 0x02: case 0x12: {
                const uint16_t value = (format & 0x10) ? (full[c] ? 0x3c00 : half ? 0x3800 : 0)
                                                       : (full[c] ? 65535 : half ? 32768 : 0);
                std::memcpy(out, &value, 2);
                out += 2;
                break;
            }
            default: {
                const float value = full[c] ? 1.0f : half ? 0.5f : 0.0f;
                std::memcpy(out, &value, 4);
                out += 4;
            }
        }
    }
}

}  // namespace

void draw_card(const Image &image, const OfxRectI &window, const OfxRectI &picture, const std::string &message) {
    const int width = picture.x2 - picture.x1, height = picture.y2 - picture.y1;
    // The largest sign at which all of it fits, down to one dot a pixel.
    int scale = std::max(1, std::min(width, height) / 90);
    std::vector<std::string> text;
    for (;; --scale) {
        const int columns = std::max(1, width / ((kWide + 1) * scale) - 2);
        text = lines("LatentBlend: " + message, static_cast<size_t>(columns));
        const int needed = (static_cast<int>(text.size()) + 1) * (kHigh + 2) * scale;
        if (scale == 1 || needed <= height) break;
    }
    const int cell_wide = (kWide + 1) * scale, cell_high = (kHigh + 2) * scale;
    const size_t bytes = image.pixel_bytes();
    for (int y = window.y1; y < window.y2; ++y) {
        // From the picture's top.
        const int down = picture.y2 - 1 - y - cell_high / 2;
        const int line = down >= 0 ? down / cell_high : -1;
        const int dot_row = down >= 0 ? down % cell_high / scale : kHigh;
        for (int x = window.x1; x < window.x2; ++x) {
            const int across = x - picture.x1 - cell_wide;
            bool ink = false;
            if (across >= 0 && line >= 0 && line < static_cast<int>(text.size()) && dot_row < kHigh) {
                const size_t column = static_cast<size_t>(across / cell_wide);
                const int dot = across % cell_wide / scale;
                const auto &row = text[static_cast<size_t>(line)];
                const uint8_t *sign = column < row.size() ? dots(row[column]) : nullptr;
                ink = sign && dot < kWide && (sign[dot_row] >> (kWide - 1 - dot) & 1);
            }
            unsigned char *out = image.pixel(x, y);
            pixel(out, image.format(), ink, out + bytes);
        }
    }
}

}  // namespace latentblend
