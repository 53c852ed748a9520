//! The ticked runs together: curves in one plot, merged scores on one axis, and how their settings differ.

use crate::analysis::run_groups::{self, Spread};
use crate::app::clock::XScale;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::dot_plot::{self, MarkShape, ScoreAxis, ScoreEntry};
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions, ValueRange};
use crate::app::widgets::{cards, export_menu, labeled};
use crate::app::{curves, fields, help, names, x_axis};
use crate::config::RunConfig;
use crate::config::keys::Key;
use crate::figure::Table;
use crate::format;
use crate::protocol::{EvalReport, Quantity};
use egui::{Color32, RichText, Ui};
use std::path::PathBuf;

/// What can be drawn of each run.
const QUANTITIES: [(Quantity, &str); 8] = [
    (Quantity::Loss, "Training loss"),
    (Quantity::EvalLoss, "Evaluation loss"),
    (Quantity::EvalMetric, "Metric of the merged model"),
    (Quantity::Consistency, "Consistency term"),
    (Quantity::TaskLoss, "Task loss"),
    (Quantity::LearningRate, "Learning rate"),
    (Quantity::GradNorm, "Gradient norm"),
    (Quantity::TokensPerSecond, "Tokens a second"),
];

pub struct TickedRuns {
    quantity: Quantity,
    /// Runs that differ only in their seed are one curve with a band.
    grouped: bool,
    /// The run that the others are compared with.
    baseline: Option<PathBuf>,
    known: Known,
    means: Vec<(MeanKey, MeanLine)>,
}

impl Default for TickedRuns {
    fn default() -> Self {
        Self { quantity: Quantity::Loss, grouped: true, baseline: None, known: Known::default(), means: Vec::new() }
    }
}

/// What follows from the settings of the ticked runs: they are compared when they change, not in every frame.
#[derive(Default)]
struct Known {
    configs: Vec<RunConfig>,
    groups: Vec<Vec<usize>>,
    differing: Vec<(&'static Key, Vec<String>)>,
}

impl Known {
    fn update(&mut self, runs: &[&RunView]) {
        if self.configs.iter().eq(runs.iter().map(|run| &run.config)) {
            return;
        }
        let configs: Vec<&RunConfig> = runs.iter().map(|run| &run.config).collect();
        *self = Self {
            groups: run_groups::groups(&configs),
            differing: run_groups::differing(&configs),
            configs: configs.into_iter().cloned().collect(),
        };
    }
}

/// Mean and spread of a group's curves, by x.
type MeanLine = Vec<(f64, Spread)>;

/// What a mean of curves is made of; the same again is the same mean.
#[derive(PartialEq)]
struct MeanKey {
    quantity: Quantity,
    smoothing: f64,
    x: XScale,
    /// Directory, steps, evaluations and seconds of each run.
    runs: Vec<(PathBuf, u64, usize, f64)>,
}

/// A run, or runs that differ only in their seed.
struct Shown<'a> {
    name: String,
    runs: Vec<&'a RunView>,
    color: Color32,
    /// More groups than colours: the second time a colour comes it is dashed.
    dashed: bool,
    baseline: bool,
}

