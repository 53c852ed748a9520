//! The metrics of GLUE, as scikit-learn and scipy define them.
//!
//! Nothing here returns NaN. Where a definition divides by zero (constant predictions, one class only),
//! F1 and Matthews are 0, as in scikit-learn; a correlation is `None`, and counts as 0 in [`scores`].

use super::Scores;
use crate::config::Metric;
use crate::data::Labels;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor;

/// Share of right predictions, 0 to 1; 0 for no rows.
pub fn accuracy(truth: &[u32], predicted: &[u32]) -> f64 {
    let right = truth.iter().zip(predicted).filter(|(a, b)| a == b).count();
    ratio(right as f64, truth.len() as f64)
}

/// F1, 0 to 1. Two classes: of label 1. More: the mean over the classes that occur in truth or predictions.
pub fn f1(truth: &[u32], predicted: &[u32], classes: usize) -> f64 {
    let table = Confusion::new(truth, predicted, classes);
    if classes <= 2 {
        return table.f1(1);
    }
    let occurs = |class: &usize| table.truth[*class] + table.predicted[*class] > 0.0;
    let occurring: Vec<usize> = (0..table.right.len()).filter(occurs).collect();
    ratio(occurring.iter().map(|&class| table.f1(class)).sum(), occurring.len() as f64)
}

/// Matthews correlation, -1 to 1, for any number of classes; 0 where either side is constant.
pub fn matthews(truth: &[u32], predicted: &[u32], classes: usize) -> f64 {
    let table = Confusion::new(truth, predicted, classes);
    let n = truth.len() as f64;
    let (mut right, mut both, mut true_sq, mut pred_sq) = (0.0, 0.0, 0.0, 0.0);
    for class in 0..table.right.len() {
        let (t, p) = (table.truth[class], table.predicted[class]);
        right += table.right[class];
        both += t * p;
        true_sq += t * t;
        pred_sq += p * p;
    }
    let spread = (n * n - pred_sq) * (n * n - true_sq);
    if spread > 0.0 { (right * n - both) / spread.sqrt() } else { 0.0 }
}

/// Pearson correlation, -1 to 1; `None` for fewer than two pairs, a constant side, or numbers that are not finite.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len().min(y.len());
    let (x, y) = (&x[..n], &y[..n]);
    let constant = |values: &[f64]| values.iter().all(|value| *value == values[0]);
    if n < 2 || x.iter().chain(y).any(|value| !value.is_finite()) || constant(x) || constant(y) {
        return None;
    }
    let centred = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / n as f64;
        let values: Vec<f64> = values.iter().map(|value| value - mean).collect();
        // Scaled by the largest before squaring against under- and overflow.
        let largest = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let norm = largest * values.iter().map(|value| (value / largest).powi(2)).sum::<f64>().sqrt();
        values.into_iter().map(|value| value / norm).collect::<Vec<_>>()
    };
    let r: f64 = centred(x).iter().zip(centred(y)).map(|(a, b)| a * b).sum();
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

/// Spearman rank correlation, -1 to 1, ties on their average rank; `None` as for [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.iter().chain(y).any(|value| !value.is_finite()) {
        return None;
    }
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 1, equal values on the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = (2 * start + run.len() + 1) as f64 / 2.0;
        run.iter().for_each(|&index| ranks[index] = mean);
        start += run.len();
    }
    ranks
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Counts of a classification by class.
struct Confusion {
    right: Vec<f64>,
    truth: Vec<f64>,
    predicted: Vec<f64>,
}

impl Confusion {
    fn new(truth: &[u32], predicted: &[u32], classes: usize) -> Self {
        let largest = truth.iter().chain(predicted).max().map_or(0, |&class| class as usize + 1);
        let n = classes.max(largest).max(2);
        let mut counts = Self { right: vec![0.0; n], truth: vec![0.0; n], predicted: vec![0.0; n] };
        for (&t, &p) in truth.iter().zip(predicted) {
            counts.truth[t as usize] += 1.0;
            counts.predicted[p as usize] += 1.0;
            if t == p {
                counts.right[t as usize] += 1.0;
            }
        }
        counts
    }

    fn f1(&self, class: usize) -> f64 {
        ratio(2.0 * self.right[class], self.truth[class] + self.predicted[class])
    }
}

