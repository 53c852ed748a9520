// Adapters. A workgroup makes ROWS rows: first the narrow product of the rows with their experts' matrices of one side, which
// stays in the workgroup's memory, then the wide product with those of the other side.
//
// Forward (BACK = 0): z = h W_D^T + b_D, out = h + act(z) W_U^T + b_U.
// Backward (BACK = 1): dz = (dout W_U) act'(z), dh = dout + dz W_D.
//
// Operands: 0 h or dout [n, d], 1 z [n, r], 2 out or dh [n, d], 3 the weights of the first product, 4 those of the second,
// 5 b_D or dz [n, r], 6 b_U, 7 the runs of both sides.

struct Args {
    input: u32,
    z: u32,
    out: u32,
    first: u32,
    second: u32,
    five: u32,
    bias: u32,
    runs: u32,
    n: u32,
    d: u32,
    r: u32,
    first_runs: u32,
    first_count: u32,
    second_runs: u32,
    second_count: u32,
}
var<immediate> args: Args;

// RANK: r rounded up to a power of two. QUADS: four-value pieces of the wide rows in a step of the first product; CHUNK: those
// of the narrow rows in a step of the second.
const ACROSS: u32 = RANK / 4u;
const DOWN: u32 = ROWS / 4u;
const LANES: u32 = ACROSS * DOWN;
const SLICES: u32 = THREADS / LANES;
const INPUTS: u32 = ROWS * QUADS;
const ITEMS: u32 = (ROWS + RANK) * QUADS;
// The second product: its columns at a time, its threads across them, and where its weights begin in the workgroup's memory.
const COLUMNS: u32 = 16u * THREADS / ROWS;
const WIDE: u32 = COLUMNS / 4u;
const NARROW: u32 = ROWS * ACROSS;

var<workgroup> tile: array<vec4<f32>, SHARED>;
var<workgroup> first_of: array<u32, ROWS>;
var<workgroup> second_of: array<u32, ROWS>;

// The smallest expert of the tile's rows from `bound` on; NONE after the last one.
fn least_first(bound: u32) -> u32 {
    var expert = NONE;
    for (var i = 0u; i < ROWS; i++) {
        expert = min(expert, select(NONE, first_of[i], first_of[i] >= bound));
    }
    return expert;
}
fn least_second(bound: u32) -> u32 {
    var expert = NONE;
    for (var i = 0u; i < ROWS; i++) {
        expert = min(expert, select(NONE, second_of[i], second_of[i] >= bound));
    }
    return expert;
}

// Item i of a step of the first product from column k on: the rows of this expert (zeros for others), then its weights.
fn fetch(i: u32, k: u32, expert: u32, row0: u32) -> vec4<f32> {
    if i < INPUTS {
        let row = i / QUADS;
        let column = k + 4u * (i % QUADS);
        return load0(args.input + (row0 + row) * args.d + column, select(0u, left(column, args.d), first_of[row] == expert));
    }
    let at = i - INPUTS;
    if BACK == 0u {
        let row = at / QUADS;
        let column = k + 4u * (at % QUADS);
        return load3(args.first + (expert * args.r + row) * args.d + column, select(0u, left(column, args.d), row < args.r));
    }
    let row = k + at / ACROSS;
    let column = 4u * (at % ACROSS);
    return load3(args.first + (expert * args.d + row) * args.r + column, select(0u, left(column, args.r), row < args.d));
}

// Where item i lies. Rows of weights that run along the sums' inner index are grouped by their number modulo 4: a thread makes
// four columns in a row, and neighbours read neighbours.
fn place(i: u32) -> u32 {
    if BACK != 0u && i >= INPUTS {
        return i;
    }
    var row = i / QUADS;
    var base = 0u;
    if i >= INPUTS {
        row -= ROWS;
        row = (row % 4u) * ACROSS + row / 4u;
        base = INPUTS;
    }
    return base + row * QUADS + ((i % QUADS) ^ swizzle(row, QUADS));
}

fn first_weights(q: u32, x: u32) -> mat4x4<f32> {
    if BACK != 0u {
        let at = INPUTS + 4u * q * ACROSS + x;
        return mat4x4<f32>(tile[at], tile[at + ACROSS], tile[at + 2u * ACROSS], tile[at + 3u * ACROSS]);
    }
    let w0 = tile[INPUTS + x * QUADS + (q ^ swizzle(x, QUADS))];
    let w1 = tile[INPUTS + (ACROSS + x) * QUADS + (q ^ swizzle(ACROSS + x, QUADS))];
    let w2 = tile[INPUTS + (2u * ACROSS + x) * QUADS + (q ^ swizzle(2u * ACROSS + x, QUADS))];
    let w3 = tile[INPUTS + (3u * ACROSS + x) * QUADS + (q ^ swizzle(3u * ACROSS + x, QUADS))];
    return transpose(mat4x4<f32>(w0, w1, w2, w3));
}

