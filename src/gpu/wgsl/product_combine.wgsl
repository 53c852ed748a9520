
// Adds the sums of args.k slices of k, which lie behind each other in a with args.a_row values to a row.

@compute @workgroup_size(256)
fn combine(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    let fours = (args.n + 3u) / 4u;
    let row = i / fours;
    let column = i % fours * 4u;
    if row >= args.m {
        return;
    }
    var sums = vec4<f32>();
    for (var slice = 0u; slice < args.k; slice++) {
        sums += vec4<f32>(load_a((slice * args.m + row) * args.a_row + column, args.n - column));
    }
    let v = args.scale * sums + low_rank(row, column, vec4<u32>());
    finish(row * args.o_row + column, column, args.n - column, v);
}
