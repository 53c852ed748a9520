//! The consistency term between the two passes, with its gradients (paper section 3.2):
//!
//! ```text
//! classification:  ½ [KL(sg p_B ‖ p_A) + KL(sg p_A ‖ p_B)]        mean over the batch; sg: a constant
//! regression:      ½ [(z_A - sg z_B)² + (z_B - sg z_A)²]          mean over the batch
//! ```
//!
//! The gradient on pass A's logits is `½ (p_A - p_B) / n`; without detaching, gradients also flow through the targets.
//! Regression has one logit, whose softmax is constant, hence the squared difference. Over a vocabulary the first one is
//! computed by [`vocab_loss`](crate::nn::kernels::vocab_loss) with the weights of [`objective`]; tests compare both.

use crate::config::MixtureConfig;
use crate::error::Result;
use crate::nn::kernels::vocab_loss::{MAX_LOGITS, Objective};
use crate::tensor::{Tensor, log_softmax};

/// What is minimised under these settings, as the kernels over a vocabulary take it.
pub fn objective(mixture: &MixtureConfig, passes: usize, smoothing: f64) -> Objective {
    Objective {
        passes,
        smoothing,
        weight: mixture.consistency_weight,
        detach: mixture.consistency_detach,
        both: mixture.ce_both_passes,
        gradient: true,
        max_logits: MAX_LOGITS,
        overflows: 0,
    }
}

/// The term and its gradients on the logits of both passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Consistency {
    /// Mean over the batch.
    pub value: f64,
    /// Gradient on pass A's logits. `[n * classes]`
    pub grad_a: Vec<f64>,
    /// Gradient on pass B's logits. `[n * classes]`
    pub grad_b: Vec<f64>,
}

/// Symmetric KL divergence. za, zb `[n * classes]`
pub fn symmetric_kl(za: &[f64], zb: &[f64], classes: usize, detach: bool) -> Consistency {
    let n = (za.len() / classes.max(1)).max(1) as f64;
    let mut out =
        Consistency { value: 0.0, grad_a: Vec::with_capacity(za.len()), grad_b: Vec::with_capacity(zb.len()) };
    for (a, b) in za.chunks_exact(classes).zip(zb.chunks_exact(classes)) {
        let (la, lb) = (log_softmax(a), log_softmax(b));
        let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        let (ab, ba) = (kl(&la, &lb), kl(&lb, &la));
        out.value += 0.5 * (ab + ba) / n;
        for (&la, &lb) in la.iter().zip(&lb) {
            let (pa, pb) = (la.exp(), lb.exp());
            let (mut ga, mut gb) = (pa - pb, pb - pa);
            if !detach {
                ga += pa * (la - lb - ab);
                gb += pb * (lb - la - ba);
            }
            out.grad_a.push(0.5 * ga / n);
            out.grad_b.push(0.5 * gb / n);
        }
    }
    out
}

/// Squared difference of two predictions. za, zb `[n]`
pub fn squared_difference(za: &[f64], zb: &[f64], detach: bool) -> Consistency {
    let n = za.len().max(1) as f64;
    let factor = if detach { 1.0 } else { 2.0 };
    let diff = || za.iter().zip(zb).map(|(a, b)| a - b);
    Consistency {
        value: diff().map(|d| d * d).sum::<f64>() / n,
        grad_a: diff().map(|d| factor * d / n).collect(),
        grad_b: diff().map(|d| -factor * d / n).collect(),
    }
}

/// The squared difference as tensors, before λ, and λ times its gradient on pass A, which is that on pass B with the
/// other sign. za, zb `[n]` -> `[n]` both
pub fn squared_difference_rows(za: &Tensor, zb: &Tensor, lambda: f64, detach: bool) -> Result<(Tensor, Tensor)> {
    let (difference, share) = ((za - zb)?, 2.0 / za.elem_count() as f64);
    let gradient = (&difference * (lambda * if detach { 0.5 * share } else { share }))?;
    Ok(((&difference * &difference)?, gradient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undetached_gradients_match_central_differences() {
        let (za, zb) = ([0.3, -1.2, 0.7, 2.0, 0.1, -0.4], [0.9, 0.2, -0.5, 1.0, -1.0, 0.6]);
        let got = symmetric_kl(&za, &zb, 3, false);
        let h = 1e-6;
        for i in 0..6 {
            let (mut up, mut down) = (za, za);
            up[i] += h;
            down[i] -= h;
            let slope = (symmetric_kl(&up, &zb, 3, false).value - symmetric_kl(&down, &zb, 3, false).value) / (2.0 * h);
            assert!((slope - got.grad_a[i]).abs() < 1e-8, "a {i}: {slope} {}", got.grad_a[i]);
        }
        let swapped = symmetric_kl(&zb, &za, 3, false);
        assert_eq!(swapped.grad_a, got.grad_b);
    }

    #[test]
    fn the_term_is_zero_for_equal_passes_and_constant_for_one_class() {
        let z = [0.4, -0.2, 1.0];
        assert!(symmetric_kl(&z, &z, 3, true).value.abs() < 1e-15);
        let one = symmetric_kl(&[1.0, 2.0], &[-3.0, 5.0], 1, true);
        assert_eq!((one.value, one.grad_a), (0.0, vec![0.0, 0.0]));
        assert!(squared_difference(&[1.0], &[3.0], true).value > 3.9);
    }
}
