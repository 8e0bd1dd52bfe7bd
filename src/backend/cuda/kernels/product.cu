// In: activations (n, h, w, c) of one or two sources, weights (outputs, taps x channels, padded), what is added.
// Out: activations. Convolutions and linear layers are one product: its rows are the output's pixels, and a
// row's operand is read where it lies, tap by tap (an implicit matrix). An enlarged picture is read in place, too.
//
// Every output is a sum over k in one order by one accumulator, whatever tile it falls into: its bits depend
// neither on the batch nor on the choice of tile. Only `splits` changes them, and that is chosen by the layer
// and the size of the picture alone. What follows a sum rounds step by step, as it is written.
#include "common.cuh"

struct Product {
    const u16 *first, *second; // sources; the second may be none
    const u16 *weight;         // (outputs, k)
    const float *bias;         // may be none
    const void *add;           // may be none
    void *out;
    float *partial;            // (splits, rows, outputs), where splits > 1
    int height, width;         // of the sources
    int channels1, channels2;  // multiples of 8
    int tall, wide;            // to which the sources are enlarged: height and width where they aren't
    int out_height, out_width;
    int outputs;
    int kernel_height, kernel_width, stride, before;
    int k;                     // taps x channels, up to a multiple of 32
    int rows;                  // samples x out_height x out_width
    int splits;
    int activation;
    int add_kind;              // 0 none, 1 a residual, 2 one value a channel
    int add_f32, out_f32;
    int gated;                 // pairs of outputs (a, b) become a gelu(b)
};

struct alignas(16) Four {
    float v[4];
};
struct alignas(8) Two {
    float v[2];
};
struct alignas(8) Half4 {
    u16 v[4];
};

// What is added to four neighbours of a row.
template <class T> DEVICE void addend(float (&v)[4], const Product &p, int row, int column) {
    u64 at = p.add_kind == 1 ? (u64)row * p.outputs + column : (u64)column;
    const float *wide = (const float *)p.add + at;
    const u16 *narrow = (const u16 *)p.add + at;
    if (p.outputs % 4) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (column + e < p.outputs) v[e] = p.add_f32 ? wide[e] : T::get(narrow[e]);
    } else if (p.add_f32) {
        Four four = *(const Four *)wide;
#pragma unroll
        for (int e = 0; e < 4; e++) v[e] = four.v[e];
    } else {
        Half4 four = *(const Half4 *)narrow;
#pragma unroll
        for (int e = 0; e < 4; e++) v[e] = T::get(four.v[e]);
    }
}

// What is between sums of products and memory: GROUP times four neighbours of a row, `column` being a multiple of 4 and
// the same for all, `step` rows apart, those below `end`. Every rounding is spelt out, so that all tiles give the same bits.
template <class T, int GROUP> DEVICE void finish(const Product &p, float (&v)[GROUP][4], int row, int step, int end, int column) {
    float more[GROUP][4];
    bool odd = p.outputs % 4 != 0;
    if (p.add_kind) {
        // Read all at once: what is written meanwhile may be no other's, but no compiler knows.
#pragma unroll
        for (int g = 0; g < GROUP; g++)
            if (row + g * step < end) addend<T>(more[g], p, row + g * step, column);
    }
    if (p.bias) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float bias = column + e < p.outputs ? p.bias[column + e] : 0.0f;
#pragma unroll
            for (int g = 0; g < GROUP; g++) v[g][e] = plus(v[g][e], bias);
        }
    }
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        int y = row + g * step;
        if (y >= end) break;
        if (p.gated) {
            float low = times(v[g][0], gelu(v[g][1])), high = times(v[g][2], gelu(v[g][3]));
            u16 *to = (u16 *)p.out + (u64)y * (p.outputs / 2) + column / 2;
            if (!odd) *(u32 *)to = put_two<T>(low, high);
            else {
                to[0] = T::put(low);
                if (column + 2 < p.outputs) to[1] = T::put(high);
            }
            continue;
        }
        if (p.activation == SILU) {
#pragma unroll
            for (int e = 0; e < 4; e++) v[g][e] = silu(v[g][e]);
        } else if (p.activation == GELU) {
#pragma unroll
            for (int e = 0; e < 4; e++) v[g][e] = gelu(v[g][e]);
        }
        if (p.add_kind) {
#pragma unroll
            for (int e = 0; e < 4; e++) v[g][e] = plus(v[g][e], more[g][e]);
        }
        u64 at = (u64)y * p.outputs + column;
        if (odd) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (column + e >= p.outputs) break;
                if (p.out_f32) ((float *)p.out)[at + e] = v[g][e];
                else ((u16 *)p.out)[at + e] = T::put(v[g][e]);
            }
        } else if (p.out_f32) {
            *(Four *)((float *)p.out + at) = Four{v[g][0], v[g][1], v[g][2], v[g][3]};
        } else {
            *(Half4 *)((u16 *)p.out + at) = Half4{T::put(v[g][0]), T::put(v[g][1]), T::put(v[g][2]), T::put(v[g][3])};
        }
    }
}