fn second_weights(q: u32, x: u32) -> mat4x4<f32> {
    if BACK != 0u {
        let at = NARROW + 4u * q * WIDE + x;
        return mat4x4<f32>(tile[at], tile[at + WIDE], tile[at + 2u * WIDE], tile[at + 3u * WIDE]);
    }
    let w0 = tile[NARROW + x * CHUNK + (q ^ swizzle(x, CHUNK))];
    let w1 = tile[NARROW + (WIDE + x) * CHUNK + (q ^ swizzle(WIDE + x, CHUNK))];
    let w2 = tile[NARROW + (2u * WIDE + x) * CHUNK + (q ^ swizzle(2u * WIDE + x, CHUNK))];
    let w3 = tile[NARROW + (3u * WIDE + x) * CHUNK + (q ^ swizzle(3u * WIDE + x, CHUNK))];
    return transpose(mat4x4<f32>(w0, w1, w2, w3));
}

fn input_place(row: u32, q: u32) -> u32 {
    return row * QUADS + (q ^ swizzle(row, QUADS));
}
fn narrow_place(row: u32, q: u32) -> u32 {
    return row * ACROSS + (q ^ swizzle(row, ACROSS));
}

// The narrow product of all rows, in slices over the wide rows.
fn first_product(sum: ptr<function, Block>, row0: u32, thread: u32) {
    let slice = thread / LANES;
    let lane = thread % LANES;
    let x = lane % ACROSS;
    let y = lane / ACROSS;
    var expert = least_first(0u);
    let single = least_first(expert + 1u) == NONE;
    while expert != NONE {
        // What a step needs is on its way while the step before is computed.
        var p0 = fetch(thread, 0u, expert, row0);
        var p1 = fetch(thread + THREADS, 0u, expert, row0);
        var p2 = fetch(thread + 2u * THREADS, 0u, expert, row0);
        for (var k = 0u; k < args.d; k += 4u * QUADS) {
            workgroupBarrier();
            if thread < ITEMS { tile[place(thread)] = p0; }
            if thread + THREADS < ITEMS { tile[place(thread + THREADS)] = p1; }
            if thread + 2u * THREADS < ITEMS { tile[place(thread + 2u * THREADS)] = p2; }
            workgroupBarrier();
            let next = k + 4u * QUADS;
            if next < args.d {
                p0 = fetch(thread, next, expert, row0);
                if THREADS < ITEMS { p1 = fetch(thread + THREADS, next, expert, row0); }
                if 2u * THREADS < ITEMS { p2 = fetch(thread + 2u * THREADS, next, expert, row0); }
            }
            for (var q = slice; q < QUADS; q += SLICES) {
                let w = first_weights(q, x);
                mac_rows(sum, input_place(y, q), input_place(DOWN + y, q), input_place(2u * DOWN + y, q), input_place(3u * DOWN + y, q), w);
            }
        }
        if single {
            break;
        }
        expert = least_first(expert + 1u);
    }
    fold(sum, slice, lane);
    workgroupBarrier();
    if slice == 0u {
        tile[narrow_place(y, x)] = (*sum).r0;
        tile[narrow_place(DOWN + y, x)] = (*sum).r1;
        tile[narrow_place(2u * DOWN + y, x)] = (*sum).r2;
        tile[narrow_place(3u * DOWN + y, x)] = (*sum).r3;
    }
    workgroupBarrier();
}

// What follows the narrow product, element by element: act(z), or dz.
fn narrow_values(row0: u32, thread: u32) {
    for (var i = thread; i < NARROW; i += THREADS) {
        let row = i / ACROSS;
        let column = 4u * (i % ACROSS);
        let there = select(0u, left(column, args.r), row0 + row < args.n);
        let at = (row0 + row) * args.r + column;
        let place = narrow_place(row, i % ACROSS);
        var v = tile[place];
        if BACK == 0u {
            v += load5(args.five + first_of[row] * args.r + column, there);
            if KEEP_Z != 0u {
                store1(args.z + at, there, v);
            }
            v = vec4<f32>(act_value(ACT, v.x), act_value(ACT, v.y), act_value(ACT, v.z), act_value(ACT, v.w));
        } else {
            let z = load1(args.z + at, there);
            v *= vec4<f32>(act_slope(ACT, z.x), act_slope(ACT, z.y), act_slope(ACT, z.z), act_slope(ACT, z.w));
            store5(args.five + at, there, v);
        }
        tile[place] = v;
    }
}

