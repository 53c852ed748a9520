
// Products with cooperative matrices: a workgroup has GM x GN subgroups' shares of out below each other and side by side, a
// share has FM x FN (at most 4 x 4) matrices of S x S values. LEFT, RIGHT, SUMS: the matrices.
//
// Both operands lie in workgroup memory in lines as they lie in memory, so nothing is transposed on its way there: lines of
// TK values where k runs along the rows of the operand (A_ROWS, B_ROWS), else of TM or TN. What lies beyond the operands is
// zero. Lines are PAD values (16 bytes) longer than that: eight lines below each other then lie in different banks. The next
// tiles are fetched into registers while this one is multiplied. The sums go through workgroup memory too, one matrix of each
// share at a time, because which thread holds which of a matrix's values is not known.
//
// Nothing depends on how many threads a subgroup has: with fewer subgroups than shares the product is computed in passes,
// with more than that some compute what is not stored.

const TM: u32 = GM * FM * S;
const TN: u32 = GN * FN * S;
const A_LINE: u32 = A_ROWS * TK + (1u - A_ROWS) * TM;
const B_LINE: u32 = B_ROWS * TK + (1u - B_ROWS) * TN;
const A_STRIDE: u32 = A_LINE + PAD;
const B_STRIDE: u32 = B_LINE + PAD;
const A_LINES: u32 = A_ROWS * TM + (1u - A_ROWS) * TK;
const B_LINES: u32 = B_ROWS * TN + (1u - B_ROWS) * TK;
const A_FOURS: u32 = TM * TK / 4u;
const B_FOURS: u32 = TN * TK / 4u;
// Fours that a thread fetches.
const A_EACH: u32 = (A_FOURS + THREADS - 1u) / THREADS;
const B_EACH: u32 = (B_FOURS + THREADS - 1u) / THREADS;
const SHARES: u32 = GM * GN;
// Of a matrix of sums in workgroup memory: values from one row to the next, and of all.
const ROW: u32 = S + 4u;
const MATRIX: u32 = S * ROW;

var<workgroup> tile_a: array<XA, A_STRIDE * A_LINES>;
var<workgroup> tile_b: array<XB, B_STRIDE * B_LINES>;
// A matrix for each share, and one for what is not stored.
var<workgroup> staged: array<f32, (SHARES + 1u) * MATRIX>;

struct Fetched {
    a: array<vec4<XA>, A_EACH>,
    b: array<vec4<XB>, B_EACH>,
}

fn fetch_a(i: u32, row: u32, start: u32, end: u32) -> vec4<XA> {
    let line = i / (A_LINE / 4u);
    let at = i % (A_LINE / 4u) * 4u;
    if A_ROWS != 0u {
        let m = row + line;
        return load_a(m * args.a_row + start + at, select(0u, left(end, start + at), m < args.m && i < A_FOURS));
    }
    let k = start + line;
    return load_a(k * args.a_row + row + at, select(0u, left(args.m, row + at), k < end && i < A_FOURS));
}

fn fetch_b(i: u32, column: u32, start: u32, end: u32) -> vec4<XB> {
    let line = i / (B_LINE / 4u);
    let at = i % (B_LINE / 4u) * 4u;
    if B_ROWS != 0u {
        let n = column + line;
        return load_b(n * args.b_row + start + at, select(0u, left(end, start + at), n < args.n && i < B_FOURS));
    }
    let k = start + line;
    return load_b(k * args.b_row + column + at, select(0u, left(args.n, column + at), k < end && i < B_FOURS));
}

fn fetch(to: ptr<function, Fetched>, thread: u32, corner: vec2<u32>, start: u32, end: u32) {
    for (var i = 0u; i < A_EACH; i++) {
        (*to).a[i] = fetch_a(thread + i * THREADS, corner.y, start, end);
    }
    for (var i = 0u; i < B_EACH; i++) {
        (*to).b[i] = fetch_b(thread + i * THREADS, corner.x, start, end);
    }
}

