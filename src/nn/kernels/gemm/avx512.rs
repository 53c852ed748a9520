//! The innermost loops of the matrix product for processors with AVX-512, and the packing for them.
//!
//! A *tile* is up to [`ROWS`] rows by two vectors of columns of the output in registers. The right operand comes in packed
//! panels of [`WIDTH`] columns; single values of the left one, or pairs of bf16 with AVX512-BF16, are broadcast from its
//! rows. Each output element is summed in one fixed order, whatever tile it falls into: results do not depend on how many
//! rows are multiplied together.
#![expect(unsafe_code, reason = "vector instructions and raw panels; every bound is established by the driver")]
#![expect(clippy::needless_range_loop, reason = "register blocks are indexed by constants")]

use super::operands::Matrix;
use crate::nn::kernels::host::Values;
use half::bf16;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtne2ps_pbh,
    _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// Rows of a tile: 14 rows of two vectors, two of the right operand and one broadcast fill the 32 registers.
pub const ROWS: usize = 14;
/// Columns of a panel.
pub const WIDTH: usize = 32;
const LANES: usize = 16;

/// Where a tile's result goes.
#[derive(Clone, Copy)]
pub struct Target {
    /// First element.
    pub start: *mut f32,
    /// Distance between rows.
    pub row: usize,
    /// Columns that exist, 1 to [`WIDTH`].
    pub columns: usize,
    /// Add to what is there.
    pub add: bool,
    /// Factor of the product.
    pub scale: f32,
}

/// The left operand of a tile: first value, distance between rows and between steps of the inner dimension.
#[derive(Clone, Copy)]
pub struct Left {
    pub start: *const f32,
    pub row: usize,
    pub step: usize,
}

/// A packed panel of pairs of bf16 and how many rows of them it has.
#[derive(Clone, Copy)]
pub struct Right {
    pub pairs: usize,
    pub panel: *const u32,
}

#[inline(always)]
unsafe fn finish<const R: usize, const V: usize>(acc: [[__m512; V]; R], to: Target) {
    // SAFETY: the caller vouches for `R` rows of `to.columns` values; masks keep away from what lies beyond.
    unsafe {
        let scale = _mm512_set1_ps(to.scale);
        for i in 0..R {
            for v in 0..V {
                let left = to.columns.saturating_sub(v * LANES).min(LANES);
                let mask = ((1u32 << left) - 1) as u16;
                let at = to.start.add(i * to.row + v * LANES);
                let value = _mm512_mul_ps(acc[i][v], scale);
                let value = if to.add { _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, at)) } else { value };
                if left == LANES {
                    _mm512_storeu_ps(at, value);
                } else {
                    _mm512_mask_storeu_ps(at, mask, value);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn tile_f32<const R: usize, const V: usize>(steps: usize, a: Left, panel: *const f32, to: Target) {
    // SAFETY: `a` holds R rows of `steps` values, the panel `steps` rows of WIDTH.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let (mut p, mut q) = (a.start, panel);
        for _ in 0..steps {
            let mut b = [_mm512_setzero_ps(); V];
            for v in 0..V {
                b[v] = _mm512_loadu_ps(q.add(v * LANES));
            }
            for i in 0..R {
                let x = _mm512_set1_ps(*p.add(i * a.row));
                for v in 0..V {
                    acc[i][v] = _mm512_fmadd_ps(x, b[v], acc[i][v]);
                }
            }
            p = p.add(a.step);
            q = q.add(WIDTH);
        }
        finish(acc, to);
    }
}

#[inline(always)]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid patterns.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_bf16<const R: usize, const V: usize>(a: *const bf16, row: usize, right: Right, to: Target) {
    // SAFETY: `a` holds R rows of pairs, the panel as many rows of WIDTH.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let (mut p, mut q) = (a, right.panel);
        for _ in 0..right.pairs {
            let mut b = [as_bf16(_mm512_set1_epi32(0)); V];
            for v in 0..V {
                b[v] = as_bf16(_mm512_loadu_si512(q.add(v * LANES).cast()));
            }
            for i in 0..R {
                let x = as_bf16(_mm512_set1_epi32(p.add(i * row).cast::<i32>().read_unaligned()));
                for v in 0..V {
                    acc[i][v] = _mm512_dpbf16_ps(acc[i][v], x, b[v]);
                }
            }
            p = p.add(2);
            q = q.add(WIDTH);
        }
        finish(acc, to);
    }
}

