// The gradients of experts: products of a wide matrix (COLUMNS columns of it in a workgroup) and a narrow one (NARROW columns)
// over the rows that an expert had, in a fixed order.
//
// Side 0, the matrix that made z of x: grad[j][c] = sum of dz[row][j] mask x[row][c], sum of dz[row][j].
// Side 1, the matrix that z went through: grad[c][j] = scale * sum of dy[row][c] act(z[row][j]), sum of dy[row][c].
//
// Operands: 0 x, 1 dy, 2 z, 3 dz, 4 the gradients (f32, value by value), 5 the table: eight words for each expert and block, then
// the rows of all of them in pairs: what is added to a number in the list of the expert's rows to get the row, and the number
// at which this stops to hold.

struct Args {
    x: u32,
    y: u32,
    z: u32,
    dz: u32,
    out: u32,
    table: u32,
    x_row: u32,
    y_row: u32,
    z_row: u32,
    across: u32,
    scale: f32,
    key: u32,
    threshold: u32,
    keep: f32,
}
var<immediate> args: Args;

@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<u32>;

// DEPTH: rows in a step.
const WIDE: u32 = COLUMNS / 4u;
const ACROSS: u32 = NARROW / 4u;
const LANES: u32 = WIDE * ACROSS;
const SLICES: u32 = THREADS / LANES;
const WIDES: u32 = DEPTH * WIDE;
const ITEMS: u32 = DEPTH * (WIDE + ACROSS);

// The words of an expert's block in the table.
const SIDE: u32 = 0u;
const FIRST: u32 = 1u;
const WIDE_AT: u32 = 2u;
const WIDTH: u32 = 3u;
const NARROW_AT: u32 = 4u;
const RANK: u32 = 5u;
const PAIRS_AT: u32 = 6u;
const PAIRS: u32 = 7u;

var<workgroup> tile: array<vec4<f32>, SHARED>;
var<workgroup> job: array<u32, 8>;
var<workgroup> rows: u32;

// The row of a number in the list of the expert's rows.
fn row_at(number: u32) -> u32 {
    let pairs = args.table + job[PAIRS_AT];
    var low = 0u;
    var high = job[PAIRS] - 1u;
    while low < high {
        let middle = (low + high) / 2u;
        if number < table[pairs + 2u * middle + 1u] {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return table[pairs + 2u * low] + number;
}

// Item i of a step from number k on: the rows of the wide matrix from column c0 on, then those of the narrow one from j0 on.
fn fetch(i: u32, k: u32, c0: u32, j0: u32) -> vec4<f32> {
    let wide = i < WIDES;
    let number = k + select((i - WIDES) / ACROSS, i / WIDE, wide);
    if number >= rows || i >= ITEMS {
        return vec4<f32>();
    }
    let row = row_at(number);
    if wide {
        let c = c0 + 4u * (i % WIDE);
        let there = left(c, job[WIDTH]);
        if job[SIDE] == 1u {
            return load1(args.y + row * args.y_row + job[WIDE_AT] + c, there);
        }
        let at = row * args.x_row + job[WIDE_AT] + c;
        var v = load0(args.x + at, there);
        if DROP != 0u {
            v *= vec4<f32>(
                drop_factor(at, args.key, args.threshold, args.keep),
                drop_factor(at + 1u, args.key, args.threshold, args.keep),
                drop_factor(at + 2u, args.key, args.threshold, args.keep),
                drop_factor(at + 3u, args.key, args.threshold, args.keep),
            );
        }
        return v;
    }
    let j = j0 + 4u * ((i - WIDES) % ACROSS);
    let at = row * args.z_row + job[NARROW_AT] + j;
    let there = left(j, job[RANK]);
    if job[SIDE] == 0u {
        return load3(args.dz + at, there);
    }
    var v = load2(args.z + at, there);
    if HAS_ACT != 0u {
        v = vec4<f32>(act_value(ACT, v.x), act_value(ACT, v.y), act_value(ACT, v.z), act_value(ACT, v.w));
    }
    return v;
}

// What an item adds to the bias's gradient: wide ones on side 1, narrow ones on side 0.
fn bias_part(i: u32, v: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), v, (i < WIDES) == (job[SIDE] == 1u));
}

fn store_values(at: u32, there: u32, v: vec4<f32>) {
    if there > 0u { out[at] = v.x; }
    if there > 1u { out[at + 1u] = v.y; }
    if there > 2u { out[at + 2u] = v.z; }
    if there > 3u { out[at + 3u] = v.w; }
}

