// Activation, dropout and the residual add, element by element. Format of all tensors: X. Each thread takes four
// neighbours.

struct elementwise_args {
    u64 x, y, bias, n;
    u32 width, act, vector;
    u32 key, threshold;
    float scale;
};

// Runs BODY(v, i) on each value v of x at element i and writes v to `out`.
#define EACH(out, BODY)                                                        \
    u64 first = 4 * ((u64)BLOCK_X * THREADS + THREAD);                         \
    if (first >= a.n) return;                                                  \
    u32 count = a.n - first < 4 ? (u32)(a.n - first) : 4;                      \
    int whole = a.vector && count == 4;                                        \
    struct quad q;                                                             \
    if (whole) q = GET4(X, a.x, first);                                        \
    else                                                                       \
        for (u32 j = 0; j < count; j++) q.v[j] = GET(X, a.x, first + j);       \
    for (u32 j = 0; j < count; j++) { BODY(q.v[j], (first + j)); }             \
    if (whole) PUT4(X, out, first, q);                                         \
    else                                                                       \
        for (u32 j = 0; j < count; j++) PUT(X, out, first + j, q.v[j]);

// y = act(x)
KERNEL(act_forward, elementwise_args) {
#define BODY(v, i) v = act_value(a.act, v)
    EACH(a.y, BODY)
#undef BODY
}

// x += bias, y = act(x): both are kept, the backward pass needs x. Without y only the bias is added.
KERNEL(bias_act, elementwise_args) {
#define BODY(v, i) v += AT(const float, a.bias)[(i) % a.width]
    EACH(a.x, BODY)
#undef BODY
    if (!a.y) return;
    // The activation sees what the backward pass will read: the rounded sum.
    for (u32 j = 0; j < count; j++) q.v[j] = act_value(a.act, ROUND(X, q.v[j]));
    if (whole) PUT4(X, a.y, first, q);
    else
        for (u32 j = 0; j < count; j++) PUT(X, a.y, first + j, q.v[j]);
}

// y = y * act'(x)
KERNEL(act_backward, elementwise_args) {
#define BODY(v, i) v = act_slope(a.act, v) * GET(X, a.y, i)
    EACH(a.y, BODY)
#undef BODY
}

// y = x * mask
KERNEL(dropout, elementwise_args) {
#define BODY(v, i) v *= drop_factor(a.key, a.threshold, a.scale, (u32)(i))
    EACH(a.y, BODY)
#undef BODY
}

// y = x * mask + residual, which is at `bias` and has x's format (0: none)
KERNEL(add, elementwise_args) {
#define BODY(v, i)                                                             \
    if (a.threshold) v *= drop_factor(a.key, a.threshold, a.scale, (u32)(i));  \
    if (a.bias) v += GET(X, a.bias, i);
    EACH(a.y, BODY)
#undef BODY
}