fn put(fetched: ptr<function, Fetched>, thread: u32) {
    for (var i = 0u; i < A_EACH; i++) {
        let four = thread + i * THREADS;
        if four < A_FOURS {
            let at = four / (A_LINE / 4u) * A_STRIDE + four % (A_LINE / 4u) * 4u;
            let v = (*fetched).a[i];
            tile_a[at] = v.x;
            tile_a[at + 1u] = v.y;
            tile_a[at + 2u] = v.z;
            tile_a[at + 3u] = v.w;
        }
    }
    for (var i = 0u; i < B_EACH; i++) {
        let four = thread + i * THREADS;
        if four < B_FOURS {
            let at = four / (B_LINE / 4u) * B_STRIDE + four % (B_LINE / 4u) * 4u;
            let v = (*fetched).b[i];
            tile_b[at] = v.x;
            tile_b[at + 1u] = v.y;
            tile_b[at + 2u] = v.z;
            tile_b[at + 3u] = v.w;
        }
    }
}

// The matrix of a from row `m` and place `k` of the tile on.
fn matrix_a(m: u32, k: u32) -> LEFT {
    if A_ROWS != 0u {
        return coopLoadT<LEFT>(&tile_a[m * A_STRIDE + k], A_STRIDE);
    }
    return coopLoad<LEFT>(&tile_a[k * A_STRIDE + m], A_STRIDE);
}

// The matrix of b from place `k` and column `n` of the tile on.
fn matrix_b(k: u32, n: u32) -> RIGHT {
    if B_ROWS != 0u {
        return coopLoad<RIGHT>(&tile_b[n * B_STRIDE + k], B_STRIDE);
    }
    return coopLoadT<RIGHT>(&tile_b[k * B_STRIDE + n], B_STRIDE);
}

// Stores one matrix of each share, the one in row `i` and column `j` of its share, of the shares from `first` on.
fn drain(i: u32, j: u32, first: u32, shares: u32, thread: u32, corner: vec2<u32>, slice: u32) {
    workgroupBarrier();
    for (var four = thread; four < SHARES * S * S / 4u; four += THREADS) {
        let place = four / (S * S / 4u);
        let share = first + place;
        let r = four % (S * S / 4u) / (S / 4u);
        let c = four % (S / 4u) * 4u;
        let row = corner.y + (share / GN * FM + i) * S + r;
        let column = corner.x + (share % GN * FN + j) * S + c;
        let have = left(args.n, column);
        if place < shares && share < SHARES && row < args.m && have > 0u {
            let at = place * MATRIX + r * ROW + c;
            var v = args.scale * vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
            if RANK != 0u {
                v += low_rank(row, column, vec4<u32>());
            }
            finish((slice * args.m + row) * args.o_row + column, column, have, v);
        }
    }
    workgroupBarrier();
}

