//! What rounding weights costs, before anything is written: predicted, measured, and which part of the model causes it.
//!
//! The prediction is a bound in first order. Each part (a layer, say) is rounded alone and the change of the logits is
//! measured; the changes are added as if none cancelled another. What is measured has everything rounded at once.
//!
//! What happens to the weights themselves is counted by [`Tally`], tensor by tensor, so that a model need not be in memory
//! twice.

use crate::error::Result;
use crate::tensor::{HostTensor, NumberFormat};
use serde::Serialize;

/// The cost of one number format.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// What becomes of the weights.
    pub weights: WeightChange,
    /// Bound on the change of a logit, in first order; nothing where no part was rounded alone.
    pub predicted: Option<f64>,
    /// What becomes of the answers.
    pub moved: Moved,
    /// Largest change by each part alone, largest first; parts that the format holds exactly are left out.
    pub causes: Vec<RoundingCause>,
}

/// A part of the model and what rounding it alone does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundingCause {
    /// `layers.3`, or the name of what is no layer.
    pub part: String,
    /// Largest change of a logit.
    pub change: f64,
}

/// How the answers of the probe rows change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moved {
    /// Largest change of a logit; infinite where it is no number.
    pub largest: f64,
    /// Rows whose largest logit is another; 0 for regression.
    pub flipped: usize,
}

impl Moved {
    /// From logits before and after. `[rows, outputs]` both
    pub fn of((before, outputs): (&[f32], usize), after: &[f32]) -> Self {
        let top = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        let rows = before.chunks(outputs.max(1)).zip(after.chunks(outputs.max(1)));
        let flipped = if outputs > 1 { rows.filter(|(a, b)| top(a) != top(b)).count() } else { 0 };
        Self { largest: largest(before, after), flipped }
    }
}

/// What a number format does to weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WeightChange {
    /// Values looked at.
    pub values: usize,
    /// Largest change of a value.
    pub largest: f64,
    /// The tensor with the largest change relative to its largest value; absent where nothing changed.
    pub tensor: Option<String>,
    /// That change, relative to that tensor's largest value.
    pub relative: f64,
    /// Largest change in units of the format's last place at the value that changed; of Q8_0 in steps of its block. Rounding
    /// to the nearest stays within half a unit (a block's step is rounded too, so that Q8_0 goes a little beyond).
    pub ulps: f64,
    /// Norm of all changes over the norm of all values.
    pub norm: f64,
    /// Values other than zero that became zero.
    pub zeroed: usize,
}

/// Counts up a [`WeightChange`].
#[derive(Clone, Debug, Default)]
pub struct Tally {
    found: WeightChange,
    /// Sums of squares: of the changes, of the values.
    sums: [f64; 2],
}

impl Tally {
    /// Takes in a tensor, its values and what the format makes of them.
    pub fn add(&mut self, exact: &HostTensor, stored: &[f32], format: NumberFormat) {
        let (mut change, mut most) = (0.0f64, 0.0f64);
        let block = if format == NumberFormat::Q8_0 { format.block().0 } else { exact.data.len().max(1) };
        for (exact, stored) in exact.data.chunks(block).zip(stored.chunks(block)) {
            let step = (format == NumberFormat::Q8_0).then(|| {
                let top = exact.iter().fold(0.0f32, |top, value| top.max(value.abs()));
                f64::from(NumberFormat::F16.round(top / 127.0))
            });
            for (&value, &found) in exact.iter().zip(stored) {
                let (value, found) = (f64::from(value), f64::from(found));
                let off = (found - value).abs();
                change = change.max(off);
                most = most.max(value.abs());
                self.sums[0] += off * off;
                self.sums[1] += value * value;
                self.found.zeroed += usize::from(found == 0.0 && value != 0.0);
                let unit = step.unwrap_or_else(|| last_place(format, value));
                if off > 0.0 && unit > 0.0 {
                    self.found.ulps = self.found.ulps.max(off / unit);
                }
            }
        }
        self.found.values += exact.data.len();
        self.found.largest = self.found.largest.max(change);
        let relative = if change > 0.0 { change / most.max(f64::MIN_POSITIVE) } else { 0.0 };
        if relative > self.found.relative {
            (self.found.relative, self.found.tensor) = (relative, Some(exact.name.clone()));
        }
    }

    /// Of all tensors together.
    pub fn done(self) -> WeightChange {
        let [changes, values] = self.sums;
        WeightChange { norm: if values > 0.0 { (changes / values).sqrt() } else { 0.0 }, ..self.found }
    }
}

/// The distance between neighbours of this format around a value.
fn last_place(format: NumberFormat, value: f64) -> f64 {
    let (bits, lowest) = match format {
        NumberFormat::F32 => (23, -126),
        NumberFormat::Bf16 => (7, -126),
        _ => (10, -14),
    };
    // Below the smallest normal number the distance stays what it is there.
    let exponent = if value == 0.0 { lowest } else { (value.abs().log2().floor() as i32).max(lowest) };
    2f64.powi(exponent - bits)
}

/// The budget of one format for tensors that are small enough to be copied: modules and heads. `base`: logits of the exact
/// tensors, `[rows, outputs]`; `run` gives those of changed ones. With `causes` every part is also rounded alone.
pub fn budget(
    tensors: &[HostTensor],
    format: NumberFormat,
    causes: bool,
    base: (&[f32], usize),
    run: &mut dyn FnMut(&[HostTensor]) -> Result<Vec<f32>>,
) -> Result<Budget> {
    let (mut rounded, mut tally) = (tensors.to_vec(), Tally::default());
    for (tensor, exact) in rounded.iter_mut().zip(tensors) {
        tensor.data = exact.rounded(format)?;
        tally.add(exact, &tensor.data, format);
    }
    let all = run(&rounded)?;
    let mut parts: Vec<String> = Vec::new();
    for (exact, rounded) in tensors.iter().zip(&rounded).filter(|_| causes) {
        if exact.data != rounded.data && !parts.iter().any(|known| known == part(&exact.name)) {
            parts.push(part(&exact.name).to_owned());
        }
    }
    let causes = alone(&parts, base.0, &mut |wanted| {
        let mut some = tensors.to_vec();
        for (tensor, rounded) in some.iter_mut().zip(&rounded).filter(|(tensor, _)| part(&tensor.name) == wanted) {
            tensor.data.clone_from(&rounded.data);
        }
        run(&some)
    })?;
    Ok(Budget::new(tally.done(), Moved::of(base, &all), causes))
}

/// The largest change of a logit by each part alone, largest first. `run` gives the logits with this part rounded.
pub fn alone(
    parts: &[String],
    base: &[f32],
    run: &mut dyn FnMut(&str) -> Result<Vec<f32>>,
) -> Result<Vec<RoundingCause>> {
    let mut causes = Vec::new();
    for part in parts {
        causes.push(RoundingCause { part: part.clone(), change: largest(base, &run(part)?) });
    }
    causes.sort_by(|a, b| b.change.total_cmp(&a.change));
    Ok(causes)
}

impl Budget {
    /// From what was found; the prediction is the sum of the causes.
    pub fn new(weights: WeightChange, moved: Moved, causes: Vec<RoundingCause>) -> Self {
        // A format that changes nothing has no causes, and that much is known without trying parts.
        let predicted = (!causes.is_empty() || weights.largest == 0.0)
            .then(|| causes.iter().map(|cause| cause.change).fold(0.0, std::ops::Add::add));
        Self { weights, predicted, moved, causes }
    }
}

/// `layers.3` of `layers.3.ffn.down.weight`, or the whole name before its last part.
pub fn part(name: &str) -> &str {
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
