// Gradients of attention. Probabilities are computed again from the scores and the log-sum-exp that the forward pass kept;
// dropout masks are computed again too. With p the probabilities and dp = dout vᵀ the gradient of those that were kept:
// ds = p (dp - delta), delta = sum over a row of p dp = sum over a head of out dout.

fn put_rows(row: u32, count: u32, at: u32, four: u32, v: mat4x4<f32>) {
    if four < FOURS {
        let left = HEAD - 4u * four;
        let first = at + row * args.grad_row + 4u * four;
        let step = APART * args.grad_row;
        if row < count {
            store4(first, left, v[0]);
        }
        if row + APART < count {
            store4(first + step, left, v[1]);
        }
        if row + 2u * APART < count {
            store4(first + 2u * step, left, v[2]);
        }
        if row + 3u * APART < count {
            store4(first + 3u * step, left, v[3]);
        }
    }
}

fn put_sums(sums: Sums, row: u32, count: u32, at: u32, c: u32) {
    put_rows(row, count, at, c, sums.a);
    if OWN > 1u {
        put_rows(row, count, at, c + CG, sums.b);
    }
    if OWN > 2u {
        put_rows(row, count, at, c + 2u * CG, sums.c);
    }
    if OWN > 3u {
        put_rows(row, count, at, c + 3u * CG, sums.d);
    }
}

// The thread's part of out dout of one row.
fn along(out: Heads, dout: Heads, row: u32, c: u32) -> f32 {
    var sum = 0.0;
    if row < out.count {
        for (var four = c; four < FOURS; four += CG) {
            sum += dot(fetch(out, row, four), fetch(dout, row, four));
        }
    }
    return sum;
}

// Of four rows and one column: the probabilities that were kept and multiplied, and the scores' gradients.
struct Column {
    kept: vec4<f32>,
    ds: vec4<f32>,
}

// `grad` is dout vᵀ, `level` the log-sum-exp in units of log 2, `element` the place in the mask.
fn column(score: vec4<f32>, grad: vec4<f32>, shown: vec4<bool>, level: vec4<f32>, sum: vec4<f32>, element: vec4<u32>, mask: u32) -> Column {
    let p = select(vec4<f32>(), exp2(score * (args.scale * LOG2_E) - level), shown);
    if args.threshold == 0u {
        return Column(p, p * (grad - sum));
    }
    let factors = drop_factors(element, mask);
    return Column(p * factors, p * (grad * factors - sum));
}

// The column of a query, the rows being keys. `at` is the place of the sequence's first query in lse and delta.
fn query_column(tile: Tile, at: u32, query: u32, score: vec4<f32>, grad: vec4<f32>, own: vec4<u32>, mask: u32) -> Column {
    if query >= tile.queries {
        return Column();
    }
    let level = LOG2_E * lse[args.lse + at + query];
    let sum = delta[args.delta + at + query];
    let shown = own < vec4<u32>(seen_by(tile, query));
    return column(score, grad, shown, vec4<f32>(level), vec4<f32>(sum), query * tile.keys + own, mask);
}

