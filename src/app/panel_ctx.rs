//! What every panel gets to draw with, and what the panels about a run share.

use super::actions::{Action, ActionQueue};
use super::files::Purpose;
use super::query::{JobProgress, Query};
use super::run_view::RunView;
use super::session::Session;
use super::settings::Settings;
use super::theme::Theme;
use super::widgets::{cards, labeled};
use crate::protocol::RunPhase;
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
    /// Seconds since the window opened.
    pub now: f64,
}

impl PanelCtx<'_> {
    /// Queues an action.
    pub fn push(&self, action: Action) {
        self.actions.push(action);
    }
    /// A button for an action with its text and tooltip; where it is disabled, the tooltip gives the reason.
    pub fn button(&self, ui: &mut Ui, action: Action) -> Response {
        self.actions.button(ui, self.session, action)
    }
    /// As [`PanelCtx::button`] with another button.
    pub fn button_as(&self, ui: &mut Ui, action: Action, button: Button<'_>) -> Response {
        self.actions.button_as(ui, self.session, action, button)
    }
    /// Why nothing has arrived from a run in training yet; `text` where there is no special reason.
    pub fn waiting_text(&self, text: &'static str) -> &'static str {
        match self.session.phase {
            RunPhase::Preparing => "Model and data are being loaded",
            RunPhase::Evaluating => "The model is being evaluated; this follows",
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
                ui.label(RichText::new(hint).color(self.theme.muted));
            }
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
        let (response, browse) = labeled::path(ui, label, tooltip, hint, value, !self.session.dialog_open);
        if browse {
            self.push(Action::Pick(purpose));
        }
        response
    }
}

/// The shown run, with a note where it was opened from disk; where there is none, `title` and `hint` are shown.
pub fn shown_run<'a>(ctx: &PanelCtx<'a>, ui: &mut Ui, title: &str, hint: &str) -> Option<&'a RunView> {
    let run = ctx.session.shown();
    match run {
        Some(_) => opened_note_ui(ctx, ui),
        None => no_run_ui(ctx, ui, title, hint),
    }
    run
}

fn no_run_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, title: &str, hint: &str) {
    cards::empty(ui, ctx.theme, title, hint, |ui| {
        if ctx.session.phase.is_active() {
            cards::loading(ui, "Model and data are being loaded", None);
        } else {
            let start = Action::StartRun;
            let text = start.text();
            ctx.primary(ui, start, &text);
            if let Some(problem) = ctx.session.start_problems().first() {
                ui.label(RichText::new(format!("Not now: {problem}")).color(ctx.theme.warning));
            }
        }
    });
}

/// The name of the shown run where it was opened from disk, and a button back to the run in the engine.
pub fn opened_note_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let Some(run) = &ctx.session.opened else { return };
    ui.horizontal_wrapped(|ui| {
        cards::badge(ui, "from disk", ctx.theme.muted);
        ui.strong(run.name()).on_hover_text(run.dir.display().to_string());
        if ctx.session.live.is_some() {
            ctx.button(ui, Action::ShowLive);
        }
    });
}
