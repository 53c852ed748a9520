//! The loss along every route of a small mixture, or along random ones of a large one.

use crate::app::actions::Action;
use crate::app::names;
use crate::app::panel_ctx::PanelCtx;
use crate::app::theme::Theme;
use crate::app::weights_line;
use crate::app::widgets::dot_plot::{self, MarkShape, ScoreAxis, ScoreEntry};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, legend};
use crate::config::MixtureKind;
use crate::format;
use crate::protocol::{ModelQuery, RouteFactor, RoutesPlan, RoutesReport, Study};
use egui::{RichText, Ui};

/// Rings of a strip; of more routes evenly many of each rank are drawn.
const RINGS: usize = 512;
/// Differences of a loss are shown in thousandths.
const MILLI: f64 = 1e3;

/// Draws the card.
pub fn ui(ctx: &PanelCtx<'_>, kind: MixtureKind, ui: &mut Ui) {
    let Some(subject) = ctx.session.subject() else { return };
    cards::card(ui, ctx.theme, "Every route", |ui| {
        let words = format!(
            "Each route is a whole model. Where there are at most {} they are all measured, with each layer computed once for all \
             routes that are the same below it; of more, {} random ones. On at most {} evaluation rows.",
            format::count(RoutesPlan::ALL),
            RoutesPlan::SAMPLED,
            RoutesPlan::PROBE_ROWS
        );
        cards::caption(ui, ctx.theme, words);
        let query = &ctx.session.studies.routes;
        let study = Study::Routes(RoutesPlan::default());
        ctx.job_ui(ui, Action::Query(subject, ModelQuery::Study(study)), query, "measuring the routes");
        if let Some(report) = &query.value {
            weights_line::answer_ui(ctx, ui, query.weights);
            report_ui(ctx.theme, kind, report, ui);
        }
    });
}

fn report_ui(theme: &Theme, kind: MixtureKind, report: &RoutesReport, ui: &mut Ui) {
    cards::muted(ui, theme, sentence(report));
    spread_ui(theme, report, ui);
    if report.factors.iter().any(|factor| !factor.effects.is_empty()) {
        ui.add_space(4.0);
        ui.label(RichText::new("Effect of each expert on the loss").strong());
        effects_ui(theme, kind, report, ui);
        ui.add_space(4.0);
        ui.label(RichText::new("Is the loss of a route the sum of these effects?").strong());
        additive_ui(theme, report, ui);
    }
    let words = format!(
        "{} routes on {} rows: {} layer passes a row instead of {}, in {}.",
        format::count(report.routes.len()),
        format::count(report.probe_rows),
        format::count(report.layer_passes),
        format::count(report.without_sharing),
        format::duration(report.seconds)
    );
    cards::caption(ui, theme, words);
}

/// What the picture says.
fn sentence(report: &RoutesReport) -> String {
    let routes = format::count(report.routes.len());
    let which = if report.all { format!("All {routes} routes") } else { format!("{routes} random routes") };
    let [low, high] = report.range.map(format::metric);
    format!(
        "{which} have losses from {low} to {high}, mean {}, standard deviation {}. The merged model's loss is {}; {} of the \
         routes are below it. The mean of their answers has {}.",
        format::metric(report.mean),
        format::significant(report.sd, 3),
        format::metric(report.merged),
        format::count(report.below_merged),
        format::metric(report.ensemble)
    )
}

fn spread_ui(theme: &Theme, report: &RoutesReport, ui: &mut Ui) {
    let mut losses: Vec<f64> = report.routes.iter().map(|route| route.loss).collect();
    losses.sort_by(f64::total_cmp);
    let kept = losses.len().min(RINGS);
    let last = losses.len().saturating_sub(1);
    let singles = (0..kept).map(|i| losses[i * last / (kept.max(2) - 1)]).collect();
    let entry = |name: &str, value: f64, singles: Vec<f64>, mark: MarkShape, color: usize| ScoreEntry {
        name: name.to_owned(),
        value,
        each: Vec::new(),
        band: None,
        singles,
        error: None,
        interval: None,
        mark,
        color: theme.series(color),
    };
    let entries = [
        entry("routes, and their mean", report.mean, singles, MarkShape::Tick, 0),
        entry("merged", report.merged, Vec::new(), MarkShape::Diamond, 1),
        entry("ensemble of the routes", report.ensemble, Vec::new(), MarkShape::Square, 2),
    ];
    let values = losses.iter().copied().chain([report.merged, report.ensemble]);
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(v), b.max(v)]);
    let margin = (0.05 * (high - low)).max(1e-9);
    let name = if report.squared_error { "squared error" } else { "loss in nats" };
    let axis = ScoreAxis {
        name: name.to_owned(),
        range: [low - margin, high + margin],
        reference: Some((report.merged, "merged".to_owned())),
        line: None,
    };
    dot_plot::ui(ui, theme, "Losses of the routes on one axis", &entries, &axis);
}

