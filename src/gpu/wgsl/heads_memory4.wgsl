// The float operands of kernels that work on heads, read and written four values at a time: every head of every row starts
// at a multiple of four values. All are of format X; operands from 5 on are of other kinds.
//
// loadI(at, left) and storeI(at, left, v): four values from `at` on, of which all exist.

@group(0) @binding(0) var<storage, read_write> m0: array<vec4<X>>;
fn load0(at: u32, left: u32) -> vec4<f32> {
    return vec4<f32>(m0[at >> 2u]);
}
fn store0(at: u32, left: u32, v: vec4<f32>) {
    m0[at >> 2u] = vec4<X>(v);
}

@group(0) @binding(1) var<storage, read_write> m1: array<vec4<X>>;
fn load1(at: u32, left: u32) -> vec4<f32> {
    return vec4<f32>(m1[at >> 2u]);
}
fn store1(at: u32, left: u32, v: vec4<f32>) {
    m1[at >> 2u] = vec4<X>(v);
}

@group(0) @binding(2) var<storage, read_write> m2: array<vec4<X>>;
fn load2(at: u32, left: u32) -> vec4<f32> {
    return vec4<f32>(m2[at >> 2u]);
}
fn store2(at: u32, left: u32, v: vec4<f32>) {
    m2[at >> 2u] = vec4<X>(v);
}

@group(0) @binding(3) var<storage, read_write> m3: array<vec4<X>>;
fn load3(at: u32, left: u32) -> vec4<f32> {
    return vec4<f32>(m3[at >> 2u]);
}
fn store3(at: u32, left: u32, v: vec4<f32>) {
    m3[at >> 2u] = vec4<X>(v);
}

@group(0) @binding(4) var<storage, read_write> m4: array<vec4<X>>;
fn load4(at: u32, left: u32) -> vec4<f32> {
    return vec4<f32>(m4[at >> 2u]);
}
fn store4(at: u32, left: u32, v: vec4<f32>) {
    m4[at >> 2u] = vec4<X>(v);
}
