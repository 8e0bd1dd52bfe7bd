// In: nothing. Out: what common.cuh needs of a device, on a processor: the threads of a block take turns on one core,
// each with a stack of its own, and change over where a device's threads wait for each other.
//
// Copies into shared memory are made when they are waited for, and shared memory begins as NaNs, so that a wait that
// is missing shows. Who comes first changes from block to block. A thread that waits for others that don't come is
// reported, never waited for.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>
#ifdef __F16C__
#include <immintrin.h>
#endif

#define DEVICE inline __attribute__((always_inline))
#define KERNEL(name, Parameters)                                                                       \
    static void name##_body(const Parameters &p);                                                      \
    static emulated::Entry name##_entry(#name, [](const void *p) { name##_body(*(const Parameters *)p); }, sizeof(Parameters)); \
    static void name##_body(const Parameters &p)
#define KERNEL_OF(threads, blocks, name, Parameters) KERNEL(name, Parameters)
#define SHARED(name) unsigned char *name = emulated::shared
#define __device__
#define __launch_bounds__(...)

struct Place3 {
    u32 x, y, z;
};

namespace emulated {

typedef void (*Body)(const void *);
struct Kernel {
    Body body;
    size_t size;
    long launches;
};

inline std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
struct Entry {
    Entry(const char *name, Body body, size_t size) { kernels()[name] = Kernel{body, size, 0}; }
};

struct Copy {
    void *to;
    const void *from;
    int bytes;
};

enum { READY, WARP, BLOCK, DONE };
struct Fiber {
    void *stack_pointer;
    unsigned char *stack;
    int state;
    long collective;          // how many of these it has come to
    std::vector<Copy> copies; // under way, in order
    std::vector<size_t> ends; // of their groups but the last, which is open
};
struct Warp {
    int arrived;
    // What lanes lay out for each other, for a collective and the one before it.
    const void *rows[2][32];
    u16 a[2][16][16], b[2][16][8];
    float product[2][16][8];
    float value[2][32];
};

// One kernel runs at a time: a driver that is played launches under a lock.
constexpr size_t STACK = 64 << 10;
inline unsigned char *shared;
inline Place3 thread_index, block_index, grid_size, block_size;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline int current, count, arrived, alive;
inline void *outside;
inline Body body;
inline const void *argument;

// Saves what a call must leave as it was, and goes on at another stack.
extern "C" void emulated_change(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
.pushsection .text
.weak emulated_change
.type emulated_change,@function
emulated_change:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_change,.-emulated_change
.popsection
)");
#else
#error "the emulation changes stacks on x86-64 only"
#endif

inline void fail(const char *what) {
    fprintf(stderr, "emulated device: %s (block %u %u %u, thread %d)\n", what, block_index.x, block_index.y, block_index.z, current);
    abort();
}

// Goes on with another thread that can: of the same warp if there is one.
inline void yield() {
    int self = current, base = self & ~31;
    for (int i = 1; i <= 32; i++) {
        int other = base + ((self + i) & 31);
        if (other < count && fibers[other].state == READY) {
            current = other;
            if (other == self) return;
            emulated_change(&fibers[self].stack_pointer, fibers[other].stack_pointer);
            return;
        }
    }
    for (int i = 0; i < count; i++) {
        int other = (base + 32 + i) % count;
        if (fibers[other].state == READY) {
            current = other;
            emulated_change(&fibers[self].stack_pointer, fibers[other].stack_pointer);
            return;
        }
    }
    if (alive == 0) {
        emulated_change(&fibers[self].stack_pointer, outside);
        return;
    }
    fail("threads wait for others that don't come");
}

inline void start() {
    body(argument);
    for (;;) {
        if (!fibers[current].copies.empty()) fail("a copy was never waited for");
        fibers[current].state = DONE;
        alive--;
        yield();
    }
}

inline void block_wait() {
    int self = current;
    fibers[self].state = BLOCK;
    if (++arrived == count) {
        arrived = 0;
        for (int i = 0; i < count; i++) {
            if (fibers[i].state != BLOCK) fail("not all threads of the block wait");
            fibers[i].state = READY;
        }
    }
    if (fibers[self].state != READY) yield();
}

// All lanes of a warp come here; returns which half of what they lay out is theirs.
inline int meet_slot() { return (int)(fibers[current].collective & 1); }
// The last of them does `last` before any goes on.
template <class Last> inline void warp_wait(Last last) {
    int self = current, base = self & ~31;
    Warp &warp = warps[self / 32];
    fibers[self].collective++;
    fibers[self].state = WARP;
    if (++warp.arrived == 32) {
        warp.arrived = 0;
        last(warp);
        for (int i = base; i < base + 32; i++) {
            if (fibers[i].state != WARP) fail("not all lanes of the warp come");
            fibers[i].state = READY;
        }
    }
    if (fibers[self].state != READY) yield();
}
inline void warp_wait() {
    warp_wait([](Warp &) {});
}

inline void run(Kernel &kernel, Place3 grid, u32 threads, size_t shared_bytes, const void *parameters) {
    kernel.launches++;
    if (threads % 32 || threads > 1024) fail("a block is no whole number of warps");
    body = kernel.body;
    std::vector<unsigned char> own((const unsigned char *)parameters, (const unsigned char *)parameters + kernel.size);
    argument = own.data();
    grid_size = grid;
    block_size = Place3{threads, 1, 1};
    std::vector<unsigned char> memory(shared_bytes + 256);
    shared = (unsigned char *)(((uintptr_t)memory.data() + 127) & ~(uintptr_t)127);
    while (fibers.size() < threads) {
        Fiber fiber{};
        fiber.stack = (unsigned char *)malloc(STACK);
        fibers.push_back(fiber);
    }
    warps.resize(32);
    for (u32 z = 0; z < grid.z; z++)
        for (u32 y = 0; y < grid.y; y++)
            for (u32 x = 0; x < grid.x; x++) {
                block_index = Place3{x, y, z};
                memset(memory.data(), 0xff, memory.size());
                count = alive = (int)threads;
                arrived = 0;
                for (u32 i = 0; i < threads; i++) {
                    Fiber &fiber = fibers[i];
                    fiber.state = READY;
                    fiber.collective = 0;
                    fiber.copies.clear();
                    fiber.ends.clear();
                    // A stack that "returns" into `start`, as a call would have left it.
                    void **top = (void **)(((uintptr_t)fiber.stack + STACK) & ~(uintptr_t)15);
                    *--top = nullptr;
                    *--top = (void *)&start;
                    for (int r = 0; r < 6; r++) *--top = nullptr;
                    fiber.stack_pointer = top;
                }
                for (auto &warp : warps) warp.arrived = 0;
                // Every second block begins with its last warp.
                current = (x + y + z) & 1 ? (int)threads - 32 : 0;
                emulated_change(&outside, fibers[current].stack_pointer);
                for (size_t i = shared - memory.data() + shared_bytes; i < memory.size(); i++)
                    if (memory[i] != 0xff) fail("a write beyond shared memory");
            }
}

} // namespace emulated

