// Root-mean-square normalisation with the residual add in front of it, that of single heads, and their gradients. Format
// of all tensors: X; gammas, beta and rstd are f32.

struct rms_args {
    u64 x, residual, gamma, beta, y, sum, rstd, dsum;
    u32 d, key, threshold, add;
    float scale, eps;
};

// sum = x * mask + residual (without `sum` that is x itself), y = sum / sqrt(mean(sum²) + eps) * gamma. One block of
// threads for each row.
KERNEL(rms_forward, rms_args) {
    u64 at = (u64)BLOCK_X * a.d, from = a.sum ? a.sum : a.x;
    float squares = 0.0f;
    for (u32 c = THREAD; c < a.d; c += THREADS) {
        float v = GET(X, a.x, at + c);
        if (a.sum) {
            if (a.threshold) v *= drop_factor(a.key, a.threshold, a.scale, (u32)(at + c));
            if (a.residual) v += GET(X, a.residual, at + c);
            // What is normalised is what goes on and what the backward pass reads.
            v = ROUND(X, v);
            PUT(X, a.sum, at + c, v);
        }
        squares += v * v;
    }
    float rstd = 1.0f / sqrtf(block_all(squares, 0) / (float)a.d + a.eps);
    if (THREAD == 0) AT(float, a.rstd)[BLOCK_X] = rstd;
    for (u32 c = THREAD; c < a.d; c += THREADS)
        PUT(X, a.y, at + c, GET(X, from, at + c) * rstd * AT(const float, a.gamma)[c]);
}

// dsum (+)= the gradient of the sum, from dy at `y`: gamma dy r - s r³ mean(gamma dy s)
KERNEL(rms_backward, rms_args) {
    u64 at = (u64)BLOCK_X * a.d;
    float along = 0.0f, r = AT(const float, a.rstd)[BLOCK_X];
    for (u32 c = THREAD; c < a.d; c += THREADS)
        along += GET(X, a.y, at + c) * AT(const float, a.gamma)[c] * GET(X, a.sum, at + c);
    along = block_all(along, 0) * r * r * r / (float)a.d;
    for (u32 c = THREAD; c < a.d; c += THREADS) {
        float v = GET(X, a.y, at + c) * AT(const float, a.gamma)[c] * r - GET(X, a.sum, at + c) * along;
        if (a.add) v += GET(X, a.dsum, at + c);
        PUT(X, a.dsum, at + c, v);
    }
}

// y = x * rstd * gamma + beta, where there are an rstd and a beta: a normalisation's output once more
KERNEL(norm_output, rms_args) {
    u64 at = (u64)BLOCK_X * a.d;
    float r = a.rstd ? AT(const float, a.rstd)[BLOCK_X] : 1.0f;
    for (u32 c = THREAD; c < a.d; c += THREADS) {
        float v = GET(X, a.x, at + c) * r * AT(const float, a.gamma)[c];
        if (a.beta) v += AT(const float, a.beta)[c];
        PUT(X, a.y, at + c, v);
    }
}

struct heads_args {
    u64 x, q_gamma, k_gamma, y;
    u32 columns, head_dim, q_heads, heads;
    float eps;
};

// The first `heads` heads of each row of x normalised into y, each by a warp, and what is behind them copied.
KERNEL(heads_forward, heads_args) {
    u64 at = (u64)BLOCK_X * a.columns;
    u32 lane = THREAD % 32;
    for (u32 head = THREAD / 32; head < a.heads; head += THREADS / 32) {
        u64 first = at + (u64)head * a.head_dim, gamma = head < a.q_heads ? a.q_gamma : a.k_gamma;
        float squares = 0.0f;
        for (u32 c = lane; c < a.head_dim; c += 32) {
            float v = GET(X, a.x, first + c);
            squares += v * v;
        }
        float r = 1.0f / sqrtf(warp_sum(squares) / (float)a.head_dim + a.eps);
        for (u32 c = lane; c < a.head_dim; c += 32)
            PUT(X, a.y, first + c, GET(X, a.x, first + c) * r * AT(const float, gamma)[c]);
    }
    for (u32 c = a.heads * a.head_dim + THREAD; c < a.columns; c += THREADS) PUT(X, a.y, at + c, GET(X, a.x, at + c));
}

// y, the gradient of the result, becomes that of x in place.
KERNEL(heads_backward, heads_args) {
    u64 at = (u64)BLOCK_X * a.columns;
    u32 lane = THREAD % 32;
    for (u32 head = THREAD / 32; head < a.heads; head += THREADS / 32) {
        u64 first = at + (u64)head * a.head_dim, gamma = head < a.q_heads ? a.q_gamma : a.k_gamma;
        float squares = 0.0f, along = 0.0f;
        for (u32 c = lane; c < a.head_dim; c += 32) {
            float v = GET(X, a.x, first + c);
            squares += v * v;
            along += GET(X, a.y, first + c) * v * AT(const float, gamma)[c];
        }
        float r = 1.0f / sqrtf(warp_sum(squares) / (float)a.head_dim + a.eps);
        along = warp_sum(along) * r * r * r / (float)a.head_dim;
        for (u32 c = lane; c < a.head_dim; c += 32) {
            float v = GET(X, a.y, first + c) * AT(const float, gamma)[c] * r - GET(X, a.x, first + c) * along;
            PUT(X, a.y, first + c, v);
        }
    }
}
