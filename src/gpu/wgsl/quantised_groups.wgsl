
// Blocks of Q4_K and Q5_K: a word with d and e; three words with scale s and minimum m of six bits each for eight groups of 32
// values; with a fifth bit, 32 bytes of those, one bit of each for each group; for each two groups 32 bytes, whose low halves
// are the low four bits of the first group and whose high ones are those of the second. d s q - e m

const FIFTHS: u32 = 4u;
const QUANTS: u32 = FIFTHS + 8u * FIFTH;
const WORDS: u32 = QUANTS + 32u;

// What the values of a group are multiplied with, and what is added then, from the block's first four words.
fn line_of(head: vec4<u32>, group: u32) -> vec2<f32> {
    let low = vec2<u32>(head.y, head.z) >> vec2<u32>(8u * (group % 4u));
    let rest = head.w >> (8u * (group % 4u));
    let upper = (vec2<u32>(rest, rest >> 4u) & vec2<u32>(15u)) | ((low >> vec2<u32>(2u)) & vec2<u32>(48u));
    let v = half_floats(head.x) * vec2<f32>(select(upper, low & vec2<u32>(63u), group < 4u));
    return vec2<f32>(v.x, -v.y);
}

fn head_of(block: u32) -> vec4<u32> {
    return vec4<u32>(word(block), word(block + 1u), word(block + 2u), word(block + 3u));
}

// Word `i` of 8 of the fifth bits.
fn fifths_of(block: u32, i: u32) -> u32 {
    if FIFTH == 0u {
        return 0u;
    }
    return word(block + FIFTHS + i);
}

// Values whose low bits are the low halves of the bytes of `q`, and whose fifth bits are the lowest of those of `fifths`.
fn four_values(line: vec2<f32>, q: u32, fifths: u32) -> vec4<f32> {
    return line.x * bytes_of((q & 0x0f0f0f0fu) | ((fifths & 0x01010101u) << 4u)) + line.y;
}

fn load_b(at: u32, have: u32) -> vec4<f32> {
    if have == 0u {
        return vec4<f32>();
    }
    let block = at / 256u * WORDS;
    let group = at % 256u / 32u;
    let i = at % 32u / 4u;
    let q = word(block + QUANTS + group / 2u * 8u + i) >> (group % 2u * 4u);
    return four_values(line_of(head_of(block), group), q, fifths_of(block, i) >> group);
}

fn unit_places(u: u32) -> vec4<u32> {
    return u / 4u * 64u + u % 4u * 8u + vec4<u32>(0u, 4u, 32u, 36u);
}

// Two words of two groups.
fn unit(row: u32, u: u32, have: u32) -> mat4x4<f32> {
    let block = (row / 256u + u / 16u) * WORDS;
    let head = head_of(block);
    let group = u % 16u / 4u * 2u;
    let line0 = line_of(head, group);
    let line1 = line_of(head, group + 1u);
    let i = u % 4u * 2u;
    let fifths0 = fifths_of(block, i) >> group;
    let fifths1 = fifths_of(block, i + 1u) >> group;
    let q0 = word(block + QUANTS + 4u * group + i);
    let q1 = word(block + QUANTS + 4u * group + i + 1u);
    return mat4x4<f32>(
        four_values(line0, q0, fifths0),
        four_values(line0, q1, fifths1),
        four_values(line1, q0 >> 4u, fifths0 >> 1u),
        four_values(line1, q1 >> 4u, fifths1 >> 1u),
    );
}
