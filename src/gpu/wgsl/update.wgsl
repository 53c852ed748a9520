// What the optimizer does over all trained tensors: sum of the squares of the gradients, scaling, AdamW. Everything is f32.
// A table says which piece of which tensor each workgroup takes; without HAS_G they have no gradients.

struct Args {
    table: u32,
    p: u32,
    m: u32,
    v: u32,
    g: u32,
    out: u32,
    count: u32, // entries of the table; of `squares_total`: values
    b1: f32,
    b2: f32,
    n1: f32, // 1 - b1 and 1 - b2, rounded once
    n2: f32,
    eps: f32,
    factor: f32,
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> table: array<u32>;
@group(0) @binding(1) var<storage, read_write> p: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// A piece: where its values, moments and gradient start, how many there are, and its own numbers.
struct Piece {
    p: u32,
    m: u32,
    v: u32,
    g: u32,
    len: u32,
    keep: f32,
    step: f32,
    inv_c2: f32,
}

fn piece(number: u32) -> Piece {
    let at = args.table + 8u * number;
    return Piece(
        args.p + table[at],
        args.m + table[at + 1u],
        args.v + table[at + 2u],
        args.g + table[at + 3u],
        table[at + 4u],
        bitcast<f32>(table[at + 5u]),
        bitcast<f32>(table[at + 6u]),
        bitcast<f32>(table[at + 7u]),
    );
}

var<workgroup> cells: array<f32, 256>;

// The sum over the workgroup, for its first thread.
fn sum_threads(thread: u32, value: f32) -> f32 {
    cells[thread] = value;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if thread < half {
            cells[thread] += cells[thread + half];
        }
        workgroupBarrier();
    }
    return cells[0];
}

// out[number of the piece] = sum of the squares of its gradient
@compute @workgroup_size(256)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = block_index(group, groups);
    var sum = 0.0;
    if HAS_G != 0u && number < args.count {
        let it = piece(number);
        // Sums of few values each, so that little is lost to rounding.
        for (var start = thread; start < it.len; start += 2048u) {
            var part = 0.0;
            for (var i = start; i < min(it.len, start + 2048u); i += 256u) {
                let value = g[it.g + i];
                part += value * value;
            }
            sum += part;
        }
    }
    let total = sum_threads(thread, sum);
    if thread == 0u && number < args.count {
        out[args.out + number] = total;
    }
}

// out[0] = sum of the values at g; one workgroup
@compute @workgroup_size(256)
fn squares_total(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var start = thread; start < args.count; start += 4096u) {
        var part = 0.0;
        for (var i = start; i < min(args.count, start + 4096u); i += 256u) {
            part += g[args.g + i];
        }
        sum += part;
    }
    let total = sum_threads(thread, sum);
    if thread == 0u {
        out[args.out] = total;
    }
}

// g *= factor
@compute @workgroup_size(256)
fn scale(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = block_index(group, groups);
    if number >= args.count {
        return;
    }
    let it = piece(number);
    for (var i = thread; i < it.len; i += 256u) {
        g[it.g + i] *= args.factor;
    }
}

// AdamW with decoupled decay, and zeros where there is no gradient; the corrections for the number of updates are in the piece.
@compute @workgroup_size(256)
fn adamw(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = block_index(group, groups);
    if number >= args.count {
        return;
    }
    let it = piece(number);
    for (var i = thread; i < it.len; i += 256u) {
        var gradient = 0.0;
        if HAS_G != 0u {
            gradient = g[it.g + i];
        }
        let first = args.b1 * m[it.m + i] + args.n1 * gradient;
        let second = args.b2 * v[it.v + i] + args.n2 * gradient * gradient;
        m[it.m + i] = first;
        v[it.v + i] = second;
        p[it.p + i] = it.keep * p[it.p + i] - it.step * first / (sqrt(second) * it.inv_c2 + args.eps);
    }
}
