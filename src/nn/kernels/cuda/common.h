// What all kernels share. The files here are C that two compilers read: NVRTC, at run time, for the GPU; and, in
// the tests, the host's C compiler with a header of its own in place of the block between HOST_TWIN's lines.
//
// A kernel takes one struct of plain words: pointers as u64 first, then u32 and float. Formats of tensors are
// macros set when a file is compiled: 0 is f32, 1 bf16, 2 f16. All arithmetic is in f32.

#ifndef HOST_TWIN
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL(name, type) extern "C" __global__ void name(const struct type a)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__ __align__(16)
#define ALIGN16 __align__(16)
#define SHARED_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#define SYNC() __syncthreads()
#define THREAD threadIdx.x
#define THREADS blockDim.x
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define UNROLL _Pragma("unroll")
#define PAIR(p) (*(const u32 *)(p)) // two 16-bit values at an even place
#define INFINITE __int_as_float(0x7f800000)

DEVICE float as_float(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 as_bits(float x) { return __float_as_uint(x); }
DEVICE float lane_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }

DEVICE float from_f16(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
DEVICE u16 to_f16(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// c += a b on the tensor cores: a 16 x 16, b 16 x 8, c 16 x 8, spread over the 32 lanes as PTX defines it.
DEVICE void mma_bf16(float *c, const u32 *a, const u32 *b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_f16(float *c, const u32 *a, const u32 *b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

#define AT(type, address) ((type *)(size_t)(address))

DEVICE float from_bf16(u16 bits) { return as_float((u32)bits << 16); }
DEVICE u16 to_bf16(float x) {
    u32 bits = as_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u); // NaN stays one
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#define GET_0(p, i) (AT(const float, p)[i])
#define GET_1(p, i) from_bf16(AT(const u16, p)[i])
#define GET_2(p, i) from_f16(AT(const u16, p)[i])
#define PUT_0(p, i, x) (AT(float, p)[i] = (x))
#define PUT_1(p, i, x) (AT(u16, p)[i] = to_bf16(x))
#define PUT_2(p, i, x) (AT(u16, p)[i] = to_f16(x))
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
// Element i of a tensor of format F, as f32.
#define GET(F, p, i) PASTE(GET_, F)(p, i)
#define PUT(F, p, i, x) PASTE(PUT_, F)(p, i, x)
// What a value becomes when it is stored in format F and read again.
#define ROUND_0(x) (x)
#define ROUND_1(x) from_bf16(to_bf16(x))
#define ROUND_2(x) from_f16(to_f16(x))
#define ROUND(F, x) PASTE(ROUND_, F)(x)

// Four neighbours at once: i and the address are multiples of four elements.
struct ALIGN16 quad {
    float v[4];
};
DEVICE struct quad get4_0(u64 p, u64 i) { return *AT(const struct quad, p + 4 * i); }
DEVICE void put4_0(u64 p, u64 i, struct quad q) { *AT(struct quad, p + 4 * i) = q; }
DEVICE struct quad get4_1(u64 p, u64 i) {
    u64 w = *AT(const u64, p + 2 * i);
    struct quad q = {{from_bf16((u16)w), from_bf16((u16)(w >> 16)), from_bf16((u16)(w >> 32)), from_bf16((u16)(w >> 48))}};
    return q;
}
DEVICE void put4_1(u64 p, u64 i, struct quad q) {
    *AT(u64, p + 2 * i) = (u64)to_bf16(q.v[0]) | (u64)to_bf16(q.v[1]) << 16 | (u64)to_bf16(q.v[2]) << 32 | (u64)to_bf16(q.v[3]) << 48;
}
DEVICE struct quad get4_2(u64 p, u64 i) {
    u64 w = *AT(const u64, p + 2 * i);
    struct quad q = {{from_f16((u16)w), from_f16((u16)(w >> 16)), from_f16((u16)(w >> 32)), from_f16((u16)(w >> 48))}};
    return q;
}
DEVICE void put4_2(u64 p, u64 i, struct quad q) {
    *AT(u64, p + 2 * i) = (u64)to_f16(q.v[0]) | (u64)to_f16(q.v[1]) << 16 | (u64)to_f16(q.v[2]) << 32 | (u64)to_f16(q.v[3]) << 48;
}
#define GET4(F, p, i) PASTE(get4_, F)(p, i)
#define PUT4(F, p, i, q) PASTE(put4_, F)(p, i, q)

// Sum and maximum over the lanes of a warp, in a fixed order; every lane gets the result.
DEVICE float warp_sum(float x) {
    for (int m = 16; m > 0; m >>= 1) x += lane_xor(x, m);
    return x;
}
DEVICE float warp_max(float x) {
    for (int m = 16; m > 0; m >>= 1) x = fmaxf(x, lane_xor(x, m));
    return x;
}

// The same over a block of at most 256 threads.
DEVICE float block_all(float x, int maximum) {
    SHARED float parts[8];
    SYNC(); // the previous result has been read
    x = maximum ? warp_max(x) : warp_sum(x);
    if (THREAD % 32 == 0) parts[THREAD / 32] = x;
    SYNC();
    x = parts[0];
    for (u32 i = 1; i < THREADS / 32; i++) x = maximum ? fmaxf(x, parts[i]) : x + parts[i];
    return x;
}

// Dropout masks are computed, not stored: the same hash as on the host.
DEVICE u32 mix(u32 x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}
DEVICE float drop_factor(u32 key, u32 threshold, float scale, u32 i) {
    return mix(i ^ key) + key >= threshold ? scale : 0.0f;
}
DEVICE u32 drop_split(u32 key, u32 part) { return mix(key + part * 0x9e3779b9u); }

// The nonlinearities, numbered as in the launching code.
DEVICE float act_value(u32 act, float x) {
    switch (act) {
    case 0: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case 1: return 0.5f * x * (1.0f + tanhf(0.7978846f * (x + 0.044715f * x * x * x)));
    case 2: return x < 0.0f ? 0.0f : x;
    case 3: return x / (1.0f + expf(-x));
    case 4: return tanhf(x);
    default: return x;
    }
}

DEVICE float act_slope(u32 act, float x) {
    float t;
    switch (act) {
    case 0: return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.3989423f * expf(-0.5f * x * x);
    case 1:
        t = tanhf(0.7978846f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978846f * (1.0f + 3.0f * 0.044715f * x * x);
    case 2: return x > 0.0f ? 1.0f : 0.0f;
    case 3:
        t = 1.0f / (1.0f + expf(-x));
        return t * (1.0f + x * (1.0f - t));
    case 4:
        t = tanhf(x);
        return 1.0f - t * t;
    default: return 1.0f;
    }
}
