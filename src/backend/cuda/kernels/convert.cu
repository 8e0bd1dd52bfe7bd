// In: a picture as a network leaves it on the device, and where it lies among a caller's pixels. Out: these pixels:
// resampled, in the caller's colour space and format, at any address and in either order of rows.
//
// The same numbers, to the bit, as the library's own conversion on the processor (src/frame/convert.rs, colour.rs):
// basic operations of IEEE 754 in one order, of which none may be joined: compiled with -fmad=false.
#include "common.cuh"

struct Convert {
    const float *picture; // (height, width, 3), -1 to 1
    u64 top;              // the first byte of the image's top row
    long long row_bytes;
    const u32 *table;     // what `Tables` lays out; none where the image has the picture's size
    int height, width;    // of the picture
    int tall, wide;       // of the image
    int row0, row1;       // the image's rows within the bounds, the last just outside; others are no picture's
    int column0, column1;
    u32 row_starts, row_weights, column_weights; // where these begin in `table`; the columns' starts are at 0
    int channels, bytes, is_float, transfer;
};

DEVICE float sane(float x) {
    if (x != x) return 0.0f;
    const float most = 3.4028234663852886e38f;
    return (x < -most ? -most : x > most ? most : x) + 0.0f;
}

// value^power within a few percent: the bits of a float are nearly its logarithm.
DEVICE double guess(double value, float power) {
    const float one = (127.0f - 0.045f) * 8388608.0f;
    float bits = (float)float_to_bits((float)value);
    float low = power * bits, high = (1.0f - power) * one;
    return (double)bits_to_float((u32)(low + high));
}

// The light of a display-encoded value.
DEVICE float light_of(float encoded) {
    double value = (double)fabsf(encoded);
    if (value <= 0.04045) return (float)((double)encoded / 12.92);
    double y = (value + 0.055) / (1.0 + 0.055), square = y * y;
    double root = guess(y, -2.0f / 5.0f);
    for (int i = 0; i < 2; i++) {
        double fifth = (root * root) * (root * root) * root;
        double h = 1.0 - square * fifth;
        root += root * (h * (1.0 / 5.0 + h * (3.0 / 25.0 + h * (11.0 / 125.0))));
    }
    double fifth = square * (root * root) * (root * root);
    float light = (float)(square * fifth);
    return encoded < 0.0f ? -light : light;
}

DEVICE void encode(int transfer, float (&c)[3]) {
    if (transfer == 1) return;
    for (int i = 0; i < 3; i++) c[i] = light_of(c[i]);
    if (transfer == 2) return;
    double r = c[0], g = c[1], b = c[2];
    c[0] = (float)(0.6130974024011876 * r + 0.3395231461841057 * g + 0.04737945141470668 * b);
    c[1] = (float)(0.07019372246958173 * r + 0.9163538790573441 * g + 0.0134523984730741 * b);
    c[2] = (float)(0.020615592882226974 * r + 0.10956977293813548 * g + 0.8698146341796376 * b);
}

DEVICE u32 code(const Convert &p, float x) {
    if (p.bytes == 4) return float_to_bits(sane(x));
    if (p.is_float) {
        x = sane(x);
        return float_to_f16(x < -65504.0f ? -65504.0f : x > 65504.0f ? 65504.0f : x);
    }
    if (x != x) return 0;
    x = x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
    return (u32)rintf(x * (p.bytes == 1 ? 255.0f : 65535.0f));
}

DEVICE void put(u64 at, u32 value, int bytes) {
    if (bytes == 4 && at % 4 == 0) *(u32 *)at = value;
    else if (bytes == 2 && at % 2 == 0) *(u16 *)at = (u16)value;
    else
        for (int i = 0; i < bytes; i++) ((unsigned char *)at)[i] = (unsigned char)(value >> 8 * i);
}

KERNEL(convert, Convert) {
    u64 all = (u64)p.tall * p.wide;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += (u64)gridDim.x * blockDim.x) {
        int y = (int)(i / p.wide), x = (int)(i % p.wide);
        u64 to = p.top + (u64)((long long)y * p.row_bytes) + (u64)x * (p.channels * p.bytes);
        if (y < p.row0 || y >= p.row1 || x < p.column0 || x >= p.column1) {
            for (int c = 0; c < p.channels; c++) put(to + c * p.bytes, 0, p.bytes);
            continue;
        }
        float colour[3] = {0.0f, 0.0f, 0.0f};
        if (!p.table) {
            const float *from = p.picture + ((u64)y * p.width + x) * 3;
            for (int c = 0; c < 3; c++) {
                float half = from[c] * 0.5f;
                colour[c] = sane(half + 0.5f);
            }
        } else {
            // Of each: the first of the picture's pixels, where its weights begin, and (the next one's) where they end.
            const u32 *column = p.table + 2 * (x - p.column0), *row = p.table + p.row_starts + 2 * (y - p.row0);
            const float *across = (const float *)(p.table + p.column_weights), *down = (const float *)(p.table + p.row_weights);
            for (u32 j = row[1]; j < row[3]; j++) {
                const float *from = p.picture + ((u64)(row[0] + j - row[1]) * p.width + column[0]) * 3;
                float line[3] = {0.0f, 0.0f, 0.0f};
                for (u32 k = column[1]; k < column[3]; k++, from += 3)
                    for (int c = 0; c < 3; c++) {
                        float half = from[c] * 0.5f;
                        float value = across[k] * sane(half + 0.5f);
                        line[c] += value;
                    }
                for (int c = 0; c < 3; c++) {
                    float value = down[j] * line[c];
                    colour[c] += value;
                }
            }
            for (int c = 0; c < 3; c++) colour[c] = sane(colour[c]);
        }
        encode(p.transfer, colour);
        for (int c = 0; c < 3; c++) put(to + c * p.bytes, code(p, colour[c]), p.bytes);
        if (p.channels == 4) put(to + 3 * p.bytes, code(p, 1.0f), p.bytes);
    }
}
