// The float operands of kernels that work on heads, read and written one value at a time. All are of format X; operands
// from 5 on are of other kinds.
//
// loadI(at, left) and storeI(at, left, v): four values from `at` on, of which the first `left` exist, at least one; the
// others are read as zeros and not written.

@group(0) @binding(0) var<storage, read_write> m0: array<X>;
fn load0(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>(f32(m0[at]), 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = f32(m0[at + 1u]);
    }
    if left > 2u {
        v.z = f32(m0[at + 2u]);
    }
    if left > 3u {
        v.w = f32(m0[at + 3u]);
    }
    return v;
}
fn store0(at: u32, left: u32, v: vec4<f32>) {
    m0[at] = X(v.x);
    if left > 1u {
        m0[at + 1u] = X(v.y);
    }
    if left > 2u {
        m0[at + 2u] = X(v.z);
    }
    if left > 3u {
        m0[at + 3u] = X(v.w);
    }
}

@group(0) @binding(1) var<storage, read_write> m1: array<X>;
fn load1(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>(f32(m1[at]), 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = f32(m1[at + 1u]);
    }
    if left > 2u {
        v.z = f32(m1[at + 2u]);
    }
    if left > 3u {
        v.w = f32(m1[at + 3u]);
    }
    return v;
}
fn store1(at: u32, left: u32, v: vec4<f32>) {
    m1[at] = X(v.x);
    if left > 1u {
        m1[at + 1u] = X(v.y);
    }
    if left > 2u {
        m1[at + 2u] = X(v.z);
    }
    if left > 3u {
        m1[at + 3u] = X(v.w);
    }
}

@group(0) @binding(2) var<storage, read_write> m2: array<X>;
fn load2(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>(f32(m2[at]), 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = f32(m2[at + 1u]);
    }
    if left > 2u {
        v.z = f32(m2[at + 2u]);
    }
    if left > 3u {
        v.w = f32(m2[at + 3u]);
    }
    return v;
}
fn store2(at: u32, left: u32, v: vec4<f32>) {
    m2[at] = X(v.x);
    if left > 1u {
        m2[at + 1u] = X(v.y);
    }
    if left > 2u {
        m2[at + 2u] = X(v.z);
    }
    if left > 3u {
        m2[at + 3u] = X(v.w);
    }
}

@group(0) @binding(3) var<storage, read_write> m3: array<X>;
fn load3(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>(f32(m3[at]), 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = f32(m3[at + 1u]);
    }
    if left > 2u {
        v.z = f32(m3[at + 2u]);
    }
    if left > 3u {
        v.w = f32(m3[at + 3u]);
    }
    return v;
}
fn store3(at: u32, left: u32, v: vec4<f32>) {
    m3[at] = X(v.x);
    if left > 1u {
        m3[at + 1u] = X(v.y);
    }
    if left > 2u {
        m3[at + 2u] = X(v.z);
    }
    if left > 3u {
        m3[at + 3u] = X(v.w);
    }
}

@group(0) @binding(4) var<storage, read_write> m4: array<X>;
fn load4(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>(f32(m4[at]), 0.0, 0.0, 0.0);
    if left > 1u {
        v.y = f32(m4[at + 1u]);
    }
    if left > 2u {
        v.z = f32(m4[at + 2u]);
    }
    if left > 3u {
        v.w = f32(m4[at + 3u]);
    }
    return v;
}
fn store4(at: u32, left: u32, v: vec4<f32>) {
    m4[at] = X(v.x);
    if left > 1u {
        m4[at + 1u] = X(v.y);
    }
    if left > 2u {
        m4[at + 2u] = X(v.z);
    }
    if left > 3u {
        m4[at + 3u] = X(v.w);
    }
}
