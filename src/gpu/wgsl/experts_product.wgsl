// One product with the matrix of each row's expert, in up to three blocks of columns: LoRA, and whatever else is routed.
//
// Forward (BACK = 0): out[:, block] = base[:, block] + scale x_b W_bᵀ + bias, where x_b are `inner` columns of x from b * inner on
// and W_b the block's rows of W.
// Backward (BACK = 1): out_b = base_b + scale x[:, block] W_b, where out_b are `inner` columns of out from b * inner on.
//
// Operands: 0 x, 1 W [experts, rows of all blocks, inner], 2 out, 3 base (like out; may be out), 4 bias [experts, rows of all
// blocks], 5 and 6 nothing, 7 runs.

struct Args {
    x: u32,
    w: u32,
    out: u32,
    base: u32,
    bias: u32,
    five: u32,
    six: u32,
    runs: u32,
    n: u32,
    inner: u32,
    rows: u32,
    x_row: u32,
    out_row: u32,
    column0: u32,
    column1: u32,
    column2: u32,
    width0: u32,
    width1: u32,
    width2: u32,
    count: u32,
    scale: f32,
    key: u32,
    threshold: u32,
    keep: f32,
}
var<immediate> args: Args;

// DROP_INPUT: the mask is on x; DROP_OUTPUT: on the product, before base is added. QUADS: four-value pieces of the inner index in
// a step.
const ACROSS: u32 = COLUMNS / 4u;
const DOWN: u32 = ROWS / 4u;
const LANES: u32 = ACROSS * DOWN;
const SLICES: u32 = THREADS / LANES;
const INPUTS: u32 = ROWS * QUADS;
const ITEMS: u32 = (ROWS + COLUMNS) * QUADS;

// A block: its first column in x and in out, its first row of W, how many columns it makes of how many.
struct Part {
    x: u32,
    out: u32,
    row: u32,
    depth: u32,
    width: u32,
}

fn part_of(block: u32) -> Part {
    var column = args.column0;
    var width = args.width0;
    var row = 0u;
    if block == 1u {
        column = args.column1;
        width = args.width1;
        row = args.width0;
    }
    if block == 2u {
        column = args.column2;
        width = args.width2;
        row = args.width0 + args.width1;
    }
    if BACK == 0u {
        return Part(block * args.inner, column, row, args.inner, width);
    }
    return Part(column, block * args.inner, row, width, args.inner);
}

var<workgroup> tile: array<vec4<f32>, SHARED>;
var<workgroup> expert_at: array<u32, ROWS>;

// The smallest expert of the tile's rows from `bound` on; NONE after the last one.
fn least_expert(bound: u32) -> u32 {
    var expert = NONE;
    for (var i = 0u; i < ROWS; i++) {
        expert = min(expert, select(NONE, expert_at[i], expert_at[i] >= bound));
    }
    return expert;
}

fn mask(at: u32) -> vec4<f32> {
    return vec4<f32>(
        drop_factor(at, args.key, args.threshold, args.keep),
        drop_factor(at + 1u, args.key, args.threshold, args.keep),
        drop_factor(at + 2u, args.key, args.threshold, args.keep),
        drop_factor(at + 3u, args.key, args.threshold, args.keep),
    );
}

