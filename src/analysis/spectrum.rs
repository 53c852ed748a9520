//! Singular values of small matrices, how many directions they use, and how far two spans are apart.
//!
//! A matrix is a list of its vectors along the longer dimension: the rows of a down-projection, the columns of an
//! up-projection. Both span a part of the same wide space, and there are few of them, so that one orthonormalisation leaves a
//! small square matrix, whose singular values are found by one-sided Jacobi rotations (Hestenes).

/// Vectors of the same length.
pub type Vectors = Vec<Vec<f64>>;

/// Most passes over all pairs of columns; a few are enough.
const SWEEPS: usize = 60;
/// Two columns are orthogonal when their cosine is below this.
const ORTHOGONAL: f64 = 1e-14;
/// A vector whose part outside of the others' span is smaller than this share of the largest norm adds no direction.
const DEPENDENT: f64 = 1e-6;

/// The vectors of a matrix along its longer dimension. `[rows, cols]`, row by row
pub fn vectors(weight: &[f32], rows: usize, cols: usize) -> Vectors {
    let wide = |line: &[f32]| line.iter().map(|&w| f64::from(w)).collect();
    if rows <= cols {
        return weight.chunks_exact(cols.max(1)).map(wide).collect();
    }
    (0..cols).map(|col| (0..rows).map(|row| f64::from(weight[row * cols + col])).collect()).collect()
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `v_i = Σ_k r[i][k] q_k` with orthonormal q, by Gram and Schmidt, each vector twice; a vector that depends on those before it
/// has no q of its own. -> (q, r)
fn orthonormal(vectors: &[Vec<f64>]) -> (Vectors, Vectors) {
    let largest = vectors.iter().map(|v| dot(v, v).sqrt()).fold(0.0, f64::max);
    let (mut basis, mut factors): (Vectors, Vectors) = (Vec::new(), Vec::new());
    for vector in vectors {
        let mut rest = vector.clone();
        let mut row = vec![0.0; basis.len()];
        // Once leaves what rounding puts back along a basis vector; twice is enough.
        for _ in 0..2 {
            for (axis, part) in basis.iter().zip(&mut row) {
                let along = dot(axis, &rest);
                *part += along;
                rest.iter_mut().zip(axis).for_each(|(rest, axis)| *rest -= along * axis);
            }
        }
        let length = dot(&rest, &rest).sqrt();
        if length > DEPENDENT * largest {
            rest.iter_mut().for_each(|value| *value /= length);
            basis.push(rest);
            row.push(length);
        }
        factors.push(row);
    }
    factors.iter_mut().for_each(|row| row.resize(basis.len(), 0.0));
    (basis, factors)
}

/// Singular values of the matrix whose rows these are, largest first, as many as there are rows. By rotating pairs of rows until
/// all are orthogonal.
fn rotated(mut rows: Vectors) -> Vec<f64> {
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..rows.len() {
            for q in p + 1..rows.len() {
                let (upper, lower) = rows.split_at_mut(q);
                let (a, b) = (&mut upper[p], &mut lower[0]);
                let (alpha, beta, gamma) = (dot(a, a), dot(b, b), dot(a, b));
                if gamma == 0.0 || gamma.abs() <= ORTHOGONAL * (alpha * beta).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let t = if zeta == 0.0 { 1.0 } else { zeta.signum() / (zeta.abs() + zeta.mul_add(zeta, 1.0).sqrt()) };
                let c = 1.0 / t.mul_add(t, 1.0).sqrt();
                for (x, y) in a.iter_mut().zip(b.iter_mut()) {
                    (*x, *y) = (c * *x - c * t * *y, c * t * *x + c * *y);
                }
            }
        }
        if !turned {
            break;
        }
    }
    let mut values: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// Singular values of the matrix of these vectors, largest first, one for each vector; nothing where a value is not finite.
pub fn singular_values(vectors: &[Vec<f64>]) -> Option<Vec<f64>> {
    if vectors.iter().flatten().any(|value| !value.is_finite()) {
        return None;
    }
    Some(rotated(orthonormal(vectors).1))
}

/// Singular values of the product `U D` of an up-projection `[out, r]` and a down-projection `[r, in]`, from the columns of one and
/// the rows of the other, without making the product. Nothing where their numbers differ or a value is not finite.
pub fn of_product(up_columns: &[Vec<f64>], down_rows: &[Vec<f64>]) -> Option<Vec<f64>> {
    let finite = |vectors: &[Vec<f64>]| vectors.iter().flatten().all(|value| value.is_finite());
    if up_columns.len() != down_rows.len() || !finite(up_columns) || !finite(down_rows) {
        return None;
    }
    // U = Q_U R_Uᵀ with a row of factors for each column, D = R_D Q_D: U D has the singular values of R_Uᵀ R_D.
    let (up, down) = (orthonormal(up_columns).1, orthonormal(down_rows).1);
    let (height, width) = (up.first().map_or(0, Vec::len), down.first().map_or(0, Vec::len));
    let cell = |a: usize, b: usize| up.iter().zip(&down).map(|(up, down)| up[a] * down[b]).sum();
    let middle: Vectors = (0..height).map(|a| (0..width).map(|b| cell(a, b)).collect()).collect();
    let mut values = rotated(middle);
    values.resize(up_columns.len(), 0.0);
    Some(values)
}

/// Singular values and what they say about the number of directions.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Spectrum {
    /// Largest first.
    pub singular_values: Vec<f64>,
    /// `exp(-Σ p_i ln p_i)` with `p_i = σ_i / Σ σ`: from 1 (one direction) to their number (all alike). 0 of a zero matrix.
    pub effective_rank: f64,
    /// `Σ σ_i² / σ_1²`: the same from squares, which small values hardly touch. 0 of a zero matrix.
    pub stable_rank: f64,
}

