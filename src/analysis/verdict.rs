//! What a comparison says in a sentence: whether the model has learned anything, and whether merging costs something.
//!
//! All variants are measured on the same rows, so that their differences are paired row by row, and the best of several is lucky:
//! a difference counts only where its interval leaves out 0 and its p, adjusted for all that are compared with the merged model
//! (Holm), is below 0.05. Both the deciding metric and the loss are said.

use super::paired::adjusted;
use crate::format;
use crate::records::{EvalRecord, EvalReport, Interval, PairedDifference};

/// Least number of standard errors that is not taken for chance.
const ERRORS: f64 = 2.0;
/// A loss that is so much above its lowest value, as a share of it, rises.
const RISE: f64 = 0.02;

/// Fewer evaluation rows say nothing about a difference, whatever an interval from so few looks like.
const FEW: usize = 10;

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
    /// What it scores less what the merged model does; absent: not measured together with it.
    pub paired: Option<PairedDifference>,
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

/// What is compared with the merged model, with its difference from it; single routes and a constant answer are left out.
struct Compared {
    name: String,
    /// Which export holds it, if one does.
    exportable: Option<Exportable>,
    /// It less merged; p are those of this comparison alone.
    paired: PairedDifference,
    /// The same in the deciding metric, p adjusted for all that are compared.
    primary: Interval,
    /// In the loss.
    loss: Interval,
}

struct Judge<'a> {
    report: &'a EvalReport,
    compared: Vec<Compared>,
}

/// Whether a difference is a gain that is shown.
fn gains(difference: Interval, more_is_better: bool) -> bool {
    difference.is_shown() && (difference.value > 0.0) == more_is_better
}

impl<'a> Judge<'a> {
    fn new(report: &'a EvalReport, tried: &[CustomMerge]) -> Self {
        let n = report.random.len();
        let mut found: Vec<(String, Option<Exportable>, PairedDifference)> = Vec::new();
        if let Some(paired) = report.paired.as_deref() {
            found.extend(paired.random_mean.map(|d| (routes_name(n), None, d)));
            // The ensemble of a single route is that route.
            found.extend(paired.ensemble.filter(|_| n > 1).map(|d| (ensemble_name(n), None, d)));
            let fixed = paired.fixed.iter().enumerate();
            found.extend(fixed.map(|(i, &d)| (expert_name(i), Some(Exportable::Expert(i)), d)));
            let custom = tried.iter().enumerate();
            found.extend(
                custom.filter_map(|(i, merge)| Some((merge.name.clone(), Some(Exportable::Custom(i)), merge.paired?))),
            );
        }
        let primary = adjusted(&found.iter().map(|(.., d)| d.primary).collect::<Vec<_>>());
        let loss = adjusted(&found.iter().map(|(.., d)| d.loss).collect::<Vec<_>>());
        let compared = found.into_iter().zip(primary).zip(loss);
        let one = |(((name, exportable, paired), primary), loss)| Compared { name, exportable, paired, primary, loss };
        Self { report, compared: compared.map(one).collect() }
    }

    fn gains(&self, of: &Compared) -> bool {
        gains(of.primary, self.report.higher_is_better)
    }

    fn loses(&self, of: &Compared) -> bool {
        gains(of.primary.negated(), self.report.higher_is_better)
    }