// The gradients of one tile of queries of one head; delta is kept for `keys`.
@compute @workgroup_size(128)
fn queries(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_index(group, groups);
    if block >= args.count {
        return;
    }
    let tile = tile_of(block / args.heads);
    let head = block % args.heads;
    let kv = head / args.group;
    let g = thread / CG;
    let c = thread % CG;
    let q = queries_from(tile, tile.start, head);
    let out = outputs_from(2u, args.out, tile, tile.start, head);
    let dout = outputs_from(3u, args.dout, tile, tile.start, head);
    let row = own_row(g);
    let live = row < q.count;
    let own = tile.start + own_rows(g);
    let seen = vec4<u32>(seen_by(tile, own.x), seen_by(tile, own.y), seen_by(tile, own.z), seen_by(tile, own.w));
    let end = seen_by(tile, min(tile.start + ROWS, tile.queries) - 1u);
    let mask = mask_of(tile, head);

    let parts = vec4<f32>(
        along(out, dout, row, c),
        along(out, dout, row + APART, c),
        along(out, dout, row + 2u * APART, c),
        along(out, dout, row + 3u * APART, c),
    );
    put_gathered(parts, g, c);
    workgroupBarrier();
    let sum = gathered_sum(g);
    let at = head * args.queries + tile.first_query + tile.start + row;
    // Rows that do not exist repeat the thread's first one: nothing of theirs is written.
    let step = select(vec3<u32>(), APART * vec3<u32>(1u, 2u, 3u), row + APART * vec3<u32>(1u, 2u, 3u) < vec3<u32>(q.count));
    var level = vec4<f32>();
    if live {
        let kept = args.lse + at;
        level = LOG2_E * vec4<f32>(lse[kept], lse[kept + step.x], lse[kept + step.y], lse[kept + step.z]);
        if c == 0u {
            let to = args.delta + at;
            delta[to] = sum.x;
            if step.x > 0u {
                delta[to + step.x] = sum.y;
            }
            if step.y > 0u {
                delta[to + step.y] = sum.z;
            }
            if step.z > 0u {
                delta[to + step.z] = sum.w;
            }
        }
    }

    var sums = Sums();
    for (var start = 0u; start < end; start += COLS) {
        let keys = keys_from(tile, start, end, kv);
        let scores = products(q, keys, thread);
        let grads = products(dout, values_from(tile, start, end, kv), thread);
        workgroupBarrier();
        if live {
            let key = start + c;
            let element = own * tile.keys + key;
            put_weights(
                mat4x4<f32>(
                    column(scores[0], grads[0], vec4<u32>(key) < seen, level, sum, element, mask).ds,
                    column(scores[1], grads[1], vec4<u32>(key + CG) < seen, level, sum, element + CG, mask).ds,
                    column(scores[2], grads[2], vec4<u32>(key + 2u * CG) < seen, level, sum, element + 2u * CG, mask).ds,
                    column(scores[3], grads[3], vec4<u32>(key + 3u * CG) < seen, level, sum, element + 3u * CG, mask).ds,
                ),
                g,
                c,
            );
        }
        sums = add_weighted(sums, keys, live, thread);
    }
    if live {
        let to = args.grad + args.first_column + (tile.first_query + tile.start) * args.grad_row + head * HEAD;
        put_sums(scale_sums(sums, vec4<f32>(args.scale)), row, q.count, to, c);
    }
}

// The gradients of one tile of keys and values of one key head: its query heads one after the other. After `queries`.
@compute @workgroup_size(128)
fn keys(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_index(group, groups);
    if block >= args.count {
        return;
    }
    let kv_heads = args.heads / args.group;
    let tile = tile_of(block / kv_heads);
    let kv = block % kv_heads;
    let g = thread / CG;
    let c = thread % CG;
    let k = keys_from(tile, tile.start, tile.keys, kv);
    let v = values_from(tile, tile.start, tile.keys, kv);
    let row = own_row(g);
    let live = row < k.count;
    let own = tile.start + own_rows(g);
    // The first query that sees the first of these keys.
    let first = select(0u, max(tile.start + tile.queries, tile.keys) - tile.keys, args.causal > 0u);
    var dk = Sums();
    var dv = Sums();
    for (var head = kv * args.group; head < (kv + 1u) * args.group; head++) {
        let mask = mask_of(tile, head);
        let at = head * args.queries + tile.first_query;
        for (var start = first; start < tile.queries; start += COLS) {
            let q = queries_from(tile, start, head);
            let dout = outputs_from(3u, args.dout, tile, start, head);
            let scores = products(k, q, thread);
            let grads = products(v, dout, thread);
            workgroupBarrier();
            var ds = mat4x4<f32>();
            if live {
                let query = start + c;
                let p0 = query_column(tile, at, query, scores[0], grads[0], own, mask);
                let p1 = query_column(tile, at, query + CG, scores[1], grads[1], own, mask);
                let p2 = query_column(tile, at, query + 2u * CG, scores[2], grads[2], own, mask);
                let p3 = query_column(tile, at, query + 3u * CG, scores[3], grads[3], own, mask);
                ds = mat4x4<f32>(p0.ds, p1.ds, p2.ds, p3.ds);
                put_weights(mat4x4<f32>(p0.kept, p1.kept, p2.kept, p3.kept), g, c);
            }
            dv = add_weighted(dv, dout, live, thread);
            workgroupBarrier();
            if live {
                put_weights(ds, g, c);
            }
            dk = add_weighted(dk, q, live, thread);
        }
    }
    if live {
        let to = args.grad + (tile.first_key + tile.start) * args.grad_row + kv * HEAD;
        put_sums(scale_sums(dk, vec4<f32>(args.scale)), row, k.count, to + args.first_column, c);
        put_sums(dv, row, k.count, to + args.second_column, c);
    }
}