/// Whether more of this metric is better: all but the loss.
pub fn higher_is_better(metric: Metric) -> bool {
    metric != Metric::Loss
}

/// Cross-entropy and class metrics, or squared error and correlations. logits `[rows, classes]`, or `[rows]` for values
///
/// Where `metric` does not apply, `primary` is accuracy or Pearson. Outputs that are not finite are an error.
pub fn scores(logits: &[f32], labels: &Labels, classes: usize, metric: Metric) -> Result<Scores> {
    Ok(scores_of(&outputs(logits, labels, classes)?, labels, classes, metric))
}

/// Whether each row's likeliest class is its own, as 0 or 1; nothing for values. logits `[rows, classes]`
pub fn row_hits(logits: &[f32], labels: &Labels, classes: usize) -> Vec<Option<f64>> {
    match labels {
        Labels::Classes(truth) => {
            let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            let rows = logits.chunks_exact(classes.max(1)).zip(truth);
            rows.map(|(row, &class)| Some(f64::from(u8::from(best(row) == Some(class as usize))))).collect()
        }
        Labels::Values(truth) => vec![None; truth.len()],
    }
}

/// As [`scores`] for the mean over several outputs of the same rows: of their probabilities, or of their values.
pub fn ensemble(several: &[Vec<f32>], labels: &Labels, classes: usize, metric: Metric) -> Result<Scores> {
    let each = several.iter().map(|logits| outputs(logits, labels, classes)).collect::<Result<Vec<_>>>()?;
    let each: Vec<&[f64]> = each.iter().map(Vec::as_slice).collect();
    Ok(scores_of(&mean_outputs(&each, labels)?, labels, classes, metric))
}

/// What a model says of each row: logarithms of the probabilities `[rows, classes]`, or values `[rows]`. An error where logits and
/// labels do not fit together, or a logit is not finite.
pub(super) fn outputs(logits: &[f32], labels: &Labels, classes: usize) -> Result<Vec<f64>> {
    check(logits, labels, classes)?;
    Ok(match labels {
        Labels::Classes(_) => log_softmax(logits, classes),
        Labels::Values(_) => logits.iter().map(|&z| f64::from(z)).collect(),
    })
}

/// The mean of several [`outputs`] of the same rows: of their probabilities, as logarithms again, or of their values.
pub(super) fn mean_outputs(several: &[&[f64]], labels: &Labels) -> Result<Vec<f64>> {
    let Some(first) = several.first() else {
        return Err(Error::internal("an ensemble of no outputs was asked for"));
    };
    let classes = matches!(labels, Labels::Classes(_));
    let mut mean = vec![0.0f64; first.len()];
    for outputs in several {
        let shares = outputs.iter().map(|&value| if classes { value.exp() } else { value });
        mean.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share / several.len() as f64);
    }
    if classes {
        // A probability can underflow to 0 in all outputs; its logarithm must stay finite.
        mean.iter_mut().for_each(|share| *share = share.max(f64::MIN_POSITIVE).ln());
    }
    Ok(mean)
}

/// The scores of [`outputs`].
pub(super) fn scores_of(outputs: &[f64], labels: &Labels, classes: usize, metric: Metric) -> Scores {
    match labels {
        Labels::Classes(truth) => class_scores(outputs, truth, classes, metric),
        Labels::Values(truth) => value_scores(outputs, truth, metric),
    }
}

/// The loss of each row of [`outputs`]: cross-entropy in nats, or the squared error.
pub(super) fn row_losses(outputs: &[f64], labels: &Labels, classes: usize) -> Vec<f64> {
    match labels {
        Labels::Classes(truth) => {
            let rows = outputs.chunks_exact(classes.max(1)).zip(truth);
            rows.map(|(row, &class)| -row[class as usize]).collect()
        }
        Labels::Values(truth) => {
            outputs.iter().zip(truth).map(|(value, &truth)| (value - f64::from(truth)).powi(2)).collect()
        }
    }
}

/// The likeliest class of each row, the first of equal ones, as numpy's argmax. `[rows, classes]`
pub(super) fn likeliest(log_probs: &[f64], classes: usize) -> Vec<u32> {
    let best =
        |row: &[f64]| (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best }) as u32;
    log_probs.chunks_exact(classes.max(1)).map(best).collect()
}

