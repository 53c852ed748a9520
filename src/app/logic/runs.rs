//! Starting, opening and borrowing from runs, and what is said when one has ended.

use super::WorkbenchApp;
use crate::app::TITLE;
use crate::app::files::Purpose;
use crate::app::session::{MadeFrom, Weights};
use crate::app::view::View;
use crate::config::{RunConfig, Task};
use crate::format;
use crate::protocol::*;
use std::path::{Path, PathBuf};

impl WorkbenchApp {
    /// Starts the bundled lab; where the runs are and what computes stay as they are.
    pub(super) fn train_lab(&mut self, now: f64) {
        let mut lab = crate::app::first_form();
        lab.runs_dir.clone_from(&self.session.form.runs_dir);
        let (model, current) = (&mut lab.model, &self.session.form.model);
        (model.device, model.dtype, model.threads) = (current.device, current.dtype, current.threads);
        self.session.edit_form(lab, now);
        (self.session.form_from, self.session.label_of_live) = (None, None);
        let config = Box::new(self.session.form.clone());
        self.train(|run| Command::StartRun { run, config });
    }

    /// Setup for the user's own table, and the question for it.
    pub(super) fn own_file(&mut self, now: f64) {
        let mut form = self.session.form.clone();
        form.data.task = Task::Custom;
        self.session.edit_form(form, now);
        self.layout.show(View::Setup);
        self.pick(Purpose::TrainFile);
    }

    /// Writes down which run's settings the new run was started with.
    pub(super) fn note_parent(&mut self) {
        let (Some(label), Some(live)) = (self.session.label_of_live.take(), &self.session.live) else { return };
        let (dir, label) = (live.dir.clone(), Box::new(label));
        self.ask(|s| &mut s.labelling, Command::LabelRun { dir, label });
    }

    /// Starts or resumes a run and shows it.
    pub(super) fn train(&mut self, command: impl FnOnce(RunId) -> Command) {
        let (req, run) = (self.session.next_request(), self.session.next_run());
        let command = command(run);
        self.begin(req, run, command);
    }

    /// Sends a command that trains and shows its run.
    pub(super) fn begin(&mut self, req: RequestId, run: RunId, command: Command) {
        if self.send(req, command) {
            self.session.begin_run(req, run);
            self.layout.show(View::Train);
            // The pace belongs to the run that it was chosen in.
            if let Some(presenter) = self.presenter.filter(|presenter| presenter.pace > 0) {
                self.control(ControlRequest::Pace(presenter.pace));
            }
        }
    }

    pub(super) fn open_run(&mut self, dir: PathBuf) {
        if self.session.is_live(&dir) {
            self.session.show_opened(None);
        } else {
            self.ask(|s| &mut s.opening, Command::OpenRun(dir));
        }
    }

    pub(super) fn read_overlay(&mut self, dir: PathBuf) {
        let req = self.session.next_request();
        if self.send(req, Command::OpenRun(dir.clone())) {
            self.session.overlays.entry(dir).or_default().begin(req);
        }
    }

    pub(super) fn use_settings_of(&mut self, dir: &Path, now: f64) {
        match self.session.shown().filter(|run| run.dir == dir).map(|run| run.config.clone()) {
            Some(config) => self.use_settings(dir, config, now),
            // A run that is not on screen is read first.
            None => drop(self.ask(|s| &mut s.borrowed, Command::OpenRun(dir.to_owned()))),
        }
    }

    pub(super) fn use_settings(&mut self, dir: &Path, mut config: RunConfig, now: f64) {
        // A run's name is its directory's: the next run needs a fresh one.
        let asked = self.session.branch_asked.take_if(|asked| asked == dir).is_some();
        let branch = asked.then_some(match self.session.weights() {
            // What is on screen of that run is what the user looked at.
            Weights::Saved(chosen) if self.session.shown().is_some_and(|run| run.dir == dir) => chosen,
            _ => Checkpoint::Last,
        });
        self.session.form_from = Some(MadeFrom { dir: dir.to_owned(), config: config.clone(), branch });
        config.name.clear();
        self.session.replace_form(config, now);
        self.layout.show(View::Setup);
    }

    /// A run has ended: where the window is not in front, its title and a notice on the desktop say so, and its entry in the
    /// task bar asks for attention.
    pub(super) fn ask_for_attention(&mut self, ctx: &egui::Context) {
        let focused = ctx.input(|input| input.viewport().focused.unwrap_or(input.focused));
        if !self.settings.notify || focused {
            return;
        }
        let name = self.session.live.as_ref().map_or_else(String::new, crate::app::run_view::RunView::name);
        let outcome = if self.session.phase == RunPhase::Failed { "Failed" } else { "Finished" };
        ctx.send_viewport_cmd(egui::ViewportCommand::Title(format!("{outcome}: {name} - {TITLE}")));
        let how = self.session.live.as_ref().map(|run| {
            let steps = format!("{} of {} steps", format::count(run.step()), format::count(run.start.total_steps));
            run.failure.clone().unwrap_or(steps)
        });
        self.picker.notice(format!("{outcome}: {name}"), how.unwrap_or_default());
        ctx.send_viewport_cmd(egui::ViewportCommand::RequestUserAttention(egui::UserAttentionType::Informational));
        self.titled = true;
    }

    /// The title is the usual one again when the window is in front.
    pub(super) fn usual_title(&mut self, ctx: &egui::Context) {
        if self.titled && ctx.input(|input| input.viewport().focused.unwrap_or(input.focused)) {
            self.titled = false;
            ctx.send_viewport_cmd(egui::ViewportCommand::Title(TITLE.to_owned()));
        }
    }
}
