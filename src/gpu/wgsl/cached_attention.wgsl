// Writing token by token: keys and values of new tokens go to their rows of a pool, and their queries attend to the rows of
// their sequences. A row of the pool holds the keys of all heads, then the values. Operand 0 is qkv, the queries, keys and
// values of the new tokens side by side; operand 1 the pool; operand 2 the output. HEAD is the width of a head.

struct Args {
    qkv: u32,
    pool: u32,
    out: u32,
    unused3: u32,
    unused4: u32,
    parts: u32,
    words: u32,
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    // Parts that the rows of a token are divided into, and how many rows a part has.
    splits: u32,
    split: u32,
    // 1 / sqrt(HEAD)
    scale: f32,
}
var<immediate> args: Args;

// Of each token, head and part: the largest score, the sum of exponentials, and their sum weighted by values.
@group(0) @binding(5) var<storage, read_write> parts: array<f32>;
// Of each token: the place of its sequence in the list of rows, how many of those it sees, and its own row. Then the list.
@group(0) @binding(6) var<storage, read_write> words: array<u32>;

const LOG2_E: f32 = 1.44269504;
const LEAST: f32 = -1e30;
const FOURS: u32 = (HEAD + 3u) / 4u;
// Values of a part.
const PART: u32 = 4u * FOURS + 2u;

// Four values of one token's keys and values for each thread.
@compute @workgroup_size(256)
fn store_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let both = 2u * args.kv_heads * HEAD;
    let fours = (both + 3u) / 4u;
    let i = block_index(group, groups) * 256u + thread;
    let token = i / fours;
    if token < args.tokens {
        let column = 4u * (i % fours);
        let width = args.heads * HEAD;
        let v = load0(args.qkv + token * (width + both) + width + column, both - column);
        store1(args.pool + words[args.words + 3u * token + 2u] * both + column, both - column, v);
    }
}

// Rows of the pool at a time, one for each thread.
const ROWS: u32 = 128u;
// Query heads of a workgroup: up to eight that share a key head. Every vector below that is not four values of a head holds
// one number for each of four heads: the first four, and the others where there are any.
const SETS: u32 = (TOGETHER + 3u) / 4u;
// Threads along the fours of a value, and how many values are added side by side.
const SIDE: u32 = ROWS / ALONG;

var<workgroup> queries: array<vec4<f32>, TOGETHER * FOURS>;
var<workgroup> cells: array<vec4<f32>, ROWS * SETS>;
var<workgroup> firsts: array<vec4<f32>, 16u * SETS>;
var<workgroup> rows: array<u32, ROWS>;

// A number of one head, zeros for the others of its set.
fn one_head(value: f32, head: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(value), vec4<u32>(head) == vec4<u32>(0u, 1u, 2u, 3u));
}

// Of each head and four values of a key.
fn score(which: u32, four: u32, k: vec4<f32>) -> vec4<f32> {
    let at = 4u * which * FOURS + four;
    var s = one_head(dot(queries[at], k), 0u);
    if TOGETHER > 4u * which + 1u {
        s.y = dot(queries[at + FOURS], k);
    }
    if TOGETHER > 4u * which + 2u {
        s.z = dot(queries[at + 2u * FOURS], k);
    }
    if TOGETHER > 4u * which + 3u {
        s.w = dot(queries[at + 3u * FOURS], k);
    }
    return s;
}