// A thread's block: rows are columns of the wide matrix from c on, its columns those of the narrow one from j on.
fn store_block(c: u32, j: u32, sum: Block) {
    let width = job[WIDTH];
    let rank = job[RANK];
    let first = args.out + job[FIRST];
    if job[SIDE] == 1u {
        let there = left(j, rank);
        store_values(first + c * rank + j, select(0u, there, c < width), args.scale * sum.r0);
        store_values(first + (c + 1u) * rank + j, select(0u, there, c + 1u < width), args.scale * sum.r1);
        store_values(first + (c + 2u) * rank + j, select(0u, there, c + 2u < width), args.scale * sum.r2);
        store_values(first + (c + 3u) * rank + j, select(0u, there, c + 3u < width), args.scale * sum.r3);
    } else {
        let by_narrow = transpose(mat4x4<f32>(sum.r0, sum.r1, sum.r2, sum.r3));
        let there = left(c, width);
        store_values(first + j * width + c, select(0u, there, j < rank), by_narrow[0]);
        store_values(first + (j + 1u) * width + c, select(0u, there, j + 1u < rank), by_narrow[1]);
        store_values(first + (j + 2u) * width + c, select(0u, there, j + 2u < rank), by_narrow[2]);
        store_values(first + (j + 3u) * width + c, select(0u, there, j + 3u < rank), by_narrow[3]);
    }
}

// The bias's gradient of four columns, from what all threads found; the first workgroup along the other direction writes it.
fn store_bias(c0: u32, j0: u32, part: vec4<f32>, thread: u32) {
    workgroupBarrier();
    tile[thread] = part;
    workgroupBarrier();
    let up = job[SIDE] == 1u;
    let pieces = select(ACROSS, WIDE, up);
    if thread < pieces && select(c0, j0, up) == 0u {
        var sum = vec4<f32>();
        for (var i = thread; i < THREADS; i += pieces) {
            sum += tile[i];
        }
        let at = select(j0, c0, up) + 4u * thread;
        let count = select(job[RANK], job[WIDTH], up);
        store_values(args.out + job[FIRST] + job[RANK] * job[WIDTH] + at, left(at, count), sum);
    }
}

@compute @workgroup_size(THREADS)
fn gradients(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if thread < 8u {
        job[thread] = table[args.table + 8u * group.y + thread];
    }
    workgroupBarrier();
    let c0 = group.x / args.across * COLUMNS;
    let j0 = group.x % args.across * NARROW;
    if thread == 0u {
        var count = 0u;
        // Blocks differ in width: a workgroup beyond this one's has nothing to do.
        if job[PAIRS] > 0u && c0 < job[WIDTH] && j0 < job[RANK] {
            count = table[args.table + job[PAIRS_AT] + 2u * job[PAIRS] - 1u];
        }
        rows = count;
    }
    workgroupBarrier();
    let slice = thread / LANES;
    let lane = thread % LANES;
    let x = lane % WIDE;
    let y = lane / WIDE;
    var sum = Block();
    var bias = vec4<f32>();
    // What a step needs is on its way while the step before is computed.
    var p0 = fetch(thread, 0u, c0, j0);
    var p1 = fetch(thread + THREADS, 0u, c0, j0);
    var p2 = fetch(thread + 2u * THREADS, 0u, c0, j0);
    for (var k = 0u; k < rows; k += DEPTH) {
        workgroupBarrier();
        if thread < ITEMS { tile[thread] = p0; }
        if thread + THREADS < ITEMS { tile[thread + THREADS] = p1; }
        if thread + 2u * THREADS < ITEMS { tile[thread + 2u * THREADS] = p2; }
        workgroupBarrier();
        if HAS_BIAS != 0u {
            bias += bias_part(thread, p0) + bias_part(thread + THREADS, p1) + bias_part(thread + 2u * THREADS, p2);
        }
        let next = k + DEPTH;
        if next < rows {
            p0 = fetch(thread, next, c0, j0);
            if THREADS < ITEMS { p1 = fetch(thread + THREADS, next, c0, j0); }
            if 2u * THREADS < ITEMS { p2 = fetch(thread + 2u * THREADS, next, c0, j0); }
        }
        for (var q = slice; q < DEPTH; q += SLICES) {
            let a = tile[q * WIDE + x];
            let b = tile[WIDES + q * ACROSS + y];
            sum.r0 = fma(vec4<f32>(a.x), b, sum.r0);
            sum.r1 = fma(vec4<f32>(a.y), b, sum.r1);
            sum.r2 = fma(vec4<f32>(a.z), b, sum.r2);
            sum.r3 = fma(vec4<f32>(a.w), b, sum.r3);
        }
    }
    fold(&sum, slice, lane);
    if slice == 0u {
        store_block(c0 + 4u * x, j0 + 4u * y, sum);
    }
    if HAS_BIAS != 0u {
        store_bias(c0, j0, bias, thread);
    }
}
