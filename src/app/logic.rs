//! What happens between two pictures: messages in, actions out. Nothing here waits.

mod models;
mod paths;
mod upkeep;

use super::WorkbenchApp;
use super::actions::Action;
use super::dialogs::Dialog;
use super::layout::{Layout, View};
use super::settings::Appearance;
use crate::protocol::*;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time for taking in messages before each picture.
const DRAIN_BUDGET: Duration = Duration::from_millis(4);

impl WorkbenchApp {
    /// Takes in what the engine and the file dialogs have to say, and does what is due. `now` in seconds.
    pub(super) fn before_picture(&mut self, ctx: &egui::Context, now: f64) {
        self.drain(ctx);
        while let Some(answer) = self.picker.poll() {
            self.take_file_answer(answer);
        }
        self.session.dialog_open = self.picker.is_open();
        self.first_questions();
        self.check_form(ctx, now);
        self.follow_opened(ctx, now);
        self.follow_runs(ctx, now);
        self.follow_models(now);
        self.update_watch();
        self.close_requests(ctx);
    }

    fn drain(&mut self, ctx: &egui::Context) {
        let Some(engine) = &mut self.engine else { return };
        let (session, end) = (&mut self.session, Instant::now() + DRAIN_BUDGET);
        let was_active = session.phase.is_active();
        let had_run = session.live.is_some();
        let left = engine.drain(&mut |incoming| {
            session.apply(incoming);
            if Instant::now() < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if left {
            ctx.request_repaint();
        }
        if !had_run && self.session.live.is_some() {
            self.refresh_runs();
        }
        if was_active && !self.session.phase.is_active() {
            self.refresh_runs();
            if self.quit_when_stopped {
                self.quit_when_stopped = false;
                self.may_close = true;
                ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            }
        }
    }

    /// Sends a question; a refusal becomes a notice. Returns whether it was taken.
    fn send(&mut self, command: Command) -> bool {
        let sent = self.engine.as_ref().map_or(Err(Busy::Gone), |engine| engine.try_send(command));
        match sent {
            Ok(()) => true,
            Err(Busy::Full) => {
                self.session.notify(LogLevel::Warning, "the engine is busy; nothing was done, try again in a moment");
                false
            }
            Err(Busy::Gone) => {
                self.session.notify(LogLevel::Error, "the engine is gone; restart the window (runs on disk are safe)");
                false
            }
        }
    }

    fn control(&self, request: ControlRequest) {
        if let Some(engine) = &self.engine {
            engine.control(request);
        }
    }

    fn refresh_runs(&mut self) {
        let req = self.session.next_request();
        if self.send(Command::ListRuns { req, runs_dir: self.session.form.runs_dir.clone() }) {
            self.session.runs.begin(req);
        }
    }

    /// The window's close button: asks while training.
    fn close_requests(&mut self, ctx: &egui::Context) {
        if !ctx.input(|input| input.viewport().close_requested()) || self.may_close {
            return;
        }
        if self.session.phase.is_active() {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.dialog = Some(Dialog::Close);
        }
    }

    /// Carries out everything that was wished for in this picture, in order.
    pub(super) fn execute(&mut self, ctx: &egui::Context, now: f64) {
        let actions = self.actions.take();
        if !actions.is_empty() {
            ctx.request_repaint();
        }
        for action in actions {
            match action.enabled(&self.session) {
                Ok(()) => self.perform(action, ctx, now),
                Err(reason) => self.session.notify(LogLevel::Warning, format!("{}: {reason}", action.text())),
            }
        }
    }

    fn perform(&mut self, action: Action, ctx: &egui::Context, now: f64) {
        match action {
            Action::Show(view) => self.layout.show(view),
            Action::ResetLayout => self.layout = Layout::default(),
            Action::StartRun => self.start_run(),
            Action::Pause => self.hold(ControlRequest::Pause),
            Action::Resume => self.hold(ControlRequest::Resume),
            Action::Step => self.control(ControlRequest::Step),
            Action::Stop => self.control(ControlRequest::Stop("the user asked".to_owned())),
            Action::EditForm(form) => self.session.edit_form(*form, now),
            Action::UndoForm => self.session.undo_form(),
            Action::RedoForm => self.session.redo_form(),
            Action::CheckPlan => {
                self.checked = None;
                self.check_due = Some(now);
            }
            Action::Pick(purpose) => self.pick(purpose),
            Action::UsePath(purpose, path) => self.use_path(purpose, path, now),
            Action::Dropped(path) => self.dropped(path),
            Action::RefreshRuns => self.refresh_runs(),
            Action::OpenRun(dir) => {
                self.layout.show(View::Train);
                self.open_run(dir);
            }
            Action::ShowLive => self.session.show_opened(None),
            Action::ResumeRun(dir) => self.resume_run(dir),
            Action::AskDeleteRun(dir) => self.dialog = Some(Dialog::Delete(dir)),
            Action::DeleteRun(dir) => self.delete_run(dir),
            Action::ToggleOverlay(dir) => self.toggle_overlay(dir),
            Action::UseSettingsOf(dir) => self.use_settings_of(&dir, now),
            Action::RefreshModels => self.refresh_models(),
            Action::DownloadModel(id) => self.download_model(&id),
            Action::CancelDownload(req) => self.control(ControlRequest::CancelDownload(req)),
            Action::DismissDownload(req) => self.session.downloads.retain(|download| download.req != req),
            Action::UseModel(id) => self.use_model(id, now),
            Action::AskRemoveModel(id) => self.dialog = Some(Dialog::RemoveModel(id)),
            Action::RemoveModel(id) => self.remove_model(id),
            Action::Compare(subject, random_routes) => self.compare(subject, random_routes),
            Action::Merge(subject, plan) => self.merge(subject, plan),
            Action::Export(subject, plan) => self.export(subject, plan),
            Action::Inspect(subject, site, side) => self.inspect(subject, site, side),
            Action::WriteAndScore(subject, inputs) => self.write_and_score(subject, inputs),
            Action::Study(subject, study) => self.study(subject, study),
            Action::Play(writer, plan) => self.play(writer, plan),
            Action::FocusExperts(site, side) => self.session.focus = (site, Some(side)),
            Action::CancelJob => self.control(ControlRequest::CancelJob),
            Action::Copy(text) => {
                ctx.copy_text(text);
                self.session.notify(LogLevel::Info, "copied");
            }
            Action::SetSmoothing(half_life) => self.settings.smoothing = half_life,
            Action::SetLogLoss(log) => self.settings.log_loss = log,
            Action::SetAppearance(appearance) => self.set_appearance(ctx, appearance),
            Action::TogglePalette => self.toggle(Dialog::Palette { text: String::new(), selected: 0 }),
            Action::ToggleSettings => self.toggle(Dialog::Settings),
            Action::ToggleShortcuts => self.toggle(Dialog::Shortcuts),
            Action::ToggleAbout => self.toggle(Dialog::About),
            Action::ToggleFullScreen => {
                let full = ctx.input(|input| input.viewport().fullscreen.unwrap_or(false));
                ctx.send_viewport_cmd(egui::ViewportCommand::Fullscreen(!full));
            }
            Action::Quit => ctx.send_viewport_cmd(egui::ViewportCommand::Close),
            Action::CheckpointAndQuit => {
                self.quit_when_stopped = true;
                self.dialog = None;
                self.control(ControlRequest::Stop("the window was closed".to_owned()));
            }
            Action::QuitNow => {
                self.may_close = true;
                ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            }
            Action::CloseDialog => self.dialog = None,
        }
    }

    fn hold(&mut self, request: ControlRequest) {
        self.session.wait_for_phase();
        self.control(request);
    }

    fn start_run(&mut self) {
        let config = Box::new(self.session.form.clone());
        let (req, run) = (self.session.next_request(), self.session.next_run());
        if self.send(Command::StartRun { req, run, config }) {
            self.session.begin_run(req, run);
            self.layout.show(View::Train);
        }
    }

    fn resume_run(&mut self, dir: PathBuf) {
        let (req, run) = (self.session.next_request(), self.session.next_run());
        if self.send(Command::ResumeRun { req, run, dir }) {
            self.session.begin_run(req, run);
            self.layout.show(View::Train);
        }
    }

    fn open_run(&mut self, dir: PathBuf) {
        if self.session.is_live(&dir) {
            return self.session.show_opened(None);
        }
        let req = self.session.next_request();
        if self.send(Command::OpenRun { req, dir }) {
            self.session.opening.begin(req);
        }
    }

    fn delete_run(&mut self, dir: PathBuf) {
        self.dialog = None;
        let req = self.session.next_request();
        if self.send(Command::DeleteRun { req, dir }) {
            self.session.deleting.begin(req);
        }
    }

    fn toggle_overlay(&mut self, dir: PathBuf) {
        if self.session.overlays.remove(&dir).is_none() {
            self.read_overlay(dir);
        }
    }

    fn read_overlay(&mut self, dir: PathBuf) {
        let req = self.session.next_request();
        if self.send(Command::OpenRun { req, dir: dir.clone() }) {
            self.session.overlays.entry(dir).or_default().begin(req);
        }
    }

    fn use_settings_of(&mut self, dir: &Path, now: f64) {
        let shown = self.session.shown().filter(|run| run.dir == dir).map(|run| run.config.clone());
        let Some(mut config) = shown else { return };
        // A run's name is its directory's: the next run needs a fresh one.
        config.name.clear();
        self.session.edit_form(config, now);
        self.layout.show(View::Setup);
    }

    fn compare(&mut self, subject: Subject, random_routes: usize) {
        let req = self.session.next_request();
        if self.send(Command::Compare { req, subject, random_routes }) {
            self.session.compare.begin(req);
        }
    }

    fn merge(&mut self, subject: Subject, plan: MergePlan) {
        let req = self.session.next_request();
        if self.send(Command::Merge { req, subject, plan }) {
            self.session.merge.begin(req);
        }
    }

    fn export(&mut self, subject: Subject, plan: ExportPlan) {
        let req = self.session.next_request();
        if self.send(Command::Export { req, subject, plan }) {
            self.session.export.begin(req);
        }
    }

    fn write_and_score(&mut self, subject: Subject, inputs: usize) {
        let req = self.session.next_request();
        if self.send(Command::Write { req, subject, inputs }) {
            self.session.written.begin(req);
        }
    }

    fn study(&mut self, subject: Subject, study: Study) {
        let req = self.session.next_request();
        let averages = study == Study::Averages;
        if self.send(Command::Study { req, subject, study }) {
            if averages { self.session.averages.begin(req) } else { self.session.rounding.begin(req) }
        }
    }

    fn play(&mut self, writer: Writer, plan: Box<PlayPlan>) {
        let req = self.session.next_request();
        if self.send(Command::Play { req, writer, plan }) {
            self.session.play.begin(req);
            self.session.writing.clear();
        }
    }

    fn inspect(&mut self, subject: Subject, site: usize, side: Side) {
        self.session.focus = (site, Some(side));
        let req = self.session.next_request();
        if self.send(Command::Inspect { req, subject, site, side }) {
            self.session.inspect.begin(req);
        }
    }

    fn set_appearance(&mut self, ctx: &egui::Context, appearance: Appearance) {
        self.settings.appearance = appearance;
        super::apply_appearance(ctx, appearance);
    }

    fn toggle(&mut self, dialog: Dialog) {
        let same =
            self.dialog.as_ref().is_some_and(|open| std::mem::discriminant(open) == std::mem::discriminant(&dialog));
        self.dialog = if same { None } else { Some(dialog) };
    }
}
