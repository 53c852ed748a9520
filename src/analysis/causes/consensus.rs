//! How far the experts of a bank have become one.

/// `‖mean_j W_j‖ / sqrt(mean_j ‖W_j‖²)`: 1 where all experts are equal, about `1/sqrt(M)` where they have nothing in common; it
/// is the share of the experts' norm that their mean keeps. Nothing where all weights are zero. Frobenius norms; biases do not
/// count. `weights`: of each expert, of the same length
pub fn consensus(weights: &[&[f32]]) -> Option<f64> {
    let experts = weights.len().max(1) as f64;
    let mut mean = vec![0.0; weights.first()?.len()];
    let mut squares = 0.0;
    for weight in weights {
        for (sum, &w) in mean.iter_mut().zip(*weight) {
            *sum += f64::from(w) / experts;
            squares += f64::from(w) * f64::from(w) / experts;
        }
    }
    (squares > 0.0).then(|| (mean.iter().map(|m| m * m).sum::<f64>() / squares).sqrt())
}

/// The consensus of experts that have nothing in common: `1/sqrt(M)`.
pub fn of_strangers(experts: usize) -> f64 {
    1.0 / (experts.max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(experts: usize, weight: &[f32]) -> Vec<&[f32]> {
        weight.chunks_exact(weight.len() / experts).collect()
    }

    #[test]
    fn equal_experts_are_one_and_orthogonal_ones_are_strangers() {
        let of = |experts, weight: &[f32]| consensus(&split(experts, weight)).unwrap();
        assert!((of(2, &[3.0, 4.0, 3.0, 4.0]) - 1.0).abs() < 1e-12);
        assert!((of(2, &[1.0, 0.0, 0.0, 1.0]) - of_strangers(2)).abs() < 1e-12);
        let four = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert!((of(4, &four) - 0.5).abs() < 1e-12);
        // By hand: the mean of [3, 0] and [1, 2] is [2, 1]; sqrt(5) / sqrt((9 + 5) / 2).
        assert!((of(2, &[3.0, 0.0, 1.0, 2.0]) - (5.0f64 / 7.0).sqrt()).abs() < 1e-7);
        assert!(of(2, &[1.0, 2.0, -1.0, -2.0]) < 1e-12, "opposite experts cancel out");
        assert_eq!(consensus(&split(2, &[0.0; 4])), None);
        assert!((of(1, &[2.0, 1.0]) - 1.0).abs() < 1e-12 && of_strangers(1) == 1.0);
    }
}
