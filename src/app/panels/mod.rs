//! The views. Each reads a [`PanelCtx`] and pushes actions; no view uses another one.
//!
//! Every view draws four states: empty (what to do next), loading, error, data.

mod compare;
pub mod experts;
pub mod export;
mod models;
mod playground;
mod routing;
mod runs;
pub(super) mod setup;
mod train;

use super::pages::Pages;
use super::panel_ctx::PanelCtx;
use super::view::View;
use egui::Ui;

/// All views with what they remember on screen.
#[expect(missing_docs, reason = "each is named after its view")]
#[derive(Default)]
pub struct Panels {
    pub setup: setup::SetupPanel,
    pub train: train::TrainPanel,
    pub routing: routing::RoutingPanel,
    pub experts: experts::ExpertsPanel,
    pub compare: compare::ComparePanel,
    pub playground: playground::PlaygroundPanel,
    pub export: export::ExportPanel,
    pub runs: runs::RunsPanel,
    pub models: models::ModelsPanel,
    pub pages: Pages,
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
