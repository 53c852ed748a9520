
// How many subgroups a workgroup of 256 threads has in a kernel with cooperative matrices.

struct Args {
    out: u32,
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> out: array<u32>;

var<workgroup> values: array<f32, S * S>;

@compute @workgroup_size(256)
fn count(@builtin(local_invocation_index) thread: u32, @builtin(num_subgroups) subgroups: u32) {
    for (var i = thread; i < S * S; i += 256u) {
        values[i] = 0.0;
    }
    workgroupBarrier();
    let sums = coopLoadT<SUMS>(&values[0], S);
    workgroupBarrier();
    coopStoreT(sums, &values[0], S);
    workgroupBarrier();
    if thread == 0u {
        out[args.out] = subgroups + u32(values[0]);
    }
}
