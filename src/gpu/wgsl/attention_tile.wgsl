// What the kernels of attention share. 128 threads compute tiles of products of the heads of some rows: ROWS rows of one side
// (queries, say) times COLS rows of the other (keys, say). Thread (g, c) has four of the rows and four of the columns, and of
// a weighted sum over the columns four rows and every CG-th four values of a head. Every vector below that is not four values
// of a head holds one number for each of the thread's four rows.
//
// HEAD is the width of a head, CG (8 or 16) the number of threads along the columns, CHUNK how many rows of a weighted sum
// fit into memory.

struct Args {
    q: u32,
    kv: u32,
    out: u32,
    dout: u32,
    grad: u32,
    lse: u32,
    delta: u32,
    tiles: u32,
    // Workgroups.
    count: u32,
    // Where the tiles of this launch start in the words of `tiles`; before them are the sequences.
    table: u32,
    heads: u32,
    // Query heads of a key head.
    group: u32,
    // Rows of all queries.
    queries: u32,
    causal: u32,
    q_column: u32,
    q_row: u32,
    k_column: u32,
    v_column: u32,
    kv_row: u32,
    // Of the gradients that are written: of queries, or of keys and of values.
    first_column: u32,
    second_column: u32,
    grad_row: u32,
    // Whether the log-sum-exp is kept.
    keep_lse: u32,
    key: u32,
    threshold: u32,
    drop_scale: f32,
    // 1 / sqrt(HEAD)
    scale: f32,
}
var<immediate> args: Args;

@group(0) @binding(5) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
@group(0) @binding(7) var<storage, read_write> tiles: array<u32>;

const THREADS: u32 = 128u;
// Threads along the rows.
const RG: u32 = THREADS / CG;
const ROWS: u32 = 4u * RG;
const COLS: u32 = 4u * CG;
// A thread's rows are this far apart, so that threads next to each other read rows next to each other.
const APART: u32 = 32u / CG;
// Fours of a head, and how many of them a thread has of a weighted sum, at most four.
const FOURS: u32 = (HEAD + 3u) / 4u;
const OWN: u32 = (FOURS + CG - 1u) / CG;
const WIDE: u32 = OWN * CG;
// Fours of a head in memory at a time, and the distance of their rows, odd so that reads are spread over the banks.
const STEPS: u32 = 8u;
const STRIDE: u32 = 9u;

// First the rows of both sides; where these are done with, the weights of a sum by column, and the rows they weigh. Then
// what is gathered from all threads of a row.
var<workgroup> memory: array<vec4<f32>, 992>;
const COLS_AT: u32 = ROWS * STRIDE;
const WEIGHT_STRIDE: u32 = RG + 1u;
const SUMMED_AT: u32 = 576u;
const GATHER_AT: u32 = 864u;

const LOG2_E: f32 = 1.44269504;
const LN_2: f32 = 0.69314718;
// Less than any score, and far from overflow.
const LEAST: f32 = -1e30;

// A tile of a sequence: rows `start`.. of its queries or of its keys.
struct Tile {
    first_query: u32,
    queries: u32,
    first_key: u32,
    keys: u32,
    sequence: u32,
    start: u32,
}

fn tile_of(number: u32) -> Tile {
    let at = args.tiles + args.table + 2u * number;
    let sequence = tiles[at];
    let span = args.tiles + 4u * sequence;
    return Tile(tiles[span], tiles[span + 1u], tiles[span + 2u], tiles[span + 3u], sequence, tiles[at + 1u]);
}

// How many keys a query of the sequence sees.
fn seen_by(tile: Tile, query: u32) -> u32 {
    let causal = max(tile.keys + query + 1u, tile.queries) - tile.queries;
    return select(tile.keys, min(tile.keys, causal), args.causal > 0u);
}

// The mask of a sequence and query head.
fn mask_of(tile: Tile, head: u32) -> u32 {
    return split_key(args.key, tile.sequence * args.heads + head);
}

