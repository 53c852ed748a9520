//! Two ways of running a model on the same rows, row by row: which rows they answer differently, confusion, calibration, slices,
//! and paired intervals.

use super::causes::spread;
use crate::analysis::calibration::Calibration;
use crate::analysis::paired::{Bootstrap, RESAMPLES, adjusted, quantile_bins, wilson};
use crate::analysis::residuals::Residuals;
use crate::artifact::RunDir;
use crate::config::{Metric, RunConfig, choice_name};
use crate::data::text::TextData;
use crate::data::{Row, Target, TaskData};
use crate::error::{Error, Result};
use crate::eval::compare::{EvalOptions, Measured, costs, random_route};
use crate::eval::rows::{differences, no_difference};
use crate::eval::{Answers, RowResults, metrics};
use crate::format;
use crate::mixture::{MergeWeights, Route};
use crate::model::{AdaptedModel, BaseModel, Network as _};
use crate::protocol::studies::{
    Flips, RowAnswer, RowEntry, RowSlice, RowsPlan, RowsReport, SliceBy, Way, WayCost, WayRows,
};
use crate::protocol::{Checkpoint, KnownAnswer};
use crate::train::ModelAndData;
use crate::workflow::progress::Progress;
use crate::workflow::saved_run::Opened;
use std::slice::from_ref;
use std::time::Instant;

/// Ranges of lengths and of values.
const BINS: usize = 4;

/// Both ways of the plan on the evaluation rows. `dir`: the run of the model. `go_on` gets the share done, 0 to 1; false cancels.
///
/// # Errors
/// A way does not exist for this model, another run has other rows, there are fewer than two rows, or it was cancelled.
pub fn rows_subject(
    subject: &ModelAndData,
    config: &RunConfig,
    dir: &RunDir,
    plan: &RowsPlan,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<RowsReport> {
    let clock = Instant::now();
    let of = subject.dev().rows;
    let rows = if plan.rows == 0 { (0..of).collect() } else { spread(of, plan.rows) };
    if rows.len() < 2 {
        return Err(Error::config("two ways can be compared on two rows or more; take more evaluation rows"));
    }
    // The intervals count as half a pass.
    let progress = Progress::new(plan.forwards() as f64 + 0.5, go_on);
    let study = RowsStudy { subject, config, dir, plan, rows: &rows, progress: &progress };
    let (first, second) = (study.measured(&plan.first)?, study.measured(&plan.second)?);
    let mut report = RowsReport {
        plan: plan.clone(),
        metric: choice_name(subject.metric()),
        higher_is_better: metrics::higher_is_better(subject.metric()),
        labels: subject.labels().to_vec(),
        rows: rows.len(),
        of,
        resamples: RESAMPLES,
        ..RowsReport::default()
    };
    study.judge(&mut report, [&first.results, &second.results])?;
    let ahead =
        |own: &RowResults, other: &RowResults| own.losses.iter().zip(&other.losses).filter(|(a, b)| a < b).count();
    report.ways = [
        way(&plan.first, &first, ahead(&first.results, &second.results), subject.metric())?,
        way(&plan.second, &second, ahead(&second.results, &first.results), subject.metric())?,
    ];
    report.seconds = clock.elapsed().as_secs_f64();
    progress.step(0.0)?;
    Ok(report)
}

/// What a way makes of the rows.
struct MeasuredWay {
    results: RowResults,
    cost: Option<WayCost>,
    seconds: f64,
}

struct RowsStudy<'a> {
    subject: &'a ModelAndData,
    config: &'a RunConfig,
    dir: &'a RunDir,
    plan: &'a RowsPlan,
    rows: &'a [usize],
    progress: &'a Progress<'a>,
}

