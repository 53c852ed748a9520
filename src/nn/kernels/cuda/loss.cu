// Losses over many classes, fused with their gradients: one block of 256 threads for each row. Format of logits and
// gradients: X. Rows are read, never stored as probabilities.

struct loss_args {
    u64 logits, other, targets, grad, other_grad, loss;
    u32 classes, detach;
    float factor;
};

// log of the sum of e^z over a row
DEVICE float log_sum(u64 z, u64 at, u32 classes) {
    float most = -INFINITE, sum = 0.0f;
    for (u32 c = THREAD; c < classes; c += THREADS) most = fmaxf(most, GET(X, z, at + c));
    most = block_all(most, 1);
    for (u32 c = THREAD; c < classes; c += THREADS) sum += expf(GET(X, z, at + c) - most);
    return most + logf(block_all(sum, 0));
}

// loss[row] = -log p[target], grad = factor (p - hot)
KERNEL(cross_entropy, loss_args) {
    u64 at = (u64)BLOCK_X * a.classes;
    u32 target = AT(const u32, a.targets)[BLOCK_X];
    float total = log_sum(a.logits, at, a.classes);
    if (THREAD == 0) AT(float, a.loss)[BLOCK_X] = total - GET(X, a.logits, at + target);
    for (u32 c = THREAD; c < a.classes; c += THREADS) {
        float p = expf(GET(X, a.logits, at + c) - total);
        PUT(X, a.grad, at + c, a.factor * (p - (c == target ? 1.0f : 0.0f)));
    }
}

// loss[row] = (KL(p, q) + KL(q, p)) / 2 of the rows of both tensors, with gradients times factor added to what grad
// and other_grad hold; with detach the other distribution is a constant in each term.
KERNEL(symmetric_kl, loss_args) {
    u64 at = (u64)BLOCK_X * a.classes;
    float lp = log_sum(a.logits, at, a.classes), lq = log_sum(a.other, at, a.classes);
    float pq = 0.0f, qp = 0.0f;
    for (u32 c = THREAD; c < a.classes; c += THREADS) {
        float x = GET(X, a.logits, at + c) - lp, y = GET(X, a.other, at + c) - lq;
        pq += expf(x) * (x - y);
        qp += expf(y) * (y - x);
    }
    pq = block_all(pq, 0);
    qp = block_all(qp, 0);
    if (THREAD == 0) AT(float, a.loss)[BLOCK_X] = 0.5f * (pq + qp);
    for (u32 c = THREAD; c < a.classes; c += THREADS) {
        float x = GET(X, a.logits, at + c) - lp, y = GET(X, a.other, at + c) - lq;
        float p = expf(x), q = expf(y), dp = p - q, dq = q - p;
        if (!a.detach) {
            dp += p * (x - y - pq);
            dq += q * (y - x - qp);
        }
        PUT(X, a.grad, at + c, GET(X, a.grad, at + c) + 0.5f * a.factor * dp);
        PUT(X, a.other_grad, at + c, GET(X, a.other_grad, at + c) + 0.5f * a.factor * dq);
    }
}
