// In: queries, keys and values, heads side by side. Out: softmax(q k^T / sqrt(d)) v, head by head. Scores live in
// registers only (Dao et al. 2022): keys pass by in tiles of 64, and what was summed is rescaled when a higher
// score turns up. The tiles are the same for every batch.
#include "common.cuh"

struct Attention {
    const u16 *query, *key, *value;
    u16 *out;
    u64 query_sample, key_sample;       // values from a sample to the next
    int query_row, key_row, out_row;    // values from a token to the next
    int tokens, others;                 // of queries, of keys
    int heads, width;                   // width: channels of a head
    int causal, aligned;                // aligned: all rows and heads start at multiples of 16 bytes
    float scale;                        // times log2(e)
    int listed;                         // whether sample i reads the keys of rows[i], not of i
    int first;                          // the sample of blockIdx.z = 0
    u16 rows[64];
};

// 64 columns a row; no two of eight rows of a column of chunks in one bank.
DEVICE int spot(int row, int chunk) { return row * 64 + ((chunk ^ (row & 7)) << 3); }

// ROWS x 64 values of rows `row0`.. (of `rows` there are) and columns `column0`.. (of `columns`), zeros beyond.
template <int ROWS, int THREADS>
DEVICE void load_tile(u16 *to, const u16 *from, int stride, int row0, int rows, int column0, int columns, bool aligned) {
#pragma unroll
    for (int i = 0; i < ROWS * 8 / THREADS; i++) {
        int index = threadIdx.x + i * THREADS, row = index >> 3, chunk = index & 7, column = column0 + chunk * 8;
        int left = columns - column, count = row0 + row < rows && left > 0 ? (left < 8 ? left : 8) : 0;
        const u16 *source = count ? from + (u64)(row0 + row) * stride + column : from;
        u16 *place = to + spot(row, chunk);
        if (aligned) copy16(place, source, count * 2);
        else
            for (int e = 0; e < 8; e++) place[e] = e < count ? source[e] : (u16)0;
    }
}

// What a warp knows of its 16 queries; each thread of two rows, lane / 4 and 8 below.
template <int CHUNKS> struct State {
    float out[CHUNKS * 8][4];
    float highest[2], sum[2];
};

template <int CHUNKS> DEVICE void begin(State<CHUNKS> &s) {
#pragma unroll
    for (int j = 0; j < CHUNKS * 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) s.out[j][e] = 0.0f;
    s.highest[0] = s.highest[1] = -infinity();
    s.sum[0] = s.sum[1] = 0.0f;
}

// scores += q k^T over 64 channels; `q` holds the warp's 16 rows from `row` on.
template <class T> DEVICE void score(float (&scores)[8][4], const u32 (&q)[4][4], const u16 *keys) {
    int lane = threadIdx.x & 31, matrix = lane >> 3, r = lane & 7;
#pragma unroll
    for (int step = 0; step < 4; step++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            u32 b[4];
            load_matrices(b, keys + spot(j * 16 + (matrix >> 1) * 8 + r, step * 2 + (matrix & 1)));
            T::multiply(scores[j * 2], q[step], b[0], b[1]);
            T::multiply(scores[j * 2 + 1], q[step], b[2], b[3]);
        }
}

DEVICE void load_queries(u32 (&q)[4][4], const u16 *tile, int row) {
    int lane = threadIdx.x & 31, matrix = lane >> 3, r = lane & 7;
#pragma unroll
    for (int step = 0; step < 4; step++)
        load_matrices(q[step], tile + spot(row + (matrix & 1) * 8 + r, step * 2 + (matrix >> 1)));
}

