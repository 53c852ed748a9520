//! What every panel gets to draw with, and what the panels about a run share.

use super::actions::{Action, ActionQueue};
use super::commands::{self, path, quoted};
use super::files::Purpose;
use super::query::{JobProgress, Query};
use super::run_state;
use super::run_view::RunView;
use super::session::Session;
use super::settings::Settings;
use super::theme::Theme;
use super::view::Page;
use super::widgets::{cards, labeled};
use crate::config::Method;
use crate::format;
use crate::protocol::{ModelQuery, RunPhase, Subject, Writer};
use egui::{Button, Response, RichText, Ui};

/// What a panel gets: everything it reads, and the queue for actions.
pub struct PanelCtx<'a> {
    /// Runs, answers of the engine, the form.
    pub session: &'a Session,
    /// Settings of the window.
    pub settings: &'a Settings,
    /// Actions of this frame.
    pub actions: &'a ActionQueue,
    /// Colours.
    pub theme: &'a Theme,
}

impl PanelCtx<'_> {
    /// Queues an action.
    pub fn push(&self, action: Action) {
        self.actions.push(action);
    }
    /// A button for an action with its text, tooltip and shortcut; where it is disabled, the tooltip gives the reason.
    pub fn button(&self, ui: &mut Ui, action: Action) -> Response {
        let text = action.text();
        self.button_as(ui, action, Button::new(text))
    }
    /// As [`PanelCtx::button`] with another button.
    pub fn button_as(&self, ui: &mut Ui, action: Action, button: Button<'_>) -> Response {
        let enabled = action.enabled(self.session);
        let response = ui.add_enabled(enabled.is_ok(), button);
        let response = match enabled {
            Ok(()) => response.on_hover_text(match action.keys(ui.ctx()) {
                Some(keys) => format!("{} ({keys})", action.tooltip()),
                None => action.tooltip().to_owned(),
            }),
            Err(reason) => response.on_disabled_hover_text(format!("Not now: {reason}")),
        };
        if response.clicked() {
            self.push(action);
        }
        response
    }
    /// A disabled button whose tooltip gives the reason.
    pub fn refused(&self, ui: &mut Ui, text: impl Into<String>, reason: &str) {
        ui.add_enabled(false, Button::new(text.into())).on_disabled_hover_text(format!("Not now: {reason}"));
    }
    /// A button that asks the engine for `query`'s answer, its progress while it is pending, and its error.
    pub fn job_ui<T>(&self, ui: &mut Ui, action: Action, query: &Query<T>, loading: &str) {
        ui.horizontal_wrapped(|ui| {
            let same = action.clone();
            self.button(ui, action);
            self.command_button(ui, &same);
            self.pending_ui(ui, query, loading);
        });
        self.error_ui(ui, query);
    }
    /// A small button that copies the command of an action and shows it as its tooltip; nothing where it has none.
    pub fn command_button(&self, ui: &mut Ui, action: &Action) {
        let Some(command) = command_of(action, self.session) else { return };
        let response = ui.add(Button::new(RichText::new(">_").monospace().small()).small());
        let response = response.on_hover_text(format!("Copies the same as a command:\n{command}"));
        if response.clicked() {
            self.push(Action::Copy(command));
        }
        response.accessible_name(format!("Copy the command of {}", action.text()));
    }
    /// Why nothing has arrived from a run in training yet; `text` where there is no special reason.
    pub fn waiting_text(&self, text: &'static str) -> &'static str {
        match self.session.phase {
            RunPhase::Preparing => "Model and data are being loaded",
            _ => text,
        }
    }
    /// The main button of a view, with another text than the action's.
    pub fn primary(&self, ui: &mut Ui, action: Action, text: &str) -> Response {
        let button = match action.enabled(self.session) {
            Ok(()) => Button::new(RichText::new(text).color(self.theme.on_accent)).fill(self.theme.accent),
            Err(_) => Button::new(text),
        };
        self.button_as(ui, action, button)
    }
    /// While a query is pending: its progress and a Cancel button. `text` is shown until the engine reports progress.
    pub fn pending_ui<T>(&self, ui: &mut Ui, query: &Query<T>, text: &str) {
        if query.is_pending() {
            let progress = query.progress.as_ref();
            let share = progress.and_then(JobProgress::share);
            cards::loading(ui, progress.map_or(text, |progress| progress.what.as_str()), share);
            self.button(ui, Action::CancelJob);
        }
    }
    /// The error of a query, if it has one.
    pub fn error_ui<T>(&self, ui: &mut Ui, query: &Query<T>) {
        if let Some(error) = &query.error {
            ui.add_space(4.0);
            cards::error(ui, self.theme, error);
        }
    }
    /// The answer to a query; without one, what is shown instead: the error, the progress, or `hint`.
    pub fn answer<'q, T>(&self, ui: &mut Ui, query: &'q Query<T>, loading: &str, hint: &str) -> Option<&'q T> {
        if let Some(error) = &query.error {
            cards::error(ui, self.theme, error);
            return None;
        }
        if query.value.is_none() {
            if query.is_pending() {
                cards::loading(ui, loading, query.progress.as_ref().and_then(JobProgress::share));
            } else {
                cards::muted(ui, self.theme, hint);
            }
        }
        query.value.as_ref()
    }
    /// A list read from disk; until it is there, its error, or `title` where it is not being read.
    pub fn list<'q, T>(&self, ui: &mut Ui, query: &'q Query<T>, title: &str) -> Option<&'q T> {
        self.error_ui(ui, query);
        if query.value.is_none() && !query.is_pending() {
            cards::empty(ui, self.theme, title, "The engine is still starting.", |_| {});
        }
        query.value.as_ref()
    }
    /// A path to type, with a button that opens the file dialog for `purpose`.
    pub fn path(
        &self,
        ui: &mut Ui,
        label: &str,
        tooltip: &str,
        hint: &str,
        value: &mut String,
        purpose: Purpose,
    ) -> Response {
        labeled::text_and(ui, label, tooltip, hint, value, 116.0, |ui| {
            let browse = self.button_as(ui, Action::Pick(purpose), Button::new("Browse…"));
            browse.accessible_name(format!("Browse for {}", label.to_lowercase()));
            self.recent_ui(ui, label, purpose);
        })
    }
    /// A menu of the paths that were used before for this purpose.
    fn recent_ui(&self, ui: &mut Ui, label: &str, purpose: Purpose) {
        let recent = self.settings.recent(purpose);
        ui.add_enabled_ui(!recent.is_empty(), |ui| {
            let menu = ui.menu_button("▾", |ui| {
                for path in recent {
                    if ui.button(path.display().to_string()).clicked() {
                        self.push(Action::UsePath(purpose, path.clone()));
                    }
                }
            });
            let menu = menu.response.accessible_name(format!("Recent paths for {}", label.to_lowercase()));
            menu.on_hover_text("Paths that were used before").on_disabled_hover_text("No path was used here before");
        });
    }
}