/// Calls the tile of so many rows and vectors of columns.
macro_rules! by_rows {
    ($rows:expr, $tile:ident, $v:literal, $args:tt) => {
        by_rows!(@ $rows, $tile, $v, $args, 14 13 12 11 10 9 8 7 6 5 4 3 2)
    };
    (@ $rows:expr, $tile:ident, $v:literal, $args:tt, $($r:literal)*) => {
        match $rows {
            $($r => $tile::<$r, $v> $args,)*
            _ => $tile::<1, $v> $args,
        }
    };
}

/// `rows` (1 to [`ROWS`]) x `to.columns` of the product over `steps` of the inner dimension.
///
/// # Safety
/// The processor has AVX-512; `a` holds the rows and steps, `panel` is packed for `steps`, `to` is writable.
pub unsafe fn tile(rows: usize, steps: usize, a: Left, panel: *const f32, to: Target) {
    // SAFETY: passed on.
    unsafe {
        if to.columns > LANES {
            by_rows!(rows, tile_f32, 2, (steps, a, panel, to));
        } else {
            by_rows!(rows, tile_f32, 1, (steps, a, panel, to));
        }
    }
}

/// As [`tile`] for pairs of bf16: `a` has `rows` rows at distance `row` (in values), each with all pairs.
///
/// # Safety
/// As for [`tile`]; the processor has AVX512-BF16.
pub unsafe fn tile_pairs(rows: usize, a: *const bf16, row: usize, right: Right, to: Target) {
    // SAFETY: passed on.
    unsafe {
        if to.columns > LANES {
            by_rows!(rows, tile_bf16, 2, (a, row, right, to));
        } else {
            by_rows!(rows, tile_bf16, 1, (a, row, right, to));
        }
    }
}

/// Transposes 16 rows of 16 values of 32 bits. `rows[i][j] -> rows[j][i]`
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn transpose16(rows: [__m512; LANES]) -> [__m512; LANES] {
    let pd = |x: __m512| std::arch::x86_64::_mm512_castps_pd(x);
    let ps = |x| std::arch::x86_64::_mm512_castpd_ps(x);
    let mut t = rows;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        u[4 * i] = ps(_mm512_unpacklo_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
        u[4 * i + 1] = ps(_mm512_unpackhi_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
        u[4 * i + 2] = ps(_mm512_unpacklo_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
        u[4 * i + 3] = ps(_mm512_unpackhi_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
    }
    // u[4 g + c] holds, in its four 128-bit lanes l, column 4 l + c of rows 4 g .. 4 g + 3.
    let mut out = u;
    for c in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x88>(u[c], u[4 + c]);
        let high = _mm512_shuffle_f32x4::<0x88>(u[8 + c], u[12 + c]);
        out[c] = _mm512_shuffle_f32x4::<0x88>(low, high);
        out[8 + c] = _mm512_shuffle_f32x4::<0xdd>(low, high);
        let low = _mm512_shuffle_f32x4::<0xdd>(u[c], u[4 + c]);
        let high = _mm512_shuffle_f32x4::<0xdd>(u[8 + c], u[12 + c]);
        out[4 + c] = _mm512_shuffle_f32x4::<0x88>(low, high);
        out[12 + c] = _mm512_shuffle_f32x4::<0xdd>(low, high);
    }
    out
}

/// 16 consecutive values as f32, those from `count` on as zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load16(values: Values<'_>, at: usize, count: usize) -> __m512 {
    let mask = first_lanes(count);
    // SAFETY: the caller vouches for `count` values from `at`; masked lanes are not read.
    unsafe {
        match values {
            Values::F32(v) => _mm512_maskz_loadu_ps(mask, v.as_ptr().wrapping_add(at)),
            Values::Bf16(v) => {
                let words = words16(v.as_ptr().wrapping_add(at).cast(), mask);
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
            }
        }
    }
}

/// Packs rows `k0..k0 + steps` and columns `j0..j0 + columns` of the right operand into one panel, zeros beyond.
///
/// # Safety
/// AVX-512 is there, the operand holds the block, the panel `steps * WIDTH` values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn pack(b: Matrix<'_>, (k0, steps): (usize, usize), (j0, columns): (usize, usize), panel: *mut f32) {
    // SAFETY: all reads stay inside the block, all writes inside the panel.
    unsafe {
        let at = |k: usize, j: usize| (k0 + k) * b.row + (j0 + j) * b.col;
        if b.col == 1 {
            for k in 0..steps {
                for v in 0..2 {
                    let x = load16(b.values, at(k, v * LANES), columns.saturating_sub(v * LANES));
                    _mm512_storeu_ps(panel.add(k * WIDTH + v * LANES), x);
                }
            }
        } else if b.row == 1 {
            for v in 0..2 {
                for k in (0..steps).step_by(LANES) {
                    let mut rows = [_mm512_setzero_ps(); LANES];
                    for j in 0..LANES.min(columns.saturating_sub(v * LANES)) {
                        rows[j] = load16(b.values, at(k, v * LANES + j), steps - k);
                    }
                    let rows = transpose16(rows);
                    for i in 0..LANES.min(steps - k) {
                        _mm512_storeu_ps(panel.add((k + i) * WIDTH + v * LANES), rows[i]);
                    }
                }
            }
        } else {
            for k in 0..steps {
                for j in 0..WIDTH {
                    *panel.add(k * WIDTH + j) = if j < columns { b.values.at(at(k, j)) } else { 0.0 };
                }
            }
        }
    }
}

