
// Operand b as packed blocks: what the formats share. `load_b` gives four values from value number `at` on, counted through
// all rows. `unit` gives sixteen values that lie in few words: number `u` of a row that starts with value `row`, of which
// `have` values are there; `unit_places` tells where in the row each four of them are.
// FIFTH: whether values have a fifth bit; MINIMUM: whether blocks of 32 have a minimum; BRAIN: whether values are brain floats.

@group(0) @binding(1) var<storage, read_write> b: array<u32>;

// Word `at` of the operand.
fn word(at: u32) -> u32 {
    return b[args.b + at];
}

// The two 16-bit floats of a word, which are finite. Scales are often so small that their exponent is 0; a device's own
// conversion may take those for zero.
fn half_floats(pair: u32) -> vec2<f32> {
    let bits = vec2<u32>(pair & 0xffffu, pair >> 16u);
    let size = bits & vec2<u32>(0x7fffu);
    let normal = bitcast<vec2<f32>>((size << vec2<u32>(13u)) + 0x38000000u);
    let v = select(normal, vec2<f32>(size) * 5.9604644775390625e-8, size < vec2<u32>(0x400u));
    return select(v, -v, bits != size);
}

// The four bytes of a word as whole numbers.
fn bytes_of(q: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(q));
}

// The lowest four bits as fifth bits of four bytes.
fn fifth_bits(bits: u32) -> u32 {
    // Bit i comes to bit 8 i; no two of the sixteen products fall on the same bit.
    return (((bits & 15u) * 0x00204081u) & 0x01010101u) << 4u;
}