// The largest and the sum of a set's numbers of all threads.
fn largest(which: u32, thread: u32, value: vec4<f32>, start: vec4<f32>) -> vec4<f32> {
    cells[which * ROWS + thread] = value;
    workgroupBarrier();
    if thread < 16u {
        var most = cells[which * ROWS + thread];
        for (var k = 1u; k < ROWS / 16u; k++) {
            most = max(most, cells[which * ROWS + thread + 16u * k]);
        }
        firsts[which * 16u + thread] = most;
    }
    workgroupBarrier();
    var most = start;
    for (var k = 0u; k < 16u; k++) {
        most = max(most, firsts[which * 16u + k]);
    }
    return most;
}
fn total(which: u32, thread: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    cells[which * ROWS + thread] = value;
    workgroupBarrier();
    if thread < 16u {
        var sum = cells[which * ROWS + thread];
        for (var k = 1u; k < ROWS / 16u; k++) {
            sum += cells[which * ROWS + thread + 16u * k];
        }
        firsts[which * 16u + thread] = sum;
    }
    workgroupBarrier();
    var sum = firsts[which * 16u];
    for (var k = 1u; k < 16u; k++) {
        sum += firsts[which * 16u + k];
    }
    return sum;
}

// Adds four values with the weights of four heads, whose sums are the columns.
fn add_outer(sum: mat4x4<f32>, w: vec4<f32>, v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sum[0] + w.x * v, sum[1] + w.y * v, sum[2] + w.z * v, sum[3] + w.w * v);
}
fn scale_each(sum: mat4x4<f32>, w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sum[0] * w.x, sum[1] * w.y, sum[2] * w.z, sum[3] * w.w);
}

// One head's result: the sum of what the threads side by side have, to the output or to its part.
fn finish(thread: u32, token: u32, head: u32, split: u32, value: vec4<f32>, top: f32, sum: f32) {
    workgroupBarrier();
    cells[thread] = value;
    workgroupBarrier();
    let four = thread;
    if four < FOURS {
        var o = cells[thread];
        for (var k = 1u; k < SIDE; k++) {
            o += cells[thread + k * ALONG];
        }
        if args.splits == 1u {
            store2(args.out + (token * args.heads + head) * HEAD + 4u * four, HEAD - 4u * four, o / sum);
        } else {
            let at = args.parts + ((token * args.heads + head) * args.splits + split) * PART;
            if four == 0u {
                parts[at] = top;
                parts[at + 1u] = sum;
            }
            parts[at + 4u * four + 2u] = o.x;
            parts[at + 4u * four + 3u] = o.y;
            parts[at + 4u * four + 4u] = o.z;
            parts[at + 4u * four + 5u] = o.w;
        }
    }
}