// Takes in the scores of 64 keys from `key0` on. `row` is this thread's upper query. `values` holds CHUNKS tiles.
template <class T, int CHUNKS>
DEVICE void take(State<CHUNKS> &s, float (&scores)[8][4], const u16 *values, const Attention &p, int row, int key0) {
    int lane = threadIdx.x & 31, matrix = lane >> 3, r = lane & 7;
    if (p.causal || key0 + 64 > p.others) {
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int key = key0 + j * 8 + (lane & 3) * 2 + (e & 1), query = row + (e >> 1) * 8;
                if (key >= p.others || (p.causal && key > query)) scores[j][e] = -infinity();
            }
    }
    float now[2], shrink[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        now[h] = s.highest[h];
#pragma unroll
        for (int j = 0; j < 8; j++) now[h] = fmaxf(now[h], fmaxf(scores[j][h * 2], scores[j][h * 2 + 1]));
        now[h] = fmaxf(now[h], shuffle_xor(now[h], 1));
        now[h] = fmaxf(now[h], shuffle_xor(now[h], 2));
        shrink[h] = power_of_two((s.highest[h] - now[h]) * p.scale);
        s.highest[h] = now[h];
        s.sum[h] *= shrink[h];
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            scores[j][e] = power_of_two((scores[j][e] - now[e >> 1]) * p.scale);
            s.sum[e >> 1] += scores[j][e];
        }
#pragma unroll
    for (int j = 0; j < CHUNKS * 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) s.out[j][e] *= shrink[e >> 1];
#pragma unroll
    for (int step = 0; step < 4; step++) {
        u32 weights[4] = {
            put_two<T>(scores[step * 2][0], scores[step * 2][1]),
            put_two<T>(scores[step * 2][2], scores[step * 2][3]),
            put_two<T>(scores[step * 2 + 1][0], scores[step * 2 + 1][1]),
            put_two<T>(scores[step * 2 + 1][2], scores[step * 2 + 1][3]),
        };
#pragma unroll
        for (int j = 0; j < CHUNKS * 4; j++) {
            u32 b[4];
            const u16 *tile = values + j / 4 * 4096;
            load_matrices_transposed(b, tile + spot(step * 16 + (matrix & 1) * 8 + r, j % 4 * 2 + (matrix >> 1)));
            T::multiply(s.out[j * 2], weights, b[0], b[1]);
            T::multiply(s.out[j * 2 + 1], weights, b[2], b[3]);
        }
    }
}

// Writes what was summed, columns `column0` and on of the head.
template <class T, int CHUNKS>
DEVICE void end(State<CHUNKS> &s, const Attention &p, u16 *out, int row, int column0) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = s.sum[h];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        int token = row + h * 8;
        if (token >= p.tokens) continue;
        u16 *to = out + (u64)token * p.out_row;
#pragma unroll
        for (int j = 0; j < CHUNKS * 8; j++) {
            int column = column0 + j * 8 + (lane & 3) * 2;
            float low = s.out[j][h * 2] / sum, high = s.out[j][h * 2 + 1] / sum;
            if (column + 1 < p.width && p.aligned) *(u32 *)(to + column) = put_two<T>(low, high);
            else {
                if (column < p.width) to[column] = T::put(low);
                if (column + 1 < p.width) to[column + 1] = T::put(high);
            }
        }
    }
}

// Heads of up to 64 channels. A block takes 16 queries a warp; blockIdx is (queries, head, sample).
template <class T, int WARPS> DEVICE void attention(const Attention &p) {
    constexpr int QUERIES = WARPS * 16, THREADS = WARPS * 32;
    SHARED(memory);
    u16 *tiles = (u16 *)memory; // twice keys and values; before that, queries
    int sample = p.first + (int)blockIdx.z, head = (int)blockIdx.y, row0 = (int)blockIdx.x * QUERIES;
    int owner = p.listed ? p.rows[blockIdx.z] : sample;
    u64 own = (u64)head * p.width;
    const u16 *query = p.query + (u64)sample * p.query_sample + own;
    const u16 *keys = p.key + (u64)owner * p.key_sample + own, *values = p.value + (u64)owner * p.key_sample + own;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = row0 + warp * 16 + (lane >> 2);

    load_tile<QUERIES, THREADS>(tiles, query, p.query_row, row0, p.tokens, 0, p.width, p.aligned);
    copies_end();
    copies_wait<0>();
    sync();
    u32 q[4][4];
    load_queries(q, tiles, warp * 16);
    sync();

    int last = p.causal && row0 + QUERIES < p.others ? row0 + QUERIES : p.others;
    State<1> state;
    begin(state);
    auto fetch = [&](int key0, int stage) {
        u16 *to = tiles + stage * 8192;
        load_tile<64, THREADS>(to, keys, p.key_row, key0, p.others, 0, p.width, p.aligned);
        load_tile<64, THREADS>(to + 4096, values, p.key_row, key0, p.others, 0, p.width, p.aligned);
        copies_end();
    };
    fetch(0, 0);
    for (int key0 = 0, stage = 0; key0 < last; key0 += 64, stage ^= 1) {
        if (key0 + 64 < last) fetch(key0 + 64, stage ^ 1);
        else copies_end();
        copies_wait<1>();
        sync();
        float scores[8][4];
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[j][e] = 0.0f;
        score<T>(scores, q, tiles + stage * 8192);
        take<T>(state, scores, tiles + stage * 8192 + 4096, p, row, key0);
        sync();
    }
    end<T>(state, p, p.out + (u64)sample * p.tokens * p.out_row + own, row, 0);
}