// Where chunk `chunk` (8 values) of row `row` lies in a tile of 32 columns: no two of eight rows in one bank.
DEVICE int place(int row, int chunk) { return row * 32 + ((chunk ^ (row >> 1 & 3)) << 3); }

// One block makes BM x BN outputs, each warp WM x WN of them, 32 values of k at a time.
template <class T, int BM, int BN, int WM, int WN, int STAGES> DEVICE void product(const Product &p) {
    constexpr int BK = 32, WARPS_M = BM / WM, THREADS = 32 * WARPS_M * (BN / WN);
    constexpr int A_CHUNKS = BM * 4 / THREADS, B_CHUNKS = BN * 4 / THREADS, STEP = THREADS / 4;
    constexpr int TILE = (BM + BN) * BK;
    SHARED(memory);
    u16 *tiles = (u16 *)memory;
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int tiles_n = (p.outputs + BN - 1) / BN;
    int m0 = (int)(blockIdx.x / tiles_n) * BM, n0 = (int)(blockIdx.x % tiles_n) * BN;
    int k_tiles = p.k / BK;
    int each = (k_tiles + p.splits - 1) / p.splits;
    int k_begin = (int)blockIdx.y * each;
    int k_end = k_begin + each < k_tiles ? k_begin + each : k_tiles;

    // What this thread loads: chunk `chunk` of rows `line`, `line + STEP`, ...
    int chunk = thread & 3, line = thread >> 2;
    int channels = p.channels1 + p.channels2, taps = p.kernel_height * p.kernel_width;
    int k = k_begin * BK + chunk * 8, tap = k / channels, channel = k - tap * channels;
    int top[A_CHUNKS], left[A_CHUNKS], sample[A_CHUNKS], pixel[A_CHUNKS];
#pragma unroll
    for (int i = 0; i < A_CHUNKS; i++) {
        int row = m0 + line + i * STEP, area = p.out_height * p.out_width;
        bool there = row < p.rows;
        sample[i] = there ? row / area : -1;
        int rest = there ? row - sample[i] * area : 0, y = rest / p.out_width;
        top[i] = y * p.stride - p.before;
        left[i] = (rest - y * p.out_width) * p.stride - p.before;
    }
    auto seek = [&]() {
        int ky = tap / p.kernel_width, kx = tap - ky * p.kernel_width;
#pragma unroll
        for (int i = 0; i < A_CHUNKS; i++) {
            int y = top[i] + ky, x = left[i] + kx;
            bool there = sample[i] >= 0 && tap < taps && y >= 0 && y < p.tall && x >= 0 && x < p.wide;
            // Of sides up to 32768: no more than 32 bits. Where it isn't there nothing is read.
            if (p.tall != p.height) y = (int)((u32)y * (u32)p.height / (u32)p.tall);
            if (p.wide != p.width) x = (int)((u32)x * (u32)p.width / (u32)p.wide);
            pixel[i] = there ? (sample[i] * p.height + y) * p.width + x : -1;
        }
    };
    seek();
    auto load = [&](int stage) {
        u16 *a = tiles + stage * TILE, *b = a + BM * BK;
#pragma unroll
        for (int i = 0; i < A_CHUNKS; i++) {
            const u16 *from = p.first;
            if (pixel[i] >= 0) {
                from = channel < p.channels1 ? p.first + (u64)pixel[i] * p.channels1 + channel
                                             : p.second + (u64)pixel[i] * p.channels2 + (channel - p.channels1);
            }
            copy16(a + place(line + i * STEP, chunk), from, pixel[i] >= 0 ? 16 : 0);
        }
#pragma unroll
        for (int i = 0; i < B_CHUNKS; i++) {
            int row = n0 + line + i * STEP;
            bool there = row < p.outputs;
            copy16(b + place(line + i * STEP, chunk), there ? p.weight + (u64)row * p.k + k : p.weight, there ? 16 : 0);
        }
        k += BK;
        channel += BK;
        if (channel >= channels) {
            do {
                channel -= channels;
                tap++;
            } while (channel >= channels);
            seek();
        }
    };

    float sums[WM / 16][WN / 8][4];
#pragma unroll
    for (int i = 0; i < WM / 16; i++)
#pragma unroll
        for (int j = 0; j < WN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;

#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (k_begin + stage < k_end) load(stage);
        copies_end();
    }
    int matrix = lane >> 3, r = lane & 7;
    int wm = warp % WARPS_M * WM, wn = warp / WARPS_M * WN;
    int at = 0, next = STAGES - 1;
    for (int tile = k_begin; tile < k_end; tile++) {
        copies_wait<STAGES - 2>();
        sync();
        if (tile + STAGES - 1 < k_end) load(next);
        copies_end();
        const u16 *a = tiles + at * TILE, *b = a + BM * BK;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 fa[WM / 16][4], fb[WN / 16][4];
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
                load_matrices(fa[i], a + place(wm + i * 16 + (matrix & 1) * 8 + r, half * 2 + (matrix >> 1)));
#pragma unroll
            for (int j = 0; j < WN / 16; j++)
                load_matrices(fb[j], b + place(wn + j * 16 + (matrix >> 1) * 8 + r, half * 2 + (matrix & 1)));
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
#pragma unroll
                for (int j = 0; j < WN / 8; j++)
                    T::multiply(sums[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
        }
        at = at + 1 == STAGES ? 0 : at + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }

    // By way of shared memory, where the tiles were: WM rows at a time, of which each thread then has four neighbours, so
    // that a warp reads and writes whole lines. The rows' distance keeps what a warp writes out of one bank.
    constexpr int QUADS = BN / 4, WIDE = BN + 8, LINES = THREADS / QUADS, GROUP = 4;
    static_assert(WM % (GROUP * LINES) == 0 && WM * WIDE * 4 <= STAGES * TILE * 2, "rows by groups, in the tiles' room");
    float *staged = (float *)memory;
    copies_wait<0>();
#pragma unroll 1
    for (int part = 0; part < WARPS_M; part++) {
        sync();
        if (warp % WARPS_M == part) {
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
#pragma unroll
                for (int j = 0; j < WN / 8; j++)
#pragma unroll
                    for (int e = 0; e < 4; e += 2) {
                        float *to = staged + (i * 16 + (lane >> 2) + e * 4) * WIDE + wn + j * 8 + (lane & 3) * 2;
                        *(Two *)to = Two{sums[i][j][e], sums[i][j][e + 1]};
                    }
        }
        sync();
        int column = n0 + thread % QUADS * 4, first = m0 + part * WM;
        int end = first + WM < p.rows ? first + WM : p.rows;
        if (column >= p.outputs) continue;
#pragma unroll 1
        for (int line = thread / QUADS; line < WM; line += GROUP * LINES) {
            float v[GROUP][4];
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                Four four = *(const Four *)(staged + (line + g * LINES) * WIDE + column - n0);
#pragma unroll
                for (int e = 0; e < 4; e++) v[g][e] = four.v[e];
            }
            if (p.splits == 1) {
                finish<T, GROUP>(p, v, first + line, LINES, end, column);
                continue;
            }
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                int row = first + line + g * LINES;
                if (row >= end) break;
                float *to = p.partial + ((u64)blockIdx.y * p.rows + row) * p.outputs + column;
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (column + e < p.outputs) to[e] = v[g][e];
            }
        }
    }
}

