//! What one way of running a model makes of each row, and the differences of two ways on the same rows.

use super::metrics;
use crate::analysis::paired::{Bootstrap, mcnemar};
use crate::config::Metric;
use crate::data::Labels;
use crate::error::{Error, ErrorKind, Result};
use crate::nn::kernels::vocab_scores::TokenScores;
use crate::records::{Interval, PairedDifference, Scores};

/// What a model says of each of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct RowResults {
    /// The loss of each row: in nats, of a text the mean over its learned tokens, for regression the squared error. `[rows]`
    pub losses: Vec<f64>,
    /// What it answers.
    pub answers: Answers,
}

/// The answers of a model to some rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// Of a classifier.
    Classes {
        /// Number of classes.
        classes: usize,
        /// Logarithms of the probabilities. `[rows, classes]`
        log_probs: Vec<f64>,
        /// The likeliest class. `[rows]`
        predicted: Vec<u32>,
        /// The right class. `[rows]`
        truth: Vec<u32>,
    },
    /// Of a regression.
    Values {
        /// What the model says. `[rows]`
        predicted: Vec<f64>,
        /// What is right. `[rows]`
        truth: Vec<f32>,
    },
    /// Of a language model.
    Tokens {
        /// Learned tokens. `[rows]`
        learned: Vec<usize>,
        /// Of these, those that the model finds likeliest. `[rows]`
        right: Vec<usize>,
    },
}

impl RowResults {
    /// Of a classifier's or regressor's logits. `[rows, classes]`, or `[rows]` for values
    pub fn of_logits(logits: &[f32], labels: &Labels, classes: usize) -> Result<Self> {
        Ok(Self::of_outputs(metrics::outputs(logits, labels, classes)?, labels, classes))
    }

    fn of_outputs(outputs: Vec<f64>, labels: &Labels, classes: usize) -> Self {
        let losses = metrics::row_losses(&outputs, labels, classes);
        let answers = match labels {
            Labels::Classes(truth) => Answers::Classes {
                classes,
                predicted: metrics::likeliest(&outputs, classes),
                log_probs: outputs,
                truth: truth.clone(),
            },
            Labels::Values(truth) => Answers::Values { predicted: outputs, truth: truth.clone() },
        };
        Self { losses, answers }
    }

