
// Products by tiles: a workgroup computes TM x TN values of out, a thread RM x RN of them, in blocks of 4 x 4.
//
// Both operands lie in workgroup memory as rows of k, four values of m or n in a vector: `tile[k][m / 4]`, b behind a. The
// vectors of a row are exchanged (`turn`) so that threads that store different k at the same time use different banks. The
// next tiles are fetched into registers while this one is multiplied. A_ROWS, B_ROWS: whether k runs along the rows of the
// operand in memory, so that blocks of 4 x 4 values are transposed on their way. R: format of fetched values.

const THREADS: u32 = TM / RM * (TN / RN);
const A_WIDTH: u32 = TM / 4u;
const B_WIDTH: u32 = TN / 4u;
const B_FIRST: u32 = TK * A_WIDTH;
// Blocks of 4 x 4 values.
const A_BLOCKS: u32 = TK / 4u * A_WIDTH;
const ALL_BLOCKS: u32 = A_BLOCKS + TK / 4u * B_WIDTH;

var<workgroup> tile: array<vec4<f32>, TK * (A_WIDTH + B_WIDTH)>;

// The four rows of a block as they lie in memory.
struct Block {
    r0: vec4<R>,
    r1: vec4<R>,
    r2: vec4<R>,
    r3: vec4<R>,
}

// A thread's sums: of row i, the left and the right four columns.
struct Sums {
    l0: vec4<f32>,
    l1: vec4<f32>,
    l2: vec4<f32>,
    l3: vec4<f32>,
    l4: vec4<f32>,
    l5: vec4<f32>,
    l6: vec4<f32>,
    l7: vec4<f32>,
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
    r4: vec4<f32>,
    r5: vec4<f32>,
    r6: vec4<f32>,
    r7: vec4<f32>,
}

fn turn(k4: u32, width: u32) -> u32 {
    return (k4 * (32u / TK)) & (width - 1u);
}

// Block `i` of a tile: number of its four k, of its four rows or columns.
fn place(i: u32, rows: u32, width: u32) -> vec2<u32> {
    if rows != 0u {
        return vec2<u32>(i % (TK / 4u), i / (TK / 4u));
    }
    return vec2<u32>(i / width, i % width);
}

fn fetch_a(i: u32, row: u32, start: u32, end: u32) -> Block {
    let at = place(i, A_ROWS, A_WIDTH);
    let k = start + 4u * at.x;
    let m = row + 4u * at.y;
    let step = args.a_row;
    if A_ROWS != 0u {
        // Rows beyond the last are those of the last one: what comes of them is not stored.
        let have = left(end, k);
        let last = args.m - 1u;
        return Block(
            vec4<R>(load_a(min(m, last) * step + k, have)),
            vec4<R>(load_a(min(m + 1u, last) * step + k, have)),
            vec4<R>(load_a(min(m + 2u, last) * step + k, have)),
            vec4<R>(load_a(min(m + 3u, last) * step + k, have)),
        );
    }
    let have = left(args.m, m);
    let first = k * step + m;
    return Block(
        vec4<R>(load_a(first, select(0u, have, k < end))),
        vec4<R>(load_a(first + step, select(0u, have, k + 1u < end))),
        vec4<R>(load_a(first + 2u * step, select(0u, have, k + 2u < end))),
        vec4<R>(load_a(first + 3u * step, select(0u, have, k + 3u < end))),
    );
}

fn fetch_b(i: u32, column: u32, start: u32, end: u32) -> Block {
    let at = place(i, B_ROWS, B_WIDTH);
    let k = start + 4u * at.x;
    let n = column + 4u * at.y;
    let step = args.b_row;
    if B_ROWS != 0u {
        let have = left(end, k);
        let last = args.n - 1u;
        return Block(
            vec4<R>(load_b(min(n, last) * step + k, have)),
            vec4<R>(load_b(min(n + 1u, last) * step + k, have)),
            vec4<R>(load_b(min(n + 2u, last) * step + k, have)),
            vec4<R>(load_b(min(n + 3u, last) * step + k, have)),
        );
    }
    let have = left(args.n, n);
    let first = k * step + n;
    return Block(
        vec4<R>(load_b(first, select(0u, have, k < end))),
        vec4<R>(load_b(first + step, select(0u, have, k + 1u < end))),
        vec4<R>(load_b(first + 2u * step, select(0u, have, k + 2u < end))),
        vec4<R>(load_b(first + 3u * step, select(0u, have, k + 3u < end))),
    );
}

