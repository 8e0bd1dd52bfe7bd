// In: activations of one or two sources. Out: activation(norm(x)) as one activation. A group norm takes two
// kernels: sums over parts of a sample's pixels, and their use. Parts are cut by the size of the picture alone and
// added in order, in f64, so a sample's result doesn't depend on the batch.
#include "common.cuh"

struct Norm {
    const u16 *first, *second;
    u16 *out;
    const float *scale, *shift;
    float *sums; // (samples, parts, groups, 2): of the values, of their squares
    int channels1, channels2;
    int pixels, samples;
    int groups, parts, pixels_per_part;
    int activation;
    float epsilon;
};

struct alignas(16) Eight {
    u16 v[8];
};

// UNIT neighbouring channels from `channel` on.
template <class T, int UNIT> DEVICE void read(float (&v)[UNIT], const Norm &p, u64 pixel, int channel) {
    const u16 *from = channel < p.channels1 ? p.first + pixel * p.channels1 + channel
                                            : p.second + pixel * p.channels2 + (channel - p.channels1);
    if (UNIT == 8) {
        Eight eight = *(const Eight *)from;
#pragma unroll
        for (int e = 0; e < UNIT; e++) v[e] = T::get(eight.v[e]);
    } else {
        v[0] = T::get(*from);
    }
}

template <class T, int UNIT> DEVICE void write(const float (&v)[UNIT], u16 *to) {
    if (UNIT == 8) {
        Eight eight;
#pragma unroll
        for (int e = 0; e < UNIT; e++) eight.v[e] = T::put(v[e]);
        *(Eight *)to = eight;
    } else {
        to[0] = T::put(v[0]);
    }
}

// blockIdx is (part, sample); 256 threads.
template <class T, int UNIT> DEVICE void group_sums(const Norm &p) {
    SHARED(memory);
    float *own = (float *)memory; // (lines, channels, 2)
    int channels = p.channels1 + p.channels2, columns = channels / UNIT, thread = threadIdx.x;
    int lines = columns < 256 ? 256 / columns : 1;
    int begin = (int)blockIdx.x * p.pixels_per_part;
    int end = begin + p.pixels_per_part < p.pixels ? begin + p.pixels_per_part : p.pixels;
    u64 start = (u64)blockIdx.y * p.pixels;
    for (int column = columns < 256 ? thread % columns : thread; column < columns; column += 256) {
        int line = columns < 256 ? thread / columns : 0;
        if (line >= lines) break;
        float sum[UNIT], squares[UNIT];
#pragma unroll
        for (int e = 0; e < UNIT; e++) sum[e] = squares[e] = 0.0f;
        for (int pixel = begin + line; pixel < end; pixel += lines) {
            float v[UNIT];
            read<T, UNIT>(v, p, start + pixel, column * UNIT);
#pragma unroll
            for (int e = 0; e < UNIT; e++) {
                sum[e] += v[e];
                squares[e] += v[e] * v[e];
            }
        }
#pragma unroll
        for (int e = 0; e < UNIT; e++) {
            float *to = own + ((u64)line * channels + column * UNIT + e) * 2;
            to[0] = sum[e];
            to[1] = squares[e];
        }
    }
    sync();
    int width = channels / p.groups;
    for (int group = thread; group < p.groups; group += 256) {
        float sum = 0.0f, squares = 0.0f;
        for (int line = 0; line < lines; line++)
            for (int channel = group * width; channel < (group + 1) * width; channel++) {
                sum += own[(line * channels + channel) * 2];
                squares += own[(line * channels + channel) * 2 + 1];
            }
        float *to = p.sums + (((u64)blockIdx.y * p.parts + blockIdx.x) * p.groups + group) * 2;
        to[0] = sum;
        to[1] = squares;
    }
}