// Item i of a step of the second product: the weights of columns from `column0` on at the narrow index k and on.
fn stage_second(i: u32, k: u32, column0: u32, expert: u32) {
    if BACK == 0u {
        let column = i / CHUNK;
        let inner = k + 4u * (i % CHUNK);
        let at = args.second + (expert * args.d + column0 + column) * args.r + inner;
        let place = (column % 4u) * WIDE + column / 4u;
        tile[NARROW + place * CHUNK + ((i % CHUNK) ^ swizzle(place, CHUNK))] =
            load4(at, select(0u, left(inner, args.r), column0 + column < args.d));
    } else {
        let row = k + i / WIDE;
        let column = column0 + 4u * (i % WIDE);
        let at = args.second + (expert * args.r + row) * args.d + column;
        tile[NARROW + i] = load4(at, select(0u, left(column, args.d), row < args.r));
    }
}

// Four columns of a row of the result, if the row is this expert's.
fn finish(row0: u32, row: u32, column: u32, expert: u32, input: vec4<f32>, sum: vec4<f32>, bias: vec4<f32>) {
    let there = select(0u, left(column, args.d), second_of[row] == expert);
    store2(args.out + (row0 + row) * args.d + column, there, input + (sum + bias));
}

fn input_at(row0: u32, row: u32, column: u32, expert: u32) -> vec4<f32> {
    return load0(args.input + (row0 + row) * args.d + column, select(0u, left(column, args.d), second_of[row] == expert));
}

// The wide product of all rows, COLUMNS columns at a time.
fn second_product(row0: u32, thread: u32) {
    // Eight threads across write 32 columns of a row.
    let x = thread % 8u + 8u * (thread / (8u * DOWN));
    let y = (thread / 8u) % DOWN;
    let least = least_second(0u);
    let single = least_second(least + 1u) == NONE;
    for (var column0 = 0u; column0 < args.d; column0 += COLUMNS) {
        let column = column0 + 4u * x;
        var expert = least;
        while expert != NONE {
            let i0 = input_at(row0, y, column, expert);
            let i1 = input_at(row0, DOWN + y, column, expert);
            let i2 = input_at(row0, 2u * DOWN + y, column, expert);
            let i3 = input_at(row0, 3u * DOWN + y, column, expert);
            var bias = vec4<f32>();
            if BACK == 0u {
                bias = load6(args.bias + expert * args.d + column, left(column, args.d));
            }
            var sum = Block();
            for (var k = 0u; k < args.r; k += 4u * CHUNK) {
                workgroupBarrier();
                for (var i = thread; i < COLUMNS * CHUNK; i += THREADS) {
                    stage_second(i, k, column0, expert);
                }
                workgroupBarrier();
                for (var q = 0u; q < CHUNK; q++) {
                    let w = second_weights(q, x);
                    let p = k / 4u + q;
                    mac_rows(&sum, narrow_place(y, p), narrow_place(DOWN + y, p), narrow_place(2u * DOWN + y, p), narrow_place(3u * DOWN + y, p), w);
                }
            }
            finish(row0, y, column, expert, i0, sum.r0, bias);
            finish(row0, DOWN + y, column, expert, i1, sum.r1, bias);
            finish(row0, 2u * DOWN + y, column, expert, i2, sum.r2, bias);
            finish(row0, 3u * DOWN + y, column, expert, i3, sum.r3, bias);
            if single {
                break;
            }
            expert = least_second(expert + 1u);
        }
    }
}

@compute @workgroup_size(THREADS)
fn adapter(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = group.x * ROWS;
    if thread < ROWS {
        var experts = vec2<u32>(NONE);
        if row0 + thread < args.n {
            experts.x = expert_of(row0 + thread, args.runs + args.first_runs, args.first_count);
            experts.y = expert_of(row0 + thread, args.runs + args.second_runs, args.second_count);
        }
        first_of[thread] = experts.x;
        second_of[thread] = experts.y;
    }
    workgroupBarrier();
    var sum = Block();
    first_product(&sum, row0, thread);
    narrow_values(row0, thread);
    // The second product begins with a barrier.
    if WIDE_TOO != 0u {
        second_product(row0, thread);
    }
}
