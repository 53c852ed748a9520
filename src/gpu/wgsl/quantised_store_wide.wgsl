
// Out, four values at a time; rows and places are multiples of 4, and so is every `have`.

@group(0) @binding(2) var<storage, read_write> out: array<vec4<Y>>;

fn store(at: u32, have: u32, v: vec4<f32>) {
    out[(args.out + at) / 4u] = vec4<Y>(v);
}
