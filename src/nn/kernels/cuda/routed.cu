// Products that send each row to its expert. Weights and biases are f32, x has format X, base and out format Y.
//
// A segment is the rows of one expert, consecutive or listed. Each block makes a tile of ROWS x COLS outputs of one
// segment; each of its 128 threads TM x TN of them, from slices of DEPTH that go through shared memory.

#define SEGMENTS 16
#define DEPTH 16
#define TN_THREADS (COLS / TN)
#define TM_THREADS (ROWS / TM)

struct segment {
    u32 expert, start, len, tile, listed;
};

struct routed_args {
    u64 x, weight, bias, base, out, list, out_bias;
    u32 width, out_width, row_stride, col_stride, expert_stride, segments, rows_per_chunk;
    u32 x_row, out_row; // values from one row to the next, of x and of base and out
    float scale;
    struct segment segment[SEGMENTS];
};

DEVICE u32 row_of(u64 list, struct segment s, u32 i) {
    return s.listed ? AT(const u32, list)[s.start + i] : s.start + i;
}

// out[row, o] = base[row, o] + bias[e, o] + scale * sum over k of x[row, k] weight[e][o * row_stride + k * col_stride]
// base may be out itself.
KERNEL(routed_product, routed_args) {
    SHARED float xs[DEPTH][ROWS + 1], ws[DEPTH][COLS + 1];
    u32 which = 0;
    while (which + 1 < a.segments && a.segment[which + 1].tile <= BLOCK_X) which++;
    struct segment s = a.segment[which];
    u32 first = (BLOCK_X - s.tile) * ROWS, col = BLOCK_Y * COLS;
    u32 ty = THREAD / TN_THREADS, tx = THREAD % TN_THREADS;
    u64 weight = a.weight + 4ull * s.expert * a.expert_stride;
    float acc[TM][TN];
    UNROLL
    for (int i = 0; i < TM; i++)
        for (int j = 0; j < TN; j++) acc[i][j] = 0.0f;
    for (u32 k0 = 0; k0 < a.width; k0 += DEPTH) {
        for (u32 i = THREAD; i < ROWS * DEPTH; i += THREADS) {
            u32 r = i / DEPTH, k = i % DEPTH;
            int inside = first + r < s.len && k0 + k < a.width;
            xs[k][r] = inside ? GET(X, a.x, (u64)row_of(a.list, s, first + r) * a.x_row + k0 + k) : 0.0f;
        }
        for (u32 i = THREAD; i < COLS * DEPTH; i += THREADS) {
            // Neighbouring threads read neighbouring weights, whichever way they lie.
            u32 o = a.col_stride == 1 ? i / DEPTH : i % COLS, k = a.col_stride == 1 ? i % DEPTH : i / COLS;
            int inside = col + o < a.out_width && k0 + k < a.width;
            ws[k][o] = inside ? AT(const float, weight)[(u64)(col + o) * a.row_stride + (u64)(k0 + k) * a.col_stride] : 0.0f;
        }
        SYNC();
        UNROLL
        for (int k = 0; k < DEPTH; k++)
            UNROLL
            for (int i = 0; i < TM; i++) {
                float x = xs[k][ty + i * TM_THREADS];
                UNROLL
                for (int j = 0; j < TN; j++) acc[i][j] += x * ws[k][tx + j * TN_THREADS];
            }
        SYNC();
    }
    for (int i = 0; i < TM; i++) {
        u32 r = first + ty + i * TM_THREADS;
        if (r >= s.len) continue;
        u64 at = (u64)row_of(a.list, s, r) * a.out_row;
        for (int j = 0; j < TN; j++) {
            u32 o = col + tx + j * TN_THREADS;
            if (o >= a.out_width) continue;
            float v = a.scale * acc[i][j];
            if (a.bias) v += AT(const float, a.bias)[(u64)s.expert * a.out_width + o];
            if (a.base) v += GET(Y, a.base, at + o);
            PUT(Y, a.out, at + o, v);
        }
    }
}

// One segment's share of dW = scale * dyᵀ x and db = the column sums of dy, for the rows of chunk BLOCK_Z. dy (format Y,
// at `base`) has out_width columns, x has width. Partial sums go to out[chunk][o][i] and out_bias[chunk][o].
KERNEL(routed_weight, routed_args) {
    SHARED float ds[DEPTH][ROWS + 1], xs[DEPTH][COLS + 1];
    struct segment s = a.segment[0];
    u32 begin = BLOCK_Z * a.rows_per_chunk, end = begin + a.rows_per_chunk < s.len ? begin + a.rows_per_chunk : s.len;
    u32 row = BLOCK_X * ROWS, col = BLOCK_Y * COLS;
    u32 ty = THREAD / TN_THREADS, tx = THREAD % TN_THREADS;
    float acc[TM][TN], sum[TM];
    UNROLL
    for (int i = 0; i < TM; i++) {
        sum[i] = 0.0f;
        for (int j = 0; j < TN; j++) acc[i][j] = 0.0f;
    }
    for (u32 r0 = begin; r0 < end; r0 += DEPTH) {
        for (u32 i = THREAD; i < ROWS * DEPTH; i += THREADS) {
            u32 r = i / ROWS, o = i % ROWS;
            int inside = r0 + r < end && row + o < a.out_width;
            ds[r][o] = inside ? GET(Y, a.base, (u64)row_of(a.list, s, r0 + r) * a.out_row + row + o) : 0.0f;
        }
        for (u32 i = THREAD; i < COLS * DEPTH; i += THREADS) {
            u32 r = i / COLS, c = i % COLS;
            int inside = r0 + r < end && col + c < a.width;
            xs[r][c] = inside ? GET(X, a.x, (u64)row_of(a.list, s, r0 + r) * a.x_row + col + c) : 0.0f;
        }
        SYNC();
        UNROLL
        for (int r = 0; r < DEPTH; r++)
            UNROLL
            for (int i = 0; i < TM; i++) {
                float d = ds[r][ty + i * TM_THREADS];
                sum[i] += d;
                UNROLL
                for (int j = 0; j < TN; j++) acc[i][j] += d * xs[r][tx + j * TN_THREADS];
            }
        SYNC();
    }
    for (int i = 0; i < TM; i++) {
        u32 o = row + ty + i * TM_THREADS;
        if (o >= a.out_width) continue;
        if (a.out_bias && BLOCK_Y == 0 && tx == 0) AT(float, a.out_bias)[(u64)BLOCK_Z * a.out_width + o] = sum[i];
        for (int j = 0; j < TN; j++) {
            u32 c = col + tx + j * TN_THREADS;
            if (c < a.width) AT(float, a.out)[((u64)BLOCK_Z * a.out_width + o) * a.width + c] = a.scale * acc[i][j];
        }
    }
}

struct sum_args {
    u64 parts, out, len;
    u32 count;
};

// out[j] = parts[0][j] + parts[1][j] + ..., in that order
KERNEL(sum_parts, sum_args) {
    u64 j = (u64)BLOCK_X * THREADS + THREAD;
    if (j >= a.len) return;
    float sum = 0.0f;
    for (u32 c = 0; c < a.count; c++) sum += AT(const float, a.parts)[c * a.len + j];
    AT(float, a.out)[j] = sum;
}
