//! The views. Each reads a [`PanelCtx`] and pushes actions; none knows another one.
//!
//! Every view draws four states: empty (what to do next), loading, error, data.

pub mod compare;
pub mod experts;
pub mod export;
pub mod models;
pub mod playground;
pub mod routing;
pub mod runs;
pub mod setup;
pub mod train;

use super::actions::{Action, ActionQueue};
use super::layout::View;
use super::session::Session;
use super::settings::Settings;
use super::theme::Theme;
use crate::protocol::RunPhase;
use egui::{Button, Response, RichText, Ui};

/// What a view can see: the world, read-only, and a queue for wishes.
pub struct PanelCtx<'a> {
    /// The model of everything.
    pub session: &'a Session,
    /// What the window remembers.
    pub settings: &'a Settings,
    /// Where wishes go.
    pub actions: &'a ActionQueue,
    /// Every colour.
    pub theme: &'a Theme,
    /// Seconds since the window opened.
    pub now: f64,
}

impl PanelCtx<'_> {
    /// Wishes for something.
    pub fn push(&self, action: Action) {
        self.actions.push(action);
    }
    /// A button for an action, with its words, tooltip, and the reason when it is disabled.
    pub fn button(&self, ui: &mut Ui, action: Action) -> Response {
        self.actions.button(ui, self.session, action)
    }
    /// As [`PanelCtx::button`] with a button of one's own.
    pub fn button_as(&self, ui: &mut Ui, action: Action, button: Button<'_>) -> Response {
        self.actions.button_as(ui, self.session, action, button)
    }
    /// What is said while nothing has come from a run in training yet; `words` where there is no special reason.
    pub fn waiting_words(&self, words: &'static str) -> &'static str {
        match self.session.phase {
            RunPhase::Preparing => "Model and data are being loaded",
            RunPhase::Evaluating => "The model is being measured; this comes right after",
            _ => words,
        }
    }
    /// The one button of a view that matters most, with words of its own.
    pub fn primary(&self, ui: &mut Ui, action: Action, words: &str) -> Response {
        let button = match action.enabled(self.session) {
            Ok(()) => Button::new(RichText::new(words).color(self.theme.on_accent)).fill(self.theme.accent),
            Err(_) => Button::new(words),
        };
        self.button_as(ui, action, button)
    }
}

/// All views with what they remember on screen.
#[derive(Default)]
pub struct Panels {
    /// Model, data, settings, pre-flight.
    pub setup: setup::SetupPanel,
    /// Live curves.
    pub train: train::TrainPanel,
    /// Which expert runs where.
    pub routing: routing::RoutingPanel,
    /// Weights of the experts.
    pub experts: experts::ExpertsPanel,
    /// Merged against unmerged.
    pub compare: compare::ComparePanel,
    /// Answers side by side.
    pub playground: playground::PlaygroundPanel,
    /// Files and certificates.
    pub export: export::ExportPanel,
    /// All runs on disk.
    pub runs: runs::RunsPanel,
    /// All models on disk.
    pub models: models::ModelsPanel,
}

impl Panels {
    /// Draws one view.
    pub fn ui(&mut self, view: View, ctx: &PanelCtx<'_>, ui: &mut Ui) {
        match view {
            View::Setup => self.setup.ui(ctx, ui),
            View::Train => self.train.ui(ctx, ui),
            View::Routing => self.routing.ui(ctx, ui),
            View::Experts => self.experts.ui(ctx, ui),
            View::Compare => self.compare.ui(ctx, ui),
            View::Playground => self.playground.ui(ctx, ui),
            View::Export => self.export.ui(ctx, ui),
            View::Runs => self.runs.ui(ctx, ui),
            View::Models => self.models.ui(ctx, ui),
        }
    }
}

/// What the views about a run show when there is none.
pub fn no_run_ui(ctx: &PanelCtx<'_>, ui: &mut Ui, title: &str, hint: &str) {
    super::widgets::cards::empty(ui, ctx.theme, title, hint, |ui| {
        if ctx.session.phase.is_active() {
            super::widgets::cards::loading(ui, "Model and data are being loaded", None);
        } else {
            let start = Action::StartRun;
            let words = start.text();
            ctx.primary(ui, start, &words);
            if let Some(problem) = ctx.session.start_problems().first() {
                ui.label(RichText::new(format!("Not now: {problem}")).color(ctx.theme.warning));
            }
        }
    });
}

/// Says which run is shown when it is not the one in the engine, and leads back.
pub fn opened_note_ui(ctx: &PanelCtx<'_>, ui: &mut Ui) {
    let Some(run) = &ctx.session.opened else { return };
    ui.horizontal_wrapped(|ui| {
        super::widgets::cards::badge(ui, "from disk", ctx.theme.muted);
        ui.strong(run.name()).on_hover_text(run.dir.display().to_string());
        if ctx.session.live.is_some() {
            ctx.button(ui, Action::ShowLive);
        }
    });
}
