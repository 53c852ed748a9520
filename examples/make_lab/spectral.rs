//! The word table before the first step: which words keep company with which.
//!
//! Counts of neighbours become positive pointwise mutual information, and its leading eigenvectors the word
//! vectors. One pass over the corpora and a few matrix products save the network the slow first part of
//! pre-training, in which it learns little else.

use crate::sequences::Sequences;
use adamix::error::Result;
use adamix::nn::kernels::gemm::{Matrix, product};
use adamix::nn::kernels::host;
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::Tensor;
use rayon::prelude::*;

/// Neighbours on each side; nearer ones count more.
const WINDOW: usize = 8;
/// Extra directions carried along so that the wanted ones converge.
const SPARE: usize = 32;
/// Rounds of subspace iteration.
const ROUNDS: usize = 7;
/// Root mean square of the finished table.
const SCALE: f64 = 0.2;

/// Word counts weighted by how often an epoch reads each sequence. `[vocabulary]`
pub fn frequencies(sequences: &Sequences, vocabulary: usize) -> Vec<f64> {
    let mut counts = vec![0.0; vocabulary];
    for i in 0..sequences.len() {
        let weight = weight(sequences, i);
        for &id in sequences.get(i) {
            counts[usize::from(id)] += weight;
        }
    }
    counts
}

/// Rarely read sequences still count a quarter: more text makes better statistics.
fn weight(sequences: &Sequences, i: usize) -> f64 {
    sequences.repeats(i).max(0.25)
}

/// Writes word vectors of width `table`'s second dimension into its rows. Words without neighbours keep theirs. `[vocabulary, d]`
pub fn fill(table: &Tensor, sequences: &Sequences, seed: SeedStream) -> Result<()> {
    let (n, d) = table.dims2()?;
    let matrix = information(&counts(sequences, n), n);
    let vectors = leading(&matrix, n, d, seed);
    host::change_shared(table, |table: &mut [f32]| {
        for (row, vector) in table.chunks_exact_mut(d).zip(vectors.chunks_exact(d)) {
            if vector.iter().any(|&v| v != 0.0) {
                row.copy_from_slice(vector);
            }
        }
    })
}

/// Weighted counts of pairs of words at most [`WINDOW`] apart. `[n * n]`, symmetric
fn counts(sequences: &Sequences, n: usize) -> Vec<f32> {
    let mut counts = vec![0.0f32; n * n];
    for i in 0..sequences.len() {
        let (words, weight) = (sequences.get(i), weight(sequences, i) as f32);
        for (at, &word) in words.iter().enumerate() {
            for (distance, &other) in (1..=WINDOW).zip(&words[at + 1..]) {
                let share = weight * (WINDOW + 1 - distance) as f32 / WINDOW as f32;
                counts[usize::from(word) * n + usize::from(other)] += share;
                counts[usize::from(other) * n + usize::from(word)] += share;
            }
        }
    }
    counts
}

/// Positive pointwise mutual information, discounted where it rests on few counts. `[n * n]`
fn information(counts: &[f32], n: usize) -> Vec<f32> {
    let sums: Vec<f64> = counts.par_chunks(n).map(|row| row.iter().map(|&c| f64::from(c)).sum()).collect();
    let total: f64 = sums.iter().sum();
    let mut matrix = vec![0.0f32; n * n];
    matrix.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        for (j, (m, &c)) in row.iter_mut().zip(&counts[i * n..(i + 1) * n]).enumerate() {
            if c > 0.0 {
                let c = f64::from(c);
                let least = sums[i].min(sums[j]);
                let discount = c / (c + 2.0) * least / (least + 50.0);
                *m = ((c * total / (sums[i] * sums[j])).ln().max(0.0) * discount) as f32;
            }
        }
    });
    matrix
}