fn fetch(i: u32, corner: vec2<u32>, start: u32, end: u32) -> Block {
    if i < A_BLOCKS {
        return fetch_a(i, corner.y, start, end);
    }
    return fetch_b(i - A_BLOCKS, corner.x, start, end);
}

fn put(i: u32, block: Block) {
    let r0 = vec4<f32>(block.r0);
    let r1 = vec4<f32>(block.r1);
    let r2 = vec4<f32>(block.r2);
    let r3 = vec4<f32>(block.r3);
    if i < A_BLOCKS {
        put_rows(place(i, A_ROWS, A_WIDTH), 0u, A_WIDTH, A_ROWS, r0, r1, r2, r3);
    } else if i < ALL_BLOCKS {
        put_rows(place(i - A_BLOCKS, B_ROWS, B_WIDTH), B_FIRST, B_WIDTH, B_ROWS, r0, r1, r2, r3);
    }
}

fn put_rows(at: vec2<u32>, first: u32, width: u32, rows: u32, r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32>) {
    let to = first + 4u * at.x * width + (at.y ^ turn(at.x, width));
    if rows != 0u {
        tile[to] = vec4<f32>(r0.x, r1.x, r2.x, r3.x);
        tile[to + width] = vec4<f32>(r0.y, r1.y, r2.y, r3.y);
        tile[to + 2u * width] = vec4<f32>(r0.z, r1.z, r2.z, r3.z);
        tile[to + 3u * width] = vec4<f32>(r0.w, r1.w, r2.w, r3.w);
    } else {
        tile[to] = r0;
        tile[to + width] = r1;
        tile[to + 2u * width] = r2;
        tile[to + 3u * width] = r3;
    }
}

// Adds the products of one k: rows at `ia` and half a tile behind, columns at `ib` and half a tile behind.
fn add_products(sums: ptr<function, Sums>, ia: u32, ib: u32) {
    let a0 = tile[ia];
    let b0 = tile[ib];
    var a1 = vec4<f32>();
    var b1 = vec4<f32>();
    if RM == 8u {
        a1 = tile[ia + A_WIDTH / 2u];
    }
    if RN == 8u {
        b1 = tile[ib + B_WIDTH / 2u];
    }
    (*sums).l0 += a0.x * b0;
    (*sums).l1 += a0.y * b0;
    (*sums).l2 += a0.z * b0;
    (*sums).l3 += a0.w * b0;
    if RN == 8u {
        (*sums).r0 += a0.x * b1;
        (*sums).r1 += a0.y * b1;
        (*sums).r2 += a0.z * b1;
        (*sums).r3 += a0.w * b1;
    }
    if RM == 8u {
        (*sums).l4 += a1.x * b0;
        (*sums).l5 += a1.y * b0;
        (*sums).l6 += a1.z * b0;
        (*sums).l7 += a1.w * b0;
        if RN == 8u {
            (*sums).r4 += a1.x * b1;
            (*sums).r5 += a1.y * b1;
            (*sums).r6 += a1.z * b1;
            (*sums).r7 += a1.w * b1;
        }
    }
}

// Adds the products of `fours` times four k of the tile.
fn multiply(sums: ptr<function, Sums>, fours: u32, at: vec2<u32>) {
    for (var k4 = 0u; k4 < fours; k4++) {
        let ia = 4u * k4 * A_WIDTH + (at.y ^ turn(k4, A_WIDTH));
        let ib = B_FIRST + 4u * k4 * B_WIDTH + (at.x ^ turn(k4, B_WIDTH));
        add_products(sums, ia, ib);
        add_products(sums, ia + A_WIDTH, ib + B_WIDTH);
        add_products(sums, ia + 2u * A_WIDTH, ib + 2u * B_WIDTH);
        add_products(sums, ia + 3u * A_WIDTH, ib + 3u * B_WIDTH);
    }
}

fn rescale(sums: ptr<function, Sums>, by: f32) {
    (*sums).l0 *= by;
    (*sums).l1 *= by;
    (*sums).l2 *= by;
    (*sums).l3 *= by;
    (*sums).l4 *= by;
    (*sums).l5 *= by;
    (*sums).l6 *= by;
    (*sums).l7 *= by;
    (*sums).r0 *= by;
    (*sums).r1 *= by;
    (*sums).r2 *= by;
    (*sums).r3 *= by;
    (*sums).r4 *= by;
    (*sums).r5 *= by;
    (*sums).r6 *= by;
    (*sums).r7 *= by;
}

