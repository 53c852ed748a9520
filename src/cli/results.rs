//! Results, for people and for programs.

use super::out;
use crate::analysis::verdict;
use crate::error::Result;
use crate::eval::{Band, EvalReport, Scores};
use crate::format;
use crate::protocol::{TextScores, WeightsOf, WriteReport};
use crate::records::{EndReason, EndRecord, EvalRecord, Interval, PairedDifference, StartRecord, WayCost};
use crate::workflow::saved_run::Opened;
use serde::Serialize;
use std::path::Path;

/// Scores in the deciding metric.
#[derive(Debug, Serialize)]
struct PrimaryScores {
    merged: Option<f64>,
    fixed: Vec<f64>,
    ensemble: Option<f64>,
    majority: Option<f64>,
    /// The base model without a mixture (language models).
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<f64>,
}

impl PrimaryScores {
    fn of(report: Option<&EvalReport>) -> Self {
        Self {
            merged: report.map(|report| report.merged.primary),
            fixed: report.map(|report| report.fixed.iter().map(|scores| scores.primary).collect()).unwrap_or_default(),
            ensemble: report.map(|report| report.ensemble.primary),
            majority: report.map(|report| report.majority),
            base: report.and_then(|report| report.base.as_ref()).map(|base| base.primary),
        }
    }
}

/// The last line of a training with `--json`. Scores are absent where the run was cut short.
#[derive(Debug, Serialize)]
pub struct TrainResult<'a> {
    /// `finished`, `early-stopped`, `stopped` or `diverged`.
    reason: &'static str,
    metric: &'a str,
    #[serde(flatten)]
    scores: PrimaryScores,
    random: Option<Band>,
    /// Wall-clock seconds of the whole command.
    seconds: f64,
    /// Wall-clock seconds of the training steps and evaluations.
    training_seconds: f64,
    tokens_per_s: f64,
    peak_rss_mb: f64,
    trained_parameters: usize,
    head_parameters: usize,
    merged_parameters: usize,
    steps: u64,
    best_step: Option<u64>,
    run_dir: &'a Path,
    /// All scores of all ways of running the model.
    report: Option<&'a EvalReport>,
}

impl<'a> TrainResult<'a> {
    /// From what training reported at its start and at its end.
    pub fn new(start: &'a StartRecord, end: &'a EndRecord, run_dir: &'a Path, seconds: f64) -> Self {
        let report = end.report.as_ref();
        Self {
            reason: match end.reason {
                EndReason::Finished => "finished",
                EndReason::EarlyStopped => "early-stopped",
                EndReason::Stopped(_) => "stopped",
                EndReason::Diverged { .. } => "diverged",
            },
            metric: &start.metric,
            scores: PrimaryScores::of(report),
            random: report.filter(|report| !report.random.is_empty()).map(EvalReport::random_band),
            seconds,
            training_seconds: end.seconds,
            tokens_per_s: end.tokens_per_s,
            peak_rss_mb: (crate::machine::facts::peak_memory() as f64 / 1e5).round() / 10.0,
            trained_parameters: start.trained_parameters,
            head_parameters: start.head_parameters,
            merged_parameters: start.merged_parameters,
            steps: end.step,
            best_step: end.best.map(|(step, _)| step),
            run_dir,
            report,
        }
    }

    /// Writes it to stdout: an event for programs, or a table for people.
    /// `evals`: the run's evaluations, for the verdict.
    pub fn show(&self, json: bool, evals: &[EvalRecord]) -> Result<()> {
        if json {
            return out::event("result", self);
        }
        if let Some(report) = self.report {
            comparison(report)?;
            out::line(&verdict::verdict(report, &[], evals).text)?;
        }
        out::line(&format!(
            "{} after {} steps in {}: {} tokens/s, peak memory {:.0} MB, {} parameters trained, {} stay after merging",
            self.reason,
            format::count(self.steps),
            format::duration(self.seconds),
            format::count(self.tokens_per_s as u64),
            self.peak_rss_mb,
            format::count(self.trained_parameters),
            format::count(self.merged_parameters),
        ))?;
        out::line(&format!("run: {}", self.run_dir.display()))
    }
}