    /// The largest gain of these, if one is shown.
    fn best<'b>(&self, of: impl Iterator<Item = &'b Compared>) -> Option<&'b Compared> {
        let size = |compared: &&Compared| compared.primary.value.abs();
        of.filter(|compared| self.gains(compared)).max_by(|a, b| size(a).total_cmp(&size(b)))
    }

    /// A merge with chosen weights that is shown to be better than the merged model, else the merged model where it is shown to be
    /// better than everything else that can be exported. One of M experts is a draw of the lot, whatever it scores.
    fn best_exportable(&self) -> Option<Exportable> {
        let exportable = || self.compared.iter().filter(|compared| compared.exportable.is_some());
        let custom = exportable().filter(|compared| matches!(compared.exportable, Some(Exportable::Custom(_))));
        if let Some(best) = self.best(custom) {
            return best.exportable;
        }
        let all = exportable().count() > 0 && exportable().all(|compared| self.loses(compared));
        all.then_some(Exportable::Merged)
    }

    /// What a model reaches that has learned nothing.
    fn baseline(&self) -> &'static str {
        if self.report.base.is_some() { "the base model" } else { "a constant answer" }
    }

    /// How much better than `score` the merged model is.
    fn lead(&self, score: f64) -> f64 {
        let lead = self.report.merged.primary - score;
        if self.report.higher_is_better { lead } else { -lead }
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
        let of_base = report.paired.as_deref().and_then(|paired| paired.base);
        let hardly = match (of_base, error) {
            (Some(base), _) => !gains(base.primary.negated(), report.higher_is_better),
            (None, Some(error)) => learned <= ERRORS * error,
            (None, None) => learned <= 0.0,
        };
        if !report.majority.is_finite() || !hardly {
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

    /// Of a variant less merged, or the other way round, in the words of the deciding metric and the loss.
    fn words(&self, difference: PairedDifference) -> String {
        difference.describe(&self.report.metric, self.report.higher_is_better)
    }

    fn verdict(&self) -> Verdict {
        let verdict = |grade, text| Verdict { grade, text };
        if self.report.rows < FEW {
            let rows = format::counted(self.report.rows, "evaluation row");
            return verdict(Grade::Open, format!("{rows}: too few to tell variants apart; hold out {FEW} or more."));
        }
        if let Some(text) = self.unlearned() {
            return verdict(Grade::Doubtful, text);
        }
        if self.compared.is_empty() {
            return self.alone();
        }
        if let Some(best) = self.best(self.compared.iter()) {
            let (name, are) =
                (&best.name, if matches!(best.exportable, Some(Exportable::Custom(_))) { "are" } else { "is" });
            let tail = match best.exportable {
                Some(Exportable::Custom(_)) => {
                    "They were chosen by their scores on these rows: confirm them on other rows.".to_owned()
                }
                Some(_) => format!(
                    "It is one of {} experts, looked at because of its score on these rows: confirm it on other rows.",
                    self.report.fixed.len()
                ),
                None => format!("Merging makes the {} worse here.", self.report.metric),
            };
            let text = format!("{name} {are} better than merged: {}. {tail}", self.words(best.paired));
            return verdict(Grade::Doubtful, text);
        }
        let all = self.compared.len();
        let worse = self.compared.iter().filter(|compared| self.loses(compared)).count();
        let (metric, others) = (&self.report.metric, format::counted(all, "other"));
        let rest = if worse < all { "; to the rest no difference is shown" } else { "" };
        let head = match worse {
            0 => format!("No difference shown in {metric} between merged and {others}"),
            worse => format!("Merged is better than {worse} of {others} in {metric}{rest}"),
        };
        let against = |compared: &Compared| {
            let name = lowered(&compared.name);
            format!(" Merged minus {name}: {}.", self.words(compared.paired.negated()))
        };
        let named: String =
            self.compared.iter().filter(|compared| compared.exportable.is_none()).map(against).collect();
        verdict(
            Grade::Good,
            format!("{head} (p adjusted for {}, Holm).{named}{}", format::counted(all, "comparison"), self.in_loss()),
        )
    }

    /// What the loss shows where the metric shows nothing.
    fn in_loss(&self) -> String {
        if self.report.metric == "loss" {
            return String::new();
        }
        let better: Vec<String> =
            self.compared.iter().filter(|compared| gains(compared.loss, false)).map(|c| lowered(&c.name)).collect();
        match better.len() {
            0 => String::new(),
            _ => format!(" In the loss {} better than merged.", list_is(&better)),
        }
    }

    /// Of a model without variants, or of a record without intervals.
    fn alone(&self) -> Verdict {
        let report = self.report;
        let [score, baseline] = [report.merged.primary, report.majority].map(format::metric);
        if !report.fixed.is_empty() {
            let text = "This record has no paired differences, so that nothing is shown between merged and the others: \
                        measure again.";
            return Verdict { grade: Grade::Open, text: text.to_owned() };
        }
        if report.majority.is_finite() {
            let text = format!("The model is better than {}: {score} against {baseline}.", self.baseline());
            return Verdict { grade: Grade::Good, text };
        }
        Verdict { grade: Grade::Open, text: "There is nothing to compare this model with.".to_owned() }
    }
}

/// A display name in the middle of a sentence.
fn lowered(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    name
}

/// `a is`, `a and b are`, `a, b and c are`.
fn list_is(names: &[String]) -> String {
    match names {
        [only] => format!("{only} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
        [] => String::new(),
    }
}

/// The best of what can be exported; absent where no difference is shown.
pub fn best_exportable(report: &EvalReport, tried: &[CustomMerge]) -> Option<Exportable> {
    Judge::new(report, tried).best_exportable()
}

/// The verdict on a comparison; `tried`: merges with chosen weights on the same rows, `evals`: the run's evaluations.
pub fn verdict(report: &EvalReport, tried: &[CustomMerge], evals: &[EvalRecord]) -> Verdict {
    let Verdict { grade, text } = Judge::new(report, tried).verdict();
    match Rise::of(evals) {
        Some(rise) => Verdict { grade: Grade::Doubtful, text: format!("{text} {}", rise.describe()) },
        None => Verdict { grade, text },
    }
}

#[cfg(test)]
mod tests;
