// Writing token by token: keys and values of new tokens are put into a pool of rows, and their queries attend to the rows
// of their sequences. Format of all tensors: X; HEAD is the width of a head. A row of the pool holds the keys of all heads,
// then the values.

#define SLOTS ((HEAD + 31) / 32)
#define WARPS 8

struct cached_attention_args {
    u64 qkv, pool, tokens, rows, out;
    u32 columns, heads, kv_heads;
    float scale;
};

// Of a new token: where its sequence starts in the list of rows, how many of them it sees, and its own row.
struct token {
    u32 first, seen, row;
};

KERNEL(store_rows, cached_attention_args) {
    struct token it = AT(const struct token, a.tokens)[BLOCK_X];
    u32 both = 2 * a.kv_heads * HEAD;
    u64 from = (u64)BLOCK_X * a.columns + a.heads * HEAD, to = (u64)it.row * both;
    for (u32 c = THREAD; c < both; c += THREADS) PUT(X, a.pool, to + c, GET(X, a.qkv, from + c));
}

// out = softmax(q kᵀ / sqrt(d)) v of one token (BLOCK_X) and head (BLOCK_Y). Each of eight warps takes every eighth row
// with a maximum, a sum and a weighted sum of its own, which are put together at the end.
KERNEL(attend, cached_attention_args) {
    SHARED float tops[WARPS], sums[WARPS], outs[WARPS][HEAD];
    struct token it = AT(const struct token, a.tokens)[BLOCK_X];
    u32 lane = THREAD % 32, warp = THREAD / 32, head = BLOCK_Y, kv = head / (a.heads / a.kv_heads);
    u32 width = a.kv_heads * HEAD;
    float q[SLOTS], o[SLOTS], most = -INFINITE, sum = 0.0f;
    UNROLL
    for (int s = 0; s < SLOTS; s++) {
        u32 c = s * 32 + lane;
        q[s] = c < HEAD ? GET(X, a.qkv, (u64)BLOCK_X * a.columns + head * HEAD + c) * a.scale : 0.0f;
        o[s] = 0.0f;
    }
    for (u32 j = warp; j < it.seen; j += WARPS) {
        u64 at = (u64)AT(const u32, a.rows)[it.first + j] * 2 * width + kv * HEAD;
        float dot = 0.0f;
        UNROLL
        for (int s = 0; s < SLOTS; s++) {
            u32 c = s * 32 + lane;
            if (c < HEAD) dot += q[s] * GET(X, a.pool, at + c);
        }
        dot = warp_sum(dot);
        float top = fmaxf(most, dot), decay = expf(most - top), p = expf(dot - top);
        most = top;
        sum = sum * decay + p;
        UNROLL
        for (int s = 0; s < SLOTS; s++) {
            u32 c = s * 32 + lane;
            if (c < HEAD) o[s] = o[s] * decay + p * GET(X, a.pool, at + width + c);
        }
    }
    if (lane == 0) {
        tops[warp] = most;
        sums[warp] = sum;
    }
    UNROLL
    for (int s = 0; s < SLOTS; s++)
        if (s * 32 + lane < HEAD) outs[warp][s * 32 + lane] = o[s];
    SYNC();
    for (u32 c = THREAD; c < HEAD; c += THREADS) {
        float top = tops[0], total = 0.0f, value = 0.0f;
        for (u32 w = 1; w < WARPS; w++) top = fmaxf(top, tops[w]);
        for (u32 w = 0; w < WARPS; w++) {
            float share = expf(tops[w] - top); // of a warp that saw no row: 0
            total += share * sums[w];
            value += share * outs[w][c];
        }
        PUT(X, a.out, ((u64)BLOCK_X * a.heads + head) * HEAD + c, value / total);
    }
}
