//! The list of runs on disk: open, overlay, resume, delete.

use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_view::RunView;
use crate::app::widgets::listing::{self, Heading};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, labeled};
use crate::app::{curves, names};
use crate::format;
use crate::protocol::{RunStatus, RunSummary};
use egui::{Color32, RichText, Ui};
use egui_extras::TableRow;
use std::path::PathBuf;

/// Below this width of the view the list omits when runs were started.
const NARROW: f32 = 430.0;

/// What is drawn of the overlaid runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quantity {
    #[default]
    Loss,
    EvalLoss,
    Metric,
    Consistency,
}

/// What the view remembers on screen.
#[derive(Default)]
pub struct RunsPanel {
    quantity: Quantity,
    selected: Option<PathBuf>,
}

impl RunsPanel {
    /// Draws the view.
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::RefreshRuns);
            ctx.button(ui, Action::Pick(Purpose::Run));
            ctx.button(ui, Action::Pick(Purpose::RunsDir));
            if ctx.session.runs.is_pending() {
                cards::loading(ui, "reading", None);
            }
        });
        ctx.error_ui(ui, &ctx.session.runs);
        let runs = match &ctx.session.runs.value {
            None if ctx.session.runs.is_pending() => return,
            None => {
                return cards::empty(ui, ctx.theme, "Runs are not read yet", "The engine is still starting.", |_| {});
            }
            Some(runs) if runs.is_empty() => {
                let hint = "Every training writes a directory that is listed here.";
                return cards::empty(ui, ctx.theme, "No runs yet", hint, |ui| drop(ctx.button(ui, Action::StartRun)));
            }
            Some(runs) => runs,
        };
        ui.add_space(4.0);
        self.table_ui(ctx, runs, ui);
        ui.add_space(4.0);
        match runs.iter().find(|run| self.selected.as_ref() == Some(&run.dir)) {
            Some(run) => detail_ui(ctx, run, ui),
            None => drop(ui.label(RichText::new("Select a run to open, resume or delete it.").color(ctx.theme.muted))),
        }
        self.overlay_ui(ctx, ui);
    }

    fn table_ui(&mut self, ctx: &PanelCtx<'_>, runs: &[RunSummary], ui: &mut Ui) {
        let metric =
            if runs.iter().all(|run| run.metric == runs[0].metric) { runs[0].metric.as_str() } else { "metric" };
        let best = if metric.is_empty() { "Best" } else { names::metric(metric) };
        let headings = [
            Heading::exact("", "Ticked runs are drawn below, one over the other", 24.0),
            Heading::rest("Run", "Its directory's name; a click chooses it, a double click opens it", 80.0),
            Heading::exact("Status", "What its directory says", 68.0),
            Heading::exact(best, "Best value of the deciding metric, of the merged model on the evaluation rows", 62.0),
            Heading::exact("Steps", "Done and planned", 64.0),
            Heading::exact("Started", "Month, day and local time", 76.0),
        ];
        // In a narrow view the name is more important than the day.
        let narrow = ui.available_width() < NARROW;
        let shown = headings.len() - usize::from(narrow);
        listing::show(ui, "runs", &headings[..shown], runs.len(), |mut row| {
            self.row_ui(ctx, &runs[row.index()], !narrow, &mut row);
        });
    }

    fn row_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, with_start: bool, row: &mut TableRow<'_, '_>) {
        let started = format::date_time(run.created);
        let selected = self.selected.as_ref() == Some(&run.dir);
        row.set_selected(selected);
        row.col(|ui| {
            let mut drawn = ctx.session.overlays.contains_key(&run.dir);
            let response = ui.checkbox(&mut drawn, "").accessible_name(format!("Overlay {}", run.name));
            if response.on_hover_text(Action::ToggleOverlay(run.dir.clone()).tooltip()).changed() {
                ctx.push(Action::ToggleOverlay(run.dir.clone()));
            }
        });
        row.col(|ui| {
            let response = ui.add(egui::Button::selectable(selected, &run.name).frame(false).truncate());
            let tip = format!("{}\nStarted {started}. Double-click to open", run.dir.display());
            self.take_clicks(ctx, run, &response.on_hover_text(tip));
        });
        let now = newest(ctx, run);
        let (words, color) = status_words(ctx, now.status);
        let text = |ui: &mut Ui, words: RichText| drop(ui.add(egui::Label::new(words).selectable(false)));
        row.col(|ui| text(ui, RichText::new(words).color(color)));
        let best = now.best.map_or_else(|| "-".to_owned(), format::metric);
        row.col(|ui| text(ui, RichText::new(best).monospace()));
        row.col(|ui| text(ui, RichText::new(format!("{}/{}", now.step, run.total_steps)).monospace()));
        // The year is in the tooltip: it is the same for nearly all.
        if with_start {
            row.col(|ui| text(ui, RichText::new(started.get(5..16).unwrap_or(&started))));
        }
        // Clicks anywhere in the row count.
        self.take_clicks(ctx, run, &row.response());
    }

    fn take_clicks(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, response: &egui::Response) {
        if response.clicked() {
            self.selected = Some(run.dir.clone());
        }
        if response.double_clicked() {
            ctx.push(Action::OpenRun(run.dir.clone()));
        }
    }

    fn overlay_ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        if ctx.session.overlays.is_empty() {
            return;
        }
        ui.add_space(4.0);
        cards::card(ui, ctx.theme, "Overlaid runs", |ui| {
            let options = [
                (Quantity::Loss, "Training loss"),
                (Quantity::EvalLoss, "Evaluation loss"),
                (Quantity::Metric, "Metric of the merged model"),
                (Quantity::Consistency, "Consistency term"),
            ];
            labeled::choice(ui, "Curves of", "What is drawn of each run", &mut self.quantity, &options);
            let mut drawn: Vec<Curve> = Vec::new();
            for (i, (dir, query)) in ctx.session.overlays.iter().enumerate() {
                let color = ctx.theme.series(i);
                // Of the run in the engine more is known than what was read.
                let live = ctx.session.live.as_ref().filter(|live| live.dir == *dir);
                match (live.or(query.value.as_ref()), &query.error) {
                    (Some(run), _) => drawn.push(self.curve(ctx, run, color)),
                    (None, Some(error)) => cards::error(ui, ctx.theme, error),
                    (None, None) => cards::loading(ui, &format!("reading {}", dir.display()), None),
                }
            }
            let options = PlotOptions { height: 240.0, legend: true, ..PlotOptions::default() };
            metric_plot::ui(ui, ctx.theme, "overlay plot", &drawn, &[], &options);
        });
    }

    fn curve(&self, ctx: &PanelCtx<'_>, run: &RunView, color: Color32) -> Curve {
        let (name, smooth) = (run.name(), ctx.settings.smoothing);
        match self.quantity {
            Quantity::Loss => curves::curve(&run.history.loss, &name, color, smooth),
            Quantity::Consistency => curves::curve(&run.history.consistency, &name, color, smooth),
            Quantity::Metric => curves::metric(run, &name, color),
            Quantity::EvalLoss => Curve { dashed: false, ..curves::eval_loss(run, &name, color) },
        }
    }
}

