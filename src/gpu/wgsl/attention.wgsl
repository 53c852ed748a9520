// softmax(q kᵀ / sqrt(HEAD)) v of one tile of queries and one head. Nothing of size queries x keys is stored: a running
// maximum and sum for each query follow the keys tile by tile.

fn put_rows(row: u32, count: u32, at: u32, stride: u32, four: u32, v: mat4x4<f32>) {
    if four < FOURS {
        let left = HEAD - 4u * four;
        let first = at + row * stride + 4u * four;
        let step = APART * stride;
        if row < count {
            store2(first, left, v[0]);
        }
        if row + APART < count {
            store2(first + step, left, v[1]);
        }
        if row + 2u * APART < count {
            store2(first + 2u * step, left, v[2]);
        }
        if row + 3u * APART < count {
            store2(first + 3u * step, left, v[3]);
        }
    }
}

// Scores in units of log 2, LEAST where a row does not see the column's key.
fn visible(score: vec4<f32>, key: u32, seen: vec4<u32>) -> vec4<f32> {
    return select(vec4<f32>(LEAST), score * (args.scale * LOG2_E), vec4<u32>(key) < seen);
}

@compute @workgroup_size(128)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = block_index(group, groups);
    if block >= args.count {
        return;
    }
    let tile = tile_of(block / args.heads);
    let head = block % args.heads;
    let g = thread / CG;
    let c = thread % CG;
    let q = queries_from(tile, tile.start, head);
    let live = own_row(g) < q.count;
    let own = tile.start + own_rows(g);
    let seen = vec4<u32>(seen_by(tile, own.x), seen_by(tile, own.y), seen_by(tile, own.z), seen_by(tile, own.w));
    let end = seen_by(tile, min(tile.start + ROWS, tile.queries) - 1u);
    let mask = mask_of(tile, head);
    var sums = Sums();
    var top = vec4<f32>(LEAST);
    // Of the thread's own columns.
    var total = vec4<f32>();
    for (var start = 0u; start < end; start += COLS) {
        let scores = products(q, keys_from(tile, start, end, head / args.group), thread);
        let key = start + c;
        let s0 = visible(scores[0], key, seen);
        let s1 = visible(scores[1], key + CG, seen);
        let s2 = visible(scores[2], key + 2u * CG, seen);
        let s3 = visible(scores[3], key + 3u * CG, seen);
        put_gathered(max(max(s0, s1), max(s2, s3)), g, c);
        workgroupBarrier();
        if live {
            let most = gathered_max(top, g);
            let decay = exp2(top - most);
            top = most;
            var p = mat4x4<f32>(exp2(s0 - most), exp2(s1 - most), exp2(s2 - most), exp2(s3 - most));
            total = total * decay + ((p[0] + p[1]) + (p[2] + p[3]));
            sums = scale_sums(sums, decay);
            if args.threshold > 0u {
                let element = own * tile.keys + key;
                p = mat4x4<f32>(
                    p[0] * drop_factors(element, mask),
                    p[1] * drop_factors(element + CG, mask),
                    p[2] * drop_factors(element + 2u * CG, mask),
                    p[3] * drop_factors(element + 3u * CG, mask),
                );
            }
            put_weights(p, g, c);
        }
        sums = add_weighted(sums, values_from(tile, start, end, head / args.group), live, thread);
    }
    // Whoever still reads what was gathered last comes first; there may have been no key at all.
    workgroupBarrier();
    put_gathered(total, g, c);
    workgroupBarrier();
    if !live {
        return;
    }
    total = gathered_sum(g);
    if end == 0u {
        total = vec4<f32>(1.0);
    }
    let row = own_row(g);
    if args.keep_lse > 0u && c == 0u {
        let at = args.lse + head * args.queries + tile.first_query + tile.start + row;
        let sum = (top + log2(total)) * LN_2;
        lse[at] = sum.x;
        if row + APART < q.count {
            lse[at + APART] = sum.y;
        }
        if row + 2u * APART < q.count {
            lse[at + 2u * APART] = sum.z;
        }
        if row + 3u * APART < q.count {
            lse[at + 3u * APART] = sum.w;
        }
    }
    let o = scale_sums(sums, 1.0 / total);
    let to = outputs_from(2u, args.out, tile, tile.start, head);
    put_rows(row, to.count, to.at, to.row, c, o.a);
    if OWN > 1u {
        put_rows(row, to.count, to.at, to.row, c + CG, o.b);
    }
    if OWN > 2u {
        put_rows(row, to.count, to.at, to.row, c + 2u * CG, o.c);
    }
    if OWN > 3u {
        put_rows(row, to.count, to.at, to.row, c + 3u * CG, o.d);
    }
}
