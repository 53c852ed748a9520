//! What a comparison says in a sentence: whether the model has learned anything, and whether merging costs something.
//!
//! All variants are measured on the same rows, and the best of several is lucky: a variant counts as better than the merged
//! model only if its lead exceeds what the luckiest of so many leads by in 19 of 20 cases.

use super::routing_stats::upper_quantile;
use crate::format;
use crate::records::{EvalRecord, EvalReport};

/// Least number of standard errors that is not taken for chance.
const ERRORS: f64 = 2.0;
/// A loss that is so much above its lowest value, as a share of it, rises.
const RISE: f64 = 0.02;

/// How good the news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// The model is better than a constant answer, and merging costs nothing.
    Good,
    /// To be looked at before the model is used.
    Doubtful,
    /// There is nothing to judge.
    Open,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How good the news is.
    pub grade: Grade,
    /// One or two sentences.
    pub text: String,
}

/// A merge with chosen weights, scored on the same rows.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomMerge {
    /// Display name.
    pub name: String,
    /// The deciding metric.
    pub score: f64,
}

/// A variant of the model that an export can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exportable {
    /// The merged model of the report.
    Merged,
    /// One expert in all modules, by index.
    Expert(usize),
    /// A merge with chosen weights, by index.
    Custom(usize),
}

/// Display name of the mean of `n` random routes.
pub fn routes_name(n: usize) -> String {
    format!("Random routes, mean of {n}")
}

/// Display name of a single expert in all modules.
pub fn expert_name(expert: usize) -> String {
    format!("Expert {expert} only")
}

/// Display name of the mean of the probabilities of `n` random routes.
pub fn ensemble_name(n: usize) -> String {
    if n == 1 { "Ensemble of 1 route".to_owned() } else { format!("Ensemble of {n} routes") }
}

/// One standard error of a score; known only for a share of right answers.
pub fn standard_error(metric: &str, score: f64, rows: usize) -> Option<f64> {
    let share = metric == "accuracy" && (0.0..=1.0).contains(&score) && rows > 0;
    share.then(|| (score * (1.0 - score) / rows as f64).sqrt())
}

/// The evaluation loss has risen since its lowest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rise {
    /// The step of the lowest loss.
    pub step: u64,
    /// The lowest loss.
    pub lowest: f64,
    /// The newest loss.
    pub newest: f64,
}

impl Rise {
    /// Where the newest loss is clearly above the lowest one.
    pub fn of(evals: &[EvalRecord]) -> Option<Self> {
        let finite = || evals.iter().filter(|eval| eval.merged.loss.is_finite());
        let best = finite().min_by(|a, b| a.merged.loss.total_cmp(&b.merged.loss))?;
        let (lowest, newest) = (best.merged.loss, finite().next_back()?.merged.loss);
        (newest - lowest > RISE * lowest.abs()).then_some(Self { step: best.step, lowest, newest })
    }

    /// In a sentence.
    pub fn describe(&self) -> String {
        format!(
            "The evaluation loss rises since step {} (from {} to {}): from there on the model fits the training rows only.",
            format::count(self.step),
            format::metric(self.lowest),
            format::metric(self.newest)
        )
    }
}

/// A report with its noise.
struct Judge<'a> {
    report: &'a EvalReport,
    tried: &'a [CustomMerge],
    error: Option<f64>,
}