// groups.z slices of k, whose sums go to slices of out.
@compute @workgroup_size(THREADS)
fn cooperative(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let corner = corner_of(group, groups);
    let steps = (args.k + groups.z * TK - 1u) / (groups.z * TK);
    let first_k = group.z * steps * TK;
    let end = min(args.k, first_k + steps * TK);
    for (var i = thread; i < MATRIX; i += THREADS) {
        staged[i] = 0.0;
    }
    workgroupBarrier();
    let zero = coopLoadT<SUMS>(&staged[0], ROW);
    workgroupBarrier();
    let place = min(subgroup, SHARES) * MATRIX;
    var fetched: Fetched;
    for (var first = 0u; first < SHARES; first += subgroups) {
        let share = min(first + subgroup, SHARES - 1u);
        let m = share / GN * FM * S;
        let n = share % GN * FN * S;
        var c00 = zero;
        var c01 = zero;
        var c02 = zero;
        var c03 = zero;
        var c10 = zero;
        var c11 = zero;
        var c12 = zero;
        var c13 = zero;
        var c20 = zero;
        var c21 = zero;
        var c22 = zero;
        var c23 = zero;
        var c30 = zero;
        var c31 = zero;
        var c32 = zero;
        var c33 = zero;
        fetch(&fetched, thread, corner, first_k, end);
        for (var k = first_k; k < end; k += TK) {
            put(&fetched, thread);
            workgroupBarrier();
            // Beyond the end it fetches nothing.
            fetch(&fetched, thread, corner, k + TK, end);
            for (var at = 0u; at < TK; at += S) {
                let b0 = matrix_b(at, n);
                let b1 = matrix_b(at, n + min(1u, FN - 1u) * S);
                let b2 = matrix_b(at, n + min(2u, FN - 1u) * S);
                let b3 = matrix_b(at, n + min(3u, FN - 1u) * S);
                let a0 = matrix_a(m, at);
                c00 = coopMultiplyAdd(a0, b0, c00);
                if FN > 1u {
                    c01 = coopMultiplyAdd(a0, b1, c01);
                }
                if FN > 2u {
                    c02 = coopMultiplyAdd(a0, b2, c02);
                }
                if FN > 3u {
                    c03 = coopMultiplyAdd(a0, b3, c03);
                }
                if FM > 1u {
                    let a1 = matrix_a(m + S, at);
                    c10 = coopMultiplyAdd(a1, b0, c10);
                    if FN > 1u {
                        c11 = coopMultiplyAdd(a1, b1, c11);
                    }
                    if FN > 2u {
                        c12 = coopMultiplyAdd(a1, b2, c12);
                    }
                    if FN > 3u {
                        c13 = coopMultiplyAdd(a1, b3, c13);
                    }
                }
                if FM > 2u {
                    let a2 = matrix_a(m + 2u * S, at);
                    c20 = coopMultiplyAdd(a2, b0, c20);
                    if FN > 1u {
                        c21 = coopMultiplyAdd(a2, b1, c21);
                    }
                    if FN > 2u {
                        c22 = coopMultiplyAdd(a2, b2, c22);
                    }
                    if FN > 3u {
                        c23 = coopMultiplyAdd(a2, b3, c23);
                    }
                }
                if FM > 3u {
                    let a3 = matrix_a(m + 3u * S, at);
                    c30 = coopMultiplyAdd(a3, b0, c30);
                    if FN > 1u {
                        c31 = coopMultiplyAdd(a3, b1, c31);
                    }
                    if FN > 2u {
                        c32 = coopMultiplyAdd(a3, b2, c32);
                    }
                    if FN > 3u {
                        c33 = coopMultiplyAdd(a3, b3, c33);
                    }
                }
            }
            workgroupBarrier();
        }
        coopStoreT(c00, &staged[place], ROW);
        drain(0u, 0u, first, subgroups, thread, corner, group.z);
        if FN > 1u {
            coopStoreT(c01, &staged[place], ROW);
            drain(0u, 1u, first, subgroups, thread, corner, group.z);
        }
        if FN > 2u {
            coopStoreT(c02, &staged[place], ROW);
            drain(0u, 2u, first, subgroups, thread, corner, group.z);
        }
        if FN > 3u {
            coopStoreT(c03, &staged[place], ROW);
            drain(0u, 3u, first, subgroups, thread, corner, group.z);
        }
        if FM > 1u {
            coopStoreT(c10, &staged[place], ROW);
            drain(1u, 0u, first, subgroups, thread, corner, group.z);
            if FN > 1u {
                coopStoreT(c11, &staged[place], ROW);
                drain(1u, 1u, first, subgroups, thread, corner, group.z);
            }
            if FN > 2u {
                coopStoreT(c12, &staged[place], ROW);
                drain(1u, 2u, first, subgroups, thread, corner, group.z);
            }
            if FN > 3u {
                coopStoreT(c13, &staged[place], ROW);
                drain(1u, 3u, first, subgroups, thread, corner, group.z);
            }
        }
        if FM > 2u {
            coopStoreT(c20, &staged[place], ROW);
            drain(2u, 0u, first, subgroups, thread, corner, group.z);
            if FN > 1u {
                coopStoreT(c21, &staged[place], ROW);
                drain(2u, 1u, first, subgroups, thread, corner, group.z);
            }
            if FN > 2u {
                coopStoreT(c22, &staged[place], ROW);
                drain(2u, 2u, first, subgroups, thread, corner, group.z);
            }
            if FN > 3u {
                coopStoreT(c23, &staged[place], ROW);
                drain(2u, 3u, first, subgroups, thread, corner, group.z);
            }
        }
        if FM > 3u {
            coopStoreT(c30, &staged[place], ROW);
            drain(3u, 0u, first, subgroups, thread, corner, group.z);
            if FN > 1u {
                coopStoreT(c31, &staged[place], ROW);
                drain(3u, 1u, first, subgroups, thread, corner, group.z);
            }
            if FN > 2u {
                coopStoreT(c32, &staged[place], ROW);
                drain(3u, 2u, first, subgroups, thread, corner, group.z);
            }
            if FN > 3u {
                coopStoreT(c33, &staged[place], ROW);
                drain(3u, 3u, first, subgroups, thread, corner, group.z);
            }
        }
    }
}