impl RowsStudy<'_> {
    fn measured(&self, way: &Way) -> Result<MeasuredWay> {
        let other = match way {
            Way::Checkpoint(which) => Some(Opened::open(self.dir, *which)?),
            Way::Run(dir) => Some(Opened::open(&RunDir::open(dir)?, Checkpoint::Best)?),
            _ => None,
        };
        let Some(mut other) = other else { return self.of(self.subject, way, true) };
        if let Some(file) = &self.plan.dev_file {
            other.measure_on(file)?;
        }
        same_rows(self.subject, &other.subject)?;
        // Another run's costs are those of another model.
        self.of(&other.subject, &Way::Merged, matches!(way, Way::Checkpoint(_)))
    }

    /// A way of running this model.
    fn of(&self, subject: &ModelAndData, way: &Way, costed: bool) -> Result<MeasuredWay> {
        let units = way.forwards() as f64;
        let within = self.progress.within(units);
        let opts = subject.options(self.config, &within);
        let found = match subject {
            ModelAndData::Classifier(model, task) => run(model, &task.dev, way, self.rows, &opts),
            ModelAndData::Lm(model, data) => run(model, &data.dev, way, self.rows, &opts),
        }?;
        self.progress.step(units)?;
        Ok(MeasuredWay { cost: found.cost.filter(|_| costed), ..found })
    }

    /// Differences, flips, slices and rows.
    fn judge(&self, report: &mut RowsReport, [first, second]: [&RowResults; 2]) -> Result<()> {
        let metric = self.subject.metric();
        let opts = self.subject.options(self.config, &|_| true);
        let within = self.progress.within(0.5);
        let bootstrap = Bootstrap { go_on: &within, ..opts.bootstrap(first.len()) };
        let same = first == second;
        report.difference = match same {
            true => no_difference(first),
            false => differences(first, &[from_ref(second)], metric, bootstrap)?.remove(0),
        };
        report.flips = flips(first, second);
        let entries = self.entries([first, second]);
        for cut in slices(self.subject, &entries) {
            self.progress.step(0.0)?;
            report.slices.push(slice(cut, [first, second], &opts)?);
        }
        adjust(&mut report.slices);
        report.entries = entries;
        let far = |entry: &RowEntry| entry.difference().abs();
        report.entries.sort_by(|a, b| far(b).total_cmp(&far(a)).then(a.row.cmp(&b.row)));
        Ok(())
    }

    /// The rows in their order.
    fn entries(&self, ways: [&RowResults; 2]) -> Vec<RowEntry> {
        let entry = |(place, &row): (usize, &usize)| {
            let losses = ways.map(|way| way.losses[place]);
            let answers = ways.map(|way| answer(way, place));
            let (text, pair, tokens, label) = match self.subject {
                ModelAndData::Classifier(_, task) => of_row(task, row),
                ModelAndData::Lm(_, data) => of_text(data, row),
            };
            RowEntry { row, text, pair, tokens, label, losses, answers }
        };
        self.rows.iter().enumerate().map(entry).collect()
    }
}

/// Runs a model of either kind in a way of its own.
fn run<B: BaseModel, H: Clone>(
    model: &AdaptedModel<B, H>,
    data: &<AdaptedModel<B, H> as Measured>::Rows,
    way: &Way,
    rows: &[usize],
    opts: &EvalOptions<'_>,
) -> Result<MeasuredWay>
where
    AdaptedModel<B, H>: Measured,
{
    let (sites, all) = (model.sites().len(), costs(model, way.forwards()));
    let mixture = || {
        model.mixture().ok_or_else(|| {
            Error::config(format!(
                "{way} needs experts; this run has none, compare merged, base, checkpoint:N or run:DIR"
            ))
        })
    };
    let (model, routes, cost) = match way {
        Way::Base => (model.bare(), Vec::new(), all.base),
        Way::Expert(expert) => {
            let mixture = mixture()?;
            if *expert >= mixture.num_experts {
                let most = mixture.num_experts - 1;
                return Err(Error::config(format!("there is no expert {expert}; choose 0 to {most}")));
            }
            (model.clone(), vec![Route::fixed(mixture, sites, *expert)], all.merged)
        }
        Way::Route(number) => {
            (model.clone(), vec![random_route(mixture()?, sites, opts.seed, number.saturating_sub(1))], all.route)
        }
        Way::Ensemble(routes) => {
            let mixture = mixture()?;
            let drawn = (0..*routes).map(|index| random_route(mixture, sites, opts.seed, index)).collect();
            (model.clone(), drawn, all.ensemble)
        }
        Way::Merged | Way::Checkpoint(_) | Way::Run(_) => {
            (model.merged(&MergeWeights::own(model.mixture())?)?, Vec::new(), all.merged)
        }
    };
    let routes: Vec<Option<&Route>> = if routes.is_empty() { vec![None] } else { routes.iter().map(Some).collect() };
    // What is slower the first time (memory, caches, kernels) is no part of the time.
    let first = &rows[..rows.len().min(opts.batch_size.max(1))];
    model.results(data, first, &routes[..1], &EvalOptions { go_on: &|_| (opts.go_on)(0.0), ..*opts })?;
    let clock = Instant::now();
    let (_, results) = model.results(data, rows, &routes, opts)?;
    Ok(MeasuredWay { results, cost: Some(cost), seconds: clock.elapsed().as_secs_f64() })
}

