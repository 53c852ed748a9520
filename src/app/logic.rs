//! What happens between two pictures: messages in, actions out. Nothing here waits.

use super::WorkbenchApp;
use super::actions::Action;
use super::dialogs::Dialog;
use super::files::{FileAnswer, Purpose};
use super::layout::{Layout, View};
use super::panels::setup::files::{DropKind, kind_of, use_path};
use super::settings::Appearance;
use crate::config::{RunConfig, Task};
use crate::engine::protocol::*;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time for taking in messages before each picture.
const DRAIN_BUDGET: Duration = Duration::from_millis(4);
/// Seconds after the last change of the form until it is checked.
const CHECK_DELAY: f64 = 0.4;
/// Seconds between two looks at a run that another process is writing.
const FOLLOW_EVERY: f64 = 3.0;
/// Seconds between two looks at the list of runs while another process is writing one of them.
const LIST_EVERY: f64 = 5.0;

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

    /// Asks once what a fresh window wants to know.
    fn first_questions(&mut self) {
        if self.asked_first || self.session.engine_problem().is_some() {
            return;
        }
        self.asked_first = true;
        self.refresh_runs();
        if let Some(dir) = self.open_at_start.take() {
            self.layout.show(View::Train);
            self.open_run(dir);
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

    /// Some time after the last change of the form: reads model and data where they changed, and checks the plan.
    fn check_form(&mut self, ctx: &egui::Context, now: f64) {
        if self.seen_version != self.session.form_version {
            self.seen_version = self.session.form_version;
            self.check_due = Some(if self.checked.is_some() { now + CHECK_DELAY } else { now });
        }
        let Some(due) = self.check_due else { return };
        if now < due {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(due - now).unwrap_or_default());
        }
        // While training, the engine has better things to do; the form is checked afterwards.
        if self.session.engine_problem().is_none() && !self.session.phase.is_active() {
            self.check_due = None;
            self.ask_about_form();
        }
    }

    fn ask_about_form(&mut self) {
        let form = self.session.form.clone();
        let old = self.checked.replace(form.clone());
        let model_changed = old.as_ref().is_none_or(|old| old.model.path != form.model.path);
        let data_changed = model_changed || old.as_ref().is_none_or(|old| old.data != form.data);
        let has_model = !form.model.path.trim().is_empty();
        if !has_model {
            self.session.model.clear();
        } else if model_changed {
            let req = self.session.next_request();
            if self.send(Command::PreviewModel { req, model: form.model.clone() }) {
                self.session.model.begin(req);
            }
        }
        if !has_model || !data_chosen(&form) {
            self.session.data.clear();
        } else if data_changed {
            let req = self.session.next_request();
            if self.send(Command::PreviewData { req, config: Box::new(form.clone()) }) {
                self.session.data.begin(req);
            }
        }
        if form.problems().is_empty() {
            let req = self.session.next_request();
            if self.send(Command::Preflight { req, config: Box::new(form) }) {
                self.session.preflight.begin(req);
                self.session.preflight_version = self.session.form_version;
            }
        } else {
            self.session.preflight.clear();
        }
    }

    /// Reads an opened run again while another process is writing it.
    fn follow_opened(&mut self, ctx: &egui::Context, now: f64) {
        let Some(run) = &self.session.opened else { return };
        if run.status != Some(RunStatus::Running) || self.session.opening.is_pending() {
            return;
        }
        if now - self.followed_at < FOLLOW_EVERY {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(FOLLOW_EVERY).unwrap_or_default());
        }
        self.followed_at = now;
        let dir = run.dir.clone();
        self.open_run(dir);
    }

    /// Reads the list of runs again when it comes into sight, and now and then while another process writes into it.
    fn follow_runs(&mut self, ctx: &egui::Context, now: f64) {
        let seen = self.layout.is_visible(View::Runs);
        let came = seen && !std::mem::replace(&mut self.runs_seen, seen);
        if !seen || !self.asked_first || self.session.runs.is_pending() {
            return;
        }
        let running = |run: &RunSummary| run.status == RunStatus::Running && !self.session.is_live(&run.dir);
        let others = self.session.runs.value.iter().flatten().any(running);
        // A run in this engine needs the time more.
        if !came && (!others || self.session.phase.is_active()) {
            return;
        }
        if !came && now - self.listed_at < LIST_EVERY {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(LIST_EVERY).unwrap_or_default());
        }
        self.listed_at = now;
        self.refresh_runs();
    }

    /// Tells the engine what can be seen, when that changes.
    fn update_watch(&mut self) {
        let live = self.session.shows_live();
        let (site, side) = (self.session.focus.0, self.session.focus.1.unwrap_or(Side::Down));
        let watch = Watch {
            routing: live && self.layout.is_visible(View::Routing),
            experts: (live && self.layout.is_visible(View::Experts)).then_some((site, side)),
        };
        if self.watch != watch
            && let Some(engine) = &self.engine
        {
            engine.watch(watch);
            self.watch = watch;
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

    fn take_file_answer(&mut self, answer: FileAnswer) {
        match answer {
            FileAnswer::Picked(Purpose::SaveSettings, path) => match self.session.form.to_toml() {
                Ok(text) => self.picker.write(path, text),
                Err(err) => self.session.log(LogLevel::Error, err.to_string()),
            },
            FileAnswer::Picked(purpose, path) => self.actions.push(Action::UsePath(purpose, path)),
            FileAnswer::Cancelled(_) => {}
            FileAnswer::Read(path, Ok(text)) => match RunConfig::from_toml(&text) {
                Ok(config) => {
                    self.session.log(LogLevel::Info, format!("settings read: {}", path.display()));
                    self.actions.push(Action::EditForm(Box::new(config)));
                    self.layout.show(View::Setup);
                }
                Err(err) => self.session.log(LogLevel::Error, format!("{err}: {}", path.display())),
            },
            FileAnswer::Read(path, Err(err)) => {
                self.session.log(LogLevel::Error, format!("reading failed: {err}: {}", path.display()));
            }
            FileAnswer::Head(path, Ok(text)) => self.panels.setup.take_head(&path, &text, &self.session, &self.actions),
            FileAnswer::Head(..) => {} // the engine's own preview will say what is wrong with the file
            FileAnswer::Written(path, Ok(())) => {
                self.session.log(LogLevel::Info, format!("settings written: {}", path.display()));
                self.session.notify(LogLevel::Info, format!("saved {}", path.display()));
            }
            FileAnswer::Written(path, Err(err)) => {
                self.session.log(LogLevel::Error, format!("writing failed: {err}: {}", path.display()));
            }
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
            Action::Compare(subject, random_routes) => self.compare(subject, random_routes),
            Action::Merge(subject, plan) => self.merge(subject, plan),
            Action::Export(subject, plan) => self.export(subject, plan),
            Action::Inspect(subject, site, side) => self.inspect(subject, site, side),
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
        if self.session.overlays.remove(&dir).is_some() {
            return;
        }
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

    fn inspect(&mut self, subject: Subject, site: usize, side: Side) {
        self.session.focus = (site, Some(side));
        let req = self.session.next_request();
        if self.send(Command::Inspect { req, subject, site, side }) {
            self.session.inspect.begin(req);
        }
    }

    fn pick(&mut self, purpose: Purpose) {
        let form = &self.session.form;
        let recent = match purpose {
            Purpose::Model => self.settings.recent_models.first().cloned(),
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => self.settings.recent_data.first().cloned(),
            Purpose::RunsDir | Purpose::Run if !form.runs_dir.is_empty() => Some(PathBuf::from(&form.runs_dir)),
            _ => None,
        };
        // Without a closer idea the dialog starts where the desktop likes.
        let start =
            recent.as_deref().map(|path| if path.extension().is_some() { path.parent().unwrap_or(path) } else { path });
        if self.picker.pick(purpose, start) {
            self.session.dialog_open = self.picker.is_open();
        }
    }

    fn use_path(&mut self, purpose: Purpose, path: PathBuf, now: f64) {
        self.dialog = None;
        match purpose {
            Purpose::Run => {
                self.layout.show(View::Train);
                return self.open_run(path);
            }
            Purpose::OpenSettings => return self.picker.read(path),
            Purpose::ExportDir => return self.panels.export.set_dir(&path),
            Purpose::Model => self.settings.remember_model(path.clone()),
            Purpose::DataDir | Purpose::TrainFile | Purpose::DevFile => self.settings.remember_data(path.clone()),
            Purpose::RunsDir | Purpose::SaveSettings => {}
        }
        let mut form = self.session.form.clone();
        use_path(&mut form, purpose, &path);
        self.session.edit_form(form, now);
        match purpose {
            Purpose::TrainFile => self.picker.head(path),
            Purpose::RunsDir => self.refresh_runs(),
            _ => {}
        }
    }

    fn dropped(&mut self, path: PathBuf) {
        self.layout.show(View::Setup);
        match kind_of(&path) {
            DropKind::Settings => self.picker.read(path),
            DropKind::Table => self.actions.push(Action::UsePath(Purpose::TrainFile, path)),
            DropKind::Unknown => self.dialog = Some(Dialog::Dropped(path)),
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

/// Whether the form says where the rows are.
fn data_chosen(form: &RunConfig) -> bool {
    let data = &form.data;
    match data.task {
        Task::Lab => true,
        Task::Custom => !data.train_file.is_empty(),
        _ => !data.path.is_empty() || !data.train_file.is_empty(),
    }
}
