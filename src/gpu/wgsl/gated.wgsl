// act(gate) up: operand 0 is x with gate and up side by side, `[rows, 2 width]`, operand 1 is y, `[rows, width]`. Four values
// for each thread.

struct Args {
    x: u32,
    y: u32,
    rows: u32,
    width: u32,
}
var<immediate> args: Args;

fn act_values(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(act_value(ACT, v.x), act_value(ACT, v.y), act_value(ACT, v.z), act_value(ACT, v.w));
}

fn act_slopes(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(act_slope(ACT, v.x), act_slope(ACT, v.y), act_slope(ACT, v.z), act_slope(ACT, v.w));
}

// y = act(gate) up
@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let fours = (args.width + 3u) / 4u;
    let i = block_index(group, groups) * 256u + thread;
    let row = i / fours;
    if row < args.rows {
        let column = 4u * (i % fours);
        let left = args.width - column;
        let at = args.x + row * 2u * args.width + column;
        let v = act_values(load0(at, left)) * load0(at + args.width, left);
        store1(args.y + row * args.width + column, left, v);
    }
}

// Gate and up become their gradients; y holds the result's.
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let fours = (args.width + 3u) / 4u;
    let i = block_index(group, groups) * 256u + thread;
    let row = i / fours;
    if row < args.rows {
        let column = 4u * (i % fours);
        let left = args.width - column;
        let at = args.x + row * 2u * args.width + column;
        let gate = load0(at, left);
        let up = load0(at + args.width, left);
        let dy = load1(args.y + row * args.width + column, left);
        store0(at, left, dy * up * act_slopes(gate));
        store0(at + args.width, left, dy * act_values(gate));
    }
}