// Item i of a step from inner index k on: the rows of this expert (zeros for others), then its weights for columns c0 and on.
fn fetch(i: u32, k: u32, expert: u32, row0: u32, c0: u32, part: Part) -> vec4<f32> {
    if i < INPUTS {
        let row = i / QUADS;
        let inner = k + 4u * (i % QUADS);
        let at = (row0 + row) * args.x_row + part.x + inner;
        let v = load0(args.x + at, select(0u, left(inner, part.depth), expert_at[row] == expert));
        if DROP_INPUT != 0u {
            return v * mask(at);
        }
        return v;
    }
    let at = i - INPUTS;
    if BACK == 0u {
        let row = c0 + at / QUADS;
        let inner = k + 4u * (at % QUADS);
        let there = select(0u, left(inner, part.depth), row < part.width);
        return load1(args.w + (expert * args.rows + part.row + row) * args.inner + inner, there);
    }
    let row = k + at / ACROSS;
    let column = c0 + 4u * (at % ACROSS);
    let there = select(0u, left(column, part.width), row < part.depth);
    return load1(args.w + (expert * args.rows + part.row + row) * args.inner + column, there);
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

fn weights(q: u32, x: u32) -> mat4x4<f32> {
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

fn input_place(row: u32, q: u32) -> u32 {
    return row * QUADS + (q ^ swizzle(row, QUADS));
}

fn finish(row0: u32, row: u32, column: u32, part: Part, sum: vec4<f32>) {
    let there = select(0u, left(column, part.width), row0 + row < args.n);
    let at = (row0 + row) * args.out_row + part.out + column;
    var v = args.scale * sum;
    if DROP_OUTPUT != 0u {
        v *= mask(at);
    }
    if HAS_BIAS != 0u {
        v += load4(args.bias + expert_at[row] * args.rows + column, there);
    }
    if HAS_BASE != 0u {
        v += load3(args.base + at, there);
    }
    store2(args.out + at, there, v);
}

@compute @workgroup_size(THREADS)
fn product(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = part_of(group.z);
    let c0 = group.x * COLUMNS;
    let row0 = group.y * ROWS;
    if thread < ROWS {
        var expert = NONE;
        // Blocks differ in width: a workgroup beyond this one's has nothing to do.
        if row0 + thread < args.n && c0 < part.width {
            expert = expert_of(row0 + thread, args.runs, args.count);
        }
        expert_at[thread] = expert;
    }
    workgroupBarrier();
    let slice = thread / LANES;
    let lane = thread % LANES;
    // Eight threads across make 32 columns of a row, as far as there are so many.
    let near = min(ACROSS, 8u);
    let x = lane % near + near * (lane / (near * DOWN));
    let y = (lane / near) % DOWN;
    var sum = Block();
    var expert = least_expert(0u);
    let single = least_expert(expert + 1u) == NONE;
    while expert != NONE {
        // What a step needs is on its way while the step before is computed.
        var p0 = fetch(thread, 0u, expert, row0, c0, part);
        var p1 = fetch(thread + THREADS, 0u, expert, row0, c0, part);
        var p2 = fetch(thread + 2u * THREADS, 0u, expert, row0, c0, part);
        for (var k = 0u; k < part.depth; k += 4u * QUADS) {
            workgroupBarrier();
            if thread < ITEMS { tile[place(thread)] = p0; }
            if thread + THREADS < ITEMS { tile[place(thread + THREADS)] = p1; }
            if thread + 2u * THREADS < ITEMS { tile[place(thread + 2u * THREADS)] = p2; }
            workgroupBarrier();
            let next = k + 4u * QUADS;
            if next < part.depth {
                p0 = fetch(thread, next, expert, row0, c0, part);
                if THREADS < ITEMS { p1 = fetch(thread + THREADS, next, expert, row0, c0, part); }
                if 2u * THREADS < ITEMS { p2 = fetch(thread + 2u * THREADS, next, expert, row0, c0, part); }
            }
            for (var q = slice; q < QUADS; q += SLICES) {
                let w = weights(q, x);
                mac_rows(&sum, input_place(y, q), input_place(DOWN + y, q), input_place(2u * DOWN + y, q), input_place(3u * DOWN + y, q), w);
            }
        }
        if single {
            break;
        }
        expert = least_expert(expert + 1u);
    }
    fold(&sum, slice, lane);
    if slice == 0u {
        let column = c0 + 4u * x;
        finish(row0, y, column, part, sum.r0);
        finish(row0, DOWN + y, column, part, sum.r1);
        finish(row0, 2u * DOWN + y, column, part, sum.r2);
        finish(row0, 3u * DOWN + y, column, part, sum.r3);
    }
}