/// The score in `metric` of always giving the most frequent class (or the mean value); for [`Metric::Loss`] the entropy of
/// the class shares in nats, or the variance of the values.
pub fn majority(labels: &Labels, classes: usize, metric: Metric) -> f64 {
    match labels {
        Labels::Values(truth) => {
            let n = truth.len() as f64;
            let mean = ratio(truth.iter().map(|&value| f64::from(value)).sum(), n);
            let variance = ratio(truth.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum(), n);
            // A constant correlates with nothing.
            if metric == Metric::Loss { variance } else { 0.0 }
        }
        Labels::Classes(truth) => {
            let mut counts = vec![0usize; classes.max(1)];
            for &class in truth {
                if let Some(count) = counts.get_mut(class as usize) {
                    *count += 1;
                }
            }
            let share = |count: usize| ratio(count as f64, truth.len() as f64);
            let log_shares: Vec<f64> = counts.iter().map(|&count| share(count).max(f64::MIN_POSITIVE).ln()).collect();
            class_scores(&log_shares.repeat(truth.len()), truth, classes, metric).primary
        }
    }
}

fn check(logits: &[f32], labels: &Labels, classes: usize) -> Result<()> {
    let (rows, width) = match labels {
        Labels::Classes(truth) => (truth.len(), classes),
        Labels::Values(truth) => (truth.len(), 1),
    };
    if rows == 0 || logits.len() != rows * width {
        return Err(Error::new(
            ErrorKind::Shape,
            format!("{} outputs for {rows} rows of {width} do not fit together", logits.len()),
        ));
    }
    if let Labels::Classes(truth) = labels
        && let Some(class) = truth.iter().find(|&&class| class as usize >= classes)
    {
        return Err(Error::new(ErrorKind::Shape, format!("class {class} in labels of a model with {classes} classes")));
    }
    let wrong = logits.iter().position(|z| !z.is_finite());
    wrong.map_or(Ok(()), |at| {
        let text = format!("the output of row {} is {}; lower the learning rate", at / width, logits[at]);
        Err(Error::new(ErrorKind::Numerics, text))
    })
}

/// Logarithms of the probabilities. `[rows, classes]`
fn log_softmax(logits: &[f32], classes: usize) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    logits.chunks_exact(classes.max(1)).flat_map(tensor::log_softmax).collect()
}

fn class_scores(log_probs: &[f64], truth: &[u32], classes: usize, metric: Metric) -> Scores {
    let rows = log_probs.chunks_exact(classes.max(1));
    let predicted = likeliest(log_probs, classes);
    let loss: f64 = rows.zip(truth).map(|(row, &class)| -row[class as usize]).sum();
    let mut scores = Scores {
        loss: ratio(loss, truth.len() as f64),
        accuracy: Some(accuracy(truth, &predicted)),
        f1: Some(f1(truth, &predicted, classes)),
        matthews: Some(matthews(truth, &predicted, classes)),
        ..Scores::default()
    };
    scores.primary = primary(&scores, metric, scores.accuracy);
    scores
}

fn value_scores(predicted: &[f64], truth: &[f32], metric: Metric) -> Scores {
    let truth: Vec<f64> = truth.iter().map(|&value| f64::from(value)).collect();
    let squared: f64 = predicted.iter().zip(&truth).map(|(p, t)| (p - t).powi(2)).sum();
    let mut scores = Scores {
        loss: ratio(squared, truth.len() as f64),
        pearson: Some(pearson(predicted, &truth).unwrap_or(0.0)),
        spearman: Some(spearman(predicted, &truth).unwrap_or(0.0)),
        ..Scores::default()
    };
    scores.primary = primary(&scores, metric, scores.pearson);
    scores
}

fn primary(scores: &Scores, metric: Metric, usual: Option<f64>) -> f64 {
    let value = match metric {
        Metric::Auto => None,
        Metric::Accuracy => scores.accuracy,
        Metric::F1 => scores.f1,
        Metric::Matthews => scores.matthews,
        Metric::Pearson => scores.pearson,
        Metric::Spearman => scores.spearman,
        Metric::Loss => Some(scores.loss),
    };
    value.or(usual).unwrap_or(scores.loss)
}