/// Two vectors of f32, interleaved and rounded to bf16: value i of `low` beside value i of `high`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn interleave(low: __m512, high: __m512) -> __m512i {
    use std::arch::x86_64::{__m256bh, __m256i, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh};
    // SAFETY: both are 256 bits without invalid patterns.
    let bits = |x: __m512| unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
    let (low, high) = (_mm512_cvtepu16_epi32(bits(low)), _mm512_cvtepu16_epi32(bits(high)));
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

/// 32 consecutive values of a row as 16 pairs of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pairs16(values: Values<'_>, at: usize, count: usize) -> __m512i {
    use std::arch::x86_64::_mm512_maskz_loadu_epi16;
    // SAFETY: the caller vouches for `count` values from `at`; masked lanes are not read.
    unsafe {
        if let Values::Bf16(v) = values {
            let mask = if count >= 2 * LANES { u32::MAX } else { (1u32 << count) - 1 };
            return _mm512_maskz_loadu_epi16(mask, v.as_ptr().wrapping_add(at).cast());
        }
        let (low, high) = (load16(values, at, count), load16(values, at + LANES, count.saturating_sub(LANES)));
        // SAFETY: both are 512 bits without invalid patterns.
        std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// As [`pack`] for bf16: row k of the panel holds steps 2 k and 2 k + 1 of each column side by side.
///
/// # Safety
/// As for [`pack`]; AVX512-BF16 is there; the panel holds `steps.div_ceil(2) * WIDTH` pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn pack_pairs(b: Matrix<'_>, (k0, steps): (usize, usize), (j0, columns): (usize, usize), panel: *mut u32) {
    // SAFETY: all reads stay inside the block, all writes inside the panel.
    unsafe {
        let at = |k: usize, j: usize| (k0 + k) * b.row + (j0 + j) * b.col;
        if b.row == 1 {
            for v in 0..2 {
                for k in (0..steps).step_by(2 * LANES) {
                    let mut rows = [_mm512_setzero_ps(); LANES];
                    for j in 0..LANES.min(columns.saturating_sub(v * LANES)) {
                        rows[j] = _mm512_castsi512_ps(pairs16(b.values, at(k, v * LANES + j), steps - k));
                    }
                    let rows = transpose16(rows);
                    for i in 0..LANES.min((steps - k).div_ceil(2)) {
                        let to = panel.add((k / 2 + i) * WIDTH + v * LANES);
                        _mm512_storeu_si512(to.cast(), _mm512_castps_si512(rows[i]));
                    }
                }
            }
            return;
        }
        if let Values::Bf16(values) = b.values
            && b.col == 1
        {
            let values = values.as_ptr().cast::<u16>();
            for v in 0..2 {
                let mask = first_lanes(columns.saturating_sub(v * LANES));
                for k in (0..steps).step_by(2) {
                    let low = words16(values.wrapping_add(at(k, v * LANES)), mask);
                    let high = words16(values.wrapping_add(at(k + 1, v * LANES)), if k + 1 < steps { mask } else { 0 });
                    let pair = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                    _mm512_storeu_si512(panel.add(k / 2 * WIDTH + v * LANES).cast(), pair);
                }
            }
            return;
        }
        for k in (0..steps).step_by(2) {
            let mut rows = [[0.0f32; WIDTH]; 2];
            for (k, row) in (k..steps).zip(&mut rows) {
                (0..columns).for_each(|j| row[j] = b.values.at(at(k, j)));
            }
            for v in 0..2 {
                let row = |i: usize| _mm512_loadu_ps(rows[i].as_ptr().add(v * LANES));
                let to = panel.add(k / 2 * WIDTH + v * LANES);
                _mm512_storeu_si512(to.cast(), interleave(row(0), row(1)));
            }
        }
    }
}

