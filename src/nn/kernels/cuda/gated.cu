// The gated nonlinearity and rotary positions. Format of all tensors: X.

struct gated_args {
    u64 x, y, n;
    u32 width, act, vector;
};

// y[row, c] = act(gate) * up with gate and up side by side in x [rows, 2 width]; n = rows * width. Each thread takes four
// neighbours; with `vector` they lie in one row.
#define EACH_GATED(READ, BODY, WRITE)                                               \
    u64 first = 4 * ((u64)BLOCK_X * THREADS + THREAD);                              \
    if (first >= a.n) return;                                                       \
    u32 count = a.n - first < 4 ? (u32)(a.n - first) : 4;                           \
    struct quad gate, up, out;                                                      \
    u64 row = first / a.width, at = row * 2 * a.width + first % a.width;            \
    if (a.vector) {                                                                 \
        gate = GET4(X, a.x, at);                                                    \
        up = GET4(X, a.x, at + a.width);                                            \
        if (READ) out = GET4(X, a.y, first);                                        \
    } else                                                                          \
        for (u32 j = 0; j < count; j++) {                                           \
            u64 here = (first + j) / a.width * 2 * a.width + (first + j) % a.width; \
            gate.v[j] = GET(X, a.x, here);                                          \
            up.v[j] = GET(X, a.x, here + a.width);                                  \
            if (READ) out.v[j] = GET(X, a.y, first + j);                            \
        }                                                                           \
    for (u32 j = 0; j < count; j++) { BODY(gate.v[j], up.v[j], out.v[j]); }         \
    if (a.vector) {                                                                 \
        if (!WRITE) PUT4(X, a.y, first, out);                                       \
        else {                                                                      \
            PUT4(X, a.x, at, gate);                                                 \
            PUT4(X, a.x, at + a.width, up);                                         \
        }                                                                           \
    } else                                                                          \
        for (u32 j = 0; j < count; j++) {                                           \
            u64 here = (first + j) / a.width * 2 * a.width + (first + j) % a.width; \
            if (!WRITE) PUT(X, a.y, first + j, out.v[j]);                           \
            else {                                                                  \
                PUT(X, a.x, here, gate.v[j]);                                       \
                PUT(X, a.x, here + a.width, up.v[j]);                               \
            }                                                                       \
        }

KERNEL(gated_forward, gated_args) {
#define BODY(g, u, o) o = act_value(a.act, g) * u
    EACH_GATED(0, BODY, 0)
#undef BODY
}

// Gate and up become their gradients; y holds that of the output.
KERNEL(gated_backward, gated_args) {
#define BODY(g, u, o)                     \
    float value = act_value(a.act, g);    \
    g = o * u * act_slope(a.act, g);      \
    u = o * value
    EACH_GATED(1, BODY, 1)
#undef BODY
}

struct rotate_args {
    u64 x, cos, sin, positions, n;
    u32 columns, heads, half, interleaved;
    float sign;
};

// Turns the first `heads` heads of each row of x in place, a pair of values (i and i + half, or 2 i and 2 i + 1) by its
// angle at the row's position. One thread for each row and pair; n = rows * half. Cosines and sines are f32.
KERNEL(rotate, rotate_args) {
    u64 index = (u64)BLOCK_X * THREADS + THREAD;
    if (index >= a.n) return;
    u64 row = index / a.half, i = index % a.half;
    u64 angle = (u64)AT(const u32, a.positions)[row] * a.half + i;
    float c = AT(const float, a.cos)[angle], s = AT(const float, a.sin)[angle] * a.sign;
    u64 first = row * a.columns + (a.interleaved ? 2 * i : i), apart = a.interleaved ? 1 : a.half;
    for (u32 head = 0; head < a.heads; head++) {
        u64 at = first + (u64)head * 2 * a.half;
        float x = GET(X, a.x, at), y = GET(X, a.x, at + apart);
        PUT(X, a.x, at, x * c - y * s);
        PUT(X, a.x, at + apart, y * c + x * s);
    }
}
