// A GPU's block on one thread of the host, for testing the kernels: every thread of a block is a fiber with a stack
// of its own; barriers and warp-wide instructions hand over to the next fiber. Threads so run interleaved exactly
// where the hardware lets them meet, and a thread that does not come to a meeting is found out.
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define HOST_TWIN
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __attribute__((unused)) static
#define SHARED static
#define ALIGN16
#define SHARED_DYNAMIC(name) unsigned char *name = shared_memory
#define SYNC() meet(0)
#define THREAD current->index
#define THREADS threads
#define BLOCK_X block[0]
#define BLOCK_Y block[1]
#define BLOCK_Z block[2]
#define UNROLL
#define INFINITE INFINITY
#define PAIR(p) ((u32)(p)[0] | (u32)(p)[1] << 16)
#define KERNEL(name, type)                                              \
    static void name##_body(const struct type a);                       \
    void name(const void *args) { name##_body(*(const struct type *)args); } \
    static void name##_body(const struct type a)

#define MOST 256
#define STACK (64 * 1024)
struct fiber {
    ucontext_t context;
    u32 index, met[2]; // times at a meeting of the block, of the warp
    int waits, done;
    char *stack;
};
static struct fiber fibers[MOST], *current;
static ucontext_t scheduler;
static u32 threads, block[3];
static unsigned char shared_memory[64 * 1024] __attribute__((aligned(16)));
static void (*running)(const void *);
static const void *running_args;

static void meet(int warp) {
    current->waits = 1 + warp;
    current->met[warp]++;
    swapcontext(&current->context, &scheduler);
}

static void enter(void) {
    running(running_args);
    current->done = 1;
}

// Whether everybody this fiber waits for has come; -1: somebody has left instead.
static int may_go(struct fiber *f) {
    if (!f->waits) return 1;
    int warp = f->waits - 1;
    u32 from = warp ? f->index / 32 * 32 : 0, to = warp ? from + 32 : threads;
    if (to > threads) to = threads;
    for (u32 i = from; i < to; i++) {
        if (fibers[i].met[warp] >= f->met[warp]) continue;
        if (fibers[i].done) return -1;
        return 0;
    }
    return 1;
}

static int run_block(void) {
    for (u32 i = 0; i < threads; i++) {
        struct fiber *f = &fibers[i];
        if (!f->stack) f->stack = malloc(STACK);
        if (!f->stack || getcontext(&f->context)) return 2;
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = &scheduler;
        f->index = i;
        f->met[0] = f->met[1] = 0;
        f->waits = f->done = 0;
        makecontext(&f->context, enter, 0);
    }
    for (u32 left = threads; left;) {
        int moved = 0;
        for (u32 i = 0; i < threads; i++) {
            struct fiber *f = &fibers[i];
            if (f->done) continue;
            int go = may_go(f);
            if (go < 0) return 3;
            if (!go) continue;
            moved = 1;
            f->waits = 0;
            current = f;
            swapcontext(&scheduler, &f->context);
            if (f->done) left--;
        }
        if (!moved) return 4;
    }
    return 0;
}

// Runs a kernel. 0: done; 2: no memory; 3: a thread left while others waited for it; 4: threads wait for each other.
int twin_launch(void (*kernel)(const void *), const u32 *grid, u32 block_threads, u32 shared_bytes, const void *args) {
    if (block_threads > MOST || shared_bytes > sizeof shared_memory) return 5;
    threads = block_threads;
    running = kernel;
    running_args = args;
    for (block[2] = 0; block[2] < grid[2]; block[2]++)
        for (block[1] = 0; block[1] < grid[1]; block[1]++)
            for (block[0] = 0; block[0] < grid[0]; block[0]++) {
                memset(shared_memory, 0xff, sizeof shared_memory); // what was never written is not a number
                int failed = run_block();
                if (failed) return failed;
            }
    return 0;
}

DEVICE float as_float(u32 bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
DEVICE u32 as_bits(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    return bits;
}

// What lanes lay open to each other; two meetings, so that nobody writes before all have read.
static float lane_values[MOST];
static u32 lane_words[MOST][6];

DEVICE float lane_xor(float x, int mask) {
    u32 me = THREAD;
    lane_values[me] = x;
    meet(1);
    float other = lane_values[me ^ (u32)mask];
    meet(1);
    return other;
}

DEVICE float from_f16(u16 bits) {
    u32 sign = (u32)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    if (exponent == 31) return as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent) return as_float(sign | (exponent + 112) << 23 | fraction << 13);
    float small = ldexpf((float)fraction, -24);
    return sign ? -small : small;
}
DEVICE u16 to_f16(float x) {
    u32 bits = as_bits(x), sign = bits >> 16 & 0x8000u;
    float size = fabsf(x);
    if (isnan(x)) return (u16)(sign | 0x7e00u);
    if (size >= 65520.0f) return (u16)(sign | 0x7c00u);
    if (size < ldexpf(1.0f, -14)) return (u16)(sign | (u32)rintf(ldexpf(size, 24)));
    u32 rest = bits & 0x7fffffffu;
    rest += 0xfffu + (rest >> 13 & 1u);
    return (u16)(sign | ((rest >> 13) - (112u << 10)));
}

static float half_value(u32 word, int high, int f16) {
    u16 bits = (u16)(high ? word >> 16 : word);
    return f16 ? from_f16(bits) : as_float((u32)bits << 16);
}

// Lane 4 g + t holds of the left operand rows g (words 0, 2) and g + 8 (words 1, 3), columns 2 t, 2 t + 1 (words 0, 1)
// and those plus 8; of the right one, column g, rows 2 t, 2 t + 1 and those plus 8.
static void mma(float *c, const u32 *a, const u32 *b, int f16) {
    u32 me = THREAD, warp = me / 32 * 32, g = me % 32 / 4, t = me % 4;
    memcpy(lane_words[me], a, 16);
    memcpy(lane_words[me] + 4, b, 8);
    meet(1);
    for (int e = 0; e < 4; e++) {
        u32 row = g + e / 2 * 8, col = 2 * t + e % 2;
        float sum = 0.0f;
        for (u32 k = 0; k < 16; k++) {
            u32 left = lane_words[warp + row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
            u32 right = lane_words[warp + col * 4 + k % 8 / 2][4 + k / 8];
            sum += half_value(left, k % 2, f16) * half_value(right, k % 2, f16);
        }
        c[e] += sum;
    }
    meet(1);
}
DEVICE void mma_bf16(float *c, const u32 *a, const u32 *b) { mma(c, a, b, 0); }
DEVICE void mma_f16(float *c, const u32 *a, const u32 *b) { mma(c, a, b, 1); }
