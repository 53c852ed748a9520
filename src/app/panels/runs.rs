//! The list of runs on disk: open, overlay, resume, delete.

use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_state;
use crate::app::run_view::RunView;
use crate::app::widgets::listing::{self, Heading};
use crate::app::widgets::metric_plot::{self, Curve, PlotOptions};
use crate::app::widgets::{cards, labeled};
use crate::app::{curves, names};
use crate::format;
use crate::protocol::{RunStatus, RunSummary};
use egui::{Color32, RichText, Ui};
use egui_extras::TableRow;
use std::borrow::Cow;
use std::path::PathBuf;

/// Below this width of the view the list omits when runs were started, which most names say too.
const NARROW: f32 = 600.0;

/// What is drawn of the overlaid runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quantity {
    #[default]
    Loss,
    EvalLoss,
    Metric,
    Consistency,
}

#[derive(Default)]
pub struct RunsPanel {
    quantity: Quantity,
    selected: Option<PathBuf>,
}

impl RunsPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::RefreshRuns);
            ctx.button(ui, Action::Pick(Purpose::Run));
            ctx.button(ui, Action::Pick(Purpose::RunsDir));
            if ctx.session.runs.is_pending() {
                cards::loading(ui, "reading", None);
            }
        });
        let Some(runs) = ctx.list(ui, &ctx.session.runs, "Runs are not read yet") else { return };
        if runs.is_empty() {
            let hint = "Every training writes a directory that is listed here.";
            return cards::empty(ui, ctx.theme, "No runs yet", hint, |ui| drop(ctx.button(ui, Action::StartRun)));
        }
        ui.add_space(4.0);
        self.table_ui(ctx, runs, ui);
        ui.add_space(4.0);
        match runs.iter().find(|run| self.selected.as_ref() == Some(&run.dir)) {
            Some(run) => detail_ui(ctx, run, ui),
            None => drop(cards::muted(ui, ctx.theme, "Select a run to open, resume or delete it.")),
        }
        self.overlay_ui(ctx, ui);
    }

    fn table_ui(&mut self, ctx: &PanelCtx<'_>, runs: &[RunSummary], ui: &mut Ui) {
        // Runs with different metrics say which in every row.
        let one = runs.iter().all(|run| run.metric == runs[0].metric);
        let best = if one && !runs[0].metric.is_empty() { names::metric(&runs[0].metric) } else { "Best" };
        let wide = if one { 62.0 } else { 140.0 };
        let headings = [
            Heading::exact("", "Ticked runs are drawn below, one over the other", 24.0),
            Heading::rest("Run", "Its directory's name; a click chooses it, a double click opens it", 120.0),
            Heading::exact("Status", "What its directory says", 86.0),
            Heading::exact(best, "Best value of the deciding metric, of the merged model on the evaluation rows", wide),
            Heading::exact("Steps", "Done and planned", 64.0),
            Heading::exact("Started", "Month, day and local time", 76.0),
        ];
        // In a narrow view the name is more important than the day.
        let narrow = ui.available_width() < NARROW;
        let shown = headings.len() - usize::from(narrow);
        listing::show(ui, "runs", &headings[..shown], runs.len(), |mut row| {
            self.row_ui(ctx, &runs[row.index()], RowParts { metric: !one, start: !narrow }, &mut row);
        });
    }

    fn row_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, parts: RowParts, row: &mut TableRow<'_, '_>) {
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
            let tip = format!("{}\n{}\nStarted {started}. Double-click to open", run.name, run.dir.display());
            self.take_clicks(ctx, run, &response.on_hover_text(tip));
        });
        let now = newest(ctx, run);
        let (words, color) = run_state::status_label(now.status, ctx.theme);
        let text = |ui: &mut Ui, words: RichText| drop(ui.add(egui::Label::new(words).selectable(false)));
        row.col(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            // The colour is in a dot with a rim, so that the word is readable on a selected row too.
            let (rect, _) = ui.allocate_exact_size(egui::vec2(9.0, 9.0), egui::Sense::hover());
            let rim = egui::Stroke::new(1.0, ui.visuals().extreme_bg_color);
            ui.painter().circle(rect.center(), 4.0, color, rim);
            text(ui, RichText::new(words));
        });
        let best = now.best.map_or_else(|| "-".to_owned(), format::metric);
        let best = match now.best.filter(|_| parts.metric) {
            Some(_) => format!("{best} {}", run.metric.replace('_', " ")),
            None => best,
        };
        row.col(|ui| text(ui, RichText::new(best).monospace()));
        row.col(|ui| text(ui, RichText::new(format!("{}/{}", now.step, run.total_steps)).monospace()));
        // The year is in the tooltip: it is the same for nearly all.
        if parts.start {
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
            let limits = match self.quantity {
                Quantity::Metric => {
                    // Of runs with different metrics, what all of them can be.
                    let runs = ctx.session.overlays.values().filter_map(|query| query.value.as_ref());
                    let widen = |a: [f64; 2], b: [f64; 2]| [a[0].min(b[0]), a[1].max(b[1])];
                    runs.map(|run| names::metric_limits(run.metric())).reduce(widen)
                }
                Quantity::Loss | Quantity::EvalLoss | Quantity::Consistency => Some([0.0, f64::INFINITY]),
            };
            let options = PlotOptions { height: 240.0, legend: true, limits, ..PlotOptions::default() };
            metric_plot::ui(ui, ctx.theme, "overlay plot", &drawn, &[], &options);
        });
    }

    fn curve(&self, ctx: &PanelCtx<'_>, run: &RunView, color: Color32) -> Curve {
        let (name, smooth) = (run.name(), ctx.settings.smoothing);
        match self.quantity {
            Quantity::Loss => curves::curve(&run.history.loss, &name, color, smooth),
            Quantity::Consistency => curves::curve(&run.history.consistency, &name, color, smooth),
            Quantity::Metric => curves::evaluations(run, &name, color, |scores| scores.primary),
            Quantity::EvalLoss => curves::evaluations(run, &name, color, |scores| scores.loss),
        }
    }
}