/// The fields of one report as `--json` gives them, in the deciding metric, with all scores in `report`.
#[derive(Debug, Serialize)]
pub struct EvalResult<'a> {
    metric: &'a str,
    rows: usize,
    #[serde(flatten)]
    scores: PrimaryScores,
    random: Band,
    seconds: f64,
    run_dir: &'a Path,
    /// Which of the run's weights were measured: `step` and `checkpoint`.
    #[serde(flatten)]
    weights: WeightsOf,
    report: &'a EvalReport,
    /// What was written, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<&'a WriteReport>,
}

impl<'a> EvalResult<'a> {
    /// Of one evaluation that took so many seconds, with the texts that were written.
    pub fn new(report: &'a EvalReport, opened: &'a Opened, seconds: f64, written: Option<&'a WriteReport>) -> Self {
        Self {
            metric: &report.metric,
            rows: report.rows,
            scores: PrimaryScores::of(Some(report)),
            random: report.random_band(),
            seconds,
            run_dir: opened.dir.path(),
            weights: opened.weights,
            report,
            written,
        }
    }
}

/// Scores of what each way of running the model wrote, and some answers side by side.
pub fn texts(report: &WriteReport) -> Result<()> {
    let mut rows = vec![vec![format::counted(report.inputs, "answer")]];
    for (number, by) in report.ways.iter().enumerate() {
        let named = by.scores.named();
        if number == 0 {
            rows[0].extend(named.iter().map(|(name, _)| (*name).to_owned()));
        }
        rows.push(out::row(by.way, named.iter().map(|(_, v)| fixed_width(*v))));
    }
    out::line("")?;
    out::table(&rows)?;
    out::line(&report.describe_inputs())?;
    if let Some(first) = report.ways.first() {
        undefined(&first.scores)?;
    }
    let apart: Vec<_> = report.ways.iter().filter_map(|by| Some((by.way, by.bleu_minus_merged?))).collect();
    for (way, apart) in &apart {
        out::line(&format!("BLEU of {way} minus BLEU of merged: {}", apart.describe()))?;
    }
    if !apart.is_empty() {
        out::line("in brackets: 95 % intervals, paired bootstrap over the inputs")?;
    }
    for sample in &report.samples {
        out::line(&format!("\n{}", out::one_line(&sample.prompt, usize::MAX)))?;
        let right = sample.references.first().map(|text| ("reference", text));
        let written = report.ways.iter().map(|by| by.way).zip(&sample.texts);
        for (who, text) in right.into_iter().chain(written) {
            out::line(&format!("    {who:<10} {}", out::one_line(text, usize::MAX)))?;
        }
    }
    Ok(())
}

/// The scores that the references do not define, with the reason.
pub fn undefined(scores: &TextScores) -> Result<()> {
    scores.undefined.iter().try_for_each(|score| out::line(&format!("no {}: {}", score.name, score.reason)))
}

