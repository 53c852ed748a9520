
// Operand a, one value at a time: rows and places of any length, `have` of four values are there.

@group(0) @binding(0) var<storage, read_write> a: array<XA>;

fn load_a(at: u32, have: u32) -> vec4<XA> {
    var v = vec4<XA>();
    for (var c = 0u; c < min(have, 4u); c++) {
        v[c] = a[args.a + at + c];
    }
    return v;
}
