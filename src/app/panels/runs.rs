//! The list of runs: open, name, compare, resume, delete.

mod label;
mod list;
mod status;
mod ticked;

mod queue;

use crate::app::actions::Action;
use crate::app::files::Purpose;
use crate::app::panel_ctx::PanelCtx;
use crate::app::run_columns;
use crate::app::widgets::cards;
use crate::format;
use crate::protocol::{RunStatus, RunSummary};
use egui::Ui;
use status::newest;

#[derive(Default)]
pub struct RunsPanel {
    list: list::RunTable,
    label: label::LabelEditor,
    ticked: ticked::TickedRuns,
}

impl RunsPanel {
    pub fn ui(&mut self, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            ctx.button(ui, Action::RefreshRuns);
            ctx.button(ui, Action::Pick(Purpose::Run));
            ctx.button(ui, Action::Pick(Purpose::Capsule));
            ctx.button(ui, Action::Pick(Purpose::RunsDir));
            if ctx.session.runs.is_pending() {
                cards::loading(ui, "reading", None);
            }
        });
        queue::ui(ctx, ui);
        let Some(runs) = ctx.list(ui, &ctx.session.runs, "Runs are not read yet") else { return };
        if runs.is_empty() {
            let hint = "Every training writes a directory that is listed here.";
            return cards::empty(ui, ctx.theme, "No runs yet", hint, |ui| drop(ctx.button(ui, Action::StartRun)));
        }
        ui.add_space(4.0);
        self.list.ui(ctx, runs, ui);
        ui.add_space(4.0);
        match runs.iter().find(|run| self.list.selected.as_ref() == Some(&run.dir)) {
            Some(run) => self.detail_ui(ctx, run, ui),
            None => drop(cards::muted(ui, ctx.theme, "Select a run to open, resume or delete it.")),
        }
        self.ticked.ui(ctx, ui);
    }

    /// The selected run with its actions.
    fn detail_ui(&mut self, ctx: &PanelCtx<'_>, run: &RunSummary, ui: &mut Ui) {
        cards::card(ui, ctx.theme, run.title(), |ui| {
            if let Some(problem) = &run.problem {
                cards::error(ui, ctx.theme, problem);
            }
            let now = newest(ctx, run);
            let best = now.best.map_or_else(|| "-".to_owned(), format::metric);
            let metric = if run.metric.is_empty() {
                "Best".to_owned()
            } else {
                format!("Best {}", run.metric.replace('_', " "))
            };
            let figures = [
                ("Status", run_columns::status(now.status).to_owned(), "What its directory says"),
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
                let branch = Action::BranchRun(run.dir.clone());
                match run.resumable || now.status == RunStatus::Finished {
                    true => drop(ctx.button(ui, branch)),
                    false => ctx.refused(ui, branch.text(), "it has no checkpoint"),
                }
                ctx.button(ui, Action::ReportRun(run.dir.clone()));
                ctx.button(ui, Action::SaveCapsule(run.dir.clone()));
                ctx.button(ui, Action::OpenFolder(run.dir.clone()));
                ctx.button(ui, Action::AskDeleteRun(run.dir.clone()));
            });
            self.label.ui(ctx, run, ui);
        });
    }
}