// What the elements of these numbers are multiplied with.
fn drop_factors(i: vec4<u32>, key: u32) -> vec4<f32> {
    return vec4<f32>(
        drop_factor(i.x, key, args.threshold, args.drop_scale),
        drop_factor(i.y, key, args.threshold, args.drop_scale),
        drop_factor(i.z, key, args.threshold, args.drop_scale),
        drop_factor(i.w, key, args.threshold, args.drop_scale),
    );
}

// One head of some rows of an operand.
struct Heads {
    operand: u32,
    at: u32,
    row: u32,
    // Rows there are.
    count: u32,
}

fn queries_from(tile: Tile, start: u32, head: u32) -> Heads {
    let at = args.q + (tile.first_query + start) * args.q_row + args.q_column + head * HEAD;
    return Heads(0u, at, args.q_row, tile.queries - start);
}
fn keys_from(tile: Tile, start: u32, end: u32, head: u32) -> Heads {
    let at = args.kv + (tile.first_key + start) * args.kv_row + args.k_column + head * HEAD;
    return Heads(1u, at, args.kv_row, end - start);
}
fn values_from(tile: Tile, start: u32, end: u32, head: u32) -> Heads {
    let at = args.kv + (tile.first_key + start) * args.kv_row + args.v_column + head * HEAD;
    return Heads(1u, at, args.kv_row, end - start);
}
// The output's and its gradient's rows.
fn outputs_from(operand: u32, first: u32, tile: Tile, start: u32, head: u32) -> Heads {
    let row = args.heads * HEAD;
    return Heads(operand, first + (tile.first_query + start) * row + head * HEAD, row, tile.queries - start);
}

fn fetch(heads: Heads, row: u32, four: u32) -> vec4<f32> {
    let at = heads.at + row * heads.row + 4u * four;
    let left = HEAD - 4u * four;
    switch heads.operand {
        case 0u: {
            return load0(at, left);
        }
        case 1u: {
            return load1(at, left);
        }
        case 2u: {
            return load2(at, left);
        }
        default: {
            return load3(at, left);
        }
    }
}

// The first of a thread's rows; the others follow APART from each other.
fn own_row(g: u32) -> u32 {
    return g / APART * (4u * APART) + g % APART;
}
fn own_rows(g: u32) -> vec4<u32> {
    return own_row(g) + APART * vec4<u32>(0u, 1u, 2u, 3u);
}

// Some fours of up to `most` rows to memory. What does not exist is left as it is.
fn bring(to: u32, most: u32, heads: Heads, first: u32, fours: u32, thread: u32) {
    for (var i = thread; i < most * STEPS; i += THREADS) {
        let row = i / STEPS;
        let four = i % STEPS;
        if row < heads.count && four < fours {
            memory[to + row * STRIDE + four] = fetch(heads, row, first + four);
        }
    }
}

// `sum + q k` with the four rows' values down the columns of q
fn add_product(sum: vec4<f32>, q: mat4x4<f32>, k: vec4<f32>) -> vec4<f32> {
    return (((sum + q[0] * k.x) + q[1] * k.y) + q[2] * k.z) + q[3] * k.w;
}

// Products of the heads of ROWS rows with those of COLS rows: the thread's four columns c, c + CG.. of four rows each.
// Rows that do not exist give any number. All threads come here together.
fn products(a: Heads, b: Heads, thread: u32) -> mat4x4<f32> {
    let g = thread / CG;
    let c = thread % CG;
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    for (var first = 0u; first < FOURS; first += STEPS) {
        let fours = min(STEPS, FOURS - first);
        workgroupBarrier();
        bring(0u, ROWS, a, first, fours, thread);
        bring(COLS_AT, COLS, b, first, fours, thread);
        workgroupBarrier();
        if own_row(g) < a.count {
            var row = own_row(g) * STRIDE;
            var col = COLS_AT + c * STRIDE;
            for (var k = 0u; k < fours; k++) {
                let q = transpose(mat4x4<f32>(
                    memory[row],
                    memory[row + APART * STRIDE],
                    memory[row + 2u * APART * STRIDE],
                    memory[row + 3u * APART * STRIDE],
                ));
                s0 = add_product(s0, q, memory[col]);
                s1 = add_product(s1, q, memory[col + CG * STRIDE]);
                s2 = add_product(s2, q, memory[col + 2u * CG * STRIDE]);
                s3 = add_product(s3, q, memory[col + 3u * CG * STRIDE]);
                row += 1u;
                col += 1u;
            }
        }
    }
    return mat4x4<f32>(s0, s1, s2, s3);
}

