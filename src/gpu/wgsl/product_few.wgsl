
// Products of few rows: M of a (1, 2, 4 or 8; rows beyond the last are those of the last one), k along the rows of both
// operands. Reads b once. 32 threads share a pair of columns of out, four such teams make a workgroup.

const TEAM: u32 = 32u;
const SUMS: u32 = 8u * M;
// Threads that add up one sum.
const SHARE: u32 = 128u / SUMS;

// A thread's share of the sums: of rows 0 to 3 and 4 to 7, in the first and in the second column.
struct FewSums {
    low0: vec4<f32>,
    low1: vec4<f32>,
    high0: vec4<f32>,
    high1: vec4<f32>,
}

// Each thread's part of each sum, and then what several of them are together.
var<workgroup> parts: array<f32, SUMS * (TEAM + 1u)>;
var<workgroup> halves: array<f32, 128>;

@compute @workgroup_size(128)
fn few(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = 8u * block_index(group, groups);
    let team = thread / TEAM;
    let lane = thread % TEAM;
    let last = args.n - 1u;
    let b0 = min(first + 2u * team, last) * args.b_row;
    let b1 = min(first + 2u * team + 1u, last) * args.b_row;
    let sums = few_sums(lane, b0, b1);
    for (var row = 0u; row < M; row++) {
        let at = (2u * team * M + row) * (TEAM + 1u) + lane;
        parts[at] = select(sums.high0[row & 3u], sums.low0[row & 3u], row < 4u);
        parts[at + M * (TEAM + 1u)] = select(sums.high1[row & 3u], sums.low1[row & 3u], row < 4u);
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < TEAM / SHARE; i++) {
        sum += parts[thread / SHARE * (TEAM + 1u) + thread % SHARE + SHARE * i];
    }
    halves[thread] = sum;
    workgroupBarrier();
    if thread < SUMS {
        let row = thread % M;
        let column = first + thread / M;
        if row < args.m && column < args.n {
            var whole = 0.0;
            for (var i = 0u; i < SHARE; i++) {
                whole += halves[thread * SHARE + i];
            }
            let done = vec4<u32>(column + 1u, 0xffffffffu, 0u, 0u);
            let v = args.scale * whole + low_rank(row, column, done).x;
            finish(row * args.o_row + column, column, 1u, vec4<f32>(v, 0.0, 0.0, 0.0));
        }
    }
}
