// Residual add, dropout and layer normalisation in one pass, and the gradient of the normalised sum.
// Format of x, residual, y, normalized, dy, dx: X. gamma, beta and rstd are f32. One warp for each row; the row is
// kept in shared memory between the passes over it. Warps of a block never wait for each other.

struct layer_norm_args {
    u64 x, residual, gamma, beta, y, normalized, rstd;
    u32 n, d, key, threshold;
    float scale, eps;
};

KERNEL(layer_norm_forward, layer_norm_args) {
    SHARED_DYNAMIC(memory);
    u32 lane = THREAD % 32, row = BLOCK_X * (THREADS / 32) + THREAD / 32;
    float *s = (float *)memory + (THREAD / 32) * a.d;
    if (row >= a.n) return;
    u64 at = (u64)row * a.d;
    float sum = 0.0f;
    for (u32 c = lane; c < a.d; c += 32) {
        float v = GET(X, a.x, at + c);
        if (a.threshold) v *= drop_factor(a.key, a.threshold, a.scale, (u32)(at + c));
        if (a.residual) v += GET(X, a.residual, at + c);
        s[c] = v;
        sum += v;
    }
    float mean = warp_sum(sum) / (float)a.d;
    float squares = 0.0f;
    for (u32 c = lane; c < a.d; c += 32) squares += (s[c] - mean) * (s[c] - mean);
    float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)a.d + a.eps);
    if (lane == 0) AT(float, a.rstd)[row] = rstd;
    for (u32 c = lane; c < a.d; c += 32) {
        float h = (s[c] - mean) * rstd;
        PUT(X, a.normalized, at + c, h);
        PUT(X, a.y, at + c, h * AT(const float, a.gamma)[c] + AT(const float, a.beta)[c]);
    }
}

// x is dy, y the gradient of the sum: rstd (g - mean(g) - h mean(g h)) with g = dy gamma, h = normalized; residual is
// the gradient of what went through the dropout.
KERNEL(layer_norm_backward, layer_norm_args) {
    SHARED_DYNAMIC(memory);
    u32 lane = THREAD % 32, row = BLOCK_X * (THREADS / 32) + THREAD / 32;
    float *s = (float *)memory + (THREAD / 32) * a.d;
    if (row >= a.n) return;
    u64 at = (u64)row * a.d;
    float sum = 0.0f, along = 0.0f;
    for (u32 c = lane; c < a.d; c += 32) {
        float g = GET(X, a.x, at + c) * AT(const float, a.gamma)[c];
        s[c] = g;
        sum += g;
        along += g * GET(X, a.normalized, at + c);
    }
    float mean = warp_sum(sum) / (float)a.d;
    along = warp_sum(along) / (float)a.d;
    float rstd = AT(const float, a.rstd)[row];
    for (u32 c = lane; c < a.d; c += 32) {
        float v = (s[c] - mean - GET(X, a.normalized, at + c) * along) * rstd;
        PUT(X, a.y, at + c, v);
        if (a.threshold) v *= drop_factor(a.key, a.threshold, a.scale, (u32)(at + c));
        PUT(X, a.residual, at + c, v);
    }
}