    /// Of texts: the scores of the learned tokens of each.
    pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a [TokenScores]>) -> Self {
        let (mut losses, mut learned, mut right) = (Vec::new(), Vec::new(), Vec::new());
        for tokens in texts {
            let sum = TokenScores::sum(tokens);
            losses.push(sum.nll / tokens.len().max(1) as f64);
            learned.push(tokens.len());
            right.push(sum.right);
        }
        Self { losses, answers: Answers::Tokens { learned, right } }
    }

    /// The mean of the probabilities, or of the values, of several ways on the same rows; not of texts, whose probabilities are
    /// no longer there.
    pub fn mean(several: &[Self]) -> Result<Self> {
        if let [only] = several {
            return Ok(only.clone());
        }
        let outputs: Vec<&[f64]> = several.iter().filter_map(Self::outputs).collect();
        let first = several.first().filter(|_| outputs.len() == several.len());
        let (labels, classes) = match first.map(|first| &first.answers) {
            Some(Answers::Classes { truth, classes, .. }) => (Labels::Classes(truth.clone()), *classes),
            Some(Answers::Values { truth, .. }) => (Labels::Values(truth.clone()), 1),
            _ => return Err(Error::internal("an ensemble of these answers was asked for")),
        };
        Ok(Self::of_outputs(metrics::mean_outputs(&outputs, &labels)?, &labels, classes))
    }

    fn outputs(&self) -> Option<&[f64]> {
        match &self.answers {
            Answers::Classes { log_probs, .. } => Some(log_probs),
            Answers::Values { predicted, .. } => Some(predicted),
            Answers::Tokens { .. } => None,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.losses.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    /// Some of these rows, by their place.
    pub fn at(&self, rows: &[usize]) -> Self {
        fn of<T: Copy>(rows: &[usize], list: &[T]) -> Vec<T> {
            rows.iter().map(|&row| list[row]).collect()
        }
        let answers = match &self.answers {
            Answers::Classes { classes, log_probs, predicted, truth } => Answers::Classes {
                classes: *classes,
                log_probs: rows
                    .iter()
                    .flat_map(|&row| &log_probs[row * classes..(row + 1) * classes])
                    .copied()
                    .collect(),
                predicted: of(rows, predicted),
                truth: of(rows, truth),
            },
            Answers::Values { predicted, truth } => {
                Answers::Values { predicted: of(rows, predicted), truth: of(rows, truth) }
            }
            Answers::Tokens { learned, right } => {
                Answers::Tokens { learned: of(rows, learned), right: of(rows, right) }
            }
        };
        Self { losses: of(rows, &self.losses), answers }
    }

    /// Puts other rows behind these.
    pub fn append(&mut self, other: Self) -> Result<()> {
        match (&mut self.answers, other.answers) {
            (
                Answers::Classes { classes, log_probs, predicted, truth },
                Answers::Classes { classes: same, log_probs: more, predicted: answers, truth: right },
            ) if *classes == same => {
                log_probs.extend(more);
                predicted.extend(answers);
                truth.extend(right);
            }
            (Answers::Values { predicted, truth }, Answers::Values { predicted: more, truth: right }) => {
                predicted.extend(more);
                truth.extend(right);
            }
            (Answers::Tokens { learned, right }, Answers::Tokens { learned: more, right: hits }) => {
                learned.extend(more);
                right.extend(hits);
            }
            _ => return Err(Error::internal("rows of different tasks cannot be put together")),
        }
        self.losses.extend(other.losses);
        Ok(())
    }

    /// What a row counts in a mean: of a text its learned tokens, else 1.
    fn weight(&self, row: usize) -> f64 {
        if let Answers::Tokens { learned, .. } = &self.answers { learned[row] as f64 } else { 1.0 }
    }

    /// How much of a row is right: 0 or 1, of a text its right tokens. Nothing for values.
    fn hits(&self, row: usize) -> Option<f64> {
        match &self.answers {
            Answers::Classes { predicted, truth, .. } => Some(f64::from(u8::from(predicted[row] == truth[row]))),
            Answers::Values { .. } => None,
            Answers::Tokens { right, .. } => Some(right[row] as f64),
        }
    }

    /// Whether each row is answered rightly; nothing for values and texts.
    pub fn right(&self) -> Option<Vec<bool>> {
        let Answers::Classes { predicted, truth, .. } = &self.answers else { return None };
        Some(predicted.iter().zip(truth).map(|(answer, right)| answer == right).collect())
    }

    /// The scores on all of these rows.
    ///
    /// # Errors
    /// No token of the texts is learned, or their loss is not finite.
    pub fn scores(&self, metric: Metric) -> Result<Scores> {
        let (learned, right) = match &self.answers {
            Answers::Classes { classes, log_probs, truth, .. } => {
                return Ok(metrics::scores_of(log_probs, &Labels::Classes(truth.clone()), *classes, metric));
            }
            Answers::Values { predicted, truth } => {
                return Ok(metrics::scores_of(predicted, &Labels::Values(truth.clone()), 1, metric));
            }
            Answers::Tokens { learned, right } => (learned, right),
        };
        let (all, right) = (learned.iter().sum::<usize>(), right.iter().sum::<usize>());
        if all == 0 {
            return Err(Error::data("no token of these texts is to be learned, so nothing can be measured"));
        }
        let nll: f64 = self.losses.iter().zip(learned).map(|(loss, tokens)| loss * *tokens as f64).sum();
        let loss = nll / all as f64;
        if !loss.is_finite() {
            let text = format!("the loss on the evaluation texts is {loss}; lower the learning rate");
            return Err(Error::new(ErrorKind::Numerics, text));
        }
        let (perplexity, token_accuracy) = (Some(loss.exp()), Some(right as f64 / all as f64));
        Ok(Scores { loss, perplexity, token_accuracy, primary: loss, ..Scores::default() })
    }

    /// The metric on some rows, which may occur several times, where it is no mean over rows; nothing else.
    fn curved(&self, metric: Metric, rows: &[usize]) -> Option<f64> {
        match &self.answers {
            Answers::Classes { classes, predicted, truth, .. } => {
                let of = |list: &[u32]| rows.iter().map(|&row| list[row]).collect::<Vec<u32>>();
                match metric {
                    Metric::F1 => Some(metrics::f1(&of(truth), &of(predicted), *classes)),
                    Metric::Matthews => Some(metrics::matthews(&of(truth), &of(predicted), *classes)),
                    _ => None,
                }
            }
            Answers::Values { predicted, truth } => {
                let x: Vec<f64> = rows.iter().map(|&row| predicted[row]).collect();
                let y: Vec<f64> = rows.iter().map(|&row| f64::from(truth[row])).collect();
                match metric {
                    Metric::Loss => None,
                    Metric::Spearman => Some(metrics::spearman(&x, &y).unwrap_or(0.0)),
                    _ => Some(metrics::pearson(&x, &y).unwrap_or(0.0)),
                }
            }
            Answers::Tokens { .. } => None,
        }
    }

    /// Rows by right class and answer, `[class][answer]`; nothing for values and texts.
    pub fn confusion(&self) -> Option<Vec<Vec<u64>>> {
        let Answers::Classes { classes, predicted, truth, .. } = &self.answers else { return None };
        let mut counts = vec![vec![0; *classes]; *classes];
        for (&right, &answer) in truth.iter().zip(predicted) {
            counts[right as usize][answer as usize] += 1;
        }
        Some(counts)
    }
}

/// What groups of ways score less what `base` does, on the same rows: the mean of each group. Of groups of one classifier the p of
/// the accuracy is McNemar's.
///
/// # Errors
/// The rows are not the same, there are fewer than two, or it was cancelled.
pub fn differences(
    base: &RowResults,
    groups: &[&[RowResults]],
    metric: Metric,
    bootstrap: Bootstrap<'_>,
) -> Result<Vec<PairedDifference>> {
    let rows = base.len();
    if bootstrap.rows != rows
        || groups.iter().any(|group| group.is_empty() || group.iter().any(|way| way.len() != rows))
    {
        return Err(Error::internal("two ways can be compared on the same rows only"));
    }
    let own: Vec<Group<'_>> = groups.iter().map(|ways| Group::new(base, ways)).collect();
    let found = bootstrap.intervals(&mut |chosen, out| {
        let weight: f64 = chosen.iter().map(|&row| base.weight(row)).sum();
        let mean = |list: &[f64]| chosen.iter().map(|&row| list[row]).sum::<f64>() / weight.max(f64::MIN_POSITIVE);
        let of_base = base.curved(metric, chosen);
        for group in &own {
            out.push(mean(&group.loss));
            out.extend(group.hits.as_deref().map(mean));
            let curved = group.ways.iter().map(|way| way.curved(metric, chosen)).sum::<Option<f64>>();
            out.extend(curved.zip(of_base).map(|(sum, of_base)| sum / group.ways.len() as f64 - of_base));
        }
    })?;
    let mut found = found.into_iter();
    let mut next = || found.next().ok_or_else(|| Error::internal("an interval is missing"));
    let all: Vec<usize> = (0..rows).collect();
    own.iter()
        .map(|group| {
            let loss = next()?;
            let accuracy = group.hits.is_some().then(&mut next).transpose()?;
            let accuracy = accuracy.map(|accuracy| match group.only_right(base) {
                Some([own, others]) => accuracy.with_p(mcnemar(own, others)),
                None => accuracy,
            });
            let curved = base.curved(metric, &all).map(|_| next()).transpose()?;
            let primary = curved.or(accuracy.filter(|_| metric != Metric::Loss && !group.texts)).unwrap_or(loss);
            Ok(PairedDifference { primary, loss, accuracy })
        })
        .collect()
}

/// Ways whose mean is compared, with the differences of each row times its weight.
struct Group<'a> {
    ways: &'a [RowResults],
    loss: Vec<f64>,
    hits: Option<Vec<f64>>,
    texts: bool,
}

