
// Blocks of Q6_K, in two halves of 128 values, those in four quarters of 32: 64 bytes for each half, the first 32 with the low
// four bits of the first quarter in their low halves and of the third in their high ones, the next 32 with those of the second
// and the fourth; 32 bytes for each half with the upper two bits of the quarters; 16 signed bytes s, one for each 16 values; a
// word of which the low half is d. d s (q - 32)

const UPPER: u32 = 32u;
const SCALES: u32 = 48u;
const LAST: u32 = 52u;
const WORDS: u32 = 53u;

// d s, for scale `i` of the word `scales`.
fn scale_of(d: f32, scales: u32, i: u32) -> f32 {
    return d * f32(extractBits(bitcast<i32>(scales), 8u * i, 8u));
}

// Values whose low bits are the low halves of the bytes of `q`, and whose upper bits are the lowest two of those of `upper`.
fn four_values(scale: f32, q: u32, upper: u32) -> vec4<f32> {
    return scale * (bytes_of((q & 0x0f0f0f0fu) | ((upper & 0x03030303u) << 4u)) - 32.0);
}

fn load_b(at: u32, have: u32) -> vec4<f32> {
    if have == 0u {
        return vec4<f32>();
    }
    let block = at / 256u * WORDS;
    let half = at % 256u / 128u;
    let quarter = at % 128u / 32u;
    let i = at % 32u / 4u;
    let scales = word(block + SCALES + 2u * half + quarter / 2u);
    let scale = scale_of(half_floats(word(block + LAST)).x, scales, quarter % 2u * 2u + i / 4u);
    let q = word(block + 16u * half + quarter % 2u * 8u + i) >> (quarter / 2u * 4u);
    return four_values(scale, q, word(block + UPPER + 8u * half + i) >> (2u * quarter));
}

fn unit_places(u: u32) -> vec4<u32> {
    return u / 8u * 128u + u % 8u * 4u + vec4<u32>(0u, 32u, 64u, 96u);
}

// A word of each quarter.
fn unit(row: u32, u: u32, have: u32) -> mat4x4<f32> {
    let block = (row / 256u + u / 16u) * WORDS;
    let half = u % 16u / 8u;
    let i = u % 8u;
    let d = half_floats(word(block + LAST)).x;
    let scales0 = word(block + SCALES + 2u * half);
    let scales1 = word(block + SCALES + 2u * half + 1u);
    let q0 = word(block + 16u * half + i);
    let q1 = word(block + 16u * half + 8u + i);
    let upper = word(block + UPPER + 8u * half + i);
    let side = i / 4u;
    return mat4x4<f32>(
        four_values(scale_of(d, scales0, side), q0, upper),
        four_values(scale_of(d, scales0, 2u + side), q1, upper >> 2u),
        four_values(scale_of(d, scales1, side), q0 >> 4u, upper >> 4u),
        four_values(scale_of(d, scales1, 2u + side), q1 >> 4u, upper >> 6u),
    );
}
