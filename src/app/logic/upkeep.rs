//! Queries that no action asks for: the form's model, data and plan, and runs that other processes write.

use crate::app::WorkbenchApp;
use crate::app::query::AnyQuery as _;
use crate::app::run_view::RunView;
use crate::app::view::View;
use crate::config::fitting::FittingFacts;
use crate::config::{FileFormat, Method, RunConfig, Task};
use crate::protocol::*;
use std::path::PathBuf;
use std::time::Duration;

/// Seconds after the last change of the form until it is checked.
const CHECK_DELAY: f64 = 0.4;
/// Seconds until the engine is asked again where it had no room.
const RETRY_AFTER: f64 = 1.0;
/// Seconds between two reads of a run that another process is writing.
const FOLLOW_EVERY: f64 = 3.0;
/// Seconds between two reads of the list of runs while another process is writing one of them.
const LIST_EVERY: f64 = 5.0;

/// Seconds between two reads of the draws of a run that goes on.
const ROUTES_EVERY: f64 = 0.25;
/// The same where a read failed.
const ROUTES_RETRY: f64 = 5.0;

/// What was read and checked, and when.
#[derive(Default)]
pub struct Upkeep {
    asked_first: bool,
    seen_version: u64,
    /// When the form is to be checked, in seconds.
    check_due: Option<f64>,
    /// The settings that were checked last.
    checked: Option<RunConfig>,
    checked_model: Option<String>,
    /// The file whose columns were asked for.
    columns_of: Option<ColumnsOf>,
    /// The columns were asked for, and are not in the form yet.
    awaits_columns: bool,
    /// What the form was filled in for.
    fitted: Option<(FittingFacts, String, Task)>,
    followed_at: Option<f64>,
    listed_at: Option<f64>,
    runs_seen: bool,
    routes_at: Option<f64>,
    models_seen: bool,
}

/// A file with columns, and how it is read.
#[derive(Clone, Debug, PartialEq)]
struct ColumnsOf {
    file: String,
    format: FileFormat,
    header: bool,
}

impl ColumnsOf {
    fn of(form: &RunConfig) -> Option<Self> {
        let data = &form.data;
        let has_columns = data.task == Task::Custom && !data.train_file.is_empty();
        has_columns.then(|| Self { file: data.train_file.clone(), format: data.format, header: data.header })
    }
}

impl Upkeep {
    /// Checks the form anew at this time, in seconds.
    pub fn check_at(&mut self, time: f64) {
        self.checked = None;
        self.checked_model = None;
        self.columns_of = None;
        self.check_due = Some(time);
    }
}

impl WorkbenchApp {
    /// The queries of a window that has just opened.
    pub(super) fn first_queries(&mut self) {
        if self.upkeep.asked_first || self.session.engine_problem().is_some() {
            return;
        }
        self.upkeep.asked_first = true;
        self.refresh_runs();
        if let Some(dir) = self.open_at_start.take() {
            self.layout.show(View::Train);
            self.open_run(dir);
        }
    }

