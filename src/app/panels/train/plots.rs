//! The curves of a run: losses large, everything else small below them.

use crate::app::actions::Action;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::metric_plot::{self, Curve, EventLine, PlotOptions};
use crate::app::widgets::{cards, labeled};
use crate::app::{curves, names};
use crate::protocol::RunPhase;
use egui::Ui;

/// Height of the plot of the losses; on large windows a share of the view.
const LOSS_HEIGHT: f32 = 210.0;
/// Height of the others.
const SMALL_HEIGHT: f32 = 136.0;
/// From this width on there are three small plots in a row.
const THREE_ABREAST: f32 = 980.0;

/// Name of the plot of the deciding metric.
const METRIC: &str = "metric plot";
/// Losses, rates, norms and speeds are never negative.
const LEAST_ZERO: [f64; 2] = [0.0, f64::INFINITY];

/// A small plot: its title, its name, its curve.
type Small = (String, &'static str, Curve);

pub fn ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    if run.history.last.is_none() && run.evals.is_empty() {
        let waiting = match ctx.session.phase {
            RunPhase::Failed => "No step was made",
            _ => "Waiting for the first step",
        };
        return cards::loading(ui, waiting, None);
    }
    options_ui(ctx, ui);
    let (theme, history, smooth) = (ctx.theme, &run.history, ctx.settings.smoothing);
    // Regression has no classes, and its losses are squared errors instead of cross-entropies.
    let unit = if run.start.labels.is_empty() && !run.writes() { "squared error" } else { "nats" };
    let evaluations = curves::evaluations(run, "evaluation loss, merged", theme.series(2), |scores| scores.loss);
    let loss = [
        curves::curve(&history.loss, "loss", theme.series(0), smooth),
        curves::curve(&history.task_loss, "task loss", theme.series(1), smooth),
        Curve { dashed: true, ..evaluations },
    ];
    let height = (0.3 * ui.clip_rect().height()).clamp(LOSS_HEIGHT, 2.0 * LOSS_HEIGHT);
    let limits = Some(LEAST_ZERO);
    let options = PlotOptions { height, log: ctx.settings.log_loss, legend: true, limits, ..PlotOptions::default() };
    let marks = curves::marks(run, theme);
    card(ctx, &format!("Loss ({unit})"), "loss plot", &loss, &marks, options, ui);
    let small = small_plots(ctx, run, unit);
    let abreast = if ui.available_width() >= THREE_ABREAST { 3 } else { 2 };
    for row in small.chunks(abreast) {
        ui.columns(abreast, |columns| {
            for (ui, (title, name, curve)) in columns.iter_mut().zip(row) {
                let limits = if *name == METRIC { names::metric_limits(run.metric()) } else { LEAST_ZERO };
                let options = PlotOptions { height: SMALL_HEIGHT, limits: Some(limits), ..PlotOptions::default() };
                card(ctx, title, name, std::slice::from_ref(curve), &marks, options, ui);
            }
        });
    }
}

fn options_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    ui.horizontal(|ui| {
        let mut log = ctx.settings.log_loss;
        if labeled::toggle(ui, "Logarithmic loss", "Logarithmic value axis of the loss", &mut log).changed() {
            ctx.push(Action::SetLogLoss(log));
        }
        let mut half_life = ctx.settings.smoothing;
        ui.spacing_mut().slider_width = 110.0;
        let slider = egui::Slider::new(&mut half_life, 0.0..=200.0).max_decimals(0).text("smoothing, steps");
        let tip = "Steps until half of a step's weight is forgotten; the raw range stays drawn. Independent of zoom";
        if ui.add(slider).on_hover_text(tip).changed() {
            ctx.push(Action::SetSmoothing(half_life));
        }
    });
}

fn small_plots(ctx: &PanelCtx<'_>, run: &RunView, unit: &str) -> Vec<Small> {
    let (theme, history, smooth) = (ctx.theme, &run.history, ctx.settings.smoothing);
    let series = |series, name, color: usize, smooth| curves::curve(series, name, theme.series(color), smooth);
    let mut small: Vec<Small> = vec![(
        format!("{}, merged", names::metric(run.metric())),
        METRIC,
        curves::evaluations(run, run.metric(), theme.series(2), |scores| scores.primary),
    )];
    if run.config.mixture.consistency {
        let curve = series(&history.consistency, "consistency", 3, smooth);
        small.push((format!("Consistency term ({unit})"), "consistency plot", curve));
    }
    let rest = [
        ("Learning rate", "learning rate plot", series(&history.learning_rate, "learning rate", 5, 0.0)),
        ("Gradient norm", "gradient norm plot", series(&history.grad_norm, "gradient norm", 4, smooth)),
        ("Tokens a second", "speed plot", series(&history.tokens_per_s, "tokens a second", 7, smooth)),
    ];
    small.extend(rest.map(|(title, name, curve)| (title.to_owned(), name, curve)));
    small
}

fn card(
    ctx: &PanelCtx<'_>,
    title: &str,
    name: &'static str,
    curves: &[Curve],
    marks: &[EventLine],
    options: PlotOptions,
    ui: &mut Ui,
) {
    cards::card(ui, ctx.theme, title, |ui| {
        if curves.iter().all(|curve| curve.line.is_empty()) {
            ui.set_min_height(options.height);
            cards::muted(ui, ctx.theme, "Nothing measured yet");
            return;
        }
        metric_plot::ui(ui, ctx.theme, name, curves, marks, &PlotOptions { link: Some("train"), ..options });
    });
}