impl TickedRuns {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        if ctx.session.overlays.is_empty() {
            return;
        }
        let mut runs: Vec<&RunView> = Vec::new();
        cards::card(ui, ctx.theme, "Ticked runs", |ui| {
            for (dir, query) in &ctx.session.overlays {
                // Of the run in the engine more is known than what was read.
                let live = ctx.session.live.as_ref().filter(|live| live.dir == *dir);
                match (live.or(query.value.as_ref()), &query.error) {
                    (Some(run), _) => runs.push(run),
                    (None, Some(error)) => cards::error(ui, ctx.theme, error),
                    (None, None) => cards::loading(ui, &format!("reading {}", dir.display()), None),
                }
            }
            self.known.update(&runs);
            self.options_ui(ctx, &runs, ui);
            let shown = self.shown(ctx, &runs);
            self.curves_ui(ctx, &shown, ui);
        });
        if runs.is_empty() {
            return;
        }
        let shown = self.shown(ctx, &runs);
        cards::card(ui, ctx.theme, "Scores of the merged models", |ui| scores_ui(ctx, &shown, ui));
        if runs.len() > 1 {
            // The baseline's settings stand first.
            let mut ordered: Vec<&RunView> = shown.iter().flat_map(|shown| shown.runs.iter().copied()).collect();
            ordered.sort_by_key(|run| self.baseline.as_ref() != Some(&run.dir));
            let places = ordered.iter().filter_map(|run| runs.iter().position(|other| other.dir == run.dir));
            let places: Vec<usize> = places.collect();
            let rows = self.known.differing.iter();
            let rows = rows.map(|(key, values)| (*key, places.iter().map(|&i| values[i].clone()).collect()));
            let rows: Vec<(&'static Key, Vec<String>)> = rows.collect();
            let title = "Settings that differ";
            cards::card(ui, ctx.theme, title, |ui| settings_ui(ctx, &ordered, &rows, ui));
        }
    }

    fn options_ui(&mut self, ctx: &PanelCtx<'_>, runs: &[&RunView], ui: &mut Ui) {
        labeled::choice(ui, "Curves of", "What is drawn of each run", &mut self.quantity, &QUANTITIES);
        let mut options: Vec<(Option<PathBuf>, String)> = vec![(None, "none".to_owned())];
        options.extend(runs.iter().map(|run| (Some(run.dir.clone()), title(ctx, run))));
        let tip = "Drawn thick and first; scores of the others are given as differences from it";
        labeled::choice(ui, "Baseline", tip, &mut self.baseline, &options);
        ui.horizontal_wrapped(|ui| {
            x_axis::ui(ctx, ui);
            let tip = "Runs whose settings differ only in the seed are one curve: their mean, with a band of one standard \
                       deviation (n - 1) to both sides";
            labeled::toggle(ui, "One curve for runs that differ only in the seed", tip, &mut self.grouped);
        });
    }