// softmax(q kᵀ / sqrt(HEAD)) v of one token and up to TOGETHER query heads of one key head, over one part of the rows.
@compute @workgroup_size(128)
fn attend(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sharing = args.heads / args.kv_heads;
    let sets_of_heads = (sharing + TOGETHER - 1u) / TOGETHER;
    let per_token = args.kv_heads * sets_of_heads;
    let block = block_index(group, groups);
    let token = block / (args.splits * per_token);
    if token >= args.tokens {
        return;
    }
    let split = block / per_token % args.splits;
    let kv = block % per_token / sets_of_heads;
    let member = block % sets_of_heads * TOGETHER;
    let head = kv * sharing + member;
    let count = min(TOGETHER, sharing - member);
    let both = 2u * args.kv_heads * HEAD;
    let list = args.words + 3u * args.tokens + words[args.words + 3u * token];
    let end = min(words[args.words + 3u * token + 1u], (split + 1u) * args.split);

    let q_at = args.qkv + token * (args.heads * HEAD + both) + head * HEAD;
    for (var i = thread; i < TOGETHER * FOURS; i += ROWS) {
        let four = i % FOURS;
        if i / FOURS < count {
            queries[i] = load0(q_at + i / FOURS * HEAD + 4u * four, HEAD - 4u * four) * (args.scale * LOG2_E);
        } else {
            queries[i] = vec4<f32>();
        }
    }
    var top = array<vec4<f32>, 2>(vec4<f32>(LEAST), vec4<f32>(LEAST));
    var sum = array<vec4<f32>, 2>();
    var a = mat4x4<f32>();
    var b = mat4x4<f32>();
    for (var start = split * args.split; start < end; start += ROWS) {
        workgroupBarrier();
        let here = start + thread < end;
        var s0 = vec4<f32>(LEAST);
        var s1 = vec4<f32>(LEAST);
        if here {
            let row = words[list + start + thread];
            rows[thread] = row;
            let at = args.pool + row * both + kv * HEAD;
            s0 = vec4<f32>();
            s1 = vec4<f32>();
            for (var four = 0u; four < FOURS; four++) {
                let k = load1(at + 4u * four, HEAD - 4u * four);
                s0 += score(0u, four, k);
                if SETS > 1u {
                    s1 += score(1u, four, k);
                }
            }
        }
        let most = largest(0u, thread, s0, top[0]);
        let decay = exp2(top[0] - most);
        top[0] = most;
        let p = select(vec4<f32>(), exp2(s0 - most), here);
        sum[0] = sum[0] * decay + p;
        a = scale_each(a, decay);
        cells[thread] = p;
        if SETS > 1u {
            let most = largest(1u, thread, s1, top[1]);
            let decay = exp2(top[1] - most);
            top[1] = most;
            let p = select(vec4<f32>(), exp2(s1 - most), here);
            sum[1] = sum[1] * decay + p;
            b = scale_each(b, decay);
            cells[ROWS + thread] = p;
        }
        workgroupBarrier();
        let four = thread % ALONG;
        if four < FOURS {
            for (var j = thread / ALONG; j < min(ROWS, end - start); j += SIDE) {
                let v = load1(args.pool + rows[j] * both + (args.kv_heads + kv) * HEAD + 4u * four, HEAD - 4u * four);
                a = add_outer(a, cells[j], v);
                if SETS > 1u {
                    b = add_outer(b, cells[ROWS + j], v);
                }
            }
        }
    }
    let sum0 = total(0u, thread, sum[0]);
    finish(thread, token, head, split, a[0], top[0].x, sum0.x);
    if TOGETHER > 1u && count > 1u {
        finish(thread, token, head + 1u, split, a[1], top[0].y, sum0.y);
    }
    if TOGETHER > 2u && count > 2u {
        finish(thread, token, head + 2u, split, a[2], top[0].z, sum0.z);
    }
    if TOGETHER > 3u && count > 3u {
        finish(thread, token, head + 3u, split, a[3], top[0].w, sum0.w);
    }
    if SETS > 1u {
        let sum1 = total(1u, thread, sum[1]);
        if TOGETHER > 4u && count > 4u {
            finish(thread, token, head + 4u, split, b[0], top[1].x, sum1.x);
        }
        if TOGETHER > 5u && count > 5u {
            finish(thread, token, head + 5u, split, b[1], top[1].y, sum1.y);
        }
        if TOGETHER > 6u && count > 6u {
            finish(thread, token, head + 6u, split, b[2], top[1].z, sum1.z);
        }
        if TOGETHER > 7u && count > 7u {
            finish(thread, token, head + 7u, split, b[3], top[1].w, sum1.w);
        }
    }
}

// Puts the parts of each token and head together: four values for each thread.
@compute @workgroup_size(256)
fn combine(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    let four = i % FOURS;
    let head = i / FOURS;
    if head >= args.tokens * args.heads {
        return;
    }
    let first = args.parts + head * args.splits * PART;
    var top = LEAST;
    for (var split = 0u; split < args.splits; split++) {
        top = max(top, parts[first + split * PART]);
    }
    var sum = 0.0;
    var o = vec4<f32>();
    for (var split = 0u; split < args.splits; split++) {
        let at = first + split * PART;
        let share = exp2(parts[at] - top);
        let value = at + 4u * four + 2u;
        sum += share * parts[at + 1u];
        o += share * vec4<f32>(parts[value], parts[value + 1u], parts[value + 2u], parts[value + 3u]);
    }
    store2(args.out + head * HEAD + 4u * four, HEAD - 4u * four, o / sum);
}
