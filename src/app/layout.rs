//! Which view is where: tiles that can be dragged, split and tabbed.

use super::panels::{PanelCtx, Panels};
use egui::{Key, Ui, WidgetText};
use egui_tiles::{Behavior, SimplificationOptions, Tile, TileId, Tiles, Tree, UiResponse};
use serde::{Deserialize, Serialize};

/// The views of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// Model, data, settings, pre-flight.
    Setup,
    /// Live curves.
    Train,
    /// Which expert runs where.
    Routing,
    /// Weights of the experts.
    Experts,
    /// Merged against unmerged; weights of a merge.
    Compare,
    /// Answers of several models to one prompt.
    Playground,
    /// Files and certificates.
    Export,
    /// All runs on disk.
    Runs,
    /// All models on disk, and fetching more.
    Models,
}

impl View {
    /// All views in the order of their shortcuts.
    pub const ALL: [Self; 9] = [
        Self::Setup,
        Self::Train,
        Self::Routing,
        Self::Experts,
        Self::Compare,
        Self::Playground,
        Self::Export,
        Self::Runs,
        Self::Models,
    ];

    /// Its name on the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Setup => "Setup",
            Self::Train => "Train",
            Self::Routing => "Routing",
            Self::Experts => "Experts",
            Self::Compare => "Merge & compare",
            Self::Playground => "Playground",
            Self::Export => "Export",
            Self::Runs => "Runs",
            Self::Models => "Models",
        }
    }

    /// What it is for, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::Setup => "Model, data and settings of the next run",
            Self::Train => "Loss, learning rate and speed while it trains",
            Self::Routing => "Which expert each layer uses, and how often",
            Self::Experts => "What the experts have learned, and how far they are apart",
            Self::Compare => "The merged model against random routes, single experts and the ensemble",
            Self::Playground => "One prompt, answered by the base model, the merged one, single experts and routes",
            Self::Export => "Files for other programs, each with a certificate",
            Self::Runs => "All runs on disk",
            Self::Models => "All models on disk; fetching one by its name, removing one",
        }
    }

    /// The key that shows it, together with Ctrl.
    pub fn digit(self) -> Key {
        match self {
            Self::Setup => Key::Num1,
            Self::Train => Key::Num2,
            Self::Routing => Key::Num3,
            Self::Experts => Key::Num4,
            Self::Compare => Key::Num5,
            Self::Playground => Key::Num6,
            Self::Export => Key::Num7,
            Self::Runs => Key::Num8,
            Self::Models => Key::Num9,
        }
    }

    /// A view by its name, as typed: `setup`, `merge & compare` or `compare`.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase();
        Self::ALL
            .into_iter()
            .find(|view| view.title().to_lowercase() == name || format!("{view:?}").to_lowercase() == name)
    }
}

/// The arrangement of the views.
pub struct Layout {
    tree: Tree<View>,
}

impl Default for Layout {
    /// Setup, runs and models on the left, everything about a run on the right.
    fn default() -> Self {
        let mut tiles = Tiles::default();
        let mut tabs = |views: &[View]| {
            let panes: Vec<TileId> = views.iter().map(|view| tiles.insert_pane(*view)).collect();
            tiles.insert_tab_tile(panes)
        };
        let left = tabs(&[View::Setup, View::Runs, View::Models]);
        let right = tabs(&[View::Train, View::Routing, View::Experts, View::Compare, View::Playground, View::Export]);
        let root = tiles.insert_horizontal_tile(vec![left, right]);
        if let Some(Tile::Container(egui_tiles::Container::Linear(linear))) = tiles.get_mut(root) {
            linear.shares.set_share(left, 0.40);
            linear.shares.set_share(right, 0.60);
        }
        Self { tree: Tree::new(egui::Id::unique("views"), root, tiles) }
    }
}

impl Layout {
    /// Reads an arrangement; one that is broken or misses a view is refused.
    pub fn from_json(text: &str) -> Option<Self> {
        let tree: Tree<View> = serde_json::from_str(text).ok()?;
        let count =
            |view: View| tree.tiles.tiles().filter(|tile| matches!(tile, Tile::Pane(pane) if *pane == view)).count();
        View::ALL.into_iter().all(|view| count(view) == 1).then_some(Self { tree })
    }

    /// Writes the arrangement.
    pub fn to_json(&self) -> Option<String> {
        serde_json::to_string(&self.tree).ok()
    }

    /// Brings a view to the front.
    pub fn show(&mut self, view: View) {
        self.tree.make_active(|_, tile| matches!(tile, Tile::Pane(pane) if *pane == view));
    }

    /// Whether a view can be seen.
    pub fn is_visible(&self, view: View) -> bool {
        let Some(tile) = self.tree.tiles.find_pane(&view) else { return false };
        self.tree.active_tiles().contains(&tile)
    }

    /// Draws all visible views.
    pub fn ui(&mut self, ui: &mut Ui, panels: &mut Panels, ctx: &PanelCtx<'_>) {
        self.tree.ui(&mut Draw { panels, ctx }, ui);
    }
}

/// Draws the panes while the tree is borrowed.
struct Draw<'a, 'b> {
    panels: &'a mut Panels,
    ctx: &'a PanelCtx<'b>,
}

impl Behavior<View> for Draw<'_, '_> {
    fn pane_ui(&mut self, ui: &mut Ui, _tile_id: TileId, view: &mut View) -> UiResponse {
        egui::Frame::new().inner_margin(egui::Margin::symmetric(10, 8)).show(ui, |ui| {
            egui::ScrollArea::vertical().id_salt(*view).auto_shrink(false).show(ui, |ui| {
                self.panels.ui(*view, self.ctx, ui);
            });
        });
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, view: &View) -> WidgetText {
        view.title().into()
    }

    fn on_tab_button(&mut self, tiles: &mut Tiles<View>, tile_id: TileId, response: egui::Response) -> egui::Response {
        match tiles.get(tile_id) {
            Some(Tile::Pane(view)) => response.on_hover_text(format!("{}. Drag to rearrange", view.about())),
            _ => response,
        }
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..SimplificationOptions::default() }
    }

    fn tab_bar_height(&self, _style: &egui::Style) -> f32 {
        28.0
    }

    fn gap_width(&self, _style: &egui::Style) -> f32 {
        4.0
    }

    fn min_size(&self) -> f32 {
        160.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrangement_survives_a_round_trip_and_nonsense_is_refused() {
        let mut layout = Layout::default();
        layout.show(View::Routing);
        let text = layout.to_json().expect("a tree is plain data");
        assert!(Layout::from_json(&text).is_some());
        assert!(Layout::from_json("{}").is_none());
        assert!(
            Layout::from_json(&text.replace("\"runs\"", "\"setup\"")).is_none(),
            "a view twice, another one missing"
        );
    }

    #[test]
    fn views_have_names() {
        assert_eq!(View::by_name("compare"), Some(View::Compare));
        assert_eq!(View::by_name("Merge & compare"), Some(View::Compare));
        assert_eq!(View::by_name("nothing"), None);
    }
}