    /// Some time after the last change of the form: reads model and data where they changed, and checks the plan.
    pub(super) fn check_form(&mut self, ctx: &egui::Context, now: f64) {
        if self.upkeep.seen_version != self.session.form_version {
            self.upkeep.seen_version = self.session.form_version;
            self.upkeep.check_due = Some(if self.upkeep.checked.is_some() { now + CHECK_DELAY } else { now });
        }
        let Some(due) = self.upkeep.check_due else { return };
        if now < due {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(due - now).unwrap_or_default());
        }
        // The form is checked after training: a check would slow the training down.
        if self.session.engine_problem().is_none() && !self.session.phase.is_active() {
            self.upkeep.check_due = None;
            self.ask_about_form(now);
        }
    }

    /// Fills into the form what the engine found out about its files and its model.
    pub(super) fn fill_form(&mut self, now: f64) {
        if self.upkeep.awaits_columns && !self.session.columns.is_pending() {
            self.upkeep.awaits_columns = false;
            self.session.guess_columns();
            self.upkeep.columns_of = ColumnsOf::of(&self.session.form);
            self.upkeep.check_due = Some(now);
        }
        let form = &self.session.form;
        let fitted = (self.session.fitting_facts(), form.model.path.clone(), form.data.task);
        if self.upkeep.fitted.as_ref() != Some(&fitted) {
            self.session.refit(&fitted.0);
            self.upkeep.fitted = Some(fitted);
        }
    }

    /// Asks what has changed since the last check: the model, the columns of the file, then the data and the plan.
    fn ask_about_form(&mut self, now: f64) {
        let form = self.session.run_config();
        let has_model = !form.model.path.trim().is_empty();
        let model_changed = self.upkeep.checked_model.as_deref() != Some(form.model.path.as_str());
        self.upkeep.checked_model = Some(form.model.path.clone());
        if !has_model {
            self.session.model.clear();
        } else if model_changed {
            let model = form.model.clone();
            self.ask(|s| &mut s.model, Command::PreviewModel(model));
        }
        self.ask_about_columns(&form);
        if self.session.columns.is_pending() {
            // Its columns are guessed first: a preview of the wrong one would be wrong.
            self.upkeep.awaits_columns = true;
            return;
        }
        let old = self.upkeep.checked.replace(form.clone());
        let changed =
            |old: &RunConfig| (&old.data, &old.text, &old.model.path) != (&form.data, &form.text, &form.model.path);
        let data_changed = old.as_ref().is_none_or(changed);
        let writes = form.data.task == Task::Text;
        if !has_model || !data_chosen(&form) {
            self.session.data.clear();
            self.session.texts.clear();
        } else if data_changed {
            let command = Command::PreviewData(Box::new(form.clone()));
            if writes {
                self.session.data.clear();
                self.ask(|s| &mut s.texts, command);
            } else {
                self.session.texts.clear();
                self.ask(|s| &mut s.data, command);
            }
        }
        if form.problems().is_empty() {
            let (req, config) = (self.session.next_request(), Box::new(form));
            if self.send(req, Command::Preflight(config)) {
                self.session.preflight.begin(req);
                self.session.preflight_version = self.session.form_version;
            } else {
                // The engine had no room: without a plan nothing could start.
                self.upkeep.check_at(now + RETRY_AFTER);
            }
        } else {
            self.session.preflight.clear();
        }
    }

    fn ask_about_columns(&mut self, form: &RunConfig) {
        let of = ColumnsOf::of(form);
        if self.upkeep.columns_of == of {
            return;
        }
        self.upkeep.columns_of.clone_from(&of);
        let Some(ColumnsOf { file, format, header }) = of else { return self.session.columns.clear() };
        let is_new = self.session.memory.new_file.as_ref() == Some(&file);
        let command = Command::ReadColumns { path: file.into(), format, header: (!is_new).then_some(header) };
        self.session.columns.clear();
        self.ask(|s| &mut s.columns, command);
    }

    /// Reads an opened run again while another process is writing it.
    pub(super) fn follow_opened(&mut self, ctx: &egui::Context, now: f64) {
        let Some(run) = &self.session.opened else { return };
        if run.status != Some(RunStatus::Running) || self.session.opening.is_pending() {
            return;
        }
        if self.upkeep.followed_at.is_some_and(|at| now - at < FOLLOW_EVERY) {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(FOLLOW_EVERY).unwrap_or_default());
        }
        self.upkeep.followed_at = Some(now);
        let dir = run.dir.clone();
        self.open_run(dir);
    }

    /// Reads the list of runs again when it becomes visible, and repeatedly while another process writes one of them.
    pub(super) fn follow_runs(&mut self, ctx: &egui::Context, now: f64) {
        let seen = self.shows(View::Runs);
        let appeared = !std::mem::replace(&mut self.upkeep.runs_seen, seen) && seen;
        if !seen || !self.upkeep.asked_first || self.session.runs.is_pending() {
            return;
        }
        let running = |run: &RunSummary| run.status == RunStatus::Running && !self.session.is_live(&run.dir);
        let others = self.session.runs.value.iter().flatten().any(running);
        // Reading would slow down a run in this engine.
        if !appeared && (!others || self.session.phase.is_active()) {
            return;
        }
        if !appeared && self.upkeep.listed_at.is_some_and(|at| now - at < LIST_EVERY) {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(LIST_EVERY).unwrap_or_default());
        }
        self.upkeep.listed_at = Some(now);
        self.refresh_runs();
        let followed = |run: &&RunView| run.status == Some(RunStatus::Running) && !self.session.is_live(&run.dir);
        let drawn = self.session.overlays.values().filter(|query| !query.is_pending());
        let again: Vec<PathBuf> =
            drawn.filter_map(|query| query.value.as_ref()).filter(followed).map(|run| run.dir.clone()).collect();
        again.into_iter().for_each(|dir| self.read_overlay(dir));
    }

    /// Reads the list of models when it becomes visible, and again when a download or a removal has changed it; checks
    /// a form whose model has just been downloaded.
    pub(super) fn follow_models(&mut self, now: f64) {
        if std::mem::take(&mut self.session.form_model_downloaded) {
            self.upkeep.check_at(now);
        }
        let seen = self.shows(View::Models);
        let appeared = !std::mem::replace(&mut self.upkeep.models_seen, seen) && seen;
        if !seen || !self.upkeep.asked_first || self.session.models.is_pending() {
            return;
        }
        if appeared || std::mem::take(&mut self.session.models_outdated) {
            self.refresh_models();
        }
    }

    /// Reads how the model of the Playground is asked, when the view is visible and it is another model.
    pub(super) fn follow_playground(&mut self) {
        if !self.shows(View::Playground) || self.session.engine_problem().is_some() {
            return;
        }
        let writer = self.session.writer();
        if self.session.prompts_of == writer {
            return;
        }
        self.session.prompts.clear();
        self.session.prompts_of.clone_from(&writer);
        if let Some(writer) = writer {
            self.ask(|s| &mut s.prompts, Command::Prompts(writer));
        }
    }

    /// Reads the draws of the shown run while the route map is visible: to the end of the record, then what is appended.
    pub(super) fn follow_routes(&mut self, ctx: &egui::Context, now: f64) {
        let visible = self.shows(View::Routing);
        let Some(run) = self.session.shown().filter(|run| run.config.model.method == Method::Adamix) else { return };
        if !visible || self.session.engine_problem().is_some() {
            return;
        }
        let (dir, newest) = (run.dir.clone(), run.step());
        self.session.routes.turn_to(&dir);
        if let Some(ask) = self.session.routes.ask_fit() {
            self.ask(|s| &mut s.routes.fit, Command::Routes(ask));
        }
        let routes = &self.session.routes;
        // Nothing is recorded before the first step.
        if routes.reading.is_pending() || newest == 0 || (routes.complete && routes.timeline.last() >= newest) {
            return;
        }
        let failed = routes.reading.error.is_some();
        if failed && !self.session.phase.is_active() {
            // It stays as it is until the run is read again.
            return;
        }
        let pause = if failed { ROUTES_RETRY } else { ROUTES_EVERY };
        let waits = routes.complete || failed;
        if let Some(at) = self.upkeep.routes_at.filter(|at| waits && now - at < pause) {
            return ctx.request_repaint_after(Duration::try_from_secs_f64(at + pause - now).unwrap_or_default());
        }
        self.upkeep.routes_at = Some(now);
        let ask = routes.ask();
        self.ask(|s| &mut s.routes.reading, Command::Routes(ask));
    }

    /// Tells the engine which snapshots are visible, when that changes.
    pub(super) fn update_watch(&mut self) {
        let live = self.session.shows_live();
        let (site, side) = (self.session.focus.0, self.session.focus.1.unwrap_or(Side::Down));
        let watch = Watch {
            routing: live && self.shows(View::Routing),
            experts: (live && self.shows(View::Experts)).then_some((site, side)),
            machine: self.settings.monitor && self.shows(View::Train),
        };
        if self.watch != watch
            && let Some(engine) = &self.engine
        {
            engine.watch(watch);
            self.watch = watch;
        }
    }
}

/// Whether the form names its data.
fn data_chosen(form: &RunConfig) -> bool {
    let data = &form.data;
    match data.task {
        Task::Lab => true,
        Task::Custom => !data.train_file.is_empty(),
        _ => !data.path.is_empty() || !data.train_file.is_empty(),
    }
}
