//! Three averages of experts side by side.
//!
//! | name | what is averaged | rank |
//! |---|---|---|
//! | factors | `B̄ Ā`: the paper's merge | r |
//! | deltas | `Σ w_j B_j A_j`: the experts' products | up to M r, exact as a sum of ranks |
//! | truncated | the nearest matrix of rank r to *deltas* (its first r singular directions) | r |
//! | outputs | the experts' answers: an ensemble, no single model | - |
//!
//! *Factors* is exactly the mean over all M² pairs `B_k A_j`: what independent draws of both sides train. *Deltas* holds the M
//! pairs of equal index, one of M parts of M pairs each (`B_(j + s) A_j`) whose mean is *factors* again. Factors and deltas are
//! equal where one side is shared. All distances are Frobenius norms, computed from Gram matrices
//! of the factors, so that no matrix of the layer's size is made.

use crate::error::{Error, Result};
use crate::mixture::{Lora, LoraMixture, Side};
use crate::tensor::{DType, Device, Tensor};

/// One module's averages and how far apart they are.
#[derive(Clone, Debug)]
pub struct SiteAverages {
    /// The exact mean of products.
    pub deltas: Lora,
    /// The nearest module of rank r to `deltas`.
    pub truncated: Lora,
    /// ‖factors‖
    pub factors_norm: f64,
    /// ‖deltas‖
    pub deltas_norm: f64,
    /// ‖factors - deltas‖: what averaging factors adds and takes away by crossing experts.
    pub factors_off: f64,
    /// ‖truncated - deltas‖: what rank r cannot hold.
    pub truncated_off: f64,
    /// Of the squared norms of two parts of *factors*, the pairs of one expert with itself (`Σ w_j² B_j A_j`) and all
    /// pairs of two different ones, the share of the second. 0 where a side is shared.
    pub crossed: f64,
    /// ‖part - factors‖ of each part of M pairs, *deltas* first; empty where a side is shared.
    pub parts: Vec<f64>,
    /// ‖mean of all parts - factors‖: rounding alone.
    pub all_pairs: f64,
    /// Rank of *deltas*: directions that are not rounding errors; of several blocks the largest.
    pub rank: usize,
}

/// The averages of one module. Weights `[M]`, summing to one
pub fn site(mixture: &LoraMixture, weights: &[f64]) -> Result<SiteAverages> {
    let (factors, deltas) = (mixture.merge(weights)?, mixture.merge_deltas(weights)?);
    let (truncated, truncated_off) = truncate(&deltas, mixture.rank())?;
    let shared = mixture.bank(Side::Down).experts() == 1 || mixture.bank(Side::Up).experts() == 1;
    let crossed = if shared {
        0.0
    } else {
        let own = mixture.merge_deltas(&weights.iter().map(|w| w * w).collect::<Vec<_>>())?;
        let (own, crossed) = (norm(&own)?.powi(2), distance(&factors, &own)?.powi(2));
        if own + crossed > 0.0 { crossed / (own + crossed) } else { 0.0 }
    };
    let experts = weights.len();
    let equal = vec![1.0 / experts.max(1) as f64; experts];
    let parts = if shared { 0 } else { experts };
    let parts = (0..parts).map(|shift| mixture.merge_pairs(&equal, shift)).collect::<Result<Vec<_>>>()?;
    let mean = mixture.merge(&equal)?;
    Ok(SiteAverages {
        crossed,
        parts: parts.iter().map(|part| distance(part, &mean)).collect::<Result<_>>()?,
        all_pairs: if shared { 0.0 } else { distance_of_mean(&parts, &mean)? },
        rank: rank(&deltas)?,
        factors_norm: norm(&factors)?,
        deltas_norm: norm(&deltas)?,
        // One side shared: both are the same matrices.
        factors_off: if shared { 0.0 } else { distance(&factors, &deltas)? },
        truncated_off,
        deltas,
        truncated,
    })
}

/// One block's factors in f64 on the CPU, the scale in B. A `[r, in]`, B `[width, r]`
pub(crate) fn blocks(lora: &Lora) -> Result<Vec<(Tensor, Tensor)>> {
    let wide = |side| -> Result<Tensor> { lora.side(side)?.to_device(&Device::Cpu)?.to_dtype(DType::F64) };
    let (a, b, rank, mut row) = (wide(Side::Down)?, wide(Side::Up)?, lora.rank(), 0);
    let mut found = Vec::new();
    for (i, columns) in lora.columns().iter().enumerate() {
        let b = (b.narrow(0, row, columns.len())?.contiguous()? * lora.scale())?;
        found.push((a.narrow(0, i * rank, rank)?.contiguous()?, b));
        row += columns.len();
    }
    Ok(found)
}

/// ‖B A‖² of all blocks.
fn squared(blocks: &[(Tensor, Tensor)]) -> Result<f64> {
    let mut sum = 0.0;
    for (a, b) in blocks {
        let product = (a.matmul(&a.t()?)? * b.t()?.matmul(b)?)?;
        sum += product.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum.max(0.0))
}

/// ‖scale B A‖
pub fn norm(lora: &Lora) -> Result<f64> {
    Ok(squared(&blocks(lora)?)?.sqrt())
}

