
// Rows of a packed matrix by their numbers, widened to the format Y.

struct Args {
    ids: u32,
    b: u32,
    out: u32,
    n: u32,
    columns: u32,
    first: u32, // row of the whole matrix that b starts with
    rows: u32, // rows from there on; other numbers are left to other launches
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;

@compute @workgroup_size(256)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = block_index(group, groups) * (256u / ROW) + thread / ROW;
    if row >= args.n {
        return;
    }
    // A number below the first row wraps around and is beyond the last.
    let found = ids[args.ids + row] - args.first;
    if found >= args.rows {
        return;
    }
    for (var i = thread % ROW * 4u; i < args.columns; i += 4u * ROW) {
        let have = args.columns - i;
        store(row * args.columns + i, have, load_b(found * args.columns + i, have));
    }
}