    /// The runs in groups, the baseline's first.
    fn shown<'a>(&self, ctx: &PanelCtx<'_>, runs: &[&'a RunView]) -> Vec<Shown<'a>> {
        let groups = if self.grouped { self.known.groups.clone() } else { (0..runs.len()).map(|i| vec![i]).collect() };
        let shown = groups.into_iter().enumerate().map(|(i, group)| {
            let runs: Vec<&RunView> = group.into_iter().map(|i| runs[i]).collect();
            let baseline = runs.iter().any(|run| self.baseline.as_ref() == Some(&run.dir));
            let first = title(ctx, runs[0]);
            let name = if runs.len() > 1 { format!("{first} ({} runs)", runs.len()) } else { first };
            Shown { name, runs, color: ctx.theme.series(i), dashed: i >= 8, baseline }
        });
        let mut shown: Vec<Shown<'_>> = shown.collect();
        shown.sort_by_key(|shown| !shown.baseline);
        shown
    }

    fn curves_ui(&mut self, ctx: &PanelCtx<'_>, shown: &[Shown<'_>], ui: &mut Ui) {
        let seconds = shown.iter().flat_map(|shown| &shown.runs).map(|run| run.history.clock.seconds());
        let x = XScale::new(ctx.settings.x_axis, seconds.fold(0.0, f64::max));
        let mut drawn: Vec<Curve> = Vec::new();
        let before = std::mem::take(&mut self.means);
        for shown in shown {
            drawn.extend(self.curves(ctx, shown, &x, &before));
        }
        let title = QUANTITIES.iter().find(|(quantity, _)| *quantity == self.quantity).map_or("", |(_, name)| name);
        // Of runs with different metrics, what all of them can be.
        let limits = shown.iter().flat_map(|shown| &shown.runs).map(|run| self.quantity.limits(run.metric()));
        let options = PlotOptions {
            title,
            limits: limits.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]),
            height: 260.0,
            legend: true,
            log: ctx.settings.log_loss && self.quantity != Quantity::EvalMetric,
            x: Some(x.name),
            log_x: ctx.settings.log_x,
            ..PlotOptions::default()
        };
        metric_plot::ui(ui, ctx.theme, "overlay plot", &drawn, &[], &options);
        if shown.iter().any(|shown| shown.runs.len() > 1) {
            let words = "Band: mean ± one standard deviation over the seeds (n - 1), as far as all of them have come. \
                         Thin: the single runs.";
            cards::caption(ui, ctx.theme, words);
        }
    }

    /// `before`: the means of the last frame.
    fn curves(
        &mut self,
        ctx: &PanelCtx<'_>,
        shown: &Shown<'_>,
        x: &XScale,
        before: &[(MeanKey, MeanLine)],
    ) -> Vec<Curve> {
        let of = |run: &RunView, color: Color32| {
            let curve = curves::of(run, self.quantity, &shown.name, color, ctx.settings.smoothing);
            curves::on_axis(curve, &run.history.clock, x)
        };
        if let [run] = shown.runs[..] {
            return vec![Curve { dashed: shown.dashed, strong: shown.baseline, ..of(run, shown.color) }];
        }
        let faint = shown.color.gamma_multiply(0.35);
        let mut all: Vec<Curve> = shown.runs.iter().map(|run| of(run, faint)).collect();
        all.iter_mut().for_each(|curve| (curve.ranges, curve.dots, curve.listed) = (Vec::new(), false, false));
        let runs = shown.runs.iter();
        let runs =
            runs.map(|run| (run.dir.clone(), run.step(), run.evals.len(), run.history.clock.seconds())).collect();
        let key = MeanKey { quantity: self.quantity, smoothing: ctx.settings.smoothing, x: *x, runs };
        let mean = match before.iter().find(|(known, _)| *known == key) {
            Some((_, mean)) => mean.clone(),
            None => {
                let lines: Vec<&[[f64; 2]]> = all.iter().map(|curve| curve.line.as_slice()).collect();
                run_groups::mean_line(&lines)
            }
        };
        let range = |(x, spread): &(f64, Spread)| {
            let sd = spread.sd.unwrap_or(0.0);
            ValueRange { x: *x, min: spread.mean - sd, max: spread.mean + sd }
        };
        let line = mean.iter().map(|(x, spread)| [*x, spread.mean]).collect();
        let ranges = mean.iter().map(range).collect();
        self.means.push((key, mean));
        // Its values follow from the records of the single runs.
        let source = all.first().and_then(|curve| curve.source.clone());
        let name = format!("{}, mean ± sd", shown.name);
        all.iter_mut().zip(&shown.runs).for_each(|(curve, run)| curve.name = title(ctx, run));
        let strong = shown.baseline;
        all.push(Curve { ranges, dashed: shown.dashed, strong, source, ..Curve::line(name, shown.color, line) });
        all
    }
}

/// The run's name in the list.
fn title(ctx: &PanelCtx<'_>, run: &RunView) -> String {
    let listed = ctx.session.runs.value.iter().flatten().find(|listed| listed.dir == run.dir);
    listed.map_or_else(|| run.name(), |listed| listed.title().to_owned())
}

/// The deciding metric of the merged model: of the report at the end, else of the best evaluation so far.
fn score(run: &RunView) -> Option<f64> {
    let so_far = || run.best_eval().map(|eval| eval.merged.primary);
    run.report().map(|report| report.merged.primary).or_else(so_far)
}

