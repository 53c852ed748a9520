//! Loss, learning rate and speed during training.

mod computer;
mod plots;
mod samples;

use crate::analysis::verdict::{self as judgement, Grade};
use crate::app::actions::Action;
use crate::app::panel_ctx::{PanelCtx, shown_run};
use crate::app::phases;
use crate::app::run_state;
use crate::app::run_view::RunView;
use crate::app::tables;
use crate::app::view::View;
use crate::app::widgets::listing::{self, Column};
use crate::app::widgets::verdict::{self, Verdict};
use crate::app::widgets::{cards, export_menu, labeled, stacked_bar};
use crate::format;
use crate::protocol::{EndReason, EvalReport, HealthState, RunPhase, TensorHealth};
use egui::{Color32, RichText, Ui};

#[derive(Default)]
pub struct TrainPanel {
    all_tensors: bool,
    samples: samples::SamplesCard,
}

impl TrainPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        if let Some(error) = &ctx.session.start_error {
            cards::error(ui, ctx.theme, error);
            ui.add_space(4.0);
        }
        let (title, hint) = match ctx.session.phase.is_active() {
            true => ("A run begins", "Its curves are shown here."),
            false => (
                "Ready to train",
                "The settings in Setup are ready. Start trains with them; everything is written to a run directory.",
            ),
        };
        let Some(run) = shown_run(ctx, ui, title, hint) else { return log_ui(ctx, None, ui) };
        if let Some(failure) = &run.failure {
            cards::error(ui, ctx.theme, failure);
        }
        figures_ui(ctx, run, ui);
        outcome_ui(ctx, run, ui);
        self.samples.ui(ctx, run, ui);
        plots::ui(ctx, run, ui);
        profile_ui(ctx, run, ui);
        computer::ui(ctx, ui);
        self.gradient_health_ui(ctx, run, ui);
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
                cards::muted(ui, ctx.theme, words);
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
    type Row<'a, 'b> = Column<'a, &'b TensorHealth>;
    let columns = vec![
        Row::new("Tensor", "", |ui, health| ui.label(&health.tensor)).rest(150.0),
        Row::number("Expert", "", |health| health.expert.map_or_else(|| "-".to_owned(), |e| e.to_string())).exact(54.0),
        Row::number("Gradient", "", |health| format::significant(health.max_abs_grad, 2)).exact(76.0),
        Row::number("Change", "", |health| format::significant(health.update_ratio, 2)).exact(76.0),
        Row::new("Verdict", "", |ui, health| {
            let (label, color) = health_label(ctx, health.state);
            ui.label(RichText::new(format!("● {label}")).color(color))
        })
        .exact(190.0),
    ];
    listing::numbers(ui, "gradient health", 180.0, columns, tensors);
    let shown = || tables::gradient_health(&tensors.iter().map(|health| (*health).clone()).collect::<Vec<_>>());
    export_menu::table(ui, "gradient health table", shown);
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
    let state = run_state::describe(ctx.session, ctx.theme).0.to_lowercase();
    let tip = if live { "What the engine reported" } else { "What the run directory says" };
    let mut figures = vec![
        ("Status", state, tip),
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
        figures.push((&best_name, text, "Of the merged model on the evaluation rows; the first of equals, whose weights are kept as the best checkpoint"));
    }
    figures.push(("Tokens/s", speed, "Over the last steps, both passes counted"));
    figures.push(("Time", format::duration(run.history.seconds), "Training time, evaluations not counted"));
    if live && ctx.session.phase.is_active() {
        let (left, tip) = match run.evaluating.filter(|_| ctx.session.phase == RunPhase::Evaluating) {
            Some(evaluating) => (evaluating.seconds_left, "Until the evaluation is done, at its speed so far"),
            None => (run.seconds_left(), "At the speed of the last steps, evaluations not counted"),
        };
        let left = left.filter(|left| *left > 0.0).map_or_else(|| "-".to_owned(), format::duration);
        figures.push(("Left", left, tip));
    }
    cards::card(ui, ctx.theme, "", |ui| cards::figures(ui, ctx.theme, &figures));
}

