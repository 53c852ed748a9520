// Attention over packed sequences on the tensor cores. Nothing of size S x S is stored: the forward pass keeps a
// running maximum and sum for each query, the backward pass computes probabilities again, tile by tile.
//
// Format of all tensors: X; lse and delta are f32. HEAD is the width of a head. Each block of four warps takes 64
// queries (or, for the gradients of keys and values, 64 keys) of one sequence and head, each warp 16 of them, and
// goes through the other side in tiles that all four share. f32 is split into three bf16 parts, whose six largest
// products give f32's precision.
//
// Of a 16 x 8 result, lane 4 g + t holds rows g and g + 8, columns 2 t and 2 t + 1.

#define PADDED ((HEAD + 15) / 16 * 16)
#define STEPS (PADDED / 16)
#define WIDE (PADDED + 8)
#if X == 0
#define PLANES 3
#define TILE 16
#else
#define PLANES 1
#define TILE 32
#endif

struct attention_args {
    u64 q, k, v, dy, out, dq, dk, dv, lse, delta, spans;
    u32 q_stride, kv_stride, out_stride, dq_stride, dkv_stride;
    u32 heads, kv_heads, causal, queries, key, threshold;
    float drop_scale, scale;
};

typedef u16 tile[TILE][WIDE];
typedef u32 operand[PLANES][4];

#if X == 0
DEVICE void split(float x, u16 *part) {
    part[0] = to_bf16(x);
    float rest = x - from_bf16(part[0]);
    part[1] = to_bf16(rest);
    part[2] = to_bf16(rest - from_bf16(part[1]));
}
DEVICE void multiply(float *c, operand a, u32 (*b)[2]) {
    mma_bf16(c, a[2], b[0]);
    mma_bf16(c, a[0], b[2]);
    mma_bf16(c, a[1], b[1]);
    mma_bf16(c, a[1], b[0]);
    mma_bf16(c, a[0], b[1]);
    mma_bf16(c, a[0], b[0]);
}
#elif X == 1
DEVICE void split(float x, u16 *part) { part[0] = to_bf16(x); }
DEVICE void multiply(float *c, operand a, u32 (*b)[2]) { mma_bf16(c, a[0], b[0]); }
#else
DEVICE void split(float x, u16 *part) { part[0] = to_f16(x); }
DEVICE void multiply(float *c, operand a, u32 (*b)[2]) { mma_f16(c, a[0], b[0]); }
#endif

// Two neighbours of an operand, each part packed into one register.
DEVICE void pack(operand a, int which, float x, float y) {
    u16 low[PLANES], high[PLANES];
    split(x, low);
    split(y, high);
    UNROLL
    for (int p = 0; p < PLANES; p++) a[p][which] = (u32)low[p] | (u32)high[p] << 16;
}

DEVICE float element(u64 base, u32 stride, u32 row, u32 rows, u32 col) {
    return row < rows && col < HEAD ? GET(X, base, (u64)row * stride + col) : 0.0f;
}

// Rows first .. first + 16 of a matrix as left operands, one for each 16 columns; zeros outside.
DEVICE void load_left(operand *left, u64 base, u32 stride, u32 first, u32 rows) {
    u32 g = THREAD % 32 / 4, t = THREAD % 4;
    UNROLL
    for (int s = 0; s < STEPS; s++)
        UNROLL
        for (int i = 0; i < 4; i++) {
            u32 row = first + g + i % 2 * 8, col = s * 16 + 2 * t + i / 2 * 8;
            pack(left[s], i, element(base, stride, row, rows, col), element(base, stride, row, rows, col + 1));
        }
}

// Rows first .. first + TILE into shared memory, by all threads; zeros outside.
DEVICE void stage(tile *to, u64 base, u32 stride, u32 first, u32 rows) {
    u16 part[PLANES];
#if HEAD % 4 == 0
    for (u32 i = 4 * THREAD; i < TILE * PADDED; i += 4 * THREADS) {
        u32 r = i / PADDED, c = i % PADDED;
        struct quad q = {{0.0f, 0.0f, 0.0f, 0.0f}};
        if (first + r < rows && c < HEAD) q = GET4(X, base, (u64)(first + r) * stride + c);
        for (int j = 0; j < 4; j++) {
            split(q.v[j], part);
            for (int p = 0; p < PLANES; p++) to[p][r][c + j] = part[p];
        }
    }
#else
    for (u32 i = THREAD; i < TILE * PADDED; i += THREADS) {
        u32 r = i / PADDED, c = i % PADDED;
        split(element(base, stride, first + r, rows, c), part);
        for (int p = 0; p < PLANES; p++) to[p][r][c] = part[p];
    }
#endif
}

