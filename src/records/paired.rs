//! Differences between two ways of running a model on the same rows, as plain data.

use serde::{Deserialize, Serialize};

/// Above this p a difference is not shown.
const LEVEL: f64 = 0.05;

/// A difference of two means over the same rows, with what it would be on other rows drawn alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The difference.
    #[serde(deserialize_with = "super::nan_of_null")]
    pub value: f64,
    /// Lower end of the 95 % interval (paired bootstrap over the rows).
    #[serde(deserialize_with = "super::nan_of_null")]
    pub low: f64,
    /// Upper end of it.
    #[serde(deserialize_with = "super::nan_of_null")]
    pub high: f64,
    /// Two-sided p of "there is no difference": of McNemar's exact test where rows are right or wrong, else from the resamples.
    #[serde(deserialize_with = "super::nan_of_null")]
    pub p: f64,
}

impl Default for Interval {
    /// No difference at all.
    fn default() -> Self {
        Self { value: 0.0, low: 0.0, high: 0.0, p: 1.0 }
    }
}

impl Interval {
    /// Whether the interval leaves out 0, and p is below 0.05 too.
    pub fn is_shown(&self) -> bool {
        (self.low > 0.0 || self.high < 0.0) && self.p < LEVEL
    }

    /// The same with its p replaced: by that of another test, or by one adjusted for several comparisons.
    pub fn with_p(self, p: f64) -> Self {
        Self { p, ..self }
    }

    /// The difference the other way round.
    pub fn negated(self) -> Self {
        Self { value: -self.value, low: -self.high, high: -self.low, p: self.p }
    }

    /// `+0.0040 (-0.0020 to +0.0110)`
    pub fn numbers(&self) -> String {
        let ends = [self.value, self.low, self.high];
        let largest = ends.into_iter().fold(0.0, |largest: f64, end| largest.max(end.abs()));
        // Four decimals would show tiny differences as zeros.
        let [value, low, high] = ends.map(|end| match largest > 0.0 && largest < 5e-4 {
            true => format!("{end:+.1e}"),
            false => format!("{:+.4}", end + 0.0),
        });
        format!("{value} ({low} to {high})")
    }

    /// The numbers, and `no difference shown` where that is so.
    pub fn describe(&self) -> String {
        let verdict = if self.is_shown() { "" } else { ", no difference shown" };
        format!("{}{verdict}", self.numbers())
    }
}

/// What one way of running the model scores less what another does, on the same rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// In the deciding metric.
    pub primary: Interval,
    /// In the loss.
    pub loss: Interval,
    /// In the share of right answers (of texts: of right next tokens); absent for regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Interval>,
}

impl PairedDifference {
    /// The other way round.
    pub fn negated(self) -> Self {
        let Self { primary, loss, accuracy } = self;
        Self { primary: primary.negated(), loss: loss.negated(), accuracy: accuracy.map(Interval::negated) }
    }

    /// All of it in words: the deciding metric `metric`, then accuracy and loss where they are not that, and whether loss and
    /// metric contradict each other. `more_is_better`: of the metric.
    pub fn describe(&self, metric: &str, more_is_better: bool) -> String {
        let mut parts = vec![format!("{metric} {}", self.primary.describe())];
        if let Some(accuracy) = self.accuracy.filter(|_| metric != "accuracy") {
            let name = if metric == "loss" { "next-token accuracy" } else { "accuracy" };
            parts.push(format!("{name} {}", accuracy.describe()));
        }
        if metric != "loss" {
            parts.push(format!("loss {}", self.loss.describe()));
        }
        let mut words = parts.join("; ");
        if let Some(how) = self.disagreement(metric, more_is_better) {
            words.push_str(&format!(" ({how})"));
        }
        words
    }

    /// Where loss and metric do not say the same.
    fn disagreement(&self, metric: &str, more_is_better: bool) -> Option<&'static str> {
        let other = if metric == "loss" { self.accuracy? } else { self.primary };
        let other_gains = (other.value > 0.0) == (more_is_better || metric == "loss");
        let opposite = other_gains == (self.loss.value > 0.0);
        match (other.is_shown(), self.loss.is_shown()) {
            (true, true) if opposite => Some("the two disagree"),
            (true, false) | (false, true) => Some("only one of them shows a difference"),
            _ => None,
        }
    }
}

/// What each variant of a comparison scores less what the merged model does, row by row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairedReport {
    /// B: how often the rows were resampled.
    pub resamples: usize,
    /// The mean of the random routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_mean: Option<PairedDifference>,
    /// Each expert alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<PairedDifference>,
    /// The ensemble of the random routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<PairedDifference>,
    /// The base model without a mixture (language models).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PairedDifference>,
}

/// What one way of running the model costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayCost {
    /// Values that have to be kept beside the base model and the head.
    pub parameters: usize,
    /// Forward passes for an answer.
    pub forwards: usize,
    /// Multiply-adds with the weights of the layers for each token, all passes together; attention between tokens and the head
    /// are left out.
    pub multiply_adds: usize,
}

/// The costs of the variants of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// Merged, and any single module.
    pub merged: WayCost,
    /// Along a random route: one expert runs in each module, all are kept.
    pub route: WayCost,
    /// The ensemble of the random routes.
    pub ensemble: WayCost,
    /// The base model without a mixture.
    pub base: WayCost,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(value: f64, half: f64, p: f64) -> Interval {
        Interval { value, low: value - half, high: value + half, p }
    }

    #[test]
    fn a_difference_is_shown_by_interval_and_p() {
        assert!(interval(0.02, 0.01, 0.01).is_shown() && interval(-0.02, 0.01, 0.01).is_shown());
        assert!(!interval(0.02, 0.03, 0.01).is_shown(), "0 is inside");
        assert!(!interval(0.02, 0.01, 0.06).is_shown(), "five rows of one kind against none can be chance");
        assert!(!Interval::default().is_shown());
        let there = interval(0.02, 0.01, 0.01);
        assert_eq!(there.negated().negated(), there);
        assert_eq!(there.numbers(), "+0.0200 (+0.0100 to +0.0300)");
        assert_eq!(Interval::default().describe(), "+0.0000 (+0.0000 to +0.0000), no difference shown");
        let tiny = Interval { value: -0.00001, low: -0.00003, high: 0.0, p: 0.4 };
        assert_eq!(tiny.numbers(), "-1.0e-5 (-3.0e-5 to +0.0e0)");
    }

    #[test]
    fn loss_and_accuracy_are_both_said_and_so_is_their_disagreement() {
        let mut both = PairedDifference {
            primary: interval(0.02, 0.01, 0.01),
            loss: interval(0.03, 0.01, 0.001),
            accuracy: Some(interval(0.02, 0.01, 0.01)),
        };
        let words = both.describe("accuracy", true);
        assert_eq!(
            words,
            "accuracy +0.0200 (+0.0100 to +0.0300); loss +0.0300 (+0.0200 to +0.0400) (the two disagree)"
        );
        both.loss = both.loss.negated();
        assert!(!both.describe("accuracy", true).contains("disagree"));
        both.loss = interval(-0.001, 0.01, 0.8);
        assert!(both.describe("accuracy", true).ends_with("no difference shown (only one of them shows a difference)"));
        // Of a language model the loss decides.
        let texts = PairedDifference { primary: both.primary, loss: both.primary, accuracy: both.accuracy };
        let words = texts.describe("loss", false);
        assert_eq!(words.matches("loss").count(), 1, "{words}");
        assert!(words.contains("next-token accuracy +0.0200") && words.ends_with("(the two disagree)"), "{words}");
    }
}