// Wider heads: a block makes 128 columns of the result and goes through the channels in chunks of 64 for every
// tile of keys, so that nothing grows with the width. blockIdx.y counts heads and, within them, columns.
template <class T> DEVICE void attention_wide(const Attention &p) {
    constexpr int THREADS = 128;
    SHARED(memory);
    u16 *tiles = (u16 *)memory; // twice 16 kB: queries and keys of a chunk, or values
    int chunks = (p.width + 63) / 64, slices = (p.width + 127) / 128;
    int sample = p.first + (int)blockIdx.z, head = (int)blockIdx.y / slices, slice = (int)blockIdx.y % slices;
    int owner = p.listed ? p.rows[blockIdx.z] : sample, row0 = (int)blockIdx.x * 64;
    u64 own = (u64)head * p.width;
    const u16 *query = p.query + (u64)sample * p.query_sample + own;
    const u16 *keys = p.key + (u64)owner * p.key_sample + own, *values = p.value + (u64)owner * p.key_sample + own;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row = row0 + warp * 16 + (lane >> 2);

    int last = p.causal && row0 + 64 < p.others ? row0 + 64 : p.others;
    int items = (last + 63) / 64 * (chunks + 1);
    auto fetch = [&](int item) {
        u16 *to = tiles + (item & 1) * 8192;
        int key0 = item / (chunks + 1) * 64, part = item % (chunks + 1);
        if (part < chunks) {
            load_tile<64, THREADS>(to, query, p.query_row, row0, p.tokens, part * 64, p.width, p.aligned);
            load_tile<64, THREADS>(to + 4096, keys, p.key_row, key0, p.others, part * 64, p.width, p.aligned);
        } else {
            load_tile<64, THREADS>(to, values, p.key_row, key0, p.others, slice * 128, p.width, p.aligned);
            load_tile<64, THREADS>(to + 4096, values, p.key_row, key0, p.others, slice * 128 + 64, p.width, p.aligned);
        }
        copies_end();
    };
    State<2> state;
    begin(state);
    float scores[8][4];
    fetch(0);
    for (int item = 0; item < items; item++) {
        if (item + 1 < items) fetch(item + 1);
        else copies_end();
        copies_wait<1>();
        sync();
        const u16 *tile = tiles + (item & 1) * 8192;
        int part = item % (chunks + 1);
        if (part == 0) {
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) scores[j][e] = 0.0f;
        }
        if (part < chunks) {
            u32 q[4][4];
            load_queries(q, tile, warp * 16);
            score<T>(scores, q, tile + 4096);
        } else {
            take<T>(state, scores, tile, p, row, item / (chunks + 1) * 64);
        }
        sync();
    }
    end<T>(state, p, p.out + (u64)sample * p.tokens * p.out_row + own, row, slice * 128);
}

KERNEL_OF(256, 2, attention_long_f16, Attention) { attention<F16, 8>(p); }
KERNEL_OF(256, 2, attention_long_bf16, Attention) { attention<Bf16, 8>(p); }
KERNEL_OF(128, 2, attention_short_f16, Attention) { attention<F16, 4>(p); }
KERNEL_OF(128, 2, attention_short_bf16, Attention) { attention<Bf16, 4>(p); }
KERNEL_OF(128, 2, attention_wide_f16, Attention) { attention_wide<F16>(p); }
KERNEL_OF(128, 2, attention_wide_bf16, Attention) { attention_wide<Bf16>(p); }