impl Spectrum {
    /// Of these singular values, largest first.
    pub fn new(singular_values: Vec<f64>) -> Self {
        let sum: f64 = singular_values.iter().sum();
        let squares: f64 = singular_values.iter().map(|s| s * s).sum();
        let largest = singular_values.first().copied().unwrap_or(0.0);
        let part = |s: &f64| if *s > 0.0 { s / sum * (s / sum).ln() } else { 0.0 };
        let entropy = -singular_values.iter().map(part).sum::<f64>();
        let (effective_rank, stable_rank) =
            if largest > 0.0 { (entropy.exp(), squares / (largest * largest)) } else { (0.0, 0.0) };
        Self { singular_values, effective_rank, stable_rank }
    }

    /// Of the matrix of these vectors.
    pub fn of(vectors: &[Vec<f64>]) -> Option<Self> {
        Some(Self::new(singular_values(vectors)?))
    }
}

/// How far two spans agree.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Overlap {
    /// Mean squared cosine of the principal angles: 1 where one span holds the other, 0 where they are orthogonal.
    pub overlap: f64,
    /// The principal angles in degrees, smallest first.
    pub degrees: Vec<f64>,
}

/// An orthonormal basis of the span of these vectors.
pub fn basis(vectors: &[Vec<f64>]) -> Vectors {
    orthonormal(vectors).0
}

impl Overlap {
    /// Of two orthonormal bases; nothing where one is empty.
    pub fn of(a: &[Vec<f64>], b: &[Vec<f64>]) -> Option<Self> {
        let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        if few.is_empty() {
            return None;
        }
        let products = few.iter().map(|a| many.iter().map(|b| dot(a, b)).collect()).collect();
        let cosines: Vec<f64> = rotated(products).into_iter().map(|cosine| cosine.min(1.0)).collect();
        let overlap = cosines.iter().map(|cosine| cosine * cosine).sum::<f64>() / few.len() as f64;
        Some(Self { overlap, degrees: cosines.into_iter().map(|cosine| cosine.acos().to_degrees()).collect() })
    }
}

/// What two random spans show.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct OverlapChance {
    /// Mean of the overlap.
    pub overlap: f64,
    /// Its standard deviation.
    pub spread: f64,
    /// About the smallest principal angle, in degrees.
    pub smallest: f64,
}

impl OverlapChance {
    /// Of random spans of p and q dimensions in `space` dimensions d. The overlap times min(p, q) is the trace of a product of
    /// two random projections: mean `p q / d`, variance `2 p q (d-p)(d-q) / (d² (d-1)(d+2))`. The smallest angle is that of the
    /// mean of the largest root's law (Johnstone 2008, Theorem 1: its logit is about a Tracy-Widom variable).
    pub fn new(p: usize, q: usize, space: usize) -> Self {
        let few = p.min(q) as f64;
        let (p, q, d) = (p as f64, q as f64, space.max(2) as f64);
        let variance = 2.0 * p * q * (d - p).max(0.0) * (d - q).max(0.0) / (d * d * (d - 1.0) * (d + 2.0));
        Self {
            overlap: (p.max(q) / d).min(1.0),
            spread: if few > 0.0 { variance.sqrt() / few } else { 0.0 },
            // Where the dimensions do not fit beside each other, the spans must share some.
            smallest: if p + q > d { 0.0 } else { smallest_angle(p, q, d) },
        }
    }
}

