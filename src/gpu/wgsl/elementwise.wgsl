// Elementwise kernels. X: format of x, y and z.

struct Args {
    x: u32,
    y: u32,
    z: u32,
    n: u32,
    key: u32,
    threshold: u32,
    scale: f32,
    width: u32,
    factor: f32,
    shift: f32,
}
var<immediate> args: Args;

@group(0) @binding(0) var<storage, read_write> x: array<X>;
@group(0) @binding(1) var<storage, read_write> y: array<Y>;
@group(0) @binding(2) var<storage, read_write> z: array<Z>;

// y = act(x)
@compute @workgroup_size(256)
fn act_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    if i < args.n {
        y[args.y + i] = Y(act_value(ACT, f32(x[args.x + i])));
    }
}

// y *= act'(x)
@compute @workgroup_size(256)
fn act_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    if i < args.n {
        y[args.y + i] = Y(f32(y[args.y + i]) * act_slope(ACT, f32(x[args.x + i])));
    }
}

// y = dropout(x) + z, or dropout(x) without z
@compute @workgroup_size(256)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    if i < args.n {
        var v = f32(x[args.x + i]);
        if args.threshold > 0u {
            v *= drop_factor(i, args.key, args.threshold, args.scale);
        }
        if HAS_Z != 0u {
            v += f32(z[args.z + i]);
        }
        y[args.y + i] = Y(v);
    }
}

// y = factor x + shift
@compute @workgroup_size(256)
fn affine(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = block_index(group, groups) * 256u + thread;
    if i < args.n {
        y[args.y + i] = Y(args.factor * f32(x[args.x + i]) + args.shift);
    }
}