/// The `d` eigenvectors of largest eigenvalue, each times the root of it, rows rescaled. `[n * d]`
fn leading(matrix: &[f32], n: usize, d: usize, seed: SeedStream) -> Vec<f32> {
    let width = d + SPARE;
    let mut basis = seed.stream(Purpose::Init, 1 << 34).normal_vec(n * width, 1.0);
    let apply = |basis: &[f32]| product([n, width, n], Matrix::rows(matrix, n), Matrix::rows(basis, width), None);
    for _ in 0..ROUNDS {
        orthonormalize(&mut basis, n, width);
        basis = apply(&basis);
    }
    orthonormalize(&mut basis, n, width);
    let image = apply(&basis);
    // the matrix seen in the basis, and its eigenvectors there
    let small = product([width, width, n], Matrix::cols(&basis[..], width), Matrix::rows(&image[..], width), None);
    let (values, rotation) = eigen(&small, width);
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut chosen = vec![0.0f32; width * d];
    for (column, &k) in order.iter().take(d).enumerate() {
        for i in 0..width {
            chosen[i * d + column] = (rotation[i * width + k] * values[k].max(0.0).sqrt()) as f32;
        }
    }
    let mut vectors = product([n, d, width], Matrix::rows(&basis[..], width), Matrix::rows(&chosen[..], d), None);
    rescale(&mut vectors, d);
    vectors
}

/// Row lengths to the power of 1/2, and the whole to a root mean square of [`SCALE`].
fn rescale(vectors: &mut [f32], d: usize) {
    for row in vectors.chunks_exact_mut(d) {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if length > 1e-6 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / length.sqrt()) as f32);
        }
    }
    let square = vectors.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / vectors.len().max(1) as f64;
    let factor = (SCALE / square.sqrt().max(1e-12)) as f32;
    vectors.iter_mut().for_each(|v| *v *= factor);
}

/// Modified Gram-Schmidt on the columns of a row-major `[n, width]` matrix.
fn orthonormalize(basis: &mut [f32], n: usize, width: usize) {
    let mut columns: Vec<Vec<f64>> =
        (0..width).map(|k| (0..n).map(|i| f64::from(basis[i * width + k])).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for k in 0..width {
        let (done, rest) = columns.split_at_mut(k);
        let Some((column, _)) = rest.split_first_mut() else { break };
        for other in done.iter() {
            let along = dot(column, other);
            column.iter_mut().zip(other).for_each(|(c, o)| *c -= along * o);
        }
        let length = dot(column, column).sqrt().max(1e-30);
        column.iter_mut().for_each(|c| *c /= length);
    }
    for (k, column) in columns.iter().enumerate() {
        for (i, value) in column.iter().enumerate() {
            basis[i * width + k] = *value as f32;
        }
    }
}

/// Eigenvalues and eigenvectors (in columns) of a symmetric matrix by Jacobi rotations.
fn eigen(matrix: &[f32], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a: Vec<f64> =
        (0..n * n).map(|k| 0.5 * (f64::from(matrix[k]) + f64::from(matrix[(k % n) * n + k / n]))).collect();
    let mut v: Vec<f64> = (0..n * n).map(|k| if k % n == k / n { 1.0 } else { 0.0 }).collect();
    for _ in 0..12 {
        for p in 0..n {
            for q in p + 1..n {
                let off = a[p * n + q];
                if off.abs() < 1e-12 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (v[k * n + p], v[k * n + q]);
                    (v[k * n + p], v[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    ((0..n).map(|k| a[k * n + k]).collect(), v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_satisfy_their_equation() {
        let n = 6;
        let values = SeedStream::new(1).stream(Purpose::Init, 0).normal_vec(n * n, 1.0);
        let matrix: Vec<f32> = (0..n * n).map(|k| values[k] + values[(k % n) * n + k / n]).collect();
        let (lambda, v) = eigen(&matrix, n);
        for k in 0..n {
            for i in 0..n {
                let image: f64 = (0..n).map(|j| f64::from(matrix[i * n + j]) * v[j * n + k]).sum();
                assert!((image - lambda[k] * v[i * n + k]).abs() < 1e-5, "vector {k}, row {i}");
            }
        }
    }
}