/// Mean of the Tracy-Widom law of order 1.
const TRACY_WIDOM: f64 = -1.206_533_6;

/// About the smallest principal angle of random spans, in degrees.
fn smallest_angle(p: f64, q: f64, d: f64) -> f64 {
    let angle = |n: f64| 2.0 * ((n - 0.5).max(0.0) / (d - 1.0)).sqrt().min(1.0).asin();
    let (gamma, phi) = (angle(p.min(q)), angle(p.max(q)));
    let centre = 2.0 * (0.5 * (phi + gamma)).tan().ln();
    let spread = (16.0 / (d - 1.0).powi(2) / ((phi + gamma).sin().powi(2) * phi.sin() * gamma.sin())).cbrt();
    let logit = centre + TRACY_WIDOM * spread;
    (1.0 / (1.0 + (-logit).exp())).sqrt().acos().to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, SeedStream, Stream};

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    fn random(stream: &mut Stream, n: usize, d: usize) -> Vectors {
        (0..n).map(|_| (0..d).map(|_| stream.normal()).collect()).collect()
    }

    #[test]
    fn singular_values_of_matrices_known_by_hand() {
        let of = |rows: &[&[f64]]| singular_values(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>()).unwrap();
        // [[3, 0], [4, 5]]: eigenvalues of A Aᵀ = [[9, 12], [12, 41]] are 45 and 5.
        let found = of(&[&[3.0, 0.0], &[4.0, 5.0]]);
        assert!(near(found[0], 45f64.sqrt()) && near(found[1], 5f64.sqrt()), "{found:?}");
        assert_eq!(of(&[&[0.0, 7.0, 0.0], &[-2.0, 0.0, 0.0]]), [7.0, 2.0], "orthogonal rows: their norms");
        let found = of(&[&[1.0, 2.0, 2.0], &[2.0, 4.0, 4.0]]);
        assert!(near(found[0], 45f64.sqrt()) && found[1].abs() < 1e-9, "one direction: {found:?}");
        assert_eq!(of(&[&[0.0, 0.0], &[0.0, 0.0]]), [0.0, 0.0]);
        assert_eq!(singular_values(&[vec![1.0, f64::NAN]]), None);
    }

    #[test]
    fn singular_values_keep_the_norm_and_the_volume() {
        let mut draws = SeedStream::new(3).stream(Purpose::Sampling, 0);
        let rows = random(&mut draws, 9, 40);
        let values = singular_values(&rows).unwrap();
        let squares: f64 = rows.iter().flatten().map(|x| x * x).sum();
        assert!((values.iter().map(|s| s * s).sum::<f64>() / squares - 1.0).abs() < 1e-12);
        // The product of the singular values is the product of the lengths that Gram and Schmidt find.
        let lengths: f64 = orthonormal(&rows).1.iter().enumerate().map(|(i, row)| row[i].ln()).sum();
        assert!((values.iter().map(|s| s.ln()).sum::<f64>() - lengths).abs() < 1e-9);
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        let flat: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
        let turned: Vec<f32> = (0..40 * 9).map(|i| flat[i % 9 * 40 + i / 9]).collect();
        assert_eq!(vectors(&flat, 9, 40), vectors(&turned, 40, 9), "the long dimension, whichever it is");
    }

    #[test]
    fn ranks_count_directions() {
        let flat = Spectrum::new(vec![2.0; 4]);
        assert!(near(flat.effective_rank, 4.0) && near(flat.stable_rank, 4.0));
        let one = Spectrum::new(vec![5.0, 0.0, 0.0]);
        assert!(near(one.effective_rank, 1.0) && near(one.stable_rank, 1.0));
        // p = 3/4, 1/4: entropy 0.5623351; (9 + 1) / 9.
        let two = Spectrum::new(vec![3.0, 1.0]);
        assert!((two.effective_rank - 0.562_335_144_6f64.exp()).abs() < 1e-9 && near(two.stable_rank, 10.0 / 9.0));
        let none = Spectrum::new(vec![0.0; 3]);
        assert_eq!((none.effective_rank, none.stable_rank), (0.0, 0.0));
    }

    #[test]
    fn a_product_has_the_singular_values_of_its_matrix() {
        let mut draws = SeedStream::new(5).stream(Purpose::Sampling, 1);
        let (up, down) = (random(&mut draws, 3, 12), random(&mut draws, 3, 7));
        let whole: Vectors =
            (0..12).map(|row| (0..7).map(|col| (0..3).map(|k| up[k][row] * down[k][col]).sum()).collect()).collect();
        let (short, long) = (of_product(&up, &down).unwrap(), singular_values(&whole).unwrap());
        for (i, value) in long.iter().enumerate() {
            let want = short.get(i).copied().unwrap_or(0.0);
            assert!((value - want).abs() < 1e-9 * short[0], "{long:?} {short:?}");
        }
        let zero = vec![vec![0.0; 12]; 3];
        assert_eq!(of_product(&zero, &down), Some(vec![0.0; 3]), "LoRA's B at the start");
        assert_eq!(of_product(&up, &down[..2]), None);
    }

    #[test]
    fn angles_of_known_planes() {
        let axis = |i: usize| (0..4).map(|k| f64::from(u8::from(i == k))).collect::<Vec<f64>>();
        let overlap = |a: &[Vec<f64>], b: &[Vec<f64>]| Overlap::of(&basis(a), &basis(b)).unwrap();
        let same = overlap(&[axis(0), axis(1)], &[vec![1.0, 1.0, 0.0, 0.0], vec![1.0, -1.0, 0.0, 0.0]]);
        assert!(near(same.overlap, 1.0) && same.degrees.iter().all(|a| a.abs() < 1e-5), "{same:?}");
        let half = overlap(&[axis(0), axis(1)], &[axis(1), axis(2)]);
        assert!(near(half.overlap, 0.5) && half.degrees[0].abs() < 1e-5 && near(half.degrees[1], 90.0), "{half:?}");
        let turned = vec![0.6f64, 0.0, 0.8, 0.0];
        let turned = overlap(&[axis(0), axis(1)], &[turned, axis(1)]);
        assert!(near(turned.degrees[1], 0.6f64.acos().to_degrees()) && near(turned.overlap, 0.68), "{turned:?}");
        let line = overlap(&[axis(0), axis(1)], &[vec![0.0, 3.0, 0.0, 4.0]]);
        assert!(line.degrees.len() == 1 && near(line.overlap, 0.36));
        assert_eq!(Overlap::of(&basis(&[vec![0.0; 4]]), &basis(&[axis(0)])), None, "nothing spans nothing");
    }

    #[test]
    fn random_spans_overlap_as_the_formulas_say() {
        let mut draws = SeedStream::new(8).stream(Purpose::Sampling, 2);
        for (p, q, d) in [(4, 4, 32), (3, 8, 40), (16, 16, 128), (1, 1, 50)] {
            let fits = |n: usize| 400.min(400_000 / (n * n));
            let runs = fits(d).max(40);
            let found: Vec<Overlap> = (0..runs)
                .map(|_| Overlap::of(&basis(&random(&mut draws, p, d)), &basis(&random(&mut draws, q, d))).unwrap())
                .collect();
            let chance = OverlapChance::new(p, q, d);
            let mean = found.iter().map(|o| o.overlap).sum::<f64>() / runs as f64;
            let spread = (found.iter().map(|o| (o.overlap - mean).powi(2)).sum::<f64>() / (runs - 1) as f64).sqrt();
            let error = chance.spread / (runs as f64).sqrt();
            assert!((mean - chance.overlap).abs() < 4.0 * error, "{p} {q} {d}: {mean} {chance:?}");
            assert!((spread / chance.spread - 1.0).abs() < 0.4, "{p} {q} {d}: {spread} {chance:?}");
            if p > 1 {
                let smallest = found.iter().map(|o| o.degrees[0]).sum::<f64>() / runs as f64;
                assert!((smallest - chance.smallest).abs() < 2.5, "{p} {q} {d}: {smallest} {chance:?}");
            }
        }
        let full = OverlapChance::new(4, 4, 4);
        assert!(near(full.overlap, 1.0) && full.spread == 0.0 && full.smallest == 0.0, "the whole space");
    }
}
