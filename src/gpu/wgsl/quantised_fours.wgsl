
// Blocks of Q4_0, Q4_1, Q5_0 and Q5_1: a word with the scale d and, in its high half, the minimum m; with a fifth bit, a word of
// those; 16 bytes with the low four bits of values 0 to 15 in their low halves and of values 16 to 31 in their high ones.
// d q + m, or d (q - 8) or d (q - 16) where there is no minimum

const QUANTS: u32 = 1u + FIFTH;
const WORDS: u32 = QUANTS + 4u;
const MIDDLE: f32 = f32(8u << FIFTH);

// What the values of a block are multiplied with, and what is added then.
fn line_of(block: u32) -> vec2<f32> {
    var line = half_floats(word(block));
    if MINIMUM == 0u {
        line.y = -MIDDLE * line.x;
    }
    return line;
}

fn fifths_of(block: u32) -> u32 {
    if FIFTH == 0u {
        return 0u;
    }
    return word(block + 1u);
}

// Values whose low bits are the low halves of the bytes of `q`, and whose fifth bits are the lowest of `fifths`.
fn four_values(line: vec2<f32>, q: u32, fifths: u32) -> vec4<f32> {
    return line.x * bytes_of((q & 0x0f0f0f0fu) | fifth_bits(fifths)) + line.y;
}

fn load_b(at: u32, have: u32) -> vec4<f32> {
    if have == 0u {
        return vec4<f32>();
    }
    let block = at / 32u * WORDS;
    let i = at % 32u;
    let q = word(block + QUANTS + i % 16u / 4u) >> (i / 16u * 4u);
    return four_values(line_of(block), q, fifths_of(block) >> i);
}

fn unit_places(u: u32) -> vec4<u32> {
    return u / 2u * 32u + u % 2u * 8u + vec4<u32>(0u, 4u, 16u, 20u);
}

// Half the bytes of a block.
fn unit(row: u32, u: u32, have: u32) -> mat4x4<f32> {
    let block = (row / 32u + u / 2u) * WORDS;
    let line = line_of(block);
    let half = u % 2u;
    let fifths = fifths_of(block) >> (8u * half);
    let q0 = word(block + QUANTS + 2u * half);
    let q1 = word(block + QUANTS + 2u * half + 1u);
    return mat4x4<f32>(
        four_values(line, q0, fifths),
        four_values(line, q1, fifths >> 4u),
        four_values(line, q0 >> 4u, fifths >> 16u),
        four_values(line, q1 >> 4u, fifths >> 20u),
    );
}