/// The columns that change during training.
struct Newest {
    status: RunStatus,
    best: Option<f64>,
    step: u64,
}

/// The values of the list, or the newer ones of the run in the engine.
fn newest(ctx: &PanelCtx<'_>, run: &RunSummary) -> Newest {
    match &ctx.session.live {
        Some(live) if live.dir == run.dir && ctx.session.phase.is_active() => Newest {
            status: RunStatus::Running,
            best: live.best_eval().map(|eval| eval.merged.primary),
            step: live.step(),
        },
        _ => Newest { status: run.status, best: run.best, step: run.step },
    }
}

fn status_words(ctx: &PanelCtx<'_>, status: RunStatus) -> (&'static str, Color32) {
    match status {
        RunStatus::Running => ("running", ctx.theme.accent),
        RunStatus::Finished => ("finished", ctx.theme.ok),
        RunStatus::Stopped => ("stopped", ctx.theme.warning),
        RunStatus::Interrupted => ("interrupted", ctx.theme.warning),
        RunStatus::Diverged => ("diverged", ctx.theme.error),
        RunStatus::Damaged => ("damaged", ctx.theme.error),
    }
}

/// The selected run with its actions.
fn detail_ui(ctx: &PanelCtx<'_>, run: &RunSummary, ui: &mut Ui) {
    cards::card(ui, ctx.theme, &run.name, |ui| {
        if let Some(problem) = &run.problem {
            cards::error(ui, ctx.theme, problem);
        }
        let (status, _) = status_words(ctx, newest(ctx, run).status);
        let figures = [
            ("Status", status.to_owned(), "What its directory says"),
            ("Model", format::ellipsis(&run.model, 28), run.model.as_str()),
            ("Task", run.task.clone(), ""),
            ("Method", run.method.clone(), "What was trained"),
            ("Time", format::duration(run.seconds), "Training time"),
            ("On disk", format::bytes(run.bytes), "Checkpoints and exports included"),
        ];
        cards::figures(ui, ctx.theme, &figures);
        ui.label(RichText::new(run.dir.display().to_string()).small().color(ctx.theme.muted));
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::OpenRun(run.dir.clone()));
            let resume = Action::ResumeRun(run.dir.clone());
            let status = newest(ctx, run).status;
            if run.resumable && status != RunStatus::Running {
                ctx.button(ui, resume);
            } else {
                let reason = match status {
                    RunStatus::Running => "it is in training",
                    RunStatus::Finished => "it has finished",
                    _ => "it has no checkpoint",
                };
                ui.add_enabled(false, egui::Button::new(resume.text()))
                    .on_disabled_hover_text(format!("Not possible: {reason}"));
            }
            if ctx.session.shown().is_some_and(|shown| shown.dir == run.dir) {
                ctx.button(ui, Action::UseSettingsOf(run.dir.clone()));
            }
            ctx.button(ui, Action::AskDeleteRun(run.dir.clone()));
        });
    });
}
