// In: activations. Out: activations, one value at a time: other types, other samples, weighted sums.
#include "common.cuh"

// Channels of two sources side by side, in another type, followed by zeros.
struct Assemble {
    const void *first, *second;
    void *out;
    u64 pixels;
    int channels1, channels2, channels_out;
    int first_f32, second_f32, out_f32;
};

template <class T> DEVICE float value(const void *from, bool f32, u64 at) {
    return f32 ? ((const float *)from)[at] : T::get(((const u16 *)from)[at]);
}

template <class T> DEVICE void assemble(const Assemble &p) {
    // No division but these: a thread goes on by as many pixels and channels each time.
    int threads = (int)(gridDim.x * blockDim.x), at = (int)(blockIdx.x * blockDim.x + threadIdx.x), all = p.channels_out;
    int first = at / all, channel = at - first * all, pixels = threads / all, more = threads - pixels * all;
    u64 pixel = first;
    while (pixel < p.pixels) {
        int behind = channel - p.channels1;
        float x = 0.0f;
        if (behind < 0) x = value<T>(p.first, p.first_f32, pixel * p.channels1 + channel);
        else if (behind < p.channels2) x = value<T>(p.second, p.second_f32, pixel * p.channels2 + behind);
        u64 to = pixel * all + channel;
        if (p.out_f32) ((float *)p.out)[to] = x;
        else ((u16 *)p.out)[to] = T::put(x);
        pixel += pixels;
        channel += more;
        if (channel >= all) {
            channel -= all;
            pixel++;
        }
    }
}

// Samples in another order. blockIdx.y is the sample written.
struct Gather {
    const u16 *from;
    u16 *to;
    u64 length; // of a sample, in units of two bytes
    u16 rows[128];
};

KERNEL(gather, Gather) {
    const u16 *from = p.from + (u64)p.rows[blockIdx.y] * p.length;
    u16 *to = p.to + (u64)blockIdx.y * p.length;
    struct alignas(16) Sixteen {
        u64 v[2];
    };
    bool wide = p.length % 8 == 0;
    u64 all = wide ? p.length / 8 : p.length;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += (u64)gridDim.x * blockDim.x) {
        if (wide) ((Sixteen *)to)[i] = ((const Sixteen *)from)[i];
        else to[i] = from[i];
    }
}

// The sum of up to four terms, each weighed sample by sample. Sums in f32, term by term.
struct Combine {
    const void *terms[4];
    float *out;
    u64 length; // of a sample
    int count;
    int f32[4];
    float weights[4][64];
};

// blockIdx.y is the sample.
template <class T> DEVICE void combine(const Combine &p) {
    u64 start = (u64)blockIdx.y * p.length;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < p.length; i += (u64)gridDim.x * blockDim.x) {
        float sum = 0.0f;
        for (int term = 0; term < p.count; term++)
            sum += p.weights[term][blockIdx.y] * value<T>(p.terms[term], p.f32[term], start + i);
        p.out[start + i] = sum;
    }
}

KERNEL(assemble_f16, Assemble) { assemble<F16>(p); }
KERNEL(assemble_bf16, Assemble) { assemble<Bf16>(p); }
KERNEL(combine_f16, Combine) { combine<F16>(p); }
KERNEL(combine_bf16, Combine) { combine<Bf16>(p); }