/// A mask of the first `count` lanes.
#[inline(always)]
fn first_lanes(count: usize) -> u16 {
    if count >= LANES { u16::MAX } else { ((1u32 << count) - 1) as u16 }
}

/// 16 consecutive words, each in the lower half of a lane; masked ones are not read and zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn words16(at: *const u16, mask: u16) -> __m512i {
    use std::arch::x86_64::{_mm256_maskz_loadu_epi16, _mm512_cvtepu16_epi32};
    // SAFETY: the caller vouches for the lanes of the mask.
    unsafe { _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at.cast())) }
}

/// Rounds `rows` rows of the left operand, from row `i0` on, to pairs of bf16, `width` words apart.
///
/// # Safety
/// AVX512-BF16 is there; `a` holds the rows and steps, `out` the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn left_pairs(rows: usize, steps: usize, a: Matrix<'_>, i0: usize, out: *mut u32, width: usize) {
    // SAFETY: all reads stay inside the operand, all writes inside `out`.
    unsafe {
        for i in 0..rows {
            let row = out.add(i * width);
            let at = |k: usize| (i0 + i) * a.row + k * a.col;
            for k in (0..steps).step_by(2 * LANES) {
                let left = (steps - k).min(2 * LANES);
                let packed = if a.col == 1 {
                    pairs16(a.values, at(k), left)
                } else {
                    let mut lane = [0.0f32; 2 * LANES];
                    for (x, v) in lane.iter_mut().enumerate().take(left) {
                        *v = a.values.at(at(k + x));
                    }
                    pairs16(Values::F32(&lane), 0, 2 * LANES)
                };
                let mask = ((1u32 << left.div_ceil(2)) - 1) as u16;
                let to = row.add(k / 2);
                std::arch::x86_64::_mm512_mask_storeu_epi32(to.cast(), mask, packed);
            }
        }
    }
}

/// `rows` rows of the left operand, from row `i0` on, in f32, `width` values apart.
///
/// # Safety
/// AVX-512 is there; `a` holds the rows and steps, `out` the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn left_single(rows: usize, steps: usize, a: Matrix<'_>, i0: usize, out: *mut f32, width: usize) {
    // SAFETY: all reads stay inside the operand, all writes inside `out`.
    unsafe {
        for i in 0..rows {
            let row = out.add(i * width);
            let at = |k: usize| (i0 + i) * a.row + k * a.col;
            for k in (0..steps).step_by(LANES) {
                let left = (steps - k).min(LANES);
                if a.col == 1 {
                    let mask = ((1u32 << left) - 1) as u16;
                    _mm512_mask_storeu_ps(row.add(k), mask, load16(a.values, at(k), left));
                } else {
                    (0..left).for_each(|x| *row.add(k + x) = a.values.at(at(k + x)));
                }
            }
        }
    }
}