// Adds the parts of a product that was split along k, in order.
template <class T> DEVICE void product_join(const Product &p) {
    int quads = (p.outputs + 3) / 4, threads = (int)(gridDim.x * blockDim.x), at = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    // No division but these: a thread goes on by as many rows and quads each time.
    int row = at / quads, quad = at - row * quads, rows = threads / quads, more = threads - rows * quads;
    while (row < p.rows) {
        int column = quad * 4;
        float v[1][4] = {};
        for (int split = 0; split < p.splits; split++) {
            const float *part = p.partial + ((u64)split * p.rows + row) * p.outputs + column;
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (column + e < p.outputs) v[0][e] = plus(v[0][e], part[e]);
        }
        finish<T, 1>(p, v, row, 1, p.rows, column);
        row += rows;
        quad += more;
        if (quad >= quads) {
            quad -= quads;
            row++;
        }
    }
}

KERNEL_OF(128, 2, product_large_f16, Product) { product<F16, 128, 128, 64, 64, 4>(p); }
KERNEL_OF(128, 2, product_large_bf16, Product) { product<Bf16, 128, 128, 64, 64, 4>(p); }
// With three stages two blocks of such a size find room where shared memory is 100 KiB.
KERNEL_OF(128, 2, product_lean_f16, Product) { product<F16, 128, 128, 64, 64, 3>(p); }
KERNEL_OF(128, 2, product_lean_bf16, Product) { product<Bf16, 128, 128, 64, 64, 3>(p); }
KERNEL_OF(128, 4, product_small_f16, Product) { product<F16, 64, 64, 32, 32, 4>(p); }
KERNEL_OF(128, 4, product_small_bf16, Product) { product<Bf16, 64, 64, 32, 32, 4>(p); }
KERNEL(product_join_f16, Product) { product_join<F16>(p); }
KERNEL(product_join_bf16, Product) { product_join<Bf16>(p); }
