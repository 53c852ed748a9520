//! What happens between two frames: messages are applied, actions executed. Nothing here blocks.

mod paths;
mod upkeep;

pub use upkeep::Upkeep;

use super::WorkbenchApp;
use super::actions::Action;
use super::dialogs::Dialog;
use super::files::{FileAnswer, Purpose};
use super::layout::ViewLayout;
use super::query::Query;
use super::session::{Session, Weights};
use super::view::View;
use crate::config::{RunConfig, Task};
use crate::protocol::*;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time for applying messages before each frame.
const DRAIN_BUDGET: Duration = Duration::from_millis(4);

impl WorkbenchApp {
    /// Applies the messages of engine and file dialogs, and does what is due. `now` in seconds.
    pub(super) fn before_frame(&mut self, ctx: &egui::Context, now: f64) {
        self.drain(ctx);
        while let Some(answer) = self.picker.poll() {
            self.take_file_answer(answer);
        }
        self.session.dialog_open = self.picker.is_open();
        if let Some(config) = self.session.borrowed.value.take() {
            self.use_settings(config, now);
        }
        self.first_queries();
        self.fill_form(now);
        self.check_form(ctx, now);
        self.follow_opened(ctx, now);
        self.follow_runs(ctx, now);
        self.follow_models(now);
        self.follow_playground();
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

    /// Sends a command; a refusal becomes a notice. Returns whether the engine took it.
    fn send(&mut self, req: RequestId, command: Command) -> bool {
        let sent = self.engine.as_ref().map_or(Err(Busy::Gone), |engine| engine.try_send(req, command));
        match sent {
            Ok(()) => true,
            Err(busy) => {
                let (level, text) = match busy {
                    Busy::Full => (LogLevel::Warning, "the engine is busy; nothing was done, try again in a moment"),
                    Busy::Gone => (LogLevel::Error, "the engine has ended; restart the window (runs on disk are safe)"),
                };
                self.session.notify(level, text);
                false
            }
        }
    }

    /// Sends a query and notes in the session that it is pending, unless the engine does not take it.
    fn ask<T>(&mut self, query: fn(&mut Session) -> &mut Query<T>, command: Command) {
        let req = self.session.next_request();
        if self.send(req, command) {
            query(&mut self.session).begin(req);
        }
    }

    fn control(&self, request: ControlRequest) {
        if let Some(engine) = &self.engine {
            engine.control(request);
        }
    }

    fn refresh_runs(&mut self) {
        let runs_dir = self.session.form.runs_dir.clone();
        self.ask(|s| &mut s.runs, Command::ListRuns(runs_dir));
    }

    fn refresh_models(&mut self) {
        self.ask(|s| &mut s.models, Command::Store(StoreAsk::List));
    }

    /// The window's close button: asks for confirmation during training.
    fn close_requests(&mut self, ctx: &egui::Context) {
        if !ctx.input(|input| input.viewport().close_requested()) || self.may_close {
            return;
        }
        if self.session.phase.is_active() {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.dialog = Some(Dialog::Close);
        }
    }

    /// Executes the actions of this frame, in order.
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
            Action::ShowPage(page) => {
                self.dialog = None;
                self.layout.show_page(page);
            }
            Action::ClosePage => self.layout.close_page(),
            Action::TrainLab => self.train_lab(now),
            Action::OwnFile => self.own_file(now),
            Action::SetStartPage(shown) => self.settings.start_page = shown,
            Action::SetReducedMotion(still) => self.settings.reduced_motion = still,
            Action::SetOwnChooser(own) => self.settings.own_chooser = own,
            Action::ToggleExplanation(view) => {
                let closed = &mut self.settings.explained;
                let before = closed.len();
                closed.retain(|known| *known != view);
                if closed.len() == before {
                    closed.push(view);
                }
            }
            Action::ResetLayout => self.layout = ViewLayout::default(),
            Action::StartRun => {
                let config = Box::new(self.session.run_config());
                self.train(|run| Command::StartRun { run, config });
            }
            Action::Pause => self.hold(ControlRequest::Pause),
            Action::Resume => self.hold(ControlRequest::Resume),
            Action::Step => self.control(ControlRequest::Step),
            Action::Stop => self.control(ControlRequest::Stop("the user asked".to_owned())),
            Action::EditForm(form) => self.session.edit_form(*form, now),
            Action::ReplaceForm(form) => self.session.replace_form(*form, now),
            Action::ChooseTask(task) => self.session.choose_task(task, now),
            Action::ApplyPreset(name) => self.session.apply_preset(&name, now),
            Action::FitForm => self.session.fit_form(now),
            Action::UndoForm => self.session.undo_form(),
            Action::RedoForm => self.session.redo_form(),
            Action::CheckPlan => {
                self.upkeep.check_at(now);
            }
            Action::Pick(purpose) => self.pick(purpose),
            Action::ListFolder(path) => self.picker.list(path),
            Action::Chosen(purpose, path) => self.take_file_answer(FileAnswer::Picked(purpose, path)),
            Action::UsePath(purpose, path) => self.use_path(purpose, path, now),
            Action::Dropped(path) => self.dropped(path, now),
            Action::RefreshRuns => self.refresh_runs(),
            Action::OpenRun(dir) => {
                self.layout.show(View::Train);
                if dir.to_str().is_some() {
                    self.settings.remember(Purpose::Run, dir.clone());
                }
                self.open_run(dir);
            }
            Action::ShowLive => self.session.show_opened(None),
            Action::ResumeRun(dir) => self.train(|run| Command::ResumeRun { run, dir }),
            Action::AskDeleteRun(dir) => self.dialog = Some(Dialog::Delete(dir)),
            Action::DeleteRun(dir) => {
                self.dialog = None;
                self.ask(|s| &mut s.deleting, Command::DeleteRun(dir));
            }
            Action::ToggleOverlay(dir) => {
                if self.session.overlays.remove(&dir).is_none() {
                    self.read_overlay(dir);
                }
            }
            Action::UseSettingsOf(dir) => self.use_settings_of(&dir, now),
            Action::RefreshModels => self.refresh_models(),
            Action::DownloadModel(id) => self.download_model(&id),
            Action::CancelDownload(req) => self.control(ControlRequest::CancelDownload(req)),
            Action::DismissDownload(req) => self.session.downloads.retain(|download| download.req != req),
            Action::UseModel(id) => self.use_model(id, now),
            Action::AskRemoveModel(id) => self.dialog = Some(Dialog::RemoveModel(id)),
            Action::RemoveModel(id) => {
                self.dialog = None;
                self.ask(|s| &mut s.removing, Command::Store(StoreAsk::Remove(id)));
            }
            Action::Query(subject, query) => self.query(subject, query),
            Action::Play(writer, plan) => {
                self.session.writing.clear();
                self.session.branches.clear();
                self.session.play_writer = Some(writer.clone());
                self.ask(|s| &mut s.play, Command::Play { writer, plan });
            }
            Action::Branch(plan) => {
                self.session.writing.clear();
                if let Some(writer) = self.session.play_writer.clone() {
                    self.ask(|s| &mut s.branch, Command::Play { writer, plan });
                }
            }
            Action::RemoveBranch(number) => {
                if number < self.session.branches.len() {
                    self.session.branches.remove(number);
                }
            }
            Action::FocusExperts(site, side) => self.session.focus = (site, Some(side)),
            Action::ChooseWeights(weights) => self.choose_weights(weights),
            Action::CancelJob => self.control(ControlRequest::CancelJob),
            Action::Copy(text) => {
                ctx.copy_text(text);
                self.session.notify(LogLevel::Info, "copied");
            }
            Action::SetSmoothing(half_life) => self.settings.smoothing = half_life,
            Action::SetLogLoss(log) => self.settings.log_loss = log,
            Action::SetAppearance(appearance) => {
                self.settings.appearance = appearance;
                super::apply_appearance(ctx, appearance);
            }
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

    /// Starts the bundled lab; where the runs are and what computes stay as they are.
    fn train_lab(&mut self, now: f64) {
        let mut lab = super::first_form();
        lab.runs_dir.clone_from(&self.session.form.runs_dir);
        let (model, current) = (&mut lab.model, &self.session.form.model);
        (model.device, model.dtype, model.threads) = (current.device, current.dtype, current.threads);
        self.session.edit_form(lab, now);
        let config = Box::new(self.session.form.clone());
        self.train(|run| Command::StartRun { run, config });
    }

    /// Setup for the user's own table, and the question for it.
    fn own_file(&mut self, now: f64) {
        let mut form = self.session.form.clone();
        form.data.task = Task::Custom;
        self.session.edit_form(form, now);
        self.layout.show(View::Setup);
        self.pick(Purpose::TrainFile);
    }

    fn hold(&mut self, request: ControlRequest) {
        self.session.wait_for_phase();
        self.control(request);
    }

    /// The views are about these weights from now on; experts that are on screen are read again.
    fn choose_weights(&mut self, weights: Weights) {
        let reads_experts = self.session.experts().is_some();
        self.session.choose_weights(weights);
        if let (true, None, Some(subject)) = (reads_experts, self.session.experts(), self.session.subject()) {
            let (site, side) = self.session.focus;
            self.query(subject, ModelQuery::Inspect { site, side: side.unwrap_or(Side::Down) });
        }
    }

    fn query(&mut self, subject: Subject, query: ModelQuery) {
        let asked = query.clone();
        let command = Command::Query { subject, query };
        match asked {
            ModelQuery::Compare { .. } => self.ask(|s| &mut s.compare, command),
            ModelQuery::Merge(_) => self.ask(|s| &mut s.merge, command),
            ModelQuery::Export(_) => self.ask(|s| &mut s.export, command),
            ModelQuery::Write { .. } => self.ask(|s| &mut s.written, command),
            ModelQuery::Study(Study::Causes(_)) => self.ask(|s| &mut s.causes, command),
            ModelQuery::Study(Study::Averages) => self.ask(|s| &mut s.averages, command),
            ModelQuery::Study(Study::Rounding(_)) => self.ask(|s| &mut s.rounding, command),
            ModelQuery::Inspect { site, side } => {
                self.session.focus = (site, Some(side));
                self.ask(|s| &mut s.inspect, command);
            }
            ModelQuery::Try(_) => self.ask(|s| &mut s.try_it, command),
            ModelQuery::TryWords(_) => self.ask(|s| &mut s.try_words, command),
        }
    }

    /// Starts or resumes a run and shows it.
    fn train(&mut self, command: impl FnOnce(RunId) -> Command) {
        let (req, run) = (self.session.next_request(), self.session.next_run());
        if self.send(req, command(run)) {
            self.session.begin_run(req, run);
            self.layout.show(View::Train);
        }
    }

    fn open_run(&mut self, dir: PathBuf) {
        if self.session.is_live(&dir) {
            self.session.show_opened(None);
        } else {
            self.ask(|s| &mut s.opening, Command::OpenRun(dir));
        }
    }

    fn read_overlay(&mut self, dir: PathBuf) {
        let req = self.session.next_request();
        if self.send(req, Command::OpenRun(dir.clone())) {
            self.session.overlays.entry(dir).or_default().begin(req);
        }
    }

    fn use_settings_of(&mut self, dir: &Path, now: f64) {
        match self.session.shown().filter(|run| run.dir == dir).map(|run| run.config.clone()) {
            Some(config) => self.use_settings(config, now),
            // A run that is not on screen is read first.
            None => self.ask(|s| &mut s.borrowed, Command::OpenRun(dir.to_owned())),
        }
    }

    fn use_settings(&mut self, mut config: RunConfig, now: f64) {
        // A run's name is its directory's: the next run needs a fresh one.
        config.name.clear();
        self.session.replace_form(config, now);
        self.layout.show(View::Setup);
    }

    fn download_model(&mut self, name: &str) {
        let id = name.trim().to_owned();
        let req = self.session.next_request();
        if self.send(req, Command::Store(StoreAsk::Download(id.clone()))) {
            self.session.begin_download(req, id);
            self.layout.show(View::Models);
        }
    }

    fn use_model(&mut self, id: String, now: f64) {
        let mut form = self.session.form.clone();
        form.model.path = id;
        self.session.edit_form(form, now);
        self.layout.show(View::Setup);
    }

    fn toggle(&mut self, dialog: Dialog) {
        let same =
            self.dialog.as_ref().is_some_and(|open| std::mem::discriminant(open) == std::mem::discriminant(&dialog));
        self.dialog = if same { None } else { Some(dialog) };
    }
}