/// An error where two models are not measured on the same rows.
fn same_rows(own: &ModelAndData, other: &ModelAndData) -> Result<()> {
    let differs = |what: String| {
        Err(Error::config(format!(
            "the two runs are not measured on the same rows: {what}; give one file for both with --dev-file"
        )))
    };
    match (own, other) {
        (ModelAndData::Classifier(_, a), ModelAndData::Classifier(_, b)) => {
            if a.labels != b.labels {
                return differs("their classes differ".to_owned());
            }
            first_difference(&a.dev.rows, &b.dev.rows).map_or(Ok(()), differs)
        }
        (ModelAndData::Lm(_, a), ModelAndData::Lm(_, b)) => first_difference(&a.dev.encoded, &b.dev.encoded)
            .map_or(Ok(()), |what| differs(format!("{what} in its tokens"))),
        _ => differs("one is a classifier, the other a language model".to_owned()),
    }
}

fn first_difference<T: PartialEq>(a: &[T], b: &[T]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("{} rows and {}", format::count(a.len()), format::count(b.len())));
    }
    a.iter().zip(b).position(|(a, b)| a != b).map(|row| format!("row {} differs", row + 1))
}

/// Scores, cost, confusion, calibration and residuals of a way.
fn way(way: &Way, measured: &MeasuredWay, ahead: usize, metric: Metric) -> Result<WayRows> {
    let MeasuredWay { results, cost, seconds } = measured;
    let (mut calibration, mut residuals) = (None, None);
    match &results.answers {
        Answers::Classes { classes, log_probs, truth, .. } => {
            let probabilities: Vec<f64> = log_probs.iter().map(|p| p.exp()).collect();
            calibration = Calibration::of(&probabilities, *classes, truth);
        }
        Answers::Values { predicted, truth } => {
            residuals = Residuals::of(predicted, &truth.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
        }
        Answers::Tokens { .. } => {}
    }
    Ok(WayRows {
        name: way.name(),
        scores: results.scores(metric)?,
        ahead,
        cost: *cost,
        seconds: *seconds,
        confusion: results.confusion().unwrap_or_default(),
        calibration,
        residuals,
    })
}

fn flips(first: &RowResults, second: &RowResults) -> Option<Flips> {
    let (Answers::Classes { predicted: a, truth, .. }, Answers::Classes { predicted: b, .. }) =
        (&first.answers, &second.answers)
    else {
        return None;
    };
    let mut flips = Flips::default();
    for ((a, b), right) in a.iter().zip(b).zip(truth) {
        let count = match (a == right, b == right) {
            (true, true) => &mut flips.both_right,
            (true, false) => &mut flips.only_first,
            (false, true) => &mut flips.only_second,
            (false, false) if a == b => &mut flips.both_wrong,
            (false, false) => &mut flips.wrong_apart,
        };
        *count += 1;
    }
    Some(flips)
}

fn answer(way: &RowResults, place: usize) -> RowAnswer {
    match &way.answers {
        Answers::Classes { classes, log_probs, predicted, truth } => {
            let p = |class: u32| log_probs[place * classes + class as usize].exp();
            let class = predicted[place];
            RowAnswer::Class { class: class as usize, probability: p(class), of_label: p(truth[place]) }
        }
        Answers::Values { predicted, .. } => RowAnswer::Value(predicted[place]),
        Answers::Tokens { right, .. } => RowAnswer::Tokens(right[place]),
    }
}

type RowText = (String, Option<String>, usize, Option<KnownAnswer>);

fn of_row(task: &TaskData, row: usize) -> RowText {
    let Row { text, pair, target } = &task.dev.rows[row];
    let label = match target {
        Target::Class(class) => KnownAnswer::Class(*class as usize),
        Target::Value(value) => KnownAnswer::Value(f64::from(*value)),
    };
    (text.clone(), pair.clone(), task.dev.encoded[row].ids.len(), Some(label))
}

fn of_text(data: &TextData, row: usize) -> RowText {
    let encoded = &data.dev.encoded[row];
    let learned = encoded.learned();
    let example = data.dev.examples.get(encoded.example).filter(|example| !example.prompt().is_empty());
    match example {
        Some(example) => {
            let asked: Vec<&str> = example.prompt().iter().map(|turn| turn.text.as_str()).collect();
            (asked.join("\n"), Some(example.answer().to_owned()), learned, None)
        }
        None => (data.encoder.codec.decode_plain(&encoded.ids).unwrap_or_default(), None, learned, None),
    }
}

/// A slice that is not measured yet, and the places of its rows.
type Cut = (RowSlice, Vec<usize>);

/// By right answer, then by length.
fn slices(subject: &ModelAndData, entries: &[RowEntry]) -> Vec<Cut> {
    let places = |is: &dyn Fn(&RowEntry) -> bool| -> Vec<usize> {
        entries.iter().enumerate().filter(|(_, entry)| is(entry)).map(|(place, _)| place).collect()
    };
    let ranges = |by: SliceBy, of: &dyn Fn(&RowEntry) -> f64, unit: &str| -> Vec<Cut> {
        let bins = quantile_bins(&entries.iter().map(of).collect::<Vec<_>>(), BINS);
        let cut = |[from, to]: [f64; 2]| {
            let [low, high] = [from, to].map(|end| format::significant(end, 4));
            let name = if from == to { format!("{low}{unit}") } else { format!("{low} to {high}{unit}") };
            let slice = RowSlice { by, name, range: Some([from, to]), ..RowSlice::default() };
            let own = places(&|entry| slice.holds(of(entry)));
            (slice, own)
        };
        bins.into_iter().map(cut).collect()
    };
    let value = |entry: &RowEntry| if let Some(KnownAnswer::Value(value)) = entry.label { value } else { f64::NAN };
    let class = |(class, label): (usize, &String)| {
        let slice = RowSlice { by: SliceBy::Label, name: label.clone(), ..RowSlice::default() };
        (slice, places(&|entry| entry.label == Some(KnownAnswer::Class(class))))
    };
    let mut found: Vec<Cut> = subject.labels().iter().enumerate().map(class).collect();
    // Values are numbers only of a regression; there are no bins of none.
    found.extend(ranges(SliceBy::Value, &value, ""));
    found.extend(ranges(SliceBy::Length, &|entry| entry.tokens as f64, " tokens"));
    found.retain(|(_, places)| !places.is_empty());
    found
}

/// Measures a slice.
fn slice((slice, places): Cut, ways: [&RowResults; 2], opts: &EvalOptions<'_>) -> Result<RowSlice> {
    let [first, second] = ways.map(|way| way.at(&places));
    let share = |way: &RowResults| {
        let right = way.right()?.into_iter().filter(|right| *right).count();
        let [low, high] = wilson(right, places.len());
        Some([right as f64 / places.len() as f64, low, high])
    };
    let loss = |way: &RowResults| way.scores(Metric::Loss).map(|scores| scores.loss);
    // In a slice of one class there are no F1 and no correlations: right answers and the loss are what there is.
    let metric = if first.right().is_some() { Metric::Accuracy } else { Metric::Loss };
    let difference = match places.len() {
        0 | 1 => None,
        _ if first == second => Some(no_difference(&first)),
        rows => differences(&first, &[from_ref(&second)], metric, opts.bootstrap(rows))?.pop(),
    };
    Ok(RowSlice {
        rows: places.len(),
        losses: [loss(&first)?, loss(&second)?],
        accuracies: share(&first).zip(share(&second)).map(|(a, b)| [a, b]),
        difference,
        ..slice
    })
}

/// Adjusts the p of all slices after Holm, each quantity for itself.
fn adjust(slices: &mut [RowSlice]) {
    let mut all: Vec<_> = slices.iter_mut().filter_map(|slice| slice.difference.as_mut()).collect();
    let loss = adjusted(&all.iter().map(|d| d.loss).collect::<Vec<_>>());
    let primary = adjusted(&all.iter().map(|d| d.primary).collect::<Vec<_>>());
    let accuracy = adjusted(&all.iter().map(|d| d.accuracy.unwrap_or_default()).collect::<Vec<_>>());
    for (((difference, loss), primary), accuracy) in all.iter_mut().zip(loss).zip(primary).zip(accuracy) {
        (difference.loss, difference.primary) = (loss, primary);
        difference.accuracy = difference.accuracy.map(|_| accuracy);
    }
}
