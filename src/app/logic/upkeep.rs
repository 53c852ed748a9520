//! Queries that no action asks for: the form's model, data and plan, and runs that other processes write.

use crate::app::WorkbenchApp;
use crate::app::query::AnyQuery as _;
use crate::app::run_view::RunView;
use crate::app::view::View;
use crate::config::{RunConfig, Task};
use crate::protocol::*;
use std::path::PathBuf;
use std::time::Duration;

/// Seconds after the last change of the form until it is checked.
const CHECK_DELAY: f64 = 0.4;
/// Seconds between two reads of a run that another process is writing.
const FOLLOW_EVERY: f64 = 3.0;
/// Seconds between two reads of the list of runs while another process is writing one of them.
const LIST_EVERY: f64 = 5.0;

/// What was read and checked, and when.
#[derive(Default)]
pub struct Upkeep {
    asked_first: bool,
    seen_version: u64,
    /// When the form is to be checked, in seconds.
    check_due: Option<f64>,
    /// The form that was checked last.
    checked: Option<RunConfig>,
    followed_at: Option<f64>,
    listed_at: Option<f64>,
    runs_seen: bool,
    models_seen: bool,
}

impl Upkeep {
    /// Checks the form anew at this time, in seconds.
    pub fn check_at(&mut self, time: f64) {
        self.checked = None;
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
            self.ask_about_form();
        }
    }

    fn ask_about_form(&mut self) {
        let form = self.session.form.clone();
        let old = self.upkeep.checked.replace(form.clone());
        let model_changed = old.as_ref().is_none_or(|old| old.model.path != form.model.path);
        let data_changed =
            model_changed || old.as_ref().is_none_or(|old| (&old.data, &old.text) != (&form.data, &form.text));
        let has_model = !form.model.path.trim().is_empty();
        if !has_model {
            self.session.model.clear();
        } else if model_changed {
            let model = form.model.clone();
            self.ask(|s| &mut s.model, Command::PreviewModel(model));
        }
        if !has_model || !data_chosen(&form) {
            self.session.data.clear();
            self.session.texts.clear();
        } else if data_changed {
            let (config, writes) = (Box::new(form.clone()), form.data.task == Task::Text);
            let command = Command::PreviewData(config);
            if writes {
                self.ask(|s| &mut s.texts, command);
            } else {
                self.ask(|s| &mut s.data, command);
            }
        }
        if form.problems().is_empty() {
            let (req, config) = (self.session.next_request(), Box::new(form));
            if self.send(req, Command::Preflight(config)) {
                self.session.preflight.begin(req);
                self.session.preflight_version = self.session.form_version;
            }
        } else {
            self.session.preflight.clear();
        }
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
        let seen = self.layout.is_visible(View::Runs);
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
        let seen = self.layout.is_visible(View::Models);
        let appeared = !std::mem::replace(&mut self.upkeep.models_seen, seen) && seen;
        if !seen || !self.upkeep.asked_first || self.session.models.is_pending() {
            return;
        }
        if appeared || std::mem::take(&mut self.session.models_outdated) {
            self.refresh_models();
        }
    }

    /// Tells the engine which snapshots are visible, when that changes.
    pub(super) fn update_watch(&mut self) {
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