/// Draws the outcome of a run that has ended; before, only a warning where there is one.
fn outcome_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let rise = judgement::Rise::of(&run.evals);
    let Some(end) = &run.end else {
        if let Some(rise) = rise {
            cards::card(ui, ctx.theme, "", |ui| verdict::line(ui, ctx.theme, Verdict::Unsure, &rise.describe()));
        }
        return interrupted_ui(ctx, run, ui);
    };
    let how = match &end.reason {
        EndReason::Finished => "Finished".to_owned(),
        EndReason::EarlyStopped => "Stopped early, because the metric got no better".to_owned(),
        EndReason::Stopped(_) => format!("Stopped at step {}; Resume continues from here", format::count(end.step)),
        // Its failure is shown already.
        EndReason::Diverged { .. } => return,
    };
    cards::card(ui, ctx.theme, "", |ui| {
        let (verdict, words) = match &end.report {
            Some(report) => {
                let judged = judgement::verdict(report, &[], &run.evals);
                let words = format!("{how}. {} {}", report_text(report, end.weights_step()), judged.text);
                (verdict::of_grade(judged.grade), words)
            }
            None => {
                let rise = rise.map_or_else(String::new, |rise| format!(" {}", rise.describe()));
                (
                    verdict::of_grade(if rise.is_empty() { Grade::Open } else { Grade::Doubtful }),
                    format!("{how}.{rise}"),
                )
            }
        };
        verdict::line(ui, ctx.theme, verdict, &words);
        ui.horizontal_wrapped(|ui| {
            let show = |ui: &mut Ui, words: &str, view: View| {
                drop(ctx.button_as(ui, Action::Show(view), egui::Button::new(words)));
            };
            if let Some(dir) = ctx.session.resumable() {
                ctx.primary(ui, Action::ResumeRun(dir), "Resume");
            }
            show(ui, "Merged against unmerged", View::Compare);
            show(ui, "Export with proof", View::Export);
            ctx.button(ui, Action::ReportRun(run.dir.clone()));
        });
    });
}

/// Draws the card of a run that has not come to its end, with the way to go on.
fn interrupted_ui(ctx: &PanelCtx<'_>, run: &RunView, ui: &mut Ui) {
    let Some(dir) = ctx.session.resumable() else { return };
    cards::card(ui, ctx.theme, "", |ui| {
        let words = format!(
            "{} of {}. Resume goes on from the last checkpoint.",
            run_state::describe(ctx.session, ctx.theme).0,
            format::count(run.start.total_steps)
        );
        verdict::line(ui, ctx.theme, Verdict::Open, &words);
        ctx.primary(ui, Action::ResumeRun(dir), "Resume");
    });
}

/// The scores of the best weights, those of this step, in a sentence.
fn report_text(report: &EvalReport, step: u64) -> String {
    let metric = format::metric;
    let mut words =
        format!("Merged {} {} after step {}", report.metric, metric(report.merged.primary), format::count(step));
    if !report.random.is_empty() && !report.fixed.is_empty() {
        let band = report.random_band();
        let (n, [mean, min, max]) = (report.random.len(), [band.mean, band.min, band.max].map(metric));
        words.push_str(&format!("; {} {mean} on average ({min} to {max})", format::counted(n, "random route")));
    }
    if report.majority.is_finite() {
        let without = if report.base.is_some() { "the base model" } else { "always the same answer" };
        words.push_str(&format!("; {without} {}", metric(report.majority)));
    }
    format!("{words}; {}.", format::counted(report.rows, "evaluation row"))
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
        cards::caption(ui, ctx.theme, format!("{steps}; each moment is counted in one phase only"));
    });
}

fn log_ui(ctx: &PanelCtx<'_>, run: Option<&RunView>, ui: &mut Ui) {
    let lines: Vec<(Color32, &str)> = match run.filter(|_| ctx.session.opened.is_some()) {
        Some(run) => run.log.iter().map(|text| (ctx.theme.muted, text.as_str())).collect(),
        None => ctx.session.log.iter().map(|line| (ctx.theme.level(line.level), line.text.as_str())).collect(),
    };
    if lines.is_empty() {
        return;
    }
    egui::CollapsingHeader::new("Log").default_open(run.is_some()).show(ui, |ui| {
        let height = ui.text_style_height(&egui::TextStyle::Small);
        egui::ScrollArea::vertical()
            .id_salt("log lines")
            .max_height(130.0)
            .stick_to_bottom(true)
            .auto_shrink([false, true])
            .show_rows(ui, height, lines.len(), |ui, rows| {
                for &(color, text) in &lines[rows] {
                    ui.add(egui::Label::new(RichText::new(text).small().monospace().color(color)).truncate());
                }
            });
    });
}
