// The float operands of the experts' kernels, read and written four values at a time: every row and every part of one starts
// at a multiple of four values. Operand i holds values of format Ti.
//
// loadI(at, left) and storeI(at, left, v): four values from `at` on, of which `left` exist; here none or all four.

@group(0) @binding(0) var<storage, read_write> m0: array<vec4<T0>>;
fn load0(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m0[at >> 2u]);
}
fn store0(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m0[at >> 2u] = vec4<T0>(v);
    }
}

@group(0) @binding(1) var<storage, read_write> m1: array<vec4<T1>>;
fn load1(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m1[at >> 2u]);
}
fn store1(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m1[at >> 2u] = vec4<T1>(v);
    }
}

@group(0) @binding(2) var<storage, read_write> m2: array<vec4<T2>>;
fn load2(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m2[at >> 2u]);
}
fn store2(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m2[at >> 2u] = vec4<T2>(v);
    }
}

@group(0) @binding(3) var<storage, read_write> m3: array<vec4<T3>>;
fn load3(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m3[at >> 2u]);
}
fn store3(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m3[at >> 2u] = vec4<T3>(v);
    }
}

@group(0) @binding(4) var<storage, read_write> m4: array<vec4<T4>>;
fn load4(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m4[at >> 2u]);
}
fn store4(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m4[at >> 2u] = vec4<T4>(v);
    }
}

@group(0) @binding(5) var<storage, read_write> m5: array<vec4<T5>>;
fn load5(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m5[at >> 2u]);
}
fn store5(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m5[at >> 2u] = vec4<T5>(v);
    }
}

@group(0) @binding(6) var<storage, read_write> m6: array<vec4<T6>>;
fn load6(at: u32, left: u32) -> vec4<f32> {
    if left == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(m6[at >> 2u]);
}
fn store6(at: u32, left: u32, v: vec4<f32>) {
    if left > 0u {
        m6[at >> 2u] = vec4<T6>(v);
    }
}
