// Cross-entropy over a vocabulary, the consistency term between two passes, and scores of targets. One block of threads
// for each row. Logits are f32, their gradient has format X; with X 0 it may be written over them.

struct vocab_args {
    u64 za, zb, targets, da, db, parts; // without a second pass zb is 0, without a gradient da is
    u32 vocab, detach;
    float weight_a, weight_b, smoothing, half; // of both passes' task loss; half of the consistency term's weight
};

// Log of the sum of e^z over a row, in one pass.
DEVICE float log_sum(const float *z, u32 n) {
    float most = -INFINITE, sum = 0.0f;
    for (u32 c = THREAD; c < n; c += THREADS) {
        float v = z[c];
        if (v > most) {
            sum = sum * expf(most - v) + 1.0f;
            most = v;
        } else
            sum += expf(v - most);
    }
    float top = block_all(most, 1);
    return top + logf(block_all(sum * expf(most - top), 0));
}

DEVICE float row_total(const float *z, u32 n) {
    float sum = 0.0f;
    for (u32 c = THREAD; c < n; c += THREADS) sum += z[c];
    return block_all(sum, 0);
}

// parts[row] = smoothed cross-entropy (the mean of both passes where both have a weight), half the symmetric divergence,
// -log p of the target in the first pass
KERNEL(vocab_loss, vocab_args) {
    u64 at = (u64)BLOCK_X * a.vocab;
    u32 target = AT(const u32, a.targets)[BLOCK_X], n = a.vocab;
    int two = a.zb != 0;
    const float *za = AT(const float, a.za) + at, *zb = two ? AT(const float, a.zb) + at : za;
    // Read before anything is written over it: every thread meets the others below.
    float hit_a = za[target], hit_b = zb[target];
    float la = log_sum(za, n), lb = two ? log_sum(zb, n) : la;
    float smooth_a = la - hit_a, smooth_b = lb - hit_b, both = 0.0f, ab = 0.0f;
    if (a.smoothing > 0.0f) {
        smooth_a += a.smoothing * (hit_a - row_total(za, n) / (float)n);
        if (two) smooth_b += a.smoothing * (hit_b - row_total(zb, n) / (float)n);
    }
    if (two) {
        for (u32 c = THREAD; c < n; c += THREADS) {
            float x = za[c] - la, y = zb[c] - lb, p = expf(x);
            both += (p - expf(y)) * (x - y);
            ab += p * (x - y);
        }
        both = block_all(both, 0);
        ab = block_all(ab, 0);
    }
    if (THREAD == 0) {
        float *parts = AT(float, a.parts) + 3ull * BLOCK_X;
        parts[0] = a.weight_b > 0.0f ? 0.5f * (smooth_a + smooth_b) : smooth_a;
        parts[1] = 0.5f * both;
        parts[2] = la - hit_a;
    }
    if (!a.da) return;
    float floor_a = a.weight_a * a.smoothing / (float)n, floor_b = a.weight_b * a.smoothing / (float)n;
    float through = a.detach ? 0.0f : a.half;
    for (u32 c = THREAD; c < n; c += THREADS) {
        float x = za[c] - la, p = expf(x), hot = c == target ? 1.0f - a.smoothing : 0.0f;
        float d = a.weight_a * (p - hot) - floor_a;
        if (two) {
            float y = zb[c] - lb, q = expf(y);
            d += a.half * (p - q) + through * p * (x - y - ab);
            float e = a.weight_b * (q - hot) - floor_b - a.half * (p - q) + through * q * (y - x - (both - ab));
            PUT(X, a.db, at + c, e);
        }
        PUT(X, a.da, at + c, d);
    }
}

struct score_args {
    u64 z, targets, parts, mixed;
    u32 vocab, plain;
};

// parts[row] = log p of the target, and the first of the likeliest tokens; probabilities are added to `mixed`, if there is
// one. With `plain`, z holds no logits: only the largest value's place is looked for.
KERNEL(vocab_score, score_args) {
    u64 at = (u64)BLOCK_X * a.vocab;
    u32 n = a.vocab;
    const float *z = AT(const float, a.z) + at;
    float most = -INFINITE, place = 0.0f;
    for (u32 c = THREAD; c < n; c += THREADS)
        if (z[c] > most) {
            most = z[c];
            place = (float)c;
        }
    float top = block_all(most, 1);
    place = -block_all(most == top ? -place : -INFINITE, 1);
    float lse = a.plain ? 0.0f : log_sum(z, n);
    if (THREAD == 0) {
        float *parts = AT(float, a.parts) + 2ull * BLOCK_X;
        parts[0] = a.plain ? 0.0f : z[AT(const u32, a.targets)[BLOCK_X]] - lse;
        parts[1] = place;
    }
    if (!a.mixed) return;
    for (u32 c = THREAD; c < n; c += THREADS) AT(float, a.mixed)[at + c] += expf(z[c] - lse);
}
