
// Operand a, four values at a time; rows and places are multiples of 4, and so is every `have`.

@group(0) @binding(0) var<storage, read_write> a: array<vec4<XA>>;

fn load_a(at: u32, have: u32) -> vec4<XA> {
    if have == 0u {
        return vec4<XA>();
    }
    return a[(args.a + at) >> 2u];
}
