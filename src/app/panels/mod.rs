//! The views. Each reads a [`PanelCtx`] and pushes actions; no view uses another one.
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

use super::panel_ctx::PanelCtx;
use super::view::View;
use egui::Ui;

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