/// ‖scale B A - scale' B' A'‖ of two modules on the same blocks.
pub fn distance(left: &Lora, right: &Lora) -> Result<f64> {
    if left.columns() != right.columns() {
        return Err(Error::internal("modules on different blocks cannot be compared"));
    }
    let mut both = Vec::new();
    for ((a, b), (a2, b2)) in blocks(left)?.into_iter().zip(blocks(right)?) {
        both.push((Tensor::cat(&[a, a2], 0)?, Tensor::cat(&[b, b2.neg()?], 1)?));
    }
    Ok(squared(&both)?.sqrt())
}

/// ‖mean of some modules - another one‖, all on the same blocks: from inner products of two at a time.
fn distance_of_mean(list: &[Lora], other: &Lora) -> Result<f64> {
    // |mean - other|² = mean over pairs of <P_s - O, P_t - O>, as |P_s - O|² + |P_t - O|² - |P_s - P_t|² halved.
    let from = list.iter().map(|one| distance(one, other)).collect::<Result<Vec<_>>>()?;
    let mut sum = 0.0;
    for (s, one) in list.iter().enumerate() {
        sum += from[s].powi(2);
        for (t, another) in list.iter().enumerate().take(s) {
            sum += from[s].powi(2) + from[t].powi(2) - distance(one, another)?.powi(2);
        }
    }
    Ok(sum.max(0.0).sqrt() / list.len().max(1) as f64)
}

/// The nearest module of this rank, block by block, and how far it is: the root of the sum of the squares of the singular
/// values left out.
pub fn truncate(lora: &Lora, rank: usize) -> Result<(Lora, f64)> {
    let rank = rank.clamp(1, lora.rank());
    let (mut rows, mut columns, mut lost) = (Vec::new(), Vec::new(), 0.0);
    for (a, b) in blocks(lora)? {
        let Spectrum { squares, v, s, inverse } = Spectrum::of(&a, &b)?;
        lost += squares[rank.min(squares.len())..].iter().map(|value| value.max(0.0)).sum::<f64>();
        let v = v.narrow(1, 0, rank)?.contiguous()?;
        rows.push(v.t()?.matmul(&inverse)?.matmul(&a)?);
        columns.push((b.matmul(&s)?.matmul(&v)? / lora.scale())?);
    }
    let like = lora.side(Side::Down)?;
    let back = |list: &[Tensor]| Tensor::cat(list, 0)?.to_dtype(like.dtype())?.to_device(like.device());
    Ok((Lora::new(&back(&rows)?, &back(&columns)?, lora.columns().to_vec(), lora.scale())?, lost.sqrt()))
}

/// The singular value decomposition of `B A` from its factors: `B A = (B S V)(Vᵀ S⁺ A)` with `S² = A Aᵀ` and V the directions
/// of `S BᵀB S`.
struct Spectrum {
    /// Squares of the singular values, largest first.
    squares: Vec<f64>,
    v: Tensor,
    s: Tensor,
    inverse: Tensor,
}

impl Spectrum {
    fn of(a: &Tensor, b: &Tensor) -> Result<Self> {
        let (values, directions) = eigen(&a.matmul(&a.t()?)?)?;
        let largest = values.iter().copied().fold(0.0, f64::max);
        let root = |power: f64| -> Result<Tensor> {
            let small = |value: f64| if value <= largest * 1e-14 { 0.0 } else { value.powf(power) };
            let diagonal: Vec<f64> = values.iter().map(|&value| small(value)).collect();
            let scaled = directions.broadcast_mul(&Tensor::new(diagonal, &Device::Cpu)?.unsqueeze(0)?)?;
            scaled.matmul(&directions.t()?)
        };
        let (s, inverse) = (root(0.5)?, root(-0.5)?);
        let (squares, v) = eigen(&s.matmul(&b.t()?.matmul(b)?)?.matmul(&s)?)?;
        Ok(Self { squares, v, s, inverse })
    }
}

/// Directions of a module whose singular value is more than a millionth of the largest; of several blocks the most.
pub fn rank(lora: &Lora) -> Result<usize> {
    let mut most = 0;
    for (a, b) in blocks(lora)? {
        let squares = Spectrum::of(&a, &b)?.squares;
        let largest = squares.first().copied().unwrap_or(0.0);
        most = most.max(squares.iter().filter(|&&square| square > 1e-12 * largest).count());
    }
    Ok(most)
}

/// Eigenvalues, largest first, and eigenvectors as columns of a small symmetric matrix (Jacobi's rotations).
pub(crate) fn eigen(matrix: &Tensor) -> Result<(Vec<f64>, Tensor)> {
    let (n, _) = matrix.dims2()?;
    let mut a: Vec<Vec<f64>> = matrix.to_vec2()?;
    let mut v: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let size = a.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
    for _ in 0..60 {
        let off = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum::<f64>().sqrt();
        if off <= size * 1e-15 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + theta.mul_add(theta, 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / t.mul_add(t, 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
                for row in &mut v {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    let vectors: Vec<f64> = v.iter().flat_map(|row| order.iter().map(|&j| row[j])).collect();
    Ok((order.iter().map(|&i| a[i][i]).collect(), Tensor::from_vec(vectors, (n, n), &Device::Cpu)?))
}