impl<'a> Group<'a> {
    fn new(base: &RowResults, ways: &'a [RowResults]) -> Self {
        let n = ways.len() as f64;
        let loss = |row: usize| {
            let mean = ways.iter().map(|way| way.losses[row]).sum::<f64>() / n;
            base.weight(row) * (mean - base.losses[row])
        };
        let hits = |row: usize| {
            let mean = ways.iter().map(|way| way.hits(row)).sum::<Option<f64>>()? / n;
            Some(mean - base.hits(row)?)
        };
        Self {
            ways,
            loss: (0..base.len()).map(loss).collect(),
            hits: (0..base.len()).map(hits).collect(),
            texts: matches!(base.answers, Answers::Tokens { .. }),
        }
    }

    /// Rows that only the one way of this group has right, and those that only the other has; of one classifier.
    fn only_right(&self, base: &RowResults) -> Option<[usize; 2]> {
        let [way] = self.ways else { return None };
        let (own, others) = (way.right()?, base.right()?);
        let count =
            |own: &[bool], others: &[bool]| own.iter().zip(others).filter(|(own, other)| **own && !**other).count();
        Some([count(&own, &others), count(&others, &own)])
    }
}

/// No difference at all, as it is of two ways that are one.
pub fn no_difference(of: &RowResults) -> PairedDifference {
    let accuracy = (!matches!(of.answers, Answers::Values { .. })).then(Interval::default);
    PairedDifference { accuracy, ..PairedDifference::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeedStream;

    fn classes(p_of_one: &[f64], truth: &[u32]) -> RowResults {
        let logits: Vec<f32> = p_of_one.iter().flat_map(|p| [(1.0 - p).ln() as f32, p.ln() as f32]).collect();
        RowResults::of_logits(&logits, &Labels::Classes(truth.to_vec()), 2).unwrap()
    }

    fn compare(base: &RowResults, other: &RowResults, metric: Metric) -> PairedDifference {
        let bootstrap = Bootstrap { rows: base.len(), resamples: 200, seed: SeedStream::new(1), go_on: &|_| true };
        differences(base, &[std::slice::from_ref(other)], metric, bootstrap).unwrap()[0]
    }

    #[test]
    fn rows_of_classes_have_losses_answers_and_a_confusion_matrix() {
        let rows = classes(&[0.9, 0.2, 0.4, 0.5], &[1, 0, 1, 1]);
        assert!((rows.losses[0] + 0.9f64.ln()).abs() < 1e-6 && (rows.losses[2] + 0.4f64.ln()).abs() < 1e-6);
        assert_eq!(rows.right().unwrap(), [true, true, false, false], "of equal probabilities the first class counts");
        assert_eq!(rows.confusion().unwrap(), [[1, 0], [2, 1]]);
        let scores = rows.scores(Metric::Accuracy).unwrap();
        assert_eq!((scores.accuracy, scores.primary), (Some(0.5), 0.5));
        let mut both = rows.clone();
        both.append(rows.clone()).unwrap();
        assert_eq!(
            (both.len(), both.scores(Metric::F1).unwrap().primary),
            (8, rows.scores(Metric::F1).unwrap().primary)
        );
        assert_eq!(both.at(&[4, 5, 6, 7]), rows);
        let mean = RowResults::mean(&[rows.clone(), classes(&[0.1, 0.2, 0.9, 0.5], &[1, 0, 1, 1])]).unwrap();
        assert!((mean.losses[0] + 0.5f64.ln()).abs() < 1e-6 && (mean.losses[2] + 0.65f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn differences_are_those_of_the_scores() {
        let truth = [1, 0, 1, 1, 0, 1, 0, 0];
        let base = classes(&[0.9, 0.2, 0.4, 0.6, 0.7, 0.8, 0.1, 0.3], &truth);
        let other = classes(&[0.7, 0.6, 0.6, 0.4, 0.2, 0.9, 0.2, 0.1], &truth);
        for metric in [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Loss] {
            let found = compare(&base, &other, metric);
            let [a, b] = [&base, &other].map(|way| way.scores(metric).unwrap());
            assert!((found.primary.value - (b.primary - a.primary)).abs() < 1e-12, "{metric:?}");
            assert!((found.loss.value - (b.loss - a.loss)).abs() < 1e-12);
            // Rows 2 and 4 against rows 1 and 3.
            assert_eq!(found.accuracy.unwrap().p, 1.0);
            assert!(found.loss.low < found.loss.value && found.loss.value < found.loss.high);
        }
    }

    #[test]
    fn one_way_differs_from_itself_in_nothing() {
        let base = classes(&[0.9, 0.2, 0.4, 0.6], &[1, 0, 1, 1]);
        for metric in [Metric::Accuracy, Metric::Matthews, Metric::Loss] {
            assert_eq!(compare(&base, &base, metric), no_difference(&base), "{metric:?}");
        }
        let values = RowResults::of_logits(&[1.0, 2.5, 3.0], &Labels::Values(vec![1.0, 2.0, 4.0]), 1).unwrap();
        assert_eq!(compare(&values, &values, Metric::Spearman), no_difference(&values));
        assert_eq!(no_difference(&values).accuracy, None);
    }

    #[test]
    fn correlations_are_made_anew_of_each_resample() {
        let truth = Labels::Values((0..20).map(|i| i as f32).collect());
        let of = |noise: f32| {
            let values: Vec<f32> = (0..20).map(|i| i as f32 + noise * [3.0, -2.0, 0.5, 4.0, -5.0][i % 5]).collect();
            RowResults::of_logits(&values, &truth, 1).unwrap()
        };
        let (base, worse) = (of(0.2), of(3.0));
        for metric in [Metric::Pearson, Metric::Spearman] {
            let found = compare(&base, &worse, metric);
            let [a, b] = [&base, &worse].map(|way| way.scores(metric).unwrap().primary);
            assert!((found.primary.value - (b - a)).abs() < 1e-12 && found.primary.high < 0.0, "{metric:?} {found:?}");
            assert!(found.loss.low > 0.0 && found.accuracy.is_none());
        }
    }

    #[test]
    fn long_texts_count_for_more() {
        let token = |nll: f64, right: usize| TokenScores { nll, right };
        let long = vec![token(1.0, 1); 9];
        let base = RowResults::of_texts([&long[..], &[token(3.0, 0)]]);
        let other = RowResults::of_texts([&long[..], &[token(1.0, 1)]]);
        assert_eq!((base.losses.as_slice(), base.scores(Metric::Loss).unwrap().loss), (&[1.0, 3.0][..], 1.2));
        let found = compare(&base, &other, Metric::Loss);
        assert!((found.loss.value + 0.2).abs() < 1e-12 && found.primary == found.loss);
        assert!((found.accuracy.unwrap().value - 0.1).abs() < 1e-12);
        assert!(RowResults::of_texts([&[][..]]).scores(Metric::Loss).is_err());
    }

    #[test]
    fn the_mean_of_a_group_is_compared() {
        let truth = [1, 0, 1, 0];
        let base = classes(&[0.9, 0.2, 0.4, 0.6], &truth);
        let group = [classes(&[0.9, 0.2, 0.7, 0.6], &truth), base.clone()];
        let bootstrap = Bootstrap { rows: 4, resamples: 100, seed: SeedStream::new(1), go_on: &|_| true };
        let found = differences(&base, &[&group], Metric::Accuracy, bootstrap).unwrap()[0];
        assert!((found.primary.value - 0.125).abs() < 1e-12, "one of two ways has one of four rows more");
        assert!(differences(&base, &[&[]], Metric::Accuracy, bootstrap).is_err());
    }
}
