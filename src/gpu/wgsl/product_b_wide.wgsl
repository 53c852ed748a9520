
// Operand b, four values at a time; rows and places are multiples of 4, and so is every `have`.

@group(0) @binding(1) var<storage, read_write> b: array<vec4<XB>>;

fn load_b(at: u32, have: u32) -> vec4<XB> {
    if have == 0u {
        return vec4<XB>();
    }
    return b[(args.b + at) >> 2u];
}