struct ThreadIndex {
    struct Axis {
        DEVICE operator u32() const { return (u32)emulated::current; }
    } x;
};
static const ThreadIndex threadIdx{};
#define blockIdx emulated::block_index
#define gridDim emulated::grid_size
#define blockDim emulated::block_size

DEVICE u32 float_to_bits(float x) {
    u32 y;
    memcpy(&y, &x, 4);
    return y;
}
DEVICE float bits_to_float(u32 x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
// Conversions by their definition; binary16 has 5 bits of exponent and 10 of fraction.
inline float f16_to_float(u16 h) {
#ifdef __F16C__
    return _cvtsh_ss(h);
#endif
    u32 sign = (u32)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return bits_to_float(sign | 0x7f800000 | fraction << 13);
    float magnitude = exponent ? bits_to_float((exponent + 112) << 23 | fraction << 13) : (float)fraction * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
}
inline u16 float_to_f16(float x) {
    u32 bits = float_to_bits(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (u16)(sign | 0x7e00);
    if (rest >= 0x477ff000) return (u16)(sign | 0x7c00);
    if (rest < 0x38800000) return (u16)(sign | (u32)nearbyintf(bits_to_float(rest) * 16777216.0f));
    rest += 0xfff + (rest >> 13 & 1);
    return (u16)(sign | (rest - 0x38000000) >> 13);
}
DEVICE float power_of_two(float x) { return exp2f(x); }
DEVICE float plus(float a, float b) { return a + b; }
DEVICE float times(float a, float b) { return a * b; }
DEVICE float over(float a, float b) { return a / b; }

inline void sync() { emulated::block_wait(); }
inline float shuffle_xor(float x, int mask) {
    using namespace emulated;
    int slot = meet_slot(), lane = current & 31;
    warps[current / 32].value[slot][lane] = x;
    warp_wait();
    return warps[current / 32].value[slot][lane ^ mask];
}
inline void copy16(void *to, const void *from, int bytes) {
    if ((uintptr_t)to % 16 || (bytes && (uintptr_t)from % 16)) emulated::fail("a copy of 16 bytes is not aligned");
    emulated::fibers[emulated::current].copies.push_back({to, from, bytes});
}
inline void copies_end() {
    auto &fiber = emulated::fibers[emulated::current];
    fiber.ends.push_back(fiber.copies.size());
}
template <int N> inline void copies_wait() {
    auto &fiber = emulated::fibers[emulated::current];
    if (fiber.ends.size() <= N) return;
    size_t groups = fiber.ends.size() - N, count = fiber.ends[groups - 1];
    for (size_t i = 0; i < count; i++) {
        const auto &copy = fiber.copies[i];
        memset(copy.to, 0, 16);
        memcpy(copy.to, copy.from, copy.bytes);
    }
    fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + count);
    fiber.ends.erase(fiber.ends.begin(), fiber.ends.begin() + groups);
    for (auto &end : fiber.ends) end -= count;
}
inline void load_matrices_any(u32 (&r)[4], const void *row, bool transposed) {
    using namespace emulated;
    if ((uintptr_t)row % 16) fail("a row of a matrix is not aligned");
    int slot = meet_slot(), lane = current & 31;
    warps[current / 32].rows[slot][lane] = row;
    warp_wait();
    const Warp &warp = warps[current / 32];
    for (int j = 0; j < 4; j++) {
        auto at = [&](int y, int x) { return (u32)((const u16 *)warp.rows[slot][j * 8 + y])[x]; };
        int g = lane / 4, t = lane % 4 * 2;
        r[j] = transposed ? at(t, g) | at(t + 1, g) << 16 : at(g, t) | at(g, t + 1) << 16;
    }
}
inline void load_matrices(u32 (&r)[4], const void *row) { load_matrices_any(r, row, false); }
inline void load_matrices_transposed(u32 (&r)[4], const void *row) { load_matrices_any(r, row, true); }

// The operands as PTX lays them out over the lanes of a warp (mma.m16n8k16).
template <class Get> inline void multiply_any(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Get get) {
    using namespace emulated;
    int slot = meet_slot(), lane = current & 31, g = lane / 4, t = lane % 4 * 2;
    {
        Warp &warp = warps[current / 32];
        for (int i = 0; i < 4; i++)
            for (int e = 0; e < 2; e++) warp.a[slot][g + (i & 1) * 8][t + e + (i >> 1) * 8] = (u16)(a[i] >> e * 16);
        for (int e = 0; e < 2; e++) {
            warp.b[slot][t + e][g] = (u16)(b0 >> e * 16);
            warp.b[slot][t + e + 8][g] = (u16)(b1 >> e * 16);
        }
    }
    warp_wait([slot, get](Warp &warp) {
        float rows[16][8];
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) rows[k][j] = get(warp.b[slot][k][j]);
        for (int i = 0; i < 16; i++) {
            float sums[8] = {};
            for (int k = 0; k < 16; k++) {
                float x = get(warp.a[slot][i][k]);
                for (int j = 0; j < 8; j++) sums[j] += x * rows[k][j];
            }
            memcpy(warp.product[slot][i], sums, sizeof sums);
        }
    });
    const Warp &warp = warps[current / 32];
    for (int i = 0; i < 4; i++) d[i] += warp.product[slot][g + (i >> 1) * 8][t + (i & 1)];
}
inline void multiply_f16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { multiply_any(d, a, b0, b1, [](u16 x) { return f16_to_float(x); }); }
inline void multiply_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply_any(d, a, b0, b1, [](u16 x) { return bits_to_float((u32)x << 16); });
}
