//! The curves of a run: losses large, everything else small below them.

use crate::app::actions::Action;
use crate::app::clock::XScale;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::metric_plot::{self, Curve, EventLine, PlotOptions};
use crate::app::widgets::{cards, labeled};
use crate::app::{curves, names, x_axis};
use crate::protocol::{Quantity, RunPhase};
use egui::Ui;

/// Height of the plot of the losses; on large windows a share of the view.
const LOSS_HEIGHT: f32 = 210.0;
/// Height of the others.
const SMALL_HEIGHT: f32 = 136.0;
/// From this width on there are three small plots in a row.
const THREE_ABREAST: f32 = 980.0;

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
    let (theme, smooth) = (ctx.theme, ctx.settings.smoothing);
    // Regression has no classes, and its losses are squared errors instead of cross-entropies.
    let unit = if run.start.labels.is_empty() && !run.writes() { "squared error" } else { "nats" };
    let x = XScale::new(ctx.settings.x_axis, run.history.clock.seconds());
    let on_axis = |curve| curves::on_axis(curve, &run.history.clock, &x);
    let evaluations = curves::of(run, Quantity::EvalLoss, "evaluation loss, merged", theme.series(2), 0.0);
    let loss = [
        curves::of(run, Quantity::Loss, "loss", theme.series(0), smooth),
        curves::of(run, Quantity::TaskLoss, "task loss", theme.series(1), smooth),
        Curve { dashed: true, ..evaluations },
    ]
    .map(on_axis);
    let height = (0.3 * ui.clip_rect().height()).clamp(LOSS_HEIGHT, 2.0 * LOSS_HEIGHT);
    let common = PlotOptions { x: Some(x.name), log_x: ctx.settings.log_x, ..PlotOptions::default() };
    let limits = Some(Quantity::Loss.limits(run.metric()));
    let options = PlotOptions { height, log: ctx.settings.log_loss, legend: true, limits, ..common };
    let mut marks = curves::marks(run, theme);
    if let Some(step) = ctx.session.playhead {
        // First, so that it is there however many others are.
        let name = format!("playhead: step {}", crate::format::count(step));
        marks.insert(0, EventLine { x: step as f64, name, color: theme.accent });
    }
    marks.iter_mut().for_each(|mark| mark.x = x.at(&run.history.clock, mark.x));
    card(ctx, &format!("Loss ({unit})"), "loss plot", &loss, &marks, options, ui);
    let small = small_plots(ctx, run, unit);
    let abreast = if ui.available_width() >= THREE_ABREAST { 3 } else { 2 };
    for row in small.chunks(abreast) {
        ui.columns(abreast, |columns| {
            for (ui, (title, name, curve)) in columns.iter_mut().zip(row) {
                let limits = curve.source.as_ref().map(|(_, quantity)| quantity.limits(run.metric()));
                let options = PlotOptions { height: SMALL_HEIGHT, limits, ..common };
                card(ctx, title, name, &[on_axis(curve.clone())], &marks, options, ui);
            }
        });
    }
}

fn options_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    ui.horizontal_wrapped(|ui| {
        x_axis::ui(ctx, ui);
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
    let (theme, smooth) = (ctx.theme, ctx.settings.smoothing);
    let curve = |quantity, name, color: usize, smooth| curves::of(run, quantity, name, theme.series(color), smooth);
    let metric = curve(Quantity::EvalMetric, run.metric(), 2, 0.0);
    let mut small: Vec<Small> = vec![(format!("{}, merged", names::metric(run.metric())), "metric plot", metric)];
    if run.config.mixture.consistency {
        let curve = curve(Quantity::Consistency, "consistency", 3, smooth);
        small.push((format!("Consistency term ({unit})"), "consistency plot", curve));
    }
    let rate = curve(Quantity::LearningRate, "learning rate", 5, 0.0);
    let norm = curve(Quantity::GradNorm, "gradient norm", 4, smooth);
    let speed = curve(Quantity::TokensPerSecond, "tokens a second", 7, smooth);
    small.push(("Learning rate".to_owned(), "learning rate plot", rate));
    small.push(("Gradient norm".to_owned(), "gradient norm plot", norm));
    small.push(("Tokens a second".to_owned(), "speed plot", speed));
    small
}

fn card(
    ctx: &PanelCtx<'_>,
    title: &str,
    name: &'static str,
    curves: &[Curve],
    marks: &[EventLine],
    options: PlotOptions<'_>,
    ui: &mut Ui,
) {
    cards::card(ui, ctx.theme, title, |ui| {
        if curves.iter().all(|curve| curve.line.is_empty()) {
            ui.set_min_height(options.height);
            cards::muted(ui, ctx.theme, "Nothing measured yet");
            return;
        }
        metric_plot::ui(ui, ctx.theme, name, curves, marks, &PlotOptions { title, link: Some("train"), ..options });
    });
}
