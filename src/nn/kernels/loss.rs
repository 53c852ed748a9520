//! Cross-entropy over many classes, fused with its gradient.

use super::host::{self, HostRef, for_rows2};
use super::{attention, device, is_fast, simd};
use crate::error::{Error, Result};
use candle_core::{D, Tensor};

/// Mean over rows of `-log softmax(logits)[target]`, and its gradient. logits `[n, classes]` -> (mean in nats, `[n, classes]`)
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
    let (n, classes) = logits.dims2()?;
    if n != targets.len() || targets.iter().any(|&t| t as usize >= classes) {
        return Err(Error::internal(format!("{} targets for {n} rows of {classes} classes", targets.len())));
    }
    if n == 0 {
        return Ok((0.0, logits.clone()));
    }
    if !is_fast(logits) {
        return device::cross_entropy(logits, targets);
    }
    let zs = HostRef::of(logits)?;
    let mut grad = vec![0.0f32; n * classes];
    let mut loss = vec![0.0f32; n];
    for_rows2((&mut grad, classes), (&mut loss, 1), |first, block, loss| {
        simd::vectors!(|| {
            for (i, (row, loss)) in block.chunks_exact_mut(classes).zip(loss).enumerate() {
                let at = (first + i) * classes;
                let target = targets[first + i] as usize;
                row.copy_from_slice(&zs[at..at + classes]);
                attention::softmax_row(row);
                *loss = -row[target].max(f32::MIN_POSITIVE).ln();
                if row[target].is_nan() {
                    *loss = f32::NAN;
                }
                row[target] -= 1.0;
                for v in row.iter_mut() {
                    *v /= n as f32;
                }
            }
        });
    });
    let mean = loss.iter().map(|&l| f64::from(l)).sum::<f64>() / n as f64;
    Ok((mean, host::tensor(grad, (n, classes))?))
}

/// [`cross_entropy`] from candle operations.
pub fn plain_cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
    let (n, classes) = logits.dims2()?;
    let max = logits.max_keepdim(D::Minus1)?;
    let shifted = logits.broadcast_sub(&max)?;
    let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    let mut hot = vec![0.0f32; n * classes];
    for (row, &target) in targets.iter().enumerate() {
        hot[row * classes + target as usize] = 1.0;
    }
    let hot = Tensor::from_vec(hot, (n, classes), logits.device())?.to_dtype(logits.dtype())?;
    let loss = (&log_p * &hot)?.sum_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()? / -(n as f64);
    Ok((loss, ((log_p.exp()? - hot)? / n as f64)?))
}
