
// What the kernels of matrix products share: out[m, n] = a b in one of three forms, and what is done to the sums before
// they are stored. XA, XB, O: formats of a, b, out; E1 to E4: of further operands, whose roles constants tell.
//
// BIAS, SLOPE, ADD, ACT: which further operand (1 to 4) has this role; 0: none; ADD = 5: out itself.
// RANK: of the low-rank term, whose z is operand 3 and whose B is operand 4; 0: there is none.

struct Args {
    a: u32,
    b: u32,
    o: u32,
    e1: u32,
    e2: u32,
    e3: u32,
    e4: u32,
    runs: u32,
    m: u32,
    n: u32,
    k: u32,
    // Values from one row to the next.
    a_row: u32,
    b_row: u32,
    o_row: u32,
    scale: f32,
    z_row: u32,
    // Rows of B of one expert.
    expert_rows: u32,
    run_count: u32,
    low_scale: f32,
    // Number of the first row among those that the runs count.
    first_row: u32,
    // Blocks of columns of the low-rank term: first column, end of the columns, first row of B, first column of z.
    block0: vec4<u32>,
    block1: vec4<u32>,
    block2: vec4<u32>,
}
var<immediate> args: Args;

@group(0) @binding(7) var<storage, read_write> runs: array<u32>;

// How many of four values from `at` on lie before `end`, or more.
fn left(end: u32, at: u32) -> u32 {
    return select(0u, end - at, at < end);
}

// The first block of columns that has some of `start..end`, or an empty one.
fn low_block(start: u32, end: u32) -> vec4<u32> {
    var found = vec4<u32>();
    found = select(found, args.block2, args.block2.x < end && args.block2.y > start);
    found = select(found, args.block1, args.block1.x < end && args.block1.y > start);
    return select(found, args.block0, args.block0.x < end && args.block0.y > start);
}

// The last run that starts at or before a row.
fn run_of(row: u32) -> u32 {
    var low = 0u;
    var high = args.run_count;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if runs[args.runs + 2u * middle] <= row {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

// Where a run ends.
fn run_end(run: u32) -> u32 {
    return select(0xffffffffu, runs[args.runs + 2u * min(run + 1u, args.run_count - 1u)], run + 1u < args.run_count);
}

fn run_expert(run: u32) -> u32 {
    return runs[args.runs + 2u * run + 1u];
}

// What the low-rank term adds to four columns from `column` on, those of `done` left out.
fn low_rank(row: u32, column: u32, done: vec4<u32>) -> vec4<f32> {
    var sums = vec4<f32>();
    if RANK == 0u {
        return sums;
    }
    let expert = run_expert(run_of(args.first_row + row));
    for (var at = column; at < min(column + 4u, args.n); at++) {
        let block = low_block(at, at + 1u);
        if at < block.y && (at < done.x || at >= done.y) {
            let z = row * args.z_row + block.w;
            let b = (expert * args.expert_rows + block.z + at - block.x) * RANK;
            var sum = 0.0;
            for (var r = 0u; r < RANK; r += 4u) {
                sum += dot(low_z4(z + r, RANK - r), low_b4(b + r, RANK - r));
            }
            sums[at - column] = sum;
        }
    }
    return args.low_scale * sums;
}

fn act_values(act: u32, v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(act_value(act, v.x), act_value(act, v.y), act_value(act, v.z), act_value(act, v.w));
}

fn act_slopes(act: u32, v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(act_slope(act, v.x), act_slope(act, v.y), act_slope(act, v.z), act_slope(act, v.w));
}

// Stores sums that have their scale and low-rank term: `have` of four from place `at` of out on, which is in column `column`.
fn finish(at: u32, column: u32, have: u32, sums: vec4<f32>) {
    var v = sums;
    if BIAS != 0u {
        v += extra(BIAS, column, have);
    }
    if SLOPE != 0u {
        v *= act_slopes(SLOPE_OF, extra(SLOPE, at, have));
    }
    if ADD != 0u {
        v += extra(ADD, at, have);
    }
    let rounded = store(at, have, v);
    if ACT != 0u {
        store_extra(ACT, at, have, act_values(ACT_OF, rounded));
    }
}