// c[16 x TILE] = left (16 x HEAD) times the transpose of a tile
DEVICE void times_rows(float (*c)[4], operand *left, tile *with) {
    u32 g = THREAD % 32 / 4, t = THREAD % 4, b[PLANES][2];
    UNROLL
    for (int n = 0; n < TILE / 8; n++) {
        c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0.0f;
        UNROLL
        for (int s = 0; s < STEPS; s++) {
            UNROLL
            for (int p = 0; p < PLANES; p++) {
                b[p][0] = PAIR(&with[p][n * 8 + g][s * 16 + 2 * t]);
                b[p][1] = PAIR(&with[p][n * 8 + g][s * 16 + 8 + 2 * t]);
            }
            multiply(c[n], left[s], b);
        }
    }
}

// c[16 x HEAD] += w (16 x TILE) times a tile
DEVICE void add_times(float (*c)[4], float (*w)[4], tile *with) {
    u32 g = THREAD % 32 / 4, t = THREAD % 4, b[PLANES][2];
    operand left;
    UNROLL
    for (int s = 0; s < TILE / 16; s++) {
        pack(left, 0, w[2 * s][0], w[2 * s][1]);
        pack(left, 1, w[2 * s][2], w[2 * s][3]);
        pack(left, 2, w[2 * s + 1][0], w[2 * s + 1][1]);
        pack(left, 3, w[2 * s + 1][2], w[2 * s + 1][3]);
        UNROLL
        for (int n = 0; n < PADDED / 8; n++) {
            UNROLL
            for (int p = 0; p < PLANES; p++)
                UNROLL
                for (int h = 0; h < 2; h++) {
                    u32 k = s * 16 + h * 8 + 2 * t;
                    b[p][h] = (u32)with[p][k][n * 8 + g] | (u32)with[p][k + 1][n * 8 + g] << 16;
                }
            multiply(c[n], left, b);
        }
    }
}

DEVICE void store(float (*c)[4], float *by, u64 base, u32 stride, u32 first, u32 rows) {
    u32 g = THREAD % 32 / 4, t = THREAD % 4;
    UNROLL
    for (int n = 0; n < PADDED / 8; n++)
        UNROLL
        for (int e = 0; e < 4; e++) {
            u32 row = first + g + e / 2 * 8, col = n * 8 + 2 * t + e % 2;
            if (row < rows && col < HEAD) PUT(X, base, (u64)row * stride + col, c[n][e] * by[e / 2]);
        }
}