// Weights of the thread's columns for `add_weighted`; a barrier lies between the last use of memory and this.
fn put_weights(w: mat4x4<f32>, g: u32, c: u32) {
    memory[c * WEIGHT_STRIDE + g] = w[0];
    memory[(c + CG) * WEIGHT_STRIDE + g] = w[1];
    memory[(c + 2u * CG) * WEIGHT_STRIDE + g] = w[2];
    memory[(c + 3u * CG) * WEIGHT_STRIDE + g] = w[3];
}

// Sums of the thread: fours c, c + CG.. of a head, four rows of each.
struct Sums {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
    d: mat4x4<f32>,
}

fn add_outer(sum: mat4x4<f32>, w: vec4<f32>, v: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sum[0] + w.x * v, sum[1] + w.y * v, sum[2] + w.z * v, sum[3] + w.w * v);
}

fn scale_rows(sum: mat4x4<f32>, w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sum[0] * w.x, sum[1] * w.y, sum[2] * w.z, sum[3] * w.w);
}

fn scale_sums(sums: Sums, w: vec4<f32>) -> Sums {
    return Sums(scale_rows(sums.a, w), scale_rows(sums.b, w), scale_rows(sums.c, w), scale_rows(sums.d, w));
}

// Adds up to COLS rows of heads, weighted by the columns of `put_weights`. `live`: whether the thread has rows at all. All
// threads come here together.
fn add_weighted(sums: Sums, heads: Heads, live: bool, thread: u32) -> Sums {
    let g = thread / CG;
    let c = thread % CG;
    var sum = sums;
    let count = min(heads.count, COLS);
    for (var first = 0u; first < count; first += CHUNK) {
        let rows = min(CHUNK, count - first);
        if first > 0u {
            workgroupBarrier();
        }
        for (var i = thread; i < rows * WIDE; i += THREADS) {
            if i % WIDE < FOURS {
                memory[SUMMED_AT + i] = fetch(heads, first + i / WIDE, i % WIDE);
            }
        }
        workgroupBarrier();
        if live {
            var weight = first * WEIGHT_STRIDE + g;
            var at = SUMMED_AT + c;
            for (var j = 0u; j < rows; j++) {
                let w = memory[weight];
                sum.a = add_outer(sum.a, w, memory[at]);
                if OWN > 1u {
                    sum.b = add_outer(sum.b, w, memory[at + CG]);
                }
                if OWN > 2u {
                    sum.c = add_outer(sum.c, w, memory[at + 2u * CG]);
                }
                if OWN > 3u {
                    sum.d = add_outer(sum.d, w, memory[at + 3u * CG]);
                }
                weight += WEIGHT_STRIDE;
                at += WIDE;
            }
        }
    }
    return sum;
}

// One vector of each thread, for all threads of a row. A barrier follows before it is read.
fn put_gathered(v: vec4<f32>, g: u32, c: u32) {
    memory[GATHER_AT + c * RG + g] = v;
}
fn gathered_max(start: vec4<f32>, g: u32) -> vec4<f32> {
    var most = start;
    for (var c = 0u; c < CG; c++) {
        most = max(most, memory[GATHER_AT + c * RG + g]);
    }
    return most;
}
fn gathered_sum(g: u32) -> vec4<f32> {
    var sum = memory[GATHER_AT + g];
    for (var c = 1u; c < CG; c++) {
        sum += memory[GATHER_AT + c * RG + g];
    }
    return sum;
}
