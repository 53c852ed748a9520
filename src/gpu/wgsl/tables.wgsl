// Rows of tables by their numbers: gathered, and added to. Format of the tables, or of what is added: W; of the output: Y.

struct Args {
    a: u32,
    a_ids: u32,
    b: u32,
    b_ids: u32,
    c: u32,
    c_ids: u32,
    out: u32,
    n: u32,
    width: u32, // of a row, in lanes
    first: u32, // row of the whole table that table a (or the output that is added to) starts with
    rows: u32, // rows from there on; other numbers are left to other launches
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> a: array<WL>;
@group(0) @binding(1) var<storage, read_write> a_ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> b: array<WL>;
@group(0) @binding(3) var<storage, read_write> b_ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> c: array<WL>;
@group(0) @binding(5) var<storage, read_write> c_ids: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<YL>;

// out[i] = a[a_ids[i]] + b[b_ids[i]] + c[c_ids[i]], of as many tables as TABLES says; with BASE added to what is there
@compute @workgroup_size(256)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    if row >= args.n {
        return;
    }
    // A number below the first row wraps around and is beyond the last.
    let found = a_ids[args.a_ids + row] - args.first;
    if found >= args.rows {
        return;
    }
    var b_row = 0u;
    var c_row = 0u;
    if TABLES > 1u {
        b_row = args.b / LANES + b_ids[args.b_ids + row] * args.width;
    }
    if TABLES > 2u {
        c_row = args.c / LANES + c_ids[args.c_ids + row] * args.width;
    }
    let a_row = args.a / LANES + found * args.width;
    let out_row = args.out / LANES + row * args.width;
    for (var i = thread % ROW; i < args.width; i += ROW) {
        var v = Lane(a[a_row + i]);
        if TABLES > 1u {
            v += Lane(b[b_row + i]);
        }
        if TABLES > 2u {
            v += Lane(c[c_row + i]);
        }
        if BASE != 0u {
            v += Lane(out[out_row + i]);
        }
        out[out_row + i] = YL(v);
    }
}

// out[id] += sum of the rows of a that belong to the id. The table at a_ids: of each id itself, the first of its places in a
// list and how many it has there; behind those n entries the list, of rows of a.
@compute @workgroup_size(256)
fn scatter_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let entry = block_index(group, groups) * (256u / ROW) + thread / ROW;
    if entry >= args.n {
        return;
    }
    var id = 0u;
    var start = 0u;
    var len = 1u;
    if UNIQUE != 0u {
        id = a_ids[args.a_ids + entry];
    } else {
        let at = args.a_ids + 3u * entry;
        id = a_ids[at];
        start = args.a_ids + 3u * args.n + a_ids[at + 1u];
        len = a_ids[at + 2u];
    }
    let to = id - args.first;
    if to >= args.rows {
        return;
    }
    let out_row = args.out / LANES + to * args.width;
    for (var i = thread % ROW; i < args.width; i += ROW) {
        var sum = Lane(out[out_row + i]);
        if UNIQUE != 0u {
            sum += Lane(a[args.a / LANES + entry * args.width + i]);
        } else {
            for (var k = 0u; k < len; k++) {
                sum += Lane(a[args.a / LANES + a_ids[start + k] * args.width + i]);
            }
        }
        out[out_row + i] = YL(sum);
    }
}