/// The scores of the runs; where some have ended with a report, theirs alone: the best evaluation of a run that was cut
/// short is another thing.
fn scores(shown: &Shown<'_>) -> Vec<f64> {
    let ended = shown.runs.iter().any(|run| run.report().is_some());
    shown.runs.iter().filter(|run| !ended || run.report().is_some()).filter_map(|run| score(run)).collect()
}

fn scores_ui(ctx: &PanelCtx<'_>, shown: &[Shown<'_>], ui: &mut Ui) {
    let Some(metric) = shown.iter().flat_map(|shown| &shown.runs).map(|run| run.metric()).next() else { return };
    let (same, others): (Vec<_>, Vec<_>) = shown.iter().partition(|shown| shown.runs[0].metric() == metric);
    let entries: Vec<ScoreEntry> = same.iter().filter_map(|shown| entry(shown)).collect();
    if entries.is_empty() {
        cards::muted(ui, ctx.theme, "No ticked run has been evaluated yet.");
        return;
    }
    let higher = same[0].runs[0].start.higher_is_better;
    let better = if higher { "more is better" } else { "less is better" };
    let axis = ScoreAxis {
        name: format!("{}, {better}", names::metric(metric)),
        range: range(&entries),
        reference: None,
        line: None,
    };
    dot_plot::ui(ui, ctx.theme, "Merged scores of the ticked runs", &entries, &axis);
    cards::caption(
        ui,
        ctx.theme,
        "The axis is cut to the values. Of one run: band, from the worst to the best random route of its report; whisker, \
         one standard error. Of several seeds: rings, the single runs; whisker, one standard deviation.",
    );
    table_ui(ctx, &same, ui);
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|shown| shown.name.as_str()).collect();
        let words = format!("Measured by another metric and left out here: {}.", names.join(", "));
        cards::muted(ui, ctx.theme, words);
    }
}

fn entry(shown: &Shown<'_>) -> Option<ScoreEntry> {
    let scores = scores(shown);
    let spread = Spread::of(scores.iter().copied())?;
    let report = shown.runs[0].report().filter(|_| shown.runs.len() == 1);
    let band = report.filter(|report| !report.random.is_empty()).map(EvalReport::random_band);
    Some(ScoreEntry {
        name: format::ellipsis(&shown.name, 24),
        value: spread.mean,
        each: Vec::new(),
        band: band.map(|band| [band.min, band.max]),
        singles: if scores.len() > 1 { scores } else { Vec::new() },
        error: if shown.runs.len() > 1 { spread.sd } else { report.and_then(merged_error) },
        interval: None,
        mark: if shown.baseline { MarkShape::Diamond } else { MarkShape::Disc },
        color: shown.color,
    })
}

/// One standard error of an accuracy.
fn merged_error(report: &EvalReport) -> Option<f64> {
    let (p, n) = (report.merged.primary, report.rows as f64);
    (report.metric == "accuracy" && n > 0.0 && (0.0..=1.0).contains(&p)).then(|| (p * (1.0 - p) / n).sqrt())
}

fn range(entries: &[ScoreEntry]) -> [f64; 2] {
    let ends = entries.iter().flat_map(|entry| {
        let error = entry.error.unwrap_or(0.0);
        let band = entry.band.into_iter().flatten().chain(entry.singles.iter().copied());
        band.chain([entry.value - error, entry.value + error]).collect::<Vec<f64>>()
    });
    let (low, high) = ends
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let margin = (0.08 * (high - low)).max(1e-3);
    if low <= high { [low - margin, high + margin] } else { [0.0, 1.0] }
}