// blockIdx is (any number of shares, sample); 256 threads.
template <class T, int UNIT> DEVICE void group_apply(const Norm &p) {
    SHARED(memory);
    double *shares = (double *)memory;            // (32 groups, 8, 2)
    float *moments = (float *)(memory + 4096);    // (groups, 2): mean, 1 / sqrt(variance + epsilon)
    float *lines = moments + p.groups * 2;        // (channels, 2): factor, summand
    int channels = p.channels1 + p.channels2, width = channels / p.groups, thread = threadIdx.x;
    for (int first = 0; first < p.groups; first += 32) {
        int group = first + thread / 8;
        double sum = 0.0, squares = 0.0;
        if (group < p.groups) {
            for (int part = thread & 7; part < p.parts; part += 8) {
                const float *from = p.sums + (((u64)blockIdx.y * p.parts + part) * p.groups + group) * 2;
                sum += from[0];
                squares += from[1];
            }
        }
        shares[thread * 2] = sum;
        shares[thread * 2 + 1] = squares;
        sync();
        if (group < p.groups && (thread & 7) == 0) {
            sum = squares = 0.0;
            for (int i = 0; i < 8; i++) {
                sum += shares[(thread + i) * 2];
                squares += shares[(thread + i) * 2 + 1];
            }
            double count = (double)p.pixels * width, mean = sum / count, variance = squares / count - mean * mean;
            moments[group * 2] = (float)mean;
            moments[group * 2 + 1] = (float)(1.0 / sqrt((variance > 0.0 ? variance : variance < 0.0 ? 0.0 : variance) + p.epsilon));
        }
        sync();
    }
    for (int channel = thread; channel < channels; channel += 256) {
        float mean = moments[channel / width * 2], factor = moments[channel / width * 2 + 1] * p.scale[channel];
        lines[channel * 2] = factor;
        lines[channel * 2 + 1] = p.shift[channel] - mean * factor;
    }
    sync();
    // No division but these: a thread goes on by as many pixels and columns each time.
    int columns = channels / UNIT, at = (int)blockIdx.x * 256 + thread, threads = (int)gridDim.x * 256;
    int pixel = at / columns, column = at - pixel * columns, pixels = threads / columns, more = threads - pixels * columns;
    u64 start = (u64)blockIdx.y * p.pixels;
    while (pixel < p.pixels) {
        int channel = column * UNIT;
        float v[UNIT];
        read<T, UNIT>(v, p, start + pixel, channel);
#pragma unroll
        for (int e = 0; e < UNIT; e++)
            v[e] = activate(p.activation, v[e] * lines[(channel + e) * 2] + lines[(channel + e) * 2 + 1]);
        write<T, UNIT>(v, p.out + (start + pixel) * channels + channel);
        pixel += pixels;
        column += more;
        if (column >= columns) {
            column -= columns;
            pixel++;
        }
    }
}

DEVICE float warp_sum(float x) {
    for (int mask = 16; mask; mask >>= 1) x += shuffle_xor(x, mask);
    return x;
}

// One warp a token of `channels1` channels; 256 threads. `pixels` counts tokens of all samples.
template <class T, int UNIT> DEVICE void layer(const Norm &p) {
    int lane = threadIdx.x & 31, columns = p.channels1 / UNIT;
    for (u64 token = (u64)blockIdx.x * 8 + (threadIdx.x >> 5); token < (u64)p.pixels; token += (u64)gridDim.x * 8) {
        float sum = 0.0f, squares = 0.0f, v[UNIT];
        for (int column = lane; column < columns; column += 32) {
            read<T, UNIT>(v, p, token, column * UNIT);
#pragma unroll
            for (int e = 0; e < UNIT; e++) sum += v[e];
        }
        float mean = warp_sum(sum) / p.channels1;
        for (int column = lane; column < columns; column += 32) {
            read<T, UNIT>(v, p, token, column * UNIT);
#pragma unroll
            for (int e = 0; e < UNIT; e++) squares += (v[e] - mean) * (v[e] - mean);
        }
        float factor = 1.0f / sqrtf(warp_sum(squares) / p.channels1 + p.epsilon);
        for (int column = lane; column < columns; column += 32) {
            read<T, UNIT>(v, p, token, column * UNIT);
#pragma unroll
            for (int e = 0; e < UNIT; e++) {
                int channel = column * UNIT + e;
                v[e] = activate(p.activation, (v[e] - mean) * factor * p.scale[channel] + p.shift[channel]);
            }
            write<T, UNIT>(v, p.out + token * p.channels1 + column * UNIT);
        }
    }
}

#define NORMS(kind, T)                                                          \
    KERNEL(group_sums_##kind, Norm) { group_sums<T, 8>(p); }                    \
    KERNEL(group_sums_odd_##kind, Norm) { group_sums<T, 1>(p); }                \
    KERNEL(group_apply_##kind, Norm) { group_apply<T, 8>(p); }                  \
    KERNEL(group_apply_odd_##kind, Norm) { group_apply<T, 1>(p); }              \
    KERNEL(layer_##kind, Norm) { layer<T, 8>(p); }                              \
    KERNEL(layer_odd_##kind, Norm) { layer<T, 1>(p); }
NORMS(f16, F16)
NORMS(bf16, Bf16)