// Row i of a thread's sums: its left columns where `right` is 0, else its right ones.
fn part(sums: ptr<function, Sums>, i: u32, right: u32) -> vec4<f32> {
    switch i + 8u * right {
        case 0u: { return (*sums).l0; }
        case 1u: { return (*sums).l1; }
        case 2u: { return (*sums).l2; }
        case 3u: { return (*sums).l3; }
        case 4u: { return (*sums).l4; }
        case 5u: { return (*sums).l5; }
        case 6u: { return (*sums).l6; }
        case 7u: { return (*sums).l7; }
        case 8u: { return (*sums).r0; }
        case 9u: { return (*sums).r1; }
        case 10u: { return (*sums).r2; }
        case 11u: { return (*sums).r3; }
        case 12u: { return (*sums).r4; }
        case 13u: { return (*sums).r5; }
        case 14u: { return (*sums).r6; }
        default: { return (*sums).r7; }
    }
}

// Brings TK columns of z, times its scale, and of B from `start` on into the tile.
fn put_low_rank(thread: u32, corner: vec2<u32>, start: u32, rows_end: u32, block: vec4<u32>, expert: u32) {
    let b_row = expert * args.expert_rows + block.z - block.x;
    for (var i = thread; i < TK * (A_WIDTH + B_WIDTH); i += THREADS) {
        let k = i % TK;
        let r = start + k;
        let of_b = i >= TK * A_WIDTH;
        let at = select(i / TK, i / TK - A_WIDTH, of_b);
        var v = vec4<f32>();
        for (var j = 0u; j < 4u; j++) {
            let m = corner.y + 4u * at + j;
            let n = corner.x + 4u * at + j;
            if !of_b && m < rows_end && r < RANK {
                v[j] = args.low_scale * low_z(m * args.z_row + block.w + r);
            }
            if of_b && n >= block.x && n < block.y && r < RANK {
                v[j] = low_b((b_row + n) * RANK + r);
            }
        }
        let width = select(A_WIDTH, B_WIDTH, of_b);
        tile[select(0u, B_FIRST, of_b) + k * width + (at ^ turn(k / 4u, width))] = v;
    }
}

// groups.z slices of k, whose sums go to slices of out.
@compute @workgroup_size(THREADS)
fn product(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let corner = corner_of(group, groups);
    let at = vec2<u32>(thread % (TN / RN), thread / (TN / RN));
    let steps = (args.k + groups.z * TK - 1u) / (groups.z * TK);
    var k = group.z * steps * TK;
    let end = min(args.k, k + steps * TK);
    var sums = Sums();
    var first: Block;
    var second: Block;
    // The tile that is fetched is one ahead of the one that is multiplied.
    for (var i = 0u; i <= steps; i++) {
        if i < steps {
            if thread < ALL_BLOCKS {
                first = fetch(thread, corner, k, end);
            }
            if THREADS < ALL_BLOCKS {
                if thread + THREADS < ALL_BLOCKS {
                    second = fetch(thread + THREADS, corner, k, end);
                }
            }
        }
        if i > 0u {
            multiply(&sums, (min(TK, left(end, k - TK)) + 3u) / 4u, at);
        }
        workgroupBarrier();
        if i < steps {
            put(thread, first);
            if THREADS < ALL_BLOCKS {
                put(thread + THREADS, second);
            }
        }
        workgroupBarrier();
        k += TK;
    }
    rescale(&sums, args.scale);
    // The rows of the first one's run go by tiles, in the columns of one block: mostly that is all.
    var rows_end = 0u;
    var block = vec4<u32>();
    if RANK != 0u {
        let run = run_of(args.first_row + min(corner.y, args.m - 1u));
        rows_end = min(args.m, run_end(run) - args.first_row);
        block = low_block(corner.x, corner.x + TN);
        let expert = run_expert(run);
        for (var start = 0u; start < RANK; start += TK) {
            put_low_rank(thread, corner, start, rows_end, block, expert);
            workgroupBarrier();
            multiply(&sums, min(TK, RANK - start + 3u) / 4u, at);
            workgroupBarrier();
        }
    }
    for (var i = 0u; i < RM; i++) {
        let row = corner.y + 4u * at.y + (i & 3u) + (i >> 2u) * (TM / 2u);
        for (var right = 0u; right < RN / 4u; right++) {
            let column = corner.x + 4u * at.x + right * (TN / 2u);
            let have = left(args.n, column);
            if row < args.m && have > 0u {
                var v = part(&sums, i, right);
                if RANK != 0u {
                    let done = select(vec4<u32>(), block, row < rows_end);
                    if column < done.x || column + 4u > done.y {
                        v += low_rank(row, column, done);
                    }
                }
                finish((group.z * args.m + row) * args.o_row + column, column, have, v);
            }
        }
    }
}
