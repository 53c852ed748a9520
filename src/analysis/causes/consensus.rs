//! How far the experts of a bank have become one.

use crate::analysis::expert_stats::{HostBank, norm};

/// `‖mean_j W_j‖ / sqrt(mean_j ‖W_j‖²)`: 1 where all experts are equal, about `1/sqrt(M)` where they have nothing in common; it
/// is the share of the experts' norm that their mean keeps. Nothing where all weights are zero. Frobenius norms; biases do not
/// count.
pub fn consensus(bank: &HostBank) -> Option<f64> {
    let experts = bank.experts.max(1) as f64;
    let mut mean = vec![0.0; bank.rows * bank.cols];
    for weight in bank.weights() {
        mean.iter_mut().zip(weight).for_each(|(sum, &w)| *sum += f64::from(w) / experts);
    }
    let squares = bank.norms().iter().map(|norm| norm * norm).sum::<f64>() / experts;
    (squares > 0.0).then(|| norm(mean.into_iter()) / squares.sqrt())
}

/// The consensus of experts that have nothing in common: `1/sqrt(M)`.
pub fn of_strangers(experts: usize) -> f64 {
    1.0 / (experts.max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(experts: usize, weight: &[f32]) -> HostBank {
        let cols = weight.len() / experts;
        HostBank { experts, rows: 1, cols, weight: weight.to_vec(), bias: Vec::new() }
    }

    #[test]
    fn equal_experts_are_one_and_orthogonal_ones_are_strangers() {
        let of = |experts, weight: &[f32]| consensus(&bank(experts, weight)).unwrap();
        assert!((of(2, &[3.0, 4.0, 3.0, 4.0]) - 1.0).abs() < 1e-12);
        assert!((of(2, &[1.0, 0.0, 0.0, 1.0]) - of_strangers(2)).abs() < 1e-12);
        let four = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert!((of(4, &four) - 0.5).abs() < 1e-12);
        // By hand: the mean of [3, 0] and [1, 2] is [2, 1]; sqrt(5) / sqrt((9 + 5) / 2).
        assert!((of(2, &[3.0, 0.0, 1.0, 2.0]) - (5.0f64 / 7.0).sqrt()).abs() < 1e-7);
        assert!(of(2, &[1.0, 2.0, -1.0, -2.0]) < 1e-12, "opposite experts cancel out");
        assert_eq!(consensus(&bank(2, &[0.0; 4])), None);
        assert!((of(1, &[2.0, 1.0]) - 1.0).abs() < 1e-12 && of_strangers(1) == 1.0);
    }
}
