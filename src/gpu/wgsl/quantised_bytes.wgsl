
// Blocks of Q8_0: a word of which the low half is the scale d, and 32 bytes q. d q

const WORDS: u32 = 9u;

fn signed_bytes(d: f32, q: u32) -> vec4<f32> {
    return d * vec4<f32>(unpack4xI8(q));
}

fn load_b(at: u32, have: u32) -> vec4<f32> {
    if have == 0u {
        return vec4<f32>();
    }
    let block = at / 32u * WORDS;
    return signed_bytes(half_floats(word(block)).x, word(block + 1u + at % 32u / 4u));
}

fn unit_places(u: u32) -> vec4<u32> {
    return 16u * u + vec4<u32>(0u, 4u, 8u, 12u);
}

// Half a block.
fn unit(row: u32, u: u32, have: u32) -> mat4x4<f32> {
    let block = (row / 32u + u / 2u) * WORDS;
    let d = half_floats(word(block)).x;
    let q = block + 1u + 4u * (u % 2u);
    return mat4x4<f32>(
        signed_bytes(d, word(q)),
        signed_bytes(d, word(q + 1u)),
        signed_bytes(d, word(q + 2u)),
        signed_bytes(d, word(q + 3u)),
    );
}
