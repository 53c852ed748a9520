
// Out and the further operands, four values at a time; rows and places are multiples of 4, and so is every `have`.

@group(0) @binding(2) var<storage, read_write> out: array<vec4<O>>;
@group(0) @binding(3) var<storage, read_write> e1: array<vec4<E1>>;
@group(0) @binding(4) var<storage, read_write> e2: array<vec4<E2>>;
@group(0) @binding(5) var<storage, read_write> e3: array<vec4<E3>>;
@group(0) @binding(6) var<storage, read_write> e4: array<vec4<E4>>;

fn extra(which: u32, at: u32, have: u32) -> vec4<f32> {
    switch which {
        case 1u: { return vec4<f32>(e1[(args.e1 + at) >> 2u]); }
        case 2u: { return vec4<f32>(e2[(args.e2 + at) >> 2u]); }
        case 3u: { return vec4<f32>(e3[(args.e3 + at) >> 2u]); }
        case 4u: { return vec4<f32>(e4[(args.e4 + at) >> 2u]); }
        default: { return vec4<f32>(out[(args.o + at) >> 2u]); }
    }
}

// -> what was stored, rounded to the format
fn store(at: u32, have: u32, v: vec4<f32>) -> vec4<f32> {
    let rounded = vec4<O>(v);
    out[(args.o + at) >> 2u] = rounded;
    return vec4<f32>(rounded);
}

fn store_extra(which: u32, at: u32, have: u32, v: vec4<f32>) {
    switch which {
        case 1u: { e1[(args.e1 + at) >> 2u] = vec4<E1>(v); }
        case 2u: { e2[(args.e2 + at) >> 2u] = vec4<E2>(v); }
        case 3u: { e3[(args.e3 + at) >> 2u] = vec4<E3>(v); }
        default: { e4[(args.e4 + at) >> 2u] = vec4<E4>(v); }
    }
}

fn low_z(at: u32) -> f32 {
    return f32(e3[(args.e3 + at) >> 2u][(args.e3 + at) & 3u]);
}

fn low_b(at: u32) -> f32 {
    return f32(e4[(args.e4 + at) >> 2u][(args.e4 + at) & 3u]);
}

fn low_z4(at: u32, have: u32) -> vec4<f32> {
    return vec4<f32>(e3[(args.e3 + at) >> 2u]);
}

fn low_b4(at: u32, have: u32) -> vec4<f32> {
    return vec4<f32>(e4[(args.e4 + at) >> 2u]);
}