impl Judge<'_> {
    /// How much better than `score` the merged model is.
    fn lead(&self, score: f64) -> f64 {
        if self.report.higher_is_better {
            self.report.merged.primary - score
        } else {
            score - self.report.merged.primary
        }
    }

    /// Differences up to this may be chance, where the best of `compared` is looked at.
    fn limit(&self, compared: usize) -> f64 {
        match self.error {
            Some(error) => error * ERRORS.max(upper_quantile(0.025 / compared.max(1) as f64)),
            None => {
                let band = self.report.random_band();
                let width = band.max - band.min;
                if width.is_finite() { width } else { 0.0 }
            }
        }
    }

    /// As [`Judge::limit`] for all variants that are compared with the merged model.
    fn common_limit(&self) -> f64 {
        self.limit(self.others().len() + self.tried.len())
    }

    /// What the merged model is compared with: single routes and a constant answer are left out.
    fn others(&self) -> Vec<CustomMerge> {
        let (report, n) = (self.report, self.report.random.len());
        if n == 0 || report.fixed.is_empty() {
            return Vec::new();
        }
        let mut others = vec![
            CustomMerge { name: routes_name(n), score: report.random_band().mean },
            CustomMerge { name: ensemble_name(n), score: report.ensemble.primary },
        ];
        let fixed = report.fixed.iter().enumerate();
        others.extend(fixed.map(|(i, scores)| CustomMerge { name: expert_name(i), score: scores.primary }));
        others.retain(|other| other.score.is_finite());
        others
    }

    fn best_exportable(&self) -> (Exportable, f64) {
        let experts = self.report.fixed.iter().enumerate().map(|(i, s)| (Exportable::Expert(i), s.primary));
        let custom = self.tried.iter().enumerate().map(|(i, merge)| (Exportable::Custom(i), merge.score));
        let best = experts
            .chain(custom)
            .filter(|(_, score)| score.is_finite())
            .min_by(|a, b| self.lead(a.1).total_cmp(&self.lead(b.1)));
        best.filter(|(_, score)| -self.lead(*score) > self.common_limit())
            .unwrap_or((Exportable::Merged, self.report.merged.primary))
    }

    /// What a model reaches that has learned nothing.
    fn baseline(&self) -> &'static str {
        if self.report.base.is_some() { "the base model" } else { "a constant answer" }
    }

    /// Why the model has learned nothing that shows, if so.
    fn unlearned(&self) -> Option<String> {
        let report = self.report;
        let learned = self.lead(report.majority);
        let (n, score) = (report.rows.max(2) as f64, report.merged.primary.clamp(0.0, 1.0));
        let error = match report.metric.as_str() {
            "accuracy" | "f1" => Some((score * (1.0 - score) / n).sqrt()),
            // Of a correlation that is 0.
            "matthews" | "pearson" | "spearman" => Some(1.0 / (n - 1.0).sqrt()),
            _ => None,
        };
        let chance = error.map_or_else(|| self.limit(1), |error| ERRORS * error);
        if !report.majority.is_finite() || learned > chance {
            return None;
        }
        let than = self.baseline();
        let noise =
            error.map_or_else(String::new, |error| format!("; one standard error is {}", format::metric(error)));
        Some(format!(
            "The model is hardly better than {than}: {} against {}{noise}. Train longer or with other settings before \
             comparing.",
            format::metric(report.merged.primary),
            format::metric(report.majority)
        ))
    }

    fn errors(&self, difference: f64) -> String {
        match self.error {
            Some(error) if error > 0.0 => format!(" ({:.1} standard errors)", difference.abs() / error),
            _ => String::new(),
        }
    }

    fn verdict(&self) -> Verdict {
        let verdict = |grade, text| Verdict { grade, text };
        if let Some(text) = self.unlearned() {
            return verdict(Grade::Doubtful, text);
        }
        let metric = &self.report.metric;
        if let (Exportable::Custom(i), score) = self.best_exportable() {
            let (by, errors) = (format::metric(self.lead(score).abs()), self.errors(self.lead(score)));
            let name = &self.tried[i].name;
            let text = format!(
                "{name} are better than merged by {by}{errors}. They were chosen by their scores on these rows: confirm them \
                 on other rows."
            );
            return verdict(Grade::Doubtful, text);
        }
        let others = self.others();
        let Some(best) = others.iter().min_by(|a, b| self.lead(a.score).total_cmp(&self.lead(b.score))) else {
            let [score, baseline] = [self.report.merged.primary, self.report.majority].map(format::metric);
            return if self.report.majority.is_finite() {
                let text = format!("The model is better than {}: {score} against {baseline}.", self.baseline());
                verdict(Grade::Good, text)
            } else {
                verdict(Grade::Open, "There is nothing to compare this model with.".to_owned())
            };
        };
        let difference = self.lead(best.score);
        let (name, by, errors) = (&best.name, format::metric(difference.abs()), self.errors(difference));
        let small = difference.abs() <= self.common_limit();
        if difference >= 0.0 {
            let tail = if small { "; that may be chance, but nothing is lost by merging" } else { "" };
            return verdict(Grade::Good, format!("Merged is best; next comes {name}, {by} behind{errors}{tail}."));
        }
        if small {
            let of = others.len() + self.tried.len();
            let text = format!(
                "Merged is as good as any: {name} is {by} ahead{errors}, which may be chance for the best of {of} variants."
            );
            return verdict(Grade::Good, text);
        }
        verdict(
            Grade::Doubtful,
            format!("{name} is better than merged by {by}{errors}. Merging makes the {metric} worse here."),
        )
    }
}

fn judge<'a>(report: &'a EvalReport, tried: &'a [CustomMerge]) -> Judge<'a> {
    Judge { report, tried, error: standard_error(&report.metric, report.merged.primary, report.rows) }
}

/// The best of what can be exported. Another variant than the merged model counts as better only beyond chance.
pub fn best_exportable(report: &EvalReport, tried: &[CustomMerge]) -> Exportable {
    judge(report, tried).best_exportable().0
}

