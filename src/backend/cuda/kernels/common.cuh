// In: nothing. Out: what every kernel is written with: numbers of 16 bits, and the instructions that move tiles
// and multiply them. With LB_EMULATED the same names are found in emulated.h, so that every kernel runs, and is
// tested, on a machine without a GPU.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef LB_EMULATED
#include "emulated.h"
#else
#define KERNEL(name, Parameters) extern "C" __global__ void name(const __grid_constant__ Parameters p)
#define KERNEL_OF(threads, blocks, name, Parameters) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Parameters p)
#define DEVICE __device__ __forceinline__
#define SHARED(name) extern __shared__ __align__(128) unsigned char name[]

DEVICE void sync() { __syncthreads(); }
DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE float bits_to_float(u32 x) { return __uint_as_float(x); }
DEVICE u32 float_to_bits(float x) { return __float_as_uint(x); }
DEVICE float f16_to_float(u16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
DEVICE u16 float_to_f16(float x) {
    u16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
// Each rounds by itself, whatever a compiler would contract: in every kernel the same bits.
DEVICE float plus(float a, float b) { return __fadd_rn(a, b); }
DEVICE float times(float a, float b) { return __fmul_rn(a, b); }
DEVICE float over(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Copies 16 bytes into shared memory, of which the last 16 - `bytes` are zeros. Both addresses are multiples of 16.
DEVICE void copy16(void *to, const void *from, int bytes) {
#if __CUDA_ARCH__ >= 800
    u32 address = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes));
#else
    if (bytes == 16) {
        *(uint4 *)to = *(const uint4 *)from;
        return;
    }
    // By numbers that are known: an array that is indexed otherwise would lie in memory.
    u32 words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u32 low = 4 * i < bytes ? ((const u16 *)from)[2 * i] : 0;
        u32 high = 4 * i + 2 < bytes ? ((const u16 *)from)[2 * i + 1] : 0;
        words[i] = low | high << 16;
    }
    *(uint4 *)to = make_uint4(words[0], words[1], words[2], words[3]);
#endif
}
// Ends a group of copies.
DEVICE void copies_end() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}
// Waits until at most the last N groups of this thread's copies are under way.
template <int N> DEVICE void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N));
#endif
}

// Four 8x8 matrices from shared memory; thread i holds the address of row i % 8 of matrix i / 8.
DEVICE void load_matrices(u32 (&r)[4], const void *row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}
// The same, each matrix transposed.
DEVICE void load_matrices_transposed(u32 (&r)[4], const void *row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// d += a b for a 16x16 and a 16x8 tile that a warp holds, sums in f32.
DEVICE void multiply_f16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}
DEVICE void multiply_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    // Such a device is refused bf16 before any kernel starts.
    asm volatile("trap;");
#endif
}
#endif

DEVICE float infinity() { return bits_to_float(0x7f800000u); }

// 16-bit floats. Each of the two kinds says how it is read, written and multiplied.
struct F16 {
    static DEVICE float get(u16 x) { return f16_to_float(x); }
    static DEVICE u16 put(float x) { return float_to_f16(x); }
    static DEVICE void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { multiply_f16(d, a, b0, b1); }
};

struct Bf16 {
    static DEVICE float get(u16 x) { return bits_to_float((u32)x << 16); }
    static DEVICE u16 put(float x) {
        u32 bits = float_to_bits(x);
        // Round to nearest even; NaN stays NaN.
        if ((bits & 0x7fffffff) > 0x7f800000) return (u16)(bits >> 16 | 0x40);
        return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    static DEVICE void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { multiply_bf16(d, a, b0, b1); }
};

template <class T> DEVICE u32 put_two(float low, float high) { return (u32)T::put(low) | (u32)T::put(high) << 16; }

// x / (1 + exp(-x))
DEVICE float silu(float x) { return over(x, plus(1.0f, expf(-x))); }
// x Phi(x)
DEVICE float gelu(float x) { return times(times(0.5f, x), plus(1.0f, erff(times(x, 0.70710678118654752f)))); }

enum { IDENTITY = 0, SILU = 1, GELU = 2 };
DEVICE float activate(int activation, float x) {
    return activation == SILU ? silu(x) : activation == GELU ? gelu(x) : x;
}
