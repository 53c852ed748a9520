
// Out, one value at a time: rows and places of any length, `have` of four values are there.

@group(0) @binding(2) var<storage, read_write> out: array<Y>;

fn store(at: u32, have: u32, v: vec4<f32>) {
    let rounded = vec4<Y>(v);
    for (var c = 0u; c < min(have, 4u); c++) {
        out[args.out + at + c] = rounded[c];
    }
}
