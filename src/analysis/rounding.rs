//! What rounding weights costs, before anything is written: predicted, measured, and which part of the model causes it.
//!
//! The prediction is a bound in first order. Each part (a layer, say) is rounded alone and the change of the logits is
//! measured; the changes are added as if none cancelled another. What is measured has everything rounded at once.

use crate::artifact::HostTensor;
use crate::artifact::gguf::Store;
use crate::error::Result;
use std::collections::BTreeMap;

/// The cost of one number format.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The format.
    pub store: Store,
    /// Bound on the change of a logit, in first order.
    pub predicted: f64,
    /// Largest change of a logit.
    pub measured: f64,
    /// Rows whose largest logit is another.
    pub changed: usize,
    /// Largest change by each part alone, largest first.
    pub causes: Vec<(String, f64)>,
}

/// Budgets of several formats. `base`: logits of the exact tensors, `[rows, outputs]`; `run` gives those of changed ones.
pub fn budgets(
    tensors: &[HostTensor],
    stores: &[Store],
    (base, outputs): (&[f32], usize),
    run: &mut dyn FnMut(&[HostTensor]) -> Result<Vec<f32>>,
) -> Result<Vec<Budget>> {
    let mut found = Vec::new();
    for &store in stores {
        let mut rounded = tensors.to_vec();
        for tensor in &mut rounded {
            tensor.data = store.of(&tensor.shape).rounded(tensor)?;
        }
        let mut parts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, tensor) in tensors.iter().enumerate() {
            parts.entry(part(&tensor.name)).or_default().push(i);
        }
        let (mut causes, mut predicted) = (Vec::new(), 0.0);
        for (part, members) in parts {
            if members.iter().all(|&i| rounded[i].data == tensors[i].data) {
                continue;
            }
            let mut alone = tensors.to_vec();
            for &i in &members {
                alone[i].data.clone_from(&rounded[i].data);
            }
            let change = largest(base, &run(&alone)?);
            predicted += change;
            causes.push((part.to_owned(), change));
        }
        causes.sort_by(|a, b| b.1.total_cmp(&a.1));
        let all = run(&rounded)?;
        let top = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        let rows = base.chunks(outputs.max(1)).zip(all.chunks(outputs.max(1)));
        let changed = if outputs > 1 { rows.filter(|(a, b)| top(a) != top(b)).count() } else { 0 };
        found.push(Budget { store, predicted, measured: largest(base, &all), changed, causes });
    }
    Ok(found)
}

/// `layers.3` of `layers.3.ffn.down.weight`, or the whole name before its last part.
fn part(name: &str) -> &str {
    if let Some(rest) = name.strip_prefix("layers.") {
        let layer = rest.find('.').unwrap_or(rest.len());
        return &name[.."layers.".len() + layer];
    }
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

fn largest(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let apart = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    a.iter().zip(b).map(apart).fold(0.0, |most, d| if d.is_nan() { f64::INFINITY } else { most.max(d) })
}