/// The command of an action; nothing where it has none, concerns no run, or is about weights that are in no checkpoint.
fn command_of(action: &Action, session: &Session) -> Option<String> {
    let run = |subject: &Subject| {
        Some(match subject {
            Subject::Live => path(&session.shown()?.dir),
            Subject::Saved { dir, .. } => path(dir),
        })
    };
    let at = |subject: &Subject| Some(commands::at(&run(subject)?, session.command_checkpoint(subject)?));
    match action {
        Action::StartRun => Some(match session.branches_from() {
            Some((from, checkpoint)) => {
                commands::branch(&path(&from.dir), checkpoint, &from.config, &session.run_config())
            }
            None => commands::train(&session.run_config()),
        }),
        Action::AddToQueue => Some(commands::add_to_queue(&session.run_config())),
        Action::RunQueue => Some("adamix queue run".to_owned()),
        Action::ResumeRun(dir) => Some(commands::resume(&path(dir))),
        Action::SaveCapsule(dir) => Some(commands::capsule(&path(dir))),
        Action::DownloadModel(id) => Some(format!("adamix models download {}", quoted(id.trim()))),
        Action::Query(subject, asked @ ModelQuery::Study(study)) if study.of_step().is_some() => {
            commands::query(&run(subject)?, asked, &session.shown()?.config)
        }
        Action::Query(subject, asked) => commands::query(&at(subject)?, asked, &session.shown()?.config),
        Action::Play(Writer::Model(model), plan) => Some(commands::play_model(model, plan)?.join("\n")),
        Action::Play(Writer::Run(subject), plan) => Some(commands::play_run(&at(subject)?, plan)?.join("\n")),
        _ => None,
    }
}

/// The shown run, which the toolbar names; where there is none, `title` and `hint` are shown.
pub fn shown_run<'a>(ctx: &PanelCtx<'a>, ui: &mut Ui, title: &str, hint: &str) -> Option<&'a RunView> {
    if let Some(run) = ctx.session.shown() {
        return Some(run);
    }
    // Nothing is ready while the form is still being read.
    let unchecked = ctx.session.unchecked().filter(|_| ctx.session.form_problems().is_empty());
    let loading = unchecked.is_some() && !ctx.session.phase.is_active();
    let (title, hint) =
        if loading { ("Loading", "Model, data and plan of Setup are being read.") } else { (title, hint) };
    cards::empty(ui, ctx.theme, title, hint, |ui| {
        if let Some(what) = unchecked.filter(|_| loading) {
            cards::loading(ui, what, None);
        }
        if ctx.session.phase.is_active() {
            return cards::loading(ui, "Model and data are being loaded", None);
        }
        ctx.primary(ui, Action::StartRun, "Start");
        ctx.button(ui, Action::ShowPage(Page::Start));
        unfinished_ui(ctx, ui);
        if let Some(problem) = ctx.session.form_problems().first() {
            ui.label(RichText::new(format!("Not now: {problem}")).color(ctx.theme.warning));
        }
    });
    None
}

/// The newest run on disk, where it did not come to its end: to resume it, or to look at it.
fn unfinished_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let Some(run) = ctx.session.unfinished() else { return };
    ui.add_space(14.0);
    let (status, _) = run_state::status_label(run.status, ctx.theme);
    let [step, total] = [run.step, run.total_steps].map(format::count);
    ui.label(format!("The run {} was {status} at step {step} of {total}.", run.name));
    ui.add_space(4.0);
    ui.vertical_centered(|ui| {
        ctx.button(ui, Action::ResumeRun(run.dir.clone()));
        ctx.button_as(ui, Action::OpenRun(run.dir.clone()), Button::new("Look at it"));
    });
}

/// As [`shown_run`] for a run with a mixture; other runs have nothing to show.
pub fn mixture_run<'a>(ctx: &PanelCtx<'a>, ui: &mut Ui, title: &str, hint: &str) -> Option<&'a RunView> {
    let run = shown_run(ctx, ui, title, hint)?;
    if run.config.model.method == Method::Adamix {
        return Some(run);
    }
    let hint = "This run trains without a mixture, so there are no experts. Choose the method AdaMix in Setup.";
    cards::empty(ui, ctx.theme, "No mixture in this run", hint, |_| {});
    None
}