DEVICE void clear(float (*c)[4]) {
    UNROLL
    for (int n = 0; n < PADDED / 8; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0.0f;
}

// Over the four lanes that hold one row.
DEVICE float row_sum(float x) {
    x += lane_xor(x, 1);
    return x + lane_xor(x, 2);
}
DEVICE float row_max(float x) {
    x = fmaxf(x, lane_xor(x, 1));
    return fmaxf(x, lane_xor(x, 2));
}

// One sequence's share of one operand.
#define PART(base, start, stride, head) (a.base + (sizeof_x * ((u64)(start) * (stride) + (u64)(head) * HEAD)))
#if X == 0
#define sizeof_x 4ull
#else
#define sizeof_x 2ull
#endif

// Whether query i sees key j: the last query sits at the last key.
#define SEES(i, j) ((i) < q_len && (j) < k_len && (!a.causal || (j) + q_len <= (i) + k_len))
#define FACTOR(i, j) (a.threshold ? drop_factor(drop, a.threshold, a.drop_scale, (i) * k_len + (j)) : 1.0f)

#define BEGIN                                                                                              \
    const u32 *span = AT(const u32, a.spans) + 4 * BLOCK_Z;                                                \
    u32 q_start = span[0], q_len = span[1], k_start = span[2], k_len = span[3];                            \
    u32 g = THREAD % 32 / 4, t = THREAD % 4, first = BLOCK_X * 64 + THREAD / 32 * 16;

// One tile of scores folded into the running maximum, sum and weighted sum of each row. s becomes the unnormalised
// probabilities; returns in `decay` what earlier ones are to be multiplied with.
#define FOLD(j0)                                                                                           \
    UNROLL                                                                                                 \
    for (int h = 0; h < 2; h++) {                                                                          \
        u32 i = first + g + h * 8;                                                                         \
        float top = -INFINITE;                                                                             \
        UNROLL                                                                                             \
        for (int n = 0; n < TILE / 8; n++)                                                                 \
            UNROLL                                                                                         \
            for (int e = 2 * h; e < 2 * h + 2; e++) {                                                      \
                u32 j = (j0) + n * 8 + 2 * t + e % 2;                                                      \
                s[n][e] = SEES(i, j) ? s[n][e] * a.scale : -INFINITE;                                      \
                top = fmaxf(top, s[n][e]);                                                                 \
            }                                                                                              \
        top = fmaxf(most[h], row_max(top));                                                                \
        float safe = top == -INFINITE ? 0.0f : top;                                                        \
        decay[h] = expf(most[h] - safe);                                                                   \
        most[h] = top;                                                                                     \
        sum[h] *= decay[h];                                                                                \
        UNROLL                                                                                             \
        for (int n = 0; n < TILE / 8; n++)                                                                 \
            UNROLL                                                                                         \
            for (int e = 2 * h; e < 2 * h + 2; e++) {                                                      \
                s[n][e] = expf(s[n][e] - safe);                                                            \
                sum[h] += s[n][e];                                                                         \
            }                                                                                              \
    }

KERNEL(attention_forward, attention_args) {
    SHARED tile ks[PLANES], vs[PLANES];
    BEGIN
    if (BLOCK_X * 64 >= q_len) return;
    u32 head = BLOCK_Y, kv = head / (a.heads / a.kv_heads), drop = drop_split(a.key, BLOCK_Z * a.heads + head);
    operand q[STEPS];
    float o[PADDED / 8][4], s[TILE / 8][4], most[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f}, decay[2];
    load_left(q, PART(q, q_start, a.q_stride, head), a.q_stride, first, q_len);
    clear(o);
    for (u32 j0 = 0; j0 < k_len; j0 += TILE) {
        if (a.causal && j0 + q_len > BLOCK_X * 64 + 63 + k_len) break; // no query of this block sees them
        SYNC();
        stage(ks, PART(k, k_start, a.kv_stride, kv), a.kv_stride, j0, k_len);
        stage(vs, PART(v, k_start, a.kv_stride, kv), a.kv_stride, j0, k_len);
        SYNC();
        times_rows(s, q, ks);
        FOLD(j0)
        UNROLL
        for (int n = 0; n < TILE / 8; n++)
            UNROLL
            for (int e = 0; e < 4; e++) s[n][e] *= FACTOR(first + g + e / 2 * 8, j0 + n * 8 + 2 * t + e % 2);
        UNROLL
        for (int n = 0; n < PADDED / 8; n++)
            UNROLL
            for (int e = 0; e < 4; e++) o[n][e] *= decay[e / 2];
        add_times(o, s, vs);
    }
    float by[2];
    for (int h = 0; h < 2; h++) {
        sum[h] = row_sum(sum[h]);
        by[h] = sum[h] > 0.0f ? 1.0f / sum[h] : 0.0f;
    }
    store(o, by, PART(out, q_start, a.out_stride, head), a.out_stride, first, q_len);
}

// Gradient of the queries. The first pass over the keys finds each query's log of the sum (lse) and the mean of its
// probabilities' gradients (delta), the second one the gradient; both numbers are kept for the keys' turn.
KERNEL(attention_queries, attention_args) {
    SHARED tile ks[PLANES], vs[PLANES];
    BEGIN
    if (BLOCK_X * 64 >= q_len) return;
    u32 head = BLOCK_Y, kv = head / (a.heads / a.kv_heads), drop = drop_split(a.key, BLOCK_Z * a.heads + head);
    operand q[STEPS], dy[STEPS];
    float c[PADDED / 8][4], s[TILE / 8][4], dp[TILE / 8][4], decay[2];
    float most[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f}, mean[2] = {0.0f, 0.0f}, lse[2], one[2] = {1.0f, 1.0f};
    load_left(q, PART(q, q_start, a.q_stride, head), a.q_stride, first, q_len);
    load_left(dy, PART(dy, q_start, a.out_stride, head), a.out_stride, first, q_len);
    clear(c);
    for (int pass = 0; pass < 2; pass++) {
        for (u32 j0 = 0; j0 < k_len; j0 += TILE) {
            if (a.causal && j0 + q_len > BLOCK_X * 64 + 63 + k_len) break;
            SYNC();
            stage(ks, PART(k, k_start, a.kv_stride, kv), a.kv_stride, j0, k_len);
            stage(vs, PART(v, k_start, a.kv_stride, kv), a.kv_stride, j0, k_len);
            SYNC();
            times_rows(s, q, ks);
            times_rows(dp, dy, vs);
            if (pass == 0) {
                FOLD(j0)
                UNROLL
                for (int h = 0; h < 2; h++) mean[h] *= decay[h];
                UNROLL
                for (int n = 0; n < TILE / 8; n++)
                    UNROLL
                    for (int e = 0; e < 4; e++)
                        mean[e / 2] += s[n][e] * dp[n][e] * FACTOR(first + g + e / 2 * 8, j0 + n * 8 + 2 * t + e % 2);
            } else {
                UNROLL
                for (int n = 0; n < TILE / 8; n++)
                    UNROLL
                    for (int e = 0; e < 4; e++) {
                        u32 i = first + g + e / 2 * 8, j = j0 + n * 8 + 2 * t + e % 2;
                        float p = SEES(i, j) ? expf(s[n][e] * a.scale - lse[e / 2]) : 0.0f;
                        s[n][e] = p * (dp[n][e] * FACTOR(i, j) - mean[e / 2]) * a.scale;
                    }
                add_times(c, s, ks);
            }
        }
        if (pass == 0)
            for (int h = 0; h < 2; h++) {
                u32 i = first + g + h * 8;
                sum[h] = row_sum(sum[h]);
                mean[h] = row_sum(mean[h]);
                mean[h] = sum[h] > 0.0f ? mean[h] / sum[h] : 0.0f;
                lse[h] = sum[h] > 0.0f ? most[h] + logf(sum[h]) : INFINITE;
                if (t == 0 && i < q_len) {
                    AT(float, a.lse)[(u64)head * a.queries + q_start + i] = lse[h];
                    AT(float, a.delta)[(u64)head * a.queries + q_start + i] = mean[h];
                }
            }
    }
    store(c, one, PART(dq, q_start, a.dq_stride, head), a.dq_stride, first, q_len);
}

// Gradients of the keys and values: rows of a result are keys, columns are queries. Query heads that share a key
// head follow one another, so that the sums have one order.
KERNEL(attention_keys, attention_args) {
    SHARED tile qs[PLANES], os[PLANES];
    BEGIN
    if (BLOCK_X * 64 >= k_len) return;
    u32 kv = BLOCK_Y, group = a.heads / a.kv_heads;
    operand k[STEPS], v[STEPS];
    float dk[PADDED / 8][4], dv[PADDED / 8][4], s[TILE / 8][4], dp[TILE / 8][4], one[2] = {1.0f, 1.0f};
    load_left(k, PART(k, k_start, a.kv_stride, kv), a.kv_stride, first, k_len);
    load_left(v, PART(v, k_start, a.kv_stride, kv), a.kv_stride, first, k_len);
    clear(dk);
    clear(dv);
    for (u32 head = kv * group; head < (kv + 1) * group; head++) {
        u32 drop = drop_split(a.key, BLOCK_Z * a.heads + head);
        for (u32 i0 = 0; i0 < q_len; i0 += TILE) {
            if (a.causal && BLOCK_X * 64 + q_len > i0 + TILE - 1 + k_len) continue; // none of them sees these keys
            SYNC();
            stage(qs, PART(q, q_start, a.q_stride, head), a.q_stride, i0, q_len);
            stage(os, PART(dy, q_start, a.out_stride, head), a.out_stride, i0, q_len);
            SYNC();
            times_rows(s, k, qs);
            times_rows(dp, v, os);
            UNROLL
            for (int n = 0; n < TILE / 8; n++)
                UNROLL
                for (int e = 0; e < 4; e++) {
                    u32 i = i0 + n * 8 + 2 * t + e % 2, j = first + g + e / 2 * 8;
                    int sees = SEES(i, j);
                    u64 at = (u64)head * a.queries + q_start + i;
                    float p = sees ? expf(s[n][e] * a.scale - AT(const float, a.lse)[at]) : 0.0f;
                    float factor = FACTOR(i, j), mean = sees ? AT(const float, a.delta)[at] : 0.0f;
                    s[n][e] = p * factor;
                    dp[n][e] = p * (dp[n][e] * factor - mean) * a.scale;
                }
            add_times(dv, s, os);
            add_times(dk, dp, qs);
        }
    }
    store(dk, one, PART(dk, k_start, a.dkv_stride, kv), a.dkv_stride, first, k_len);
    store(dv, one, PART(dv, k_start, a.dkv_stride, kv), a.dkv_stride, first, k_len);
}