/// Mean, spread and number of runs of each line; with a baseline the difference from it.
fn table_ui(ctx: &PanelCtx<'_>, shown: &[&Shown<'_>], ui: &mut Ui) {
    let spread = |shown: &Shown<'_>| Spread::of(scores(shown));
    let base = shown.iter().find(|shown| shown.baseline).and_then(|shown| spread(shown));
    let random = |shown: &Shown<'_>| {
        let means = shown.runs.iter().filter_map(|run| run.report()).filter(|report| !report.random.is_empty());
        Spread::of(means.map(|report| report.random_band().mean)).map(|spread| spread.mean)
    };
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), format::metric);
    type Row<'a, 'b, 'c> = Column<'a, &'b Shown<'c>>;
    let mut columns = vec![
        Row::new("Run", "", |ui, shown| ui.label(RichText::new(&shown.name).color(shown.color))),
        Row::number(
            "Merged",
            "Deciding metric of the merged model; the mean where there are several seeds",
            move |shown| number(spread(shown).map(|spread| spread.mean)),
        ),
        Row::number("sd", "Standard deviation over the seeds (n - 1)", move |shown| {
            number(spread(shown).and_then(|spread| spread.sd))
        }),
        Row::number(
            "n",
            "Runs with this score; of runs that ended with a report and others, those with a report",
            |shown| scores(shown).len().to_string(),
        ),
        Row::number("Random routes", "Mean of the random routes of the report", move |shown| number(random(shown))),
    ];
    if let Some(base) = base {
        columns.push(Row::number("vs baseline", "Difference of the merged score from the baseline's", move |shown| {
            let words = |spread: Spread| format!("{:+.4}", spread.mean - base.mean);
            spread(shown).filter(|_| !shown.baseline).map_or_else(String::new, words)
        }));
    }
    listing::grid(ui, "ticked scores", columns, shown);
    export_menu::table(ui, "merged scores table", || {
        let mut table = Table::new(["run", "seed", "merged", "random_routes_mean", "evaluated"]);
        for run in shown.iter().flat_map(|shown| &shown.runs) {
            let random =
                run.report().filter(|report| !report.random.is_empty()).map(|report| report.random_band().mean);
            let when = if run.report().is_some() { "report at the end" } else { "best evaluation so far" };
            table.push([
                title(ctx, run).into(),
                run.config.train.seed.into(),
                score(run).into(),
                random.into(),
                when.into(),
            ]);
        }
        table
    });
}

/// The settings that are not the same everywhere; the first run is the one that the others are compared with.
fn settings_ui(ctx: &PanelCtx<'_>, runs: &[&RunView], rows: &[(&'static Key, Vec<String>)], ui: &mut Ui) {
    if rows.is_empty() {
        cards::muted(ui, ctx.theme, "All settings are the same but for names and directories.");
        return;
    }
    type Row<'a> = Column<'a, (&'static Key, Vec<String>)>;
    let titles: Vec<String> = runs.iter().map(|run| title(ctx, run)).collect();
    let mut columns = vec![Row::new(
        "Setting",
        "As Setup calls it; under the pointer its key in the run file, and what it does",
        |ui, (key, _)| {
            let name = match fields::label(key.path) {
                "" => format::ellipsis(key.help, 48),
                label => label.to_owned(),
            };
            ui.label(name).on_hover_text(format!("{}\n{}", key.path, help::tip(key.path)))
        },
    )];
    for (i, name) in titles.iter().enumerate() {
        columns.push(Row::new(name, "", move |ui, (_, values): &(_, Vec<String>)| {
            let text = RichText::new(format::ellipsis(&values[i], 36)).monospace();
            // What differs from the first run stands out.
            let text = if values[i] != values[0] { text.strong().color(ctx.theme.accent) } else { text };
            ui.label(if values[i].is_empty() { RichText::new("(empty)").color(ctx.theme.muted) } else { text })
                .on_hover_text(&values[i])
        }));
    }
    listing::grid(ui, "differing settings", columns, rows);
    export_menu::table(ui, "differing settings table", || {
        let mut table = Table::new(["setting", "key"].into_iter().chain(titles.iter().map(String::as_str)));
        for (key, values) in rows {
            let values = values.iter().map(|value| value.as_str().into());
            table.push([key.help.into(), key.path.into()].into_iter().chain(values));
        }
        table
    });
}