/// Merged against unmerged as a table: one way of running the model in each row.
pub fn comparison(report: &EvalReport) -> Result<()> {
    let (names, titles) = score_columns(&report.merged, &report.metric);
    let header = out::row(format!("{} rows", format::count(report.rows)), titles);
    let (paired, costs) = (report.paired.as_deref().cloned().unwrap_or_default(), report.costs.as_deref());
    let row = |label: String, scores: &Scores, apart: Option<PairedDifference>, cost: Option<WayCost>| {
        let mut cells = out::row(label, score_cells(scores, &names));
        cells.extend(apart_cells(report, apart));
        cells.extend(cost_cells(cost));
        cells
    };
    let merged = row(report.merged_name().to_lowercase(), &report.merged, None, costs.map(|costs| costs.merged));
    let mut rows = vec![header, merged];
    if report.paired.is_some() {
        let own = format!("{} less merged", report.metric);
        rows[0].extend([own].into_iter().chain((report.metric != "loss").then(|| "loss less merged".to_owned())));
    }
    rows[0]
        .extend(["parameters", "passes", "multiply-adds"].map(str::to_owned).into_iter().filter(|_| costs.is_some()));
    if !report.random.is_empty() {
        let picks: [fn(Band) -> f64; 3] = [|band| band.mean, |band| band.min, |band| band.max];
        for (label, pick) in ["mean", "lowest", "highest"].into_iter().zip(picks) {
            let values = names.iter().map(|name| {
                fixed_width(pick(Band::of(report.random.iter().filter_map(|scores| metric(scores, name)))))
            });
            let mut cells = out::row(format!("{label} of {} random routes", report.random.len()), values);
            if label == "mean" {
                cells.extend(apart_cells(report, paired.random_mean));
                cells.extend(cost_cells(costs.map(|costs| costs.route)));
            }
            rows.push(cells);
        }
    }
    rows.extend(report.fixed.iter().enumerate().map(|(expert, scores)| {
        let apart = paired.fixed.get(expert).copied();
        row(format!("expert {expert} alone"), scores, apart, costs.map(|costs| costs.merged))
    }));
    if !report.random.is_empty() {
        let name = format!("ensemble of {} routes", report.random.len());
        rows.push(row(name, &report.ensemble, paired.ensemble, costs.map(|costs| costs.ensemble)));
    }
    rows.push(match &report.base {
        Some(base) => row("base model, untrained".to_owned(), base, paired.base, costs.map(|costs| costs.base)),
        None => {
            let only =
                |name: &&str| if **name == report.metric { fixed_width(report.majority) } else { "-".to_owned() };
            out::row("most frequent answer", names.iter().map(only))
        }
    });
    out::table(&rows)?;
    match &report.paired {
        Some(paired) => out::line(&format!(
            "in brackets: 95 % intervals of the differences on the same rows (paired bootstrap, B = {})",
            format::count(paired.resamples)
        )),
        None => Ok(()),
    }
}

/// A variant less merged in the deciding metric and in the loss, where the report has intervals.
fn apart_cells(report: &EvalReport, apart: Option<PairedDifference>) -> Vec<String> {
    if report.paired.is_none() {
        return Vec::new();
    }
    let cell = |of: fn(PairedDifference) -> Interval| out::or_dash(apart, |apart| of(apart).numbers());
    let mut cells = vec![cell(|apart| apart.primary)];
    cells.extend((report.metric != "loss").then(|| cell(|apart| apart.loss)));
    cells
}

fn cost_cells(cost: Option<WayCost>) -> Vec<String> {
    let Some(cost) = cost else { return Vec::new() };
    let short = |n: usize| format::short_count(n as f64);
    vec![short(cost.parameters), cost.forwards.to_string(), short(cost.multiply_adds)]
}

/// A score with four digits after the point.
pub fn fixed_width(value: f64) -> String {
    format!("{value:.4}")
}

/// The metrics that these scores have, and their column titles: the deciding one is marked.
pub fn score_columns(scores: &Scores, deciding: &str) -> (Vec<&'static str>, Vec<String>) {
    let names: Vec<_> = scores.named().into_iter().filter_map(|(name, value)| value.map(|_| name)).collect();
    let title = |name: &&str| if *name == deciding { format!("{name}*") } else { (*name).to_owned() };
    let titles = names.iter().map(title).collect();
    (names, titles)
}

/// These metrics of the scores as cells.
pub fn score_cells(scores: &Scores, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| out::or_dash(metric(scores, name), fixed_width)).collect()
}

/// One metric by name.
fn metric(scores: &Scores, name: &str) -> Option<f64> {
    scores.named().into_iter().find(|(own, _)| *own == name)?.1
}
