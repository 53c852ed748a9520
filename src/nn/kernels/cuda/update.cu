// What the optimizer does, over all trained tensors in one launch: gradient norm, scaling, AdamW. Everything is f32
// but the sums of squares, which are added up in f64. A table in memory says which piece of which tensor each block
// takes.

struct piece {
    u64 p, m, v, g; // g = 0: a gradient of zeros
    u32 len;
    float keep, step, inv_c2;
};

struct update_args {
    u64 pieces, out;
    u32 count;
    float b1, b2, n1, n2, eps, factor; // n1 = 1 - b1, n2 = 1 - b2, rounded once
};

DEVICE double block_sum(double x) {
    SHARED double sums[256];
    sums[THREAD] = x;
    SYNC();
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) sums[THREAD] += sums[THREAD + half];
        SYNC();
    }
    return sums[0];
}

// out[block] = sum of the squares of one piece of a gradient
KERNEL(squares, update_args) {
    struct piece it = AT(const struct piece, a.pieces)[BLOCK_X];
    float sum = 0.0f;
    for (u32 i = THREAD; i < it.len; i += THREADS) {
        float g = AT(const float, it.g)[i];
        sum += g * g;
    }
    double total = block_sum((double)sum);
    if (THREAD == 0) AT(double, a.out)[1 + BLOCK_X] = total;
}

// out[0] = sum of out[1..=count]; one block
KERNEL(squares_total, update_args) {
    double sum = 0.0;
    for (u32 i = THREAD; i < a.count; i += THREADS) sum += AT(const double, a.out)[1 + i];
    double total = block_sum(sum);
    if (THREAD == 0) AT(double, a.out)[0] = total;
}

// g *= factor
KERNEL(scale, update_args) {
    struct piece it = AT(const struct piece, a.pieces)[BLOCK_X];
    for (u32 i = THREAD; i < it.len; i += THREADS) AT(float, it.g)[i] *= a.factor;
}

// AdamW with decoupled decay; the corrections for the number of updates are in the piece.
KERNEL(adamw, update_args) {
    struct piece it = AT(const struct piece, a.pieces)[BLOCK_X];
    float *p = AT(float, it.p), *m = AT(float, it.m), *v = AT(float, it.v);
    for (u32 i = THREAD; i < it.len; i += THREADS) {
        float g = it.g ? AT(const float, it.g)[i] : 0.0f;
        float first = a.b1 * m[i] + a.n1 * g;
        float second = a.b2 * v[i] + a.n2 * g * g;
        m[i] = first;
        v[i] = second;
        p[i] = it.keep * p[i] - it.step * first / (sqrtf(second) * it.inv_c2 + a.eps);
    }
}
