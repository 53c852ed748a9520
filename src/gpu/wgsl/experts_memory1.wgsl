// The float operands of the experts' kernels, value by value, for widths and places that are no multiples of four. Operand i
// holds values of format Ti.
//
// loadI(at, left) and storeI(at, left, v): four values from `at` on, of which `left` exist (more than four: all); the others
// are read as zero and not written.

@group(0) @binding(0) var<storage, read_write> m0: array<T0>;
fn load0(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m0[at]); }
    if left > 1u { v.y = f32(m0[at + 1u]); }
    if left > 2u { v.z = f32(m0[at + 2u]); }
    if left > 3u { v.w = f32(m0[at + 3u]); }
    return v;
}
fn store0(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m0[at] = T0(v.x); }
    if left > 1u { m0[at + 1u] = T0(v.y); }
    if left > 2u { m0[at + 2u] = T0(v.z); }
    if left > 3u { m0[at + 3u] = T0(v.w); }
}

@group(0) @binding(1) var<storage, read_write> m1: array<T1>;
fn load1(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m1[at]); }
    if left > 1u { v.y = f32(m1[at + 1u]); }
    if left > 2u { v.z = f32(m1[at + 2u]); }
    if left > 3u { v.w = f32(m1[at + 3u]); }
    return v;
}
fn store1(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m1[at] = T1(v.x); }
    if left > 1u { m1[at + 1u] = T1(v.y); }
    if left > 2u { m1[at + 2u] = T1(v.z); }
    if left > 3u { m1[at + 3u] = T1(v.w); }
}

@group(0) @binding(2) var<storage, read_write> m2: array<T2>;
fn load2(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m2[at]); }
    if left > 1u { v.y = f32(m2[at + 1u]); }
    if left > 2u { v.z = f32(m2[at + 2u]); }
    if left > 3u { v.w = f32(m2[at + 3u]); }
    return v;
}
fn store2(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m2[at] = T2(v.x); }
    if left > 1u { m2[at + 1u] = T2(v.y); }
    if left > 2u { m2[at + 2u] = T2(v.z); }
    if left > 3u { m2[at + 3u] = T2(v.w); }
}

@group(0) @binding(3) var<storage, read_write> m3: array<T3>;
fn load3(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m3[at]); }
    if left > 1u { v.y = f32(m3[at + 1u]); }
    if left > 2u { v.z = f32(m3[at + 2u]); }
    if left > 3u { v.w = f32(m3[at + 3u]); }
    return v;
}
fn store3(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m3[at] = T3(v.x); }
    if left > 1u { m3[at + 1u] = T3(v.y); }
    if left > 2u { m3[at + 2u] = T3(v.z); }
    if left > 3u { m3[at + 3u] = T3(v.w); }
}

@group(0) @binding(4) var<storage, read_write> m4: array<T4>;
fn load4(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m4[at]); }
    if left > 1u { v.y = f32(m4[at + 1u]); }
    if left > 2u { v.z = f32(m4[at + 2u]); }
    if left > 3u { v.w = f32(m4[at + 3u]); }
    return v;
}
fn store4(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m4[at] = T4(v.x); }
    if left > 1u { m4[at + 1u] = T4(v.y); }
    if left > 2u { m4[at + 2u] = T4(v.z); }
    if left > 3u { m4[at + 3u] = T4(v.w); }
}

@group(0) @binding(5) var<storage, read_write> m5: array<T5>;
fn load5(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m5[at]); }
    if left > 1u { v.y = f32(m5[at + 1u]); }
    if left > 2u { v.z = f32(m5[at + 2u]); }
    if left > 3u { v.w = f32(m5[at + 3u]); }
    return v;
}
fn store5(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m5[at] = T5(v.x); }
    if left > 1u { m5[at + 1u] = T5(v.y); }
    if left > 2u { m5[at + 2u] = T5(v.z); }
    if left > 3u { m5[at + 3u] = T5(v.w); }
}

@group(0) @binding(6) var<storage, read_write> m6: array<T6>;
fn load6(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if left > 0u { v.x = f32(m6[at]); }
    if left > 1u { v.y = f32(m6[at + 1u]); }
    if left > 2u { v.z = f32(m6[at + 2u]); }
    if left > 3u { v.w = f32(m6[at + 3u]); }
    return v;
}
fn store6(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u { m6[at] = T6(v.x); }
    if left > 1u { m6[at + 1u] = T6(v.y); }
    if left > 2u { m6[at + 2u] = T6(v.z); }
    if left > 3u { m6[at + 3u] = T6(v.w); }
}
