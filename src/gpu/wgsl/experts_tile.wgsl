// What the experts' kernels share: blocks of 4 x 4 sums, the workgroup's memory `tile` that their factors lie in, and the
// search for a row's expert. The kernel declares `tile`, SLICES and LANES.

const NONE: u32 = 0xffffffffu;

// How many values from `at` on lie before `end`.
fn left(at: u32, end: u32) -> u32 {
    return select(0u, end - at, at < end);
}

// What the number of a vec4 in a row of `quads` of them is changed by (xor), so that eight threads that read the same column
// of eight rows touch all banks of the workgroup's memory. `quads` is a power of two.
fn swizzle(row: u32, quads: u32) -> u32 {
    let most = min(quads, 8u);
    return (row * most / 8u) & (most - 1u);
}

// 4 rows x 4 columns.
struct Block {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
}

// sum + a.x w0 + a.y w1 + a.z w2 + a.w w3
fn mac(sum: vec4<f32>, a: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4<f32>(a.w), w[3], fma(vec4<f32>(a.z), w[2], fma(vec4<f32>(a.y), w[1], fma(vec4<f32>(a.x), w[0], sum))));
}

// sum += a w, the rows of a in tile[a0..a3].
fn mac_rows(sum: ptr<function, Block>, a0: u32, a1: u32, a2: u32, a3: u32, w: mat4x4<f32>) {
    (*sum).r0 = mac((*sum).r0, tile[a0], w);
    (*sum).r1 = mac((*sum).r1, tile[a1], w);
    (*sum).r2 = mac((*sum).r2, tile[a2], w);
    (*sum).r3 = mac((*sum).r3, tile[a3], w);
}

// Adds up the sums of all slices of the workgroup's threads; slice 0 has the total. All threads of the workgroup call it.
fn fold(sum: ptr<function, Block>, slice: u32, lane: u32) {
    for (var half = SLICES / 2u; half > 0u; half /= 2u) {
        let stride = half * LANES;
        let at = (slice % half) * LANES + lane;
        workgroupBarrier();
        if slice >= half && slice < 2u * half {
            tile[at] = (*sum).r0;
            tile[at + stride] = (*sum).r1;
            tile[at + 2u * stride] = (*sum).r2;
            tile[at + 3u * stride] = (*sum).r3;
        }
        workgroupBarrier();
        if slice < half {
            (*sum).r0 += tile[at];
            (*sum).r1 += tile[at + stride];
            (*sum).r2 += tile[at + 2u * stride];
            (*sum).r3 += tile[at + 3u * stride];
        }
    }
}
