
// Matrices of F16 and BF16: two values in a word. Rows have any length.

fn two(at: u32) -> vec2<f32> {
    let pair = word(at);
    if BRAIN != 0u {
        return bitcast<vec2<f32>>(vec2<u32>(pair << 16u, pair & 0xffff0000u));
    }
    return half_floats(pair);
}

fn load_b(at: u32, have: u32) -> vec4<f32> {
    if at % 2u == 0u && have >= 4u {
        return vec4<f32>(two(at / 2u), two(at / 2u + 1u));
    }
    var v = vec4<f32>();
    for (var c = 0u; c < min(have, 4u); c++) {
        v[c] = two((at + c) / 2u)[(at + c) % 2u];
    }
    return v;
}

fn unit_places(u: u32) -> vec4<u32> {
    return 16u * u + vec4<u32>(0u, 4u, 8u, 12u);
}

fn unit(row: u32, u: u32, have: u32) -> mat4x4<f32> {
    let at = row + 16u * u;
    return mat4x4<f32>(
        load_b(at, have),
        load_b(at + 4u, max(have, 4u) - 4u),
        load_b(at + 8u, max(have, 8u) - 8u),
        load_b(at + 12u, max(have, 12u) - 12u),
    );
}
