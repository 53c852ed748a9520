
// Operand b, one value at a time: rows and places of any length, `have` of four values are there.

@group(0) @binding(1) var<storage, read_write> b: array<XB>;

fn load_b(at: u32, have: u32) -> vec4<XB> {
    var v = vec4<XB>();
    for (var c = 0u; c < min(have, 4u); c++) {
        v[c] = b[args.b + at + c];
    }
    return v;
}
