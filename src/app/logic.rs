//! What happens between two frames: messages are applied, actions executed. Nothing here blocks.

mod paths;
mod queue;
mod runs;
mod saving;
mod upkeep;

pub use queue::QueueUpkeep;
pub use upkeep::Upkeep;

use super::WorkbenchApp;
use super::actions::Action;
use super::dialogs::Dialog;
use super::files::{FileAnswer, Purpose};
use super::layout::ViewLayout;
use super::presenter::{self, Presenter};
use super::query::Query;
use super::session::{Session, Weights};
use super::sitting::RunNow;
use super::view::View;
use super::widgets::focus_view;
use crate::protocol::*;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time for applying messages before each frame.
const DRAIN_BUDGET: Duration = Duration::from_millis(4);

impl WorkbenchApp {
    /// Applies the messages of engine and file dialogs, and does what is due. `now` in seconds.
    pub(super) fn before_frame(&mut self, ctx: &egui::Context, now: f64) {
        self.drain(ctx);
        self.usual_title(ctx);
        while let Some(answer) = self.picker.poll() {
            self.take_file_answer(answer);
        }
        self.session.dialog_open = self.picker.is_open();
        if let Some((dir, config)) = self.session.borrowed.value.take() {
            self.use_settings(&dir, config, now);
        }
        self.follow_record(ctx);
        self.first_queries();
        self.fill_form(now);
        self.check_form(ctx, now);
        self.follow_opened(ctx, now);
        self.follow_runs(ctx, now);
        self.follow_models(now);
        self.follow_playground();
        self.follow_routes(ctx, now);
        self.follow_queue(ctx, now);
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
            self.note_parent();
            self.refresh_runs();
        }
        if was_active && !self.session.phase.is_active() {
            self.refresh_runs();
            self.queue_after_run();
            self.ask_for_attention(ctx);
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
    fn ask<T>(&mut self, query: fn(&mut Session) -> &mut Query<T>, command: Command) -> Option<RequestId> {
        let req = self.session.next_request();
        let sent = self.send(req, command);
        if sent {
            query(&mut self.session).begin(req);
        }
        sent.then_some(req)
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
            Action::Show(view) => {
                self.layout.show(view);
                // Whoever works with the keyboard goes on in the view.
                if ctx.memory(|memory| memory.focused().is_some()) {
                    focus_view(ctx, view.title());
                }
                self.presenter.iter_mut().for_each(|presenter| presenter.view = view);
            }
            Action::ShowPage(page) => {
                self.dialog = None;
                if self.presenter.is_some() {
                    self.toggle_presenter(ctx);
                }
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
            Action::ToggleLayouts => self.toggle(Dialog::Layouts { name: String::new() }),
            Action::SaveLayout(name) => {
                if let Some(layout) = self.layout.to_json() {
                    self.settings.layouts.insert(name, layout);
                }
            }
            Action::UseLayout(name) => self.use_layout(&name),
            Action::DeleteLayout(name) => drop(self.settings.layouts.remove(&name)),
            Action::ResetLayout => self.layout = ViewLayout::default(),
            Action::StartRun => {
                let (req, run) = (self.session.next_request(), self.session.next_run());
                let command = self.session.start_command(run);
                self.begin(req, run, command);
            }
            Action::AddToQueue => {
                let form = Box::new(self.session.run_config());
                self.session.queue_on = true;
                let command = super::commands::add_to_queue(&form);
                let req = self.ask(|s| &mut s.queue, Command::Queue(QueueAsk::Add(form)));
                self.session.adding = req;
                self.note_sent(req, "Added to the queue", command);
            }
            Action::RunQueue => (self.session.queue_on, self.session.queue_due) = (true, true),
            Action::ChangeQueue(ask) => self.ask_queue(ask),
            Action::SetQueueOn(on) => self.session.queue_on = on,
            Action::Pause => self.hold(ControlRequest::Pause),
            Action::Resume => self.hold(ControlRequest::Resume),
            Action::Step => self.control(ControlRequest::Step),
            Action::Stop => self.control(ControlRequest::Stop("the user asked".to_owned())),
            Action::ChangeLaw(law) => self.control(ControlRequest::Law(law)),
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
            Action::ResumeRun(dir) => {
                self.session.sitting.resumes(dir.clone());
                // It goes on; it is made from nothing else.
                self.session.label_of_live = None;
                self.train(|run| Command::ResumeRun { run, dir });
            }
            Action::SaveCapsule(dir) => {
                let command = super::commands::capsule(&super::commands::path(&dir));
                let req = self.ask(|s| &mut s.capsule, Command::SaveCapsule { dir, file: None });
                self.note_sent(req, "Saved as a capsule", command);
            }
            Action::OpenFolder(dir) => self.picker.reveal(dir),
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
            Action::ReportRun(dir) => self.ask_report_place(dir),
            Action::NameMerge(dir, name, merge) => {
                self.ask(|s| &mut s.naming, Command::NameMerge { dir, name, merge });
            }
            Action::LabelRun(dir, label) => drop(self.ask(|s| &mut s.labelling, Command::LabelRun { dir, label })),
            Action::SetMonitor(on) => self.settings.monitor = on,
            Action::SetNotify(on) => self.settings.notify = on,
            Action::SetRunColumns(columns) => self.settings.run_columns = columns,
            Action::UseSettingsOf(dir) => {
                self.session.branch_asked = None;
                self.use_settings_of(&dir, now);
            }
            Action::BranchRun(dir) => {
                self.session.branch_asked = Some(dir.clone());
                self.use_settings_of(&dir, now);
            }
            Action::SetBranch(checkpoint) => {
                self.session.form_from.iter_mut().for_each(|from| from.branch = checkpoint);
            }
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
                let sent = Command::Play { writer: writer.clone(), plan: plan.clone() };
                if let Some(req) = self.ask(|s| &mut s.play, sent) {
                    let run = self.run_now();
                    self.session.sitting.played(req, &writer, &plan, run.as_ref());
                }
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
            Action::SetPlayhead(step) => self.session.playhead = step,
            Action::CancelJob => self.control(ControlRequest::CancelJob),
            Action::Copy(text) => {
                ctx.copy_text(text);
                self.session.notify(LogLevel::Info, "copied");
            }
            Action::SaveFigure(saved) => self.save_figure(*saved, ctx),
            Action::SetXAxis(axis, log) => (self.settings.x_axis, self.settings.log_x) = (axis, log),
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
            Action::TogglePresenter => self.toggle_presenter(ctx),
            Action::SetPace(pace) => {
                self.presenter.iter_mut().for_each(|presenter| presenter.pace = pace);
                self.control(ControlRequest::Pace(pace));
            }
            Action::ToggleScript => self.toggle(Dialog::Script(unix_now())),
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
        let (about, asked) = (subject.clone(), query.clone());
        let command = Command::Query { subject, query };
        let req = match &asked {
            ModelQuery::Compare { .. } => self.ask(|s| &mut s.compare, command),
            ModelQuery::Merge(_) => self.ask(|s| &mut s.merge, command),
            ModelQuery::Export(_) => self.ask(|s| &mut s.export, command),
            ModelQuery::Write { .. } => self.ask(|s| &mut s.written, command),
            ModelQuery::Study(study) => {
                let req = self.session.next_request();
                let sent = self.send(req, command);
                if sent {
                    self.session.studies.begin(req, study);
                }
                sent.then_some(req)
            }
            ModelQuery::Inspect { site, side } => {
                self.session.focus = (*site, Some(*side));
                self.ask(|s| &mut s.inspect, command)
            }
            ModelQuery::Try(_) => self.ask(|s| &mut s.try_it, command),
            ModelQuery::TryWords(_) => self.ask(|s| &mut s.try_words, command),
            ModelQuery::Reweigh(_) => self.ask(|s| &mut s.reweigh, command),
        };
        if let Some((req, run)) = req.zip(self.run_now()) {
            self.session.sitting.asked(req, &about, &asked, &run);
        }
    }

    /// The shown run, for the script of this sitting.
    fn run_now(&self) -> Option<RunNow> {
        let (run, weights) = (self.session.shown()?, self.session.weights_of_shown());
        Some(RunNow { dir: run.dir.clone(), config: run.config.clone(), weights })
    }

    /// Notes a request with its command in the script of this sitting.
    fn note_sent(&mut self, req: Option<RequestId>, comment: &str, command: String) {
        if let Some(req) = req {
            self.session.sitting.sent(req, comment, command);
        }
    }

    /// Whether a view is on screen: in presenter mode the presented one only, whatever stands behind it.
    fn shows(&self, view: View) -> bool {
        match self.presenter {
            Some(presenter) => presenter.view == view,
            None => self.layout.is_visible(view),
        }
    }

    fn toggle_presenter(&mut self, ctx: &egui::Context) {
        if self.presenter.take().is_some() {
            ctx.set_zoom_factor(self.settings.zoom);
            return self.control(ControlRequest::Pace(0));
        }
        let of_a_run = |view: &View| !matches!(view, View::Setup | View::Runs | View::Models);
        let shown = View::ALL.into_iter().filter(of_a_run).find(|view| self.layout.is_visible(*view));
        self.presenter = Some(Presenter { view: shown.unwrap_or(View::Train), pace: 0 });
        ctx.set_zoom_factor(self.settings.zoom * presenter::SCALE);
    }

    fn use_layout(&mut self, name: &str) {
        match self.settings.layouts.get(name).and_then(|text| ViewLayout::from_json(text)) {
            Some(layout) => self.layout = layout,
            None => {
                let text = format!("the arrangement {name:?} is of another version and cannot be taken; delete it");
                self.session.notify(LogLevel::Warning, text);
            }
        }
        self.dialog = None;
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

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
