// In: activations (n, h, w, c) of one or two sources, weights (outputs, taps x channels, padded), what is added.
// Out: activations. Convolutions and linear layers are one product: its rows are the output's pixels, and a
// row's operand is read where it lies, tap by tap (an implicit matrix). An enlarged picture is read in place, too.
//
// Every output is a sum over k in one order by one accumulator, whatever tile it falls into: its bits depend
// neither on the batch nor on the choice of tile. Only `splits` changes them, and that is chosen by the layer
// and the size of the picture alone.
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

// What is between the sum of products and memory.
template <class T> DEVICE float finish(const Product &p, float sum, int row, int column) {
    if (p.bias) sum += p.bias[column];
    sum = activate(p.activation, sum);
    if (p.add_kind) {
        u64 at = p.add_kind == 1 ? (u64)row * p.outputs + column : (u64)column;
        sum += p.add_f32 ? ((const float *)p.add)[at] : T::get(((const u16 *)p.add)[at]);
    }
    return sum;
}

// Two neighbours, `column` being even.
template <class T> DEVICE void store(const Product &p, float low, float high, int row, int column) {
    if (row >= p.rows || column >= p.outputs) return;
    bool both = column + 1 < p.outputs;
    if (p.gated) {
        float value = low + (p.bias ? p.bias[column] : 0.0f), gate = high + (p.bias ? p.bias[column + 1] : 0.0f);
        ((u16 *)p.out)[(u64)row * (p.outputs / 2) + column / 2] = T::put(value * gelu(gate));
        return;
    }
    low = finish<T>(p, low, row, column);
    if (both) high = finish<T>(p, high, row, column + 1);
    u64 at = (u64)row * p.outputs + column;
    if (p.out_f32) {
        ((float *)p.out)[at] = low;
        if (both) ((float *)p.out)[at + 1] = high;
    } else if (both && p.outputs % 2 == 0) {
        *(u32 *)((u16 *)p.out + at) = put_two<T>(low, high);
    } else {
        ((u16 *)p.out)[at] = T::put(low);
        if (both) ((u16 *)p.out)[at + 1] = T::put(high);
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
            if (p.tall != p.height) y = (int)((long long)y * p.height / p.tall);
            if (p.wide != p.width) x = (int)((long long)x * p.width / p.wide);
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

#pragma unroll
    for (int i = 0; i < WM / 16; i++)
#pragma unroll
        for (int j = 0; j < WN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e += 2) {
                int row = m0 + wm + i * 16 + (lane >> 2) + e * 4, column = n0 + wn + j * 8 + (lane & 3) * 2;
                if (p.splits == 1) {
                    store<T>(p, sums[i][j][e], sums[i][j][e + 1], row, column);
                } else if (row < p.rows) {
                    float *to = p.partial + ((u64)blockIdx.y * p.rows + row) * p.outputs;
                    if (column < p.outputs) to[column] = sums[i][j][e];
                    if (column + 1 < p.outputs) to[column + 1] = sums[i][j][e + 1];
                }
            }
}

// Adds the parts of a product that was split along k, in order.
template <class T> DEVICE void product_join(const Product &p) {
    u64 pairs = (u64)((p.outputs + 1) / 2), all = pairs * p.rows;
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < all; i += (u64)gridDim.x * blockDim.x) {
        int row = (int)(i / pairs), column = (int)(i % pairs) * 2;
        float low = 0.0f, high = 0.0f;
        for (int split = 0; split < p.splits; split++) {
            const float *part = p.partial + ((u64)split * p.rows + row) * p.outputs + column;
            low += part[0];
            if (column + 1 < p.outputs) high += part[1];
        }
        store<T>(p, low, high, row, column);
    }
}

KERNEL_OF(128, 2, product_large_f16, Product) { product<F16, 128, 128, 64, 64, 4>(p); }
KERNEL_OF(128, 2, product_large_bf16, Product) { product<Bf16, 128, 128, 64, 64, 4>(p); }
KERNEL_OF(128, 4, product_small_f16, Product) { product<F16, 64, 64, 32, 32, 4>(p); }
KERNEL_OF(128, 4, product_small_bf16, Product) { product<Bf16, 64, 64, 32, 32, 4>(p); }
KERNEL(product_join_f16, Product) { product_join<F16>(p); }
KERNEL(product_join_bf16, Product) { product_join<Bf16>(p); }
