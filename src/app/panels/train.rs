//! Loss, learning rate and speed during training.

mod outcome;
mod plots;
mod samples;

use crate::app::chrome::phase_label;
use crate::app::panel_ctx::{PanelCtx, shown_run};
use crate::app::phases;
use crate::app::run_view::RunView;
use crate::app::widgets::listing::{self, Heading};
use crate::app::widgets::{cards, labeled, stacked_bar};
use crate::format;
use crate::protocol::{HealthState, TensorHealth};
use egui::{Color32, RichText, Ui};
use egui_extras::Column;

/// What the view remembers on screen.
#[derive(Default)]
pub struct TrainPanel {
    all_tensors: bool,
    samples: samples::SamplesCard,
}

impl TrainPanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        if let Some(error) = &ctx.session.start_error {
            cards::error(ui, ctx.theme, error);
            ui.add_space(4.0);
        }
        let hint = "The settings in Setup are ready. Start trains with them; everything is written to a run directory.";
        let Some(run) = shown_run(ctx, ui, "Ready to train", hint) else { return log_ui(ctx, None, ui) };
        if let Some(failure) = &run.failure {
            cards::error(ui, ctx.theme, failure);
        }
        figures_ui(ctx, run, ui);
        outcome::ui(ctx, run, ui);
        self.samples.ui(ctx, run, ui);
        ui.add_space(4.0);
        plots::ui(ctx, run, ui);
        ui.add_space(4.0);
        profile_ui(ctx, run, ui);
        self.gradient_health_ui(ctx, run, ui);
        ui.add_space(4.0);
        log_ui(ctx, Some(run), ui);
    }

    fn gradient_health_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
        let title = match run.gradient_health.first() {
            Some(health) => format!("Gradient health, checked after step {}", health.step),
            None => "Gradient health".to_owned(),
        };
        cards::card(ui, ctx.theme, &title, |ui| {
            if run.gradient_health.is_empty() {
                let words = "Gradient and change of every trained tensor are checked after steps 1, 3 and 10.";
                ui.label(RichText::new(words).color(ctx.theme.muted));
                return;
            }
            ui.horizontal_wrapped(|ui| {
                for state in [HealthState::Learning, HealthState::NotDrawn, HealthState::Dead, HealthState::Exploding] {
                    let n = run.gradient_health.iter().filter(|health| health.state == state).count();
                    if n > 0 {
                        let (words, color) = health_label(ctx, state);
                        cards::badge(ui, &format!("● {n} {words}"), color);
                    }
                }
                labeled::toggle(ui, "All tensors", "Lists the healthy tensors too", &mut self.all_tensors);
            });
            let mut shown: Vec<&TensorHealth> = run.gradient_health.iter().collect();
            if !self.all_tensors {
                shown.retain(|health| matches!(health.state, HealthState::Dead | HealthState::Exploding));
            }
            if !shown.is_empty() {
                health_table(ctx, &shown, ui);
            }
        });
    }
}

fn health_label(ctx: &PanelCtx<'_>, state: HealthState) -> (&'static str, Color32) {
    match state {
        HealthState::Learning => ("learning", ctx.theme.ok),
        HealthState::NotDrawn => ("not drawn yet", ctx.theme.muted),
        HealthState::Dead => ("without gradient or change", ctx.theme.error),
        HealthState::Exploding => ("changing too fast", ctx.theme.warning),
    }
}

fn health_table(ctx: &PanelCtx<'_>, tensors: &[&TensorHealth], ui: &mut Ui) {
    let headings = [
        Heading::rest("Tensor", "", 150.0),
        Heading::exact("Expert", "", 54.0),
        Heading::exact("Gradient", "", 76.0),
        Heading::exact("Change", "", 76.0),
        Heading { title: "Verdict", tip: "", column: Column::initial(150.0).clip(true) },
    ];
    listing::numbers(ui, "lamps", &headings, 180.0, tensors.len(), |mut row| {
        let health = tensors[row.index()];
        let (words, color) = health_label(ctx, health.state);
        row.col(|ui| drop(ui.label(&health.tensor)));
        row.col(|ui| drop(ui.label(health.expert.map_or_else(|| "-".to_owned(), |e| e.to_string()))));
        row.col(|ui| drop(ui.monospace(format::significant(health.max_abs_grad, 2))));
        row.col(|ui| drop(ui.monospace(format::significant(health.update_ratio, 2))));
        row.col(|ui| drop(ui.label(RichText::new(format!("● {words}")).color(color))));
    });
}

