// Copies between layouts and formats, and sums, differences and products, value by value. Formats: what is read X and Z,
// what is written Y.

struct Args {
    x: u32,
    z: u32,
    y: u32,
    n: u32, // all values, in lanes
    // Sizes of the dimensions and steps from one value of each to the next, in lanes; the last dimension is the innermost.
    size_0: u32,
    size_1: u32,
    size_2: u32,
    size_3: u32,
    from_0: u32,
    from_1: u32,
    from_2: u32,
    from_3: u32,
    to_0: u32,
    to_1: u32,
    to_2: u32,
    to_3: u32,
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> x: array<XL>;
@group(0) @binding(1) var<storage, read_write> z: array<ZL>;
@group(0) @binding(2) var<storage, read_write> y: array<YL>;

// y = x; RANK dimensions have more than one value
@compute @workgroup_size(256)
fn strided(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    if i >= args.n {
        return;
    }
    var left = i;
    var read = args.x / LANES;
    var write = args.y / LANES;
    if RANK > 1u {
        let at = left % args.size_3;
        left /= args.size_3;
        read += at * args.from_3;
        write += at * args.to_3;
    }
    if RANK > 2u {
        let at = left % args.size_2;
        left /= args.size_2;
        read += at * args.from_2;
        write += at * args.to_2;
    }
    if RANK > 3u {
        let at = left % args.size_1;
        left /= args.size_1;
        read += at * args.from_1;
        write += at * args.to_1;
    }
    // What is left is the place in the outermost of them.
    if RANK == 4u {
        read += left * args.from_0;
        write += left * args.to_0;
    } else if RANK == 3u {
        read += left * args.from_1;
        write += left * args.to_1;
    } else if RANK == 2u {
        read += left * args.from_2;
        write += left * args.to_2;
    } else {
        read += left * args.from_3;
        write += left * args.to_3;
    }
    y[write] = YL(x[read]);
}

// A square of 32 rows and columns, each row one longer than needed, so that reading a column meets all banks.
var<workgroup> square: array<YL, 1056>;

// y = x, where the values of dimension 2 lie side by side in x, those of dimension 3 in y
@compute @workgroup_size(256)
fn transposed(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let outer = vec2<u32>(group.z / args.size_1, group.z % args.size_1);
    let read = args.x / LANES + outer.x * args.from_0 + outer.y * args.from_1;
    let write = args.y / LANES + outer.x * args.to_0 + outer.y * args.to_1;
    let row = group.y * 32u;
    let column = group.x * 32u;
    let side = thread % 32u;
    for (var k = thread / 32u; k < 32u; k += 8u) {
        if row + side < args.size_2 && column + k < args.size_3 {
            square[33u * side + k] = YL(x[read + (row + side) * args.from_2 + (column + k) * args.from_3]);
        }
    }
    workgroupBarrier();
    for (var k = thread / 32u; k < 32u; k += 8u) {
        if row + k < args.size_2 && column + side < args.size_3 {
            y[write + (row + k) * args.to_2 + (column + side) * args.to_3] = square[33u * k + side];
        }
    }
}

// y = x + z, x - z or x z
@compute @workgroup_size(256)
fn binary(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    if i >= args.n {
        return;
    }
    let a = Lane(x[args.x / LANES + i]);
    let b = Lane(z[args.z / LANES + i]);
    var v = a * b;
    if OPERATION == 0u {
        v = a + b;
    } else if OPERATION == 1u {
        v = a - b;
    }
    y[args.y / LANES + i] = YL(v);
}