/// A factor's name: `layer 3 down`.
fn name(kind: MixtureKind, factor: &RouteFactor) -> String {
    format!("{} {}", names::layer(&factor.module), names::side(kind, factor.side))
}

fn effects_ui(theme: &Theme, kind: MixtureKind, report: &RoutesReport, ui: &mut Ui) {
    let most = report.factors.iter().flat_map(|factor| &factor.effects).fold(0.0, |most: f64, e| most.max(e.abs()));
    let entry = |factor: &RouteFactor| ScoreEntry {
        name: name(kind, factor),
        value: f64::NAN,
        each: (0..factor.effects.len()).map(|expert| theme.series(expert)).collect(),
        band: None,
        singles: factor.effects.iter().map(|effect| effect * MILLI).collect(),
        error: None,
        interval: None,
        mark: MarkShape::Disc,
        color: theme.series(0),
    };
    let entries: Vec<ScoreEntry> = report.factors.iter().rev().map(entry).collect();
    let end = (1.1 * most * MILLI).max(1e-6);
    let axis = ScoreAxis {
        name: "thousandths of the loss, against the mean of all routes".to_owned(),
        range: [-end, end],
        reference: Some((0.0, "mean".to_owned())),
        line: None,
    };
    ui.horizontal_wrapped(|ui| {
        let most = report.factors.iter().map(|factor| factor.effects.len()).max().unwrap_or(0);
        (0..most).for_each(|expert| {
            drop(legend::key(ui, theme, theme.series(expert), &format!("expert {expert}"), ""));
        });
    });
    dot_plot::ui(ui, theme, "Effects of the experts on the loss", &entries, &axis);
    let shares: Vec<String> = report
        .factors
        .iter()
        .filter_map(|factor| Some(format!("{} {}", name(kind, factor), format::percent(factor.share?))))
        .collect();
    if !shares.is_empty() {
        let words = format!(
            "Share of the variance over all routes, interactions shared equally (they add up to 100 per cent): {}.",
            shares.join(", ")
        );
        cards::caption(ui, theme, words);
    }
}

/// The routes by the sum of their effects: what was measured beside it.
fn additive_ui(theme: &Theme, report: &RoutesReport, ui: &mut Ui) {
    let mut pairs: Vec<(f64, f64)> =
        report.routes.iter().filter_map(|route| Some((route.predicted?, route.loss))).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |of: fn(&(f64, f64)) -> f64| {
        pairs.iter().enumerate().map(|(rank, pair)| [rank as f64 + 1.0, of(pair)]).collect::<Vec<_>>()
    };
    let curves = [
        Curve { dots: pairs.len() <= RINGS, ..Curve::line("measured", theme.series(0), line(|pair| pair.1)) },
        Curve { dashed: true, ..Curve::line("sum of the effects", theme.series(1), line(|pair| pair.0)) },
    ];
    let title = "Loss of each route, and the sum of its effects";
    let x = Some("route, by the sum of its effects");
    let options = PlotOptions { title, height: 150.0, legend: true, x, ..PlotOptions::default() };
    metric_plot::ui(ui, theme, "additive routes", &curves, &[], &options);
    let words = match report.explained {
        Some(share) => {
            let corrected = if report.all { "" } else { ", corrected for the number of effects" };
            format!("One number for each expert explains {} of the variance{corrected}.", format::percent(share))
        }
        None => "All routes have the same loss.".to_owned(),
    };
    cards::caption(ui, theme, words);
}
