// What all kernels share.

// The number of a workgroup in a folded grid; at or beyond the wanted count there is nothing to do.
fn block_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

// A 32-bit finaliser with low bias.
fn mix_bits(v: u32) -> u32 {
    var x = v;
    x ^= x >> 16u;
    x *= 0x7feb352du;
    x ^= x >> 15u;
    x *= 0x846ca68bu;
    return x ^ (x >> 16u);
}

// What element i is multiplied with by a dropout: 0 or scale.
fn drop_factor(i: u32, key: u32, threshold: u32, scale: f32) -> f32 {
    return select(0.0, scale, mix_bits(i ^ key) + key >= threshold);
}

// The key of one part's own mask.
fn split_key(key: u32, part: u32) -> u32 {
    return mix_bits(key + part * 0x9e3779b9u);
}

// exp(x) - 1 without cancellation near 0 is not needed: tanh goes through exp of a negative number.
fn safe_tanh(x: f32) -> f32 {
    let e = exp(-2.0 * abs(x));
    return sign(x) * (1.0 - e) / (1.0 + e);
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

// Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - p * exp(-a * a));
}

const GELU: u32 = 0u;
const GELU_TANH: u32 = 1u;
const RELU: u32 = 2u;
const SWISH: u32 = 3u;
const TANH: u32 = 4u;

fn act_value(act: u32, x: f32) -> f32 {
    switch act {
        case GELU: { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
        case GELU_TANH: { return 0.5 * x * (1.0 + safe_tanh(0.7978846 * (x + 0.044715 * x * x * x))); }
        case RELU: { return max(x, 0.0); }
        case SWISH: { return x * sigmoid(x); }
        default: { return safe_tanh(x); }
    }
}

fn act_slope(act: u32, x: f32) -> f32 {
    switch act {
        case GELU: { return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.3989423 * exp(-0.5 * x * x); }
        case GELU_TANH: {
            let t = safe_tanh(0.7978846 * (x + 0.044715 * x * x * x));
            return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978846 * (1.0 + 0.134145 * x * x);
        }
        case RELU: { return select(0.0, 1.0, x > 0.0); }
        case SWISH: {
            let s = sigmoid(x);
            return s * (1.0 + x * (1.0 - s));
        }
        default: {
            let t = safe_tanh(x);
            return 1.0 - t * t;
        }
    }
}