/// What a row of the list shows beside the rest.
#[derive(Clone, Copy)]
struct RowParts {
    /// The name of the metric.
    metric: bool,
    /// When the run was started.
    start: bool,
}

/// The entry of the list, with the newer values of the run in the engine.
fn newest<'a>(ctx: &PanelCtx<'_>, run: &'a RunSummary) -> Cow<'a, RunSummary> {
    match &ctx.session.live {
        Some(live) if live.dir == run.dir && ctx.session.phase.is_active() => Cow::Owned(RunSummary {
            status: RunStatus::Running,
            best: live.best_eval().map(|eval| eval.merged.primary),
            step: live.step(),
            ..run.clone()
        }),
        _ => Cow::Borrowed(run),
    }
}

/// The selected run with its actions.
fn detail_ui(ctx: &PanelCtx<'_>, run: &RunSummary, ui: &mut Ui) {
    cards::card(ui, ctx.theme, &run.name, |ui| {
        if let Some(problem) = &run.problem {
            cards::error(ui, ctx.theme, problem);
        }
        let (status, _) = run_state::status_label(newest(ctx, run).status, ctx.theme);
        let best = newest(ctx, run).best.map_or_else(|| "-".to_owned(), format::metric);
        let metric =
            if run.metric.is_empty() { "Best".to_owned() } else { format!("Best {}", run.metric.replace('_', " ")) };
        let figures = [
            ("Status", status.to_owned(), "What its directory says"),
            (metric.as_str(), best, "Of the merged model on the evaluation rows"),
            ("Model", format::ellipsis(&run.model, 28), run.model.as_str()),
            ("Task", run.task.clone(), ""),
            ("Method", run.method.clone(), "What was trained"),
            ("Time", format::duration(run.seconds), "Training time"),
            ("On disk", format::bytes(run.bytes), "Checkpoints and exports included"),
        ];
        cards::figures(ui, ctx.theme, &figures);
        cards::caption(ui, ctx.theme, run.dir.display().to_string());
        ui.add_space(4.0);
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::OpenRun(run.dir.clone()));
            let resume = Action::ResumeRun(run.dir.clone());
            match newest(ctx, run).status {
                RunStatus::Running => ctx.refused(ui, resume.text(), "it is in training"),
                _ if run.resumable => drop(ctx.button(ui, resume)),
                RunStatus::Finished => ctx.refused(ui, resume.text(), "it has finished"),
                _ => ctx.refused(ui, resume.text(), "it has no checkpoint"),
            }
            ctx.button(ui, Action::UseSettingsOf(run.dir.clone()));
            ctx.button(ui, Action::AskDeleteRun(run.dir.clone()));
        });
    });
}