fn figures_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let live = ctx.session.shows_live();
    let number = |value: Option<f32>, digits| {
        value.map_or_else(|| "-".to_owned(), |value| format::significant(f64::from(value), digits))
    };
    let last = run.history.last;
    let epoch = last.map_or_else(|| "-".to_owned(), |step| format!("{:.2}", step.epoch));
    let rate = last.map_or_else(|| "-".to_owned(), |step| format::scientific(f64::from(step.learning_rate)));
    let speed = run.history.speed().map_or_else(|| "-".to_owned(), format::short_count);
    let steps = format!("{} / {}", format::count(run.step()), format::count(run.start.total_steps));
    let mut figures = vec![
        match run.status.filter(|_| !live) {
            Some(status) => ("Status", format!("{status:?}").to_lowercase(), "What the run directory says"),
            None => ("Phase", phase_label(ctx.session.phase, ctx.theme).0.to_lowercase(), "What the engine reported"),
        },
        ("Step", steps, "Optimizer steps done of those planned"),
        ("Epoch", epoch, "Passes over the training rows"),
        ("Loss", number(last.map(|step| step.loss), 4), "Task loss plus λ times the consistency term, last step"),
        (
            "Consistency",
            number(last.map(|step| step.consistency_loss), 3),
            "Symmetric KL divergence between the two passes, before λ",
        ),
        ("Learning rate", rate, "Of the last step"),
        ("Gradient norm", number(last.map(|step| step.grad_norm), 3), "Before clipping"),
    ];
    let best_name = format!("Best {}", run.metric());
    if let Some(best) = run.best_eval() {
        let text = format!("{} at {}", format::metric(best.merged.primary), format::count(best.step));
        figures.push((&best_name, text, "Of the merged model on the evaluation rows"));
    }
    figures.push(("Tokens/s", speed, "Over the last steps, both passes counted"));
    figures.push(("Time", format::duration(run.history.seconds), "Training time, evaluations not counted"));
    if live && ctx.session.phase.is_active() {
        let left = run.seconds_left().filter(|left| *left > 0.0).map_or_else(|| "-".to_owned(), format::duration);
        figures.push(("Left", left, "At the speed of the last steps, evaluations not counted"));
    }
    cards::card(ui, ctx.theme, "", |ui| cards::figures(ui, ctx.theme, &figures));
}

/// Time of a step by phase; absent for a run read from disk.
fn profile_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let Some(profile) = &run.profile else { return };
    let ms = format::significant(1e3 * f64::from(profile.total()), 3);
    cards::card(ui, ctx.theme, &format!("Where the time of a step goes: {ms} ms"), |ui| {
        stacked_bar::ui(ui, ctx.theme, "step profile", &phases::parts(profile, ctx.theme));
        let steps = match profile.steps {
            1 => format!("Step {}", format::count(profile.step)),
            n => format!("Mean of {n} steps up to step {}", format::count(profile.step)),
        };
        let words = format!("{steps}; every moment counts for one phase only");
        ui.label(RichText::new(words).small().color(ctx.theme.muted));
    });
    ui.add_space(4.0);
}

fn log_ui(ctx: &PanelCtx<'_>, run: Option<&RunView>, ui: &mut Ui) {
    let from_disk: Option<&Vec<String>> = run.filter(|_| ctx.session.opened.is_some()).map(|run| &run.log);
    let n = from_disk.map_or(ctx.session.log.len(), Vec::len);
    if n == 0 {
        return;
    }
    egui::CollapsingHeader::new("Log").id_salt("log").default_open(run.is_some()).show(ui, |ui| {
        let height = ui.text_style_height(&egui::TextStyle::Small);
        egui::ScrollArea::vertical()
            .id_salt("log lines")
            .max_height(130.0)
            .stick_to_bottom(true)
            .auto_shrink([false, true])
            .show_rows(ui, height, n, |ui, rows| {
                for i in rows {
                    let (color, text) = match from_disk {
                        Some(lines) => (ctx.theme.muted, lines[i].as_str()),
                        None => {
                            let line = &ctx.session.log[i];
                            (ctx.theme.level(line.level), line.text.as_str())
                        }
                    };
                    ui.add(egui::Label::new(RichText::new(text).small().monospace().color(color)).truncate());
                }
            });
    });
}
