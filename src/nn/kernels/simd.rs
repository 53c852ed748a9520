//! Elementary functions and sums that the compiler turns into vector instructions inside `vectors!`. Sums keep 16 partial
//! sums in a fixed pattern, the same on every thread.

use half::bf16;

/// Whether AVX-512 may be used. With the feature `testing`, `ADAMIX_AVX512=off` in the environment turns it off.
pub fn avx512_allowed() -> bool {
    #[cfg(any(test, feature = "testing"))]
    {
        static ALLOWED: std::sync::LazyLock<bool> =
            std::sync::LazyLock::new(|| std::env::var_os("ADAMIX_AVX512").is_none_or(|value| value != "off"));
        *ALLOWED
    }
    #[cfg(not(any(test, feature = "testing")))]
    true
}

/// Whether the processor has the AVX-512 instructions that the matrix product's tiles need.
pub fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512_allowed()
        && std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether weights stored in bf16 are multiplied as such, the left operand rounded to bf16, sums in f32.
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_avx512() && std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// In single precision, exactly.
#[inline(always)]
pub fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Rounded to the nearest, ties to even; what is not a number stays so.
#[inline(always)]
pub fn narrow(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    bf16::from_bits(if x.is_nan() { 0x7fc0 } else { rounded as u16 })
}

/// Runs a closure compiled for the best vector instructions of this machine. It must be part of the function that is
/// compiled for them, so it is always inlined: a closure that is called from there instead runs without them.
macro_rules! vectors {
    (|| $work:expr) => {
        $crate::nn::kernels::simd::vectorized(
            #[inline(always)]
            || $work,
        )
    };
}
pub(crate) use vectors;

/// `out = f(out, x)`, element by element.
#[inline(always)]
pub fn update<T, U: Copy>(out: &mut [T], x: &[U], f: impl Fn(&mut T, U)) {
    // A loop, not `for_each`: what the latter calls is not always inlined, and then runs without vector instructions.
    for (o, &x) in out.iter_mut().zip(x) {
        f(o, x);
    }
}

#[inline(always)]
fn arch() -> pulp::Arch {
    #[cfg(target_arch = "x86_64")]
    if !avx512_allowed() {
        return pulp::x86::V3::try_new().map_or(pulp::Arch::Scalar, pulp::Arch::V3);
    }
    pulp::Arch::new()
}

/// Runs `work` compiled for the best vector instructions of this machine, if the compiler inlines it: see `vectors!`.
#[inline(always)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    arch().dispatch(work)
}

/// e^x for x in about [-87, 88], clamped outside; relative error below 2e-7 (Cephes' polynomial).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p =
        ((((1.987_569_1e-4 * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r + 0.5;
    let y = p * r * r + r + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The error function; absolute error below 3.5e-7, a few units in the last place of 1 (rational approximation on [-4, 4], constant outside).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let p = -2.726_142_3e-10 * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_4e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5 * s - 2.133_740_5e-4;
    let q = q * s - 1.682_826_9e-3;
    let q = q * s - 7.373_329_2e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

/// tanh by way of e^2x; absolute error below 3e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(2.0 * x.clamp(-15.0, 15.0));
    (e - 1.0) / (e + 1.0)
}

/// Logistic function.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

const LANES: usize = 16;

/// Σ f(x_i) in a fixed order.
#[inline(always)]
pub fn sum_map(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f(v);
        }
    }
    let rest: f32 = tail.iter().map(|&v| f(v)).sum();
    fold(lanes) + rest
}

/// Σ f(x_i, y_i) in a fixed order.
#[inline(always)]
pub fn sum_map2(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (xt, yt) = (xs.remainder(), ys.remainder());
    for (a, b) in xs.zip(ys) {
        for ((lane, &v), &w) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(v, w);
        }
    }
    let rest: f32 = xt.iter().zip(yt).map(|(&v, &w)| f(v, w)).sum();
    fold(lanes) + rest
}

/// Σ f(x_i, y_i, z_i) in a fixed order.
#[inline(always)]
pub fn sum_map3([x, y, z]: [&[f32]; 3], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, ys, zs) = (x.chunks_exact(LANES), y.chunks_exact(LANES), z.chunks_exact(LANES));
    let tails = (xs.remainder(), ys.remainder(), zs.remainder());
    for ((a, b), c) in xs.zip(ys).zip(zs) {
        for (((lane, &a), &b), &c) in lanes.iter_mut().zip(a).zip(b).zip(c) {
            *lane += f(a, b, c);
        }
    }
    let rest: f32 = tails.0.iter().zip(tails.1).zip(tails.2).map(|((&a, &b), &c)| f(a, b, c)).sum();
    sum_map(&lanes, |v| v) + rest
}

/// Σ x y, in four times as many partial sums as [`sum_map2`], so that additions overlap.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    const WIDE: usize = 64;
    let mut lanes = [0.0f32; WIDE];
    let ((xs, xt), (ys, yt)) = (x.as_chunks::<WIDE>(), y.as_chunks::<WIDE>());
    for (a, b) in xs.iter().zip(ys) {
        for ((lane, v), w) in lanes.iter_mut().zip(a).zip(b) {
            *lane += v * w;
        }
    }
    sum_map(&lanes, |v| v) + sum_map2(xt, yt, |v, w| v * w)
}

/// Largest value; -inf for none.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_to_the_nearest() {
        for i in 0..=u32::MAX / 65_537 {
            let x = f32::from_bits(i * 65_537);
            let (ours, theirs) = (narrow(x), bf16::from_f32(x));
            assert!(ours == theirs || (x.is_nan() && ours.is_nan()), "{x}: {ours} {theirs}");
            assert!(widen(ours) == ours.to_f32() || x.is_nan());
        }
    }

    #[test]
    fn elementary_functions_are_accurate() {
        for i in -60_000..60_000i32 {
            let x = i as f32 * 1e-3;
            let want = f64::from(x).exp();
            assert!(((f64::from(exp(x)) - want) / want).abs() < 3e-7, "exp({x})");
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 4e-7, "tanh({x})");
            let want = candle_core::cpu::erf::erf_f64(f64::from(x));
            assert!((f64::from(erf(x)) - want).abs() < 3.5e-7, "erf({x}): {} for {want}", erf(x));
        }
        assert!(exp(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }
}
