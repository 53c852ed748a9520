//! How each number format is widened to f32.
//!
//! A row of a matrix is a whole number of blocks; a block holds 32 or 256 small integers and the numbers that scale
//! them. Every function here widens whole blocks, in safe code the compiler vectorises.

use super::super::simd;
use crate::tensor::NumberFormat;
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

impl NumberFormat {
    /// Widens whole blocks: as many as fit into both.
    pub(crate) fn widen(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => out.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(v, b)| *v = f32::from_le_bytes(*b)),
            Self::F16 => halves(bytes, out, f16::from_le_bytes, |part, out| part.convert_to_f32_slice(out)),
            Self::Bf16 => halves(bytes, out, bf16::from_le_bytes, |part, out| part.convert_to_f32_slice(out)),
            Self::Q8_0 => each::<34, 32>(bytes, out, q8_0),
            Self::Q4_0 => each::<18, 32>(bytes, out, q4_0),
            Self::Q4_1 => each::<20, 32>(bytes, out, q4_1),
            Self::Q5_0 => each::<22, 32>(bytes, out, q5_0),
            Self::Q5_1 => each::<24, 32>(bytes, out, q5_1),
            Self::Q4K => each::<144, 256>(bytes, out, q4_k),
            Self::Q5K => each::<176, 256>(bytes, out, q5_k),
            Self::Q6K => each::<210, 256>(bytes, out, q6_k),
        }
    }
}

#[inline(always)]
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    simd::vectors!(|| {
        // A loop, not `for_each`: what the latter calls is not always inlined, and then runs without vector instructions.
        for (bytes, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<VALUES>().0) {
            block(bytes, out);
        }
    });
}

/// 16-bit numbers, converted some at a time by the processor where it can.
fn halves<T: Copy + Default>(
    bytes: &[u8],
    out: &mut [f32],
    read: impl Fn([u8; 2]) -> T,
    convert: impl Fn(&[T], &mut [f32]),
) {
    let mut part = [T::default(); 64];
    for (bytes, out) in bytes.chunks(2 * part.len()).zip(out.chunks_mut(part.len())) {
        for (value, bytes) in part.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = read(*bytes);
        }
        convert(&part[..out.len()], out);
    }
}

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[inline(always)]
fn q8_0(bytes: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    for (v, &q) in out.iter_mut().zip(&bytes[2..]) {
        *v = d * f32::from(q as i8);
    }
}

/// 32 values of 4 bits, the low halves of the bytes first: `f(q)` for each.
#[inline(always)]
fn nibbles(bytes: &[u8], out: &mut [f32], f: impl Fn(i32) -> f32) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((a, b), &q) in low.iter_mut().zip(high).zip(bytes) {
        *a = f(i32::from(q & 15));
        *b = f(i32::from(q >> 4));
    }
}

#[inline(always)]
fn q4_0(bytes: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    nibbles(&bytes[2..], out, |q| d * (q - 8) as f32);
}

#[inline(always)]
fn q4_1(bytes: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    nibbles(&bytes[4..], out, |q| d * q as f32 + m);
}

/// 32 values of 5 bits: the fifth bits lie together.
#[inline(always)]
fn fives(high: &[u8], bytes: &[u8], out: &mut [f32; 32], f: impl Fn(i32) -> f32) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    let (first, second) = out.split_at_mut(16);
    for (j, ((a, b), &q)) in first.iter_mut().zip(second).zip(bytes).enumerate() {
        let bit = |at: usize| ((high >> at) & 1) << 4;
        *a = f((u32::from(q & 15) | bit(j)) as i32);
        *b = f((u32::from(q >> 4) | bit(j + 16)) as i32);
    }
}

#[inline(always)]
fn q5_0(bytes: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    fives(&bytes[2..6], &bytes[6..], out, |q| d * (q - 16) as f32);
}

#[inline(always)]
fn q5_1(bytes: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    fives(&bytes[4..8], &bytes[8..], out, |q| d * q as f32 + m);
}

/// Scale and minimum of 6 bits each of the group `j` of 8, out of 12 bytes.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4), (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))
    };
    (f32::from(scale), f32::from(minimum))
}

#[inline(always)]
fn q4_k(bytes: &[u8; 144], out: &mut [f32; 256]) {
    let (d, e) = (half_at(bytes, 0), half_at(bytes, 2));
    let (packed, quants) = (&bytes[4..16], &bytes[16..]);
    for (j, (out, quants)) in out.chunks_exact_mut(64).zip(quants.chunks_exact(32)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((s1, m1), (s2, m2)) = (scale_and_minimum(packed, 2 * j), scale_and_minimum(packed, 2 * j + 1));
        let (d1, e1, d2, e2) = (d * s1, e * m1, d * s2, e * m2);
        for ((a, b), &q) in low.iter_mut().zip(high).zip(quants) {
            *a = d1 * f32::from(q & 15) - e1;
            *b = d2 * f32::from(q >> 4) - e2;
        }
    }
}

#[inline(always)]
fn q5_k(bytes: &[u8; 176], out: &mut [f32; 256]) {
    let (d, e) = (half_at(bytes, 0), half_at(bytes, 2));
    let (packed, fifth, quants) = (&bytes[4..16], &bytes[16..48], &bytes[48..]);
    for (j, (out, quants)) in out.chunks_exact_mut(64).zip(quants.chunks_exact(32)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((s1, m1), (s2, m2)) = (scale_and_minimum(packed, 2 * j), scale_and_minimum(packed, 2 * j + 1));
        let (d1, e1, d2, e2) = (d * s1, e * m1, d * s2, e * m2);
        for (((a, b), &q), &f) in low.iter_mut().zip(high).zip(quants).zip(fifth) {
            *a = d1 * f32::from((q & 15) | (((f >> (2 * j)) & 1) << 4)) - e1;
            *b = d2 * f32::from((q >> 4) | (((f >> (2 * j + 1)) & 1) << 4)) - e2;
        }
    }
}

#[inline(always)]
fn q6_k(bytes: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(bytes, 208);
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    for (n, out) in out.chunks_exact_mut(128).enumerate() {
        let (low, high, scales) = (&low[64 * n..][..64], &high[32 * n..][..32], &scales[8 * n..][..8]);
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            let (low, shift) = (&low[32 * (quarter & 1)..][..32], 4 * (quarter as u32 / 2));
            for (half, out) in out.chunks_exact_mut(16).enumerate() {
                let scale = d * f32::from(scales[2 * quarter + half] as i8);
                let (low, high) = (&low[16 * half..][..16], &high[16 * half..][..16]);
                for ((v, &l), &h) in out.iter_mut().zip(low).zip(high) {
                    let q = ((l >> shift) & 15) | (((h >> (2 * quarter)) & 3) << 4);
                    *v = scale * f32::from(q as i8 - 32);
                }
            }
        }
    }
}
