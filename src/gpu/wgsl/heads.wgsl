// Work on single heads of rows of `columns` values: rotary positions, and root-mean-square normalisation. HEAD is the width
// of a head. Operand 0 is x, operand 1 the result of a normalisation, or its gradient.

struct Args {
    x: u32,
    y: u32,
    unused2: u32,
    unused3: u32,
    unused4: u32,
    // Cosines and then sines of each position, or γ of the first heads.
    table: u32,
    // The position of each row, or γ of the next heads.
    second: u32,
    rows: u32,
    columns: u32,
    // Heads that are rotated; or the first heads, and all that are normalised.
    heads: u32,
    all_heads: u32,
    // Positions of the table.
    positions: u32,
    // 1 or -1: by the angle or against it. Or ε.
    number: f32,
}
var<immediate> args: Args;

@group(0) @binding(5) var<storage, read_write> table: array<f32>;
@group(0) @binding(6) var<storage, read_write> second: array<SECOND>;

const FOURS: u32 = (HEAD + 3u) / 4u;
const HALF: u32 = HEAD / 2u;

// Up to four values of the table.
fn table_values(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>(table[at], 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = table[at + 1u];
    }
    if left > 2u {
        v.z = table[at + 2u];
    }
    if left > 3u {
        v.w = table[at + 3u];
    }
    return v;
}

// Rotates the pairs (i, i + HALF) of the first heads: four pairs for each thread.
@compute @workgroup_size(256)
fn rotate_halves(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let fours = (HALF + 3u) / 4u;
    let i = block_index(group, groups) * 256u + thread;
    let row = i / (args.heads * fours);
    if row >= args.rows {
        return;
    }
    let four = 4u * (i % fours);
    let left = HALF - four;
    let at = args.x + row * args.columns + i / fours % args.heads * HEAD + four;
    let angle = args.table + u32(second[args.second + row]) * HALF + four;
    let cosine = table_values(angle, left);
    let sine = args.number * table_values(angle + args.positions * HALF, left);
    let a = load0(at, left);
    let b = load0(at + HALF, left);
    store0(at, left, a * cosine - b * sine);
    store0(at + HALF, left, b * cosine + a * sine);
}

// Rotates the pairs (2 i, 2 i + 1) of the first heads: two pairs for each thread.
@compute @workgroup_size(256)
fn rotate_pairs(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    let row = i / (args.heads * FOURS);
    if row >= args.rows {
        return;
    }
    let four = 4u * (i % FOURS);
    let left = HEAD - four;
    let at = args.x + row * args.columns + i / FOURS % args.heads * HEAD + four;
    let angle = args.table + u32(second[args.second + row]) * HALF + four / 2u;
    let cosine = table_values(angle, min(left / 2u, 2u)).xxyy;
    let sine = args.number * table_values(angle + args.positions * HALF, min(left / 2u, 2u)).xxyy;
    let v = load0(at, left);
    store0(at, left, v * cosine + vec4<f32>(-v.y, v.x, -v.w, v.z) * sine);
}

// TEAM threads, a power of two, share a head.
var<workgroup> cells: array<vec2<f32>, 256>;

// Sums over a team's threads, in the same order always; each thread gets them.
fn team_sum(thread: u32, value: vec2<f32>) -> vec2<f32> {
    let lane = thread % TEAM;
    cells[thread] = value;
    workgroupBarrier();
    var left = TEAM;
    while left > 8u {
        left /= 8u;
        if lane < left {
            // Places below `left` are read by their own thread alone.
            var part = cells[thread];
            for (var k = 1u; k < 8u; k++) {
                part += cells[thread + k * left];
            }
            cells[thread] = part;
        }
        workgroupBarrier();
    }
    var sum = cells[thread - lane];
    for (var k = 1u; k < left; k++) {
        sum += cells[thread - lane + k];
    }
    return sum;
}

fn gamma_of(head: u32, four: u32) -> vec4<f32> {
    let left = HEAD - 4u * four;
    if head < args.heads {
        return table_values(args.table + 4u * four, left);
    }
    let at = args.second + 4u * four;
    var v = vec4<f32>(f32(second[at]), 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = f32(second[at + 1u]);
    }
    if left > 2u {
        v.z = f32(second[at + 2u]);
    }
    if left > 3u {
        v.w = f32(second[at + 3u]);
    }
    return v;
}

// y = γ x / sqrt(mean(x²) + ε) for each head; what is behind the heads is copied, in parts as wide as a head.
@compute @workgroup_size(256)
fn norm_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let parts = (args.columns + HEAD - 1u) / HEAD;
    let part = block_index(group, groups) * (256u / TEAM) + thread / TEAM;
    let row = part / parts;
    let head = part % parts;
    let here = row < args.rows;
    let width = min(HEAD, args.columns - head * HEAD);
    let fours = select(0u, (width + 3u) / 4u, here);
    let at = row * args.columns + head * HEAD;
    var sum = 0.0;
    for (var four = thread % TEAM; four < fours; four += TEAM) {
        let v = load0(args.x + at + 4u * four, width - 4u * four);
        sum += dot(v, v);
    }
    let scale = inverseSqrt(team_sum(thread, vec2<f32>(sum, 0.0)).x / f32(HEAD) + args.number);
    for (var four = thread % TEAM; four < fours; four += TEAM) {
        let left = width - 4u * four;
        var v = load0(args.x + at + 4u * four, left);
        if head < args.all_heads {
            v *= scale * gamma_of(head, four);
        }
        store1(args.y + at + 4u * four, left, v);
    }
}

// The gradient of the result, at y, becomes that of x.
@compute @workgroup_size(256)
fn norm_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = block_index(group, groups) * (256u / TEAM) + thread / TEAM;
    let row = part / args.all_heads;
    let head = part % args.all_heads;
    let fours = select(0u, FOURS, row < args.rows);
    let at = row * args.columns + head * HEAD;
    var sums = vec2<f32>();
    for (var four = thread % TEAM; four < fours; four += TEAM) {
        let left = HEAD - 4u * four;
        let v = load0(args.x + at + 4u * four, left);
        let d = load1(args.y + at + 4u * four, left) * gamma_of(head, four);
        sums += vec2<f32>(dot(v, v), dot(v, d));
    }
    let means = team_sum(thread, sums) / f32(HEAD);
    let scale = inverseSqrt(means.x + args.number);
    let along = means.y * scale * scale;
    for (var four = thread % TEAM; four < fours; four += TEAM) {
        let left = HEAD - 4u * four;
        let v = load0(args.x + at + 4u * four, left);
        let d = load1(args.y + at + 4u * four, left) * gamma_of(head, four);
        store1(args.y + at + 4u * four, left, scale * (d - along * v));
    }
}
