
// Out and the further operands, one value at a time: rows and places of any length, `have` of four values are there.

@group(0) @binding(2) var<storage, read_write> out: array<O>;
@group(0) @binding(3) var<storage, read_write> e1: array<E1>;
@group(0) @binding(4) var<storage, read_write> e2: array<E2>;
@group(0) @binding(5) var<storage, read_write> e3: array<E3>;
@group(0) @binding(6) var<storage, read_write> e4: array<E4>;

fn extra_value(which: u32, at: u32) -> f32 {
    switch which {
        case 1u: { return f32(e1[args.e1 + at]); }
        case 2u: { return f32(e2[args.e2 + at]); }
        case 3u: { return f32(e3[args.e3 + at]); }
        case 4u: { return f32(e4[args.e4 + at]); }
        default: { return f32(out[args.o + at]); }
    }
}

fn extra(which: u32, at: u32, have: u32) -> vec4<f32> {
    var v = vec4<f32>();
    for (var c = 0u; c < min(have, 4u); c++) {
        v[c] = extra_value(which, at + c);
    }
    return v;
}

// -> what was stored, rounded to the format
fn store(at: u32, have: u32, v: vec4<f32>) -> vec4<f32> {
    var rounded = vec4<O>(v);
    for (var c = 0u; c < min(have, 4u); c++) {
        out[args.o + at + c] = rounded[c];
    }
    return vec4<f32>(rounded);
}

fn store_extra(which: u32, at: u32, have: u32, v: vec4<f32>) {
    var values = v;
    for (var c = 0u; c < min(have, 4u); c++) {
        switch which {
            case 1u: { e1[args.e1 + at + c] = E1(values[c]); }
            case 2u: { e2[args.e2 + at + c] = E2(values[c]); }
            case 3u: { e3[args.e3 + at + c] = E3(values[c]); }
            default: { e4[args.e4 + at + c] = E4(values[c]); }
        }
    }
}

fn low_z(at: u32) -> f32 {
    return f32(e3[args.e3 + at]);
}

fn low_b(at: u32) -> f32 {
    return f32(e4[args.e4 + at]);
}

fn low_z4(at: u32, have: u32) -> vec4<f32> {
    var v = vec4<f32>();
    for (var c = 0u; c < min(have, 4u); c++) {
        v[c] = low_z(at + c);
    }
    return v;
}

fn low_b4(at: u32, have: u32) -> vec4<f32> {
    var v = vec4<f32>();
    for (var c = 0u; c < min(have, 4u); c++) {
        v[c] = low_b(at + c);
    }
    return v;
}