/// The verdict on a comparison; `tried`: merges with chosen weights on the same rows, `evals`: the run's evaluations.
pub fn verdict(report: &EvalReport, tried: &[CustomMerge], evals: &[EvalRecord]) -> Verdict {
    let Verdict { grade, text } = judge(report, tried).verdict();
    match Rise::of(evals) {
        Some(rise) => Verdict { grade: Grade::Doubtful, text: format!("{text} {}", rise.describe()) },
        None => Verdict { grade, text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Scores;

    fn scores(primary: f64) -> Scores {
        Scores { primary, accuracy: Some(primary), ..Scores::default() }
    }

    fn report(merged: f64, ensemble: f64) -> EvalReport {
        EvalReport {
            metric: "accuracy".to_owned(),
            higher_is_better: true,
            rows: 1000,
            merged: scores(merged),
            random: [0.75, 0.76, 0.74].map(scores).to_vec(),
            fixed: [0.75, 0.755].map(scores).to_vec(),
            ensemble: scores(ensemble),
            majority: 0.5,
            ..EvalReport::default()
        }
    }

    fn evals(losses: &[f64]) -> Vec<EvalRecord> {
        let eval = |(i, &loss): (usize, &f64)| EvalRecord {
            step: 200 * (i as u64 + 1),
            epoch: 0.0,
            merged: Scores { loss, ..Scores::default() },
            best: false,
            seconds: 0.0,
        };
        losses.iter().enumerate().map(eval).collect()
    }

    fn of(merged: f64, ensemble: f64) -> (Grade, String) {
        let Verdict { grade, text } = verdict(&report(merged, ensemble), &[], &[]);
        (grade, text)
    }

    #[test]
    fn differences_are_weighed_against_noise() {
        let (grade, text) = of(0.78, 0.77);
        assert!(grade == Grade::Good && text.contains("Merged is best; next comes Ensemble of 3 routes"), "{text}");
        let (grade, text) = of(0.76, 0.77);
        assert!(grade == Grade::Good && text.contains("may be chance"), "{text}");
        let (grade, text) = of(0.70, 0.77);
        assert!(grade == Grade::Doubtful && text.contains("Ensemble of 3 routes is better"), "{text}");
        let (grade, text) = of(0.51, 0.50);
        assert!(grade == Grade::Doubtful && text.contains("hardly better than a constant answer"), "{text}");
    }

    /// 0.600 of 40 rows beside 0.525: one standard error is 0.077.
    #[test]
    fn a_lead_within_the_standard_error_is_not_learning() {
        let small = EvalReport { rows: 40, majority: 0.525, ..report(0.6, 0.6) };
        let Verdict { grade, text } = verdict(&small, &[], &[]);
        assert!(
            grade == Grade::Doubtful && text.contains("0.6000 against 0.5250; one standard error is 0.0775"),
            "{text}"
        );
        let many = EvalReport { rows: 4000, ..small };
        assert!(!verdict(&many, &[], &[]).text.contains("hardly better"));
        // A correlation of 0.1 on 40 rows is chance, on 4,000 it is not.
        for (rows, unlearned) in [(40, true), (4000, false)] {
            let report = EvalReport { metric: "matthews".to_owned(), rows, majority: 0.0, ..report(0.1, 0.1) };
            assert_eq!(verdict(&report, &[], &[]).text.contains("hardly better"), unlearned, "{rows} rows");
        }
    }

    #[test]
    fn a_rising_evaluation_loss_is_never_good() {
        let losses = [0.700, 0.688, 0.783, 0.877];
        let Verdict { grade, text } = verdict(&report(0.78, 0.77), &[], &evals(&losses));
        assert_eq!(grade, Grade::Doubtful);
        assert!(text.contains("rises since step 400 (from 0.6880 to 0.8770)"), "{text}");
        for falling in [&[0.7, 0.6, 0.5][..], &[0.500, 0.498, 0.499], &[0.5], &[]] {
            assert_eq!(Rise::of(&evals(falling)), None, "{falling:?}");
        }
        assert_eq!(verdict(&report(0.78, 0.77), &[], &evals(&[0.7, 0.6])).grade, Grade::Good);
    }

    #[test]
    fn the_luckiest_of_several_is_not_the_best() {
        let mut report = report(0.76, 0.77);
        let merge = |i: usize, score: f64| CustomMerge { name: format!("Weights {i}"), score };
        let lucky: Vec<CustomMerge> = (1..=5).map(|i| merge(i, 0.76 + 0.003 * i as f64)).collect();
        assert_eq!(best_exportable(&report, &lucky), Exportable::Merged);
        assert_eq!(verdict(&report, &lucky, &[]).grade, Grade::Good, "verdict and mark agree");
        let good = [merge(1, 0.76), merge(2, 0.85)];
        assert_eq!(best_exportable(&report, &good), Exportable::Custom(1));
        let words = verdict(&report, &good, &[]).text;
        assert!(words.starts_with("Weights 2 are better than merged by 0.0900"), "{words}");
        report.fixed[1] = scores(0.86);
        assert_eq!(best_exportable(&report, &[]), Exportable::Expert(1));
        assert!(verdict(&report, &[], &[]).text.starts_with("Expert 1 only is better than merged"));
    }

    #[test]
    fn without_a_standard_error_the_band_of_the_routes_is_the_noise() {
        let mut report = report(0.755, 0.745);
        (report.metric, report.higher_is_better, report.majority) = ("loss".to_owned(), false, 2.0);
        let Verdict { grade, text } = verdict(&report, &[], &[]);
        assert!(grade == Grade::Good && text.contains("may be chance"), "{text}");
        report.ensemble = scores(0.70);
        assert_eq!(verdict(&report, &[], &[]).grade, Grade::Doubtful);
    }
}
