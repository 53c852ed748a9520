//! The arrangement of the views: tiles that can be dragged, split and tabbed.

use super::actions::Action;
use super::pages;
use super::panel_ctx::PanelCtx;
use super::panels::Panels;
use super::view::{Page, View};
use super::widgets::{anchor, follow_focus, note_home};
use egui::{Ui, WidgetText};
use egui_tiles::{Behavior, SimplificationOptions, Tile, TileId, Tiles, Tree, UiResponse};

/// The arrangement of the views.
pub struct ViewLayout {
    tree: Tree<View>,
    /// A page in front of the views, and whether it has been drawn.
    page: Option<(Page, bool)>,
}

impl Default for ViewLayout {
    /// Setup, runs and models on the left, the views of a run on the right.
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
        Self { tree: Tree::new(egui::Id::unique("views"), root, tiles), page: None }
    }
}

impl ViewLayout {
    /// Reads an arrangement; `None` where it is invalid or a view is missing.
    pub fn from_json(text: &str) -> Option<Self> {
        let tree: Tree<View> = serde_json::from_str(text).ok()?;
        let count =
            |view: View| tree.tiles.tiles().filter(|tile| matches!(tile, Tile::Pane(pane) if *pane == view)).count();
        View::ALL.into_iter().all(|view| count(view) == 1).then_some(Self { tree, page: None })
    }

    pub fn to_json(&self) -> Option<String> {
        serde_json::to_string(&self.tree).ok()
    }

    /// Brings a view to the front; a page in front of it goes.
    pub fn show(&mut self, view: View) {
        self.page = None;
        self.tree.make_active(|_, tile| matches!(tile, Tile::Pane(pane) if *pane == view));
    }

    /// Draws a page instead of the views.
    pub fn show_page(&mut self, page: Page) {
        self.page = Some((page, false));
    }

    /// Back to the views.
    pub fn close_page(&mut self) {
        self.page = None;
    }

    /// The page in front of the views.
    pub fn page(&self) -> Option<Page> {
        self.page.map(|(page, _)| page)
    }

    /// Whether a view can be seen; behind a page none can.
    pub fn is_visible(&self, view: View) -> bool {
        if self.page.is_some() {
            return false;
        }
        let Some(tile) = self.tree.tiles.find_pane(&view) else { return false };
        self.tree.active_tiles().contains(&tile)
    }

    pub fn ui(&mut self, ui: &mut Ui, panels: &mut Panels, ctx: &PanelCtx<'_>) {
        if let Some((page, drawn)) = &mut self.page {
            return panels.pages.ui(*page, !std::mem::replace(drawn, true), ctx, ui);
        }
        self.tree.ui(&mut Draw { panels, ctx }, ui);
    }
}

struct Draw<'a, 'b> {
    panels: &'a mut Panels,
    ctx: &'a PanelCtx<'b>,
}

impl Behavior<View> for Draw<'_, '_> {
    fn pane_ui(&mut self, ui: &mut Ui, _tile_id: TileId, view: &mut View) -> UiResponse {
        egui::Frame::new().inner_margin(egui::Margin::symmetric(10, 8)).show(ui, |ui| {
            anchor(ui, view.title());
            // Setup scrolls its form by itself, with its explanation, below what stays in place.
            if *view == View::Setup {
                self.panels.ui(*view, self.ctx, ui);
                return note_home(ui, view.title());
            }
            egui::ScrollArea::vertical().id_salt(*view).auto_shrink(false).show(ui, |ui| {
                if !self.ctx.settings.explained.contains(view) {
                    pages::explanation_ui(self.ctx, *view, ui);
                }
                self.panels.ui(*view, self.ctx, ui);
                follow_focus(ui);
                note_home(ui, view.title());
            });
        });
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, view: &View) -> WidgetText {
        view.title().into()
    }

    fn on_tab_button(&mut self, tiles: &mut Tiles<View>, tile_id: TileId, response: egui::Response) -> egui::Response {
        match tiles.get(tile_id) {
            Some(Tile::Pane(view)) => response.on_hover_text(format!("{}. Drag to rearrange", view.tooltip())),
            _ => response,
        }
    }

    /// A button beside the tabs: what the view in front shows.
    fn top_bar_right_ui(
        &mut self,
        tiles: &Tiles<View>,
        ui: &mut Ui,
        _tile_id: TileId,
        tabs: &egui_tiles::Tabs,
        _scroll_offset: &mut f32,
    ) {
        let Some(Tile::Pane(view)) = tabs.active.and_then(|tile| tiles.get(tile)) else { return };
        ui.add_space(4.0);
        let open = !self.ctx.settings.explained.contains(view);
        let button = egui::Button::new("?").small().selected(open);
        let name = format!("What {} shows", view.title());
        self.ctx.button_as(ui, Action::ToggleExplanation(*view), button).accessible_name(name);
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
        let mut layout = ViewLayout::default();
        layout.show(View::Routing);
        let text = layout.to_json().expect("a tree is plain data");
        assert!(ViewLayout::from_json(&text).is_some());
        assert!(ViewLayout::from_json("{}").is_none());
        assert!(
            ViewLayout::from_json(&text.replace("\"runs\"", "\"setup\"")).is_none(),
            "a view twice, another one missing"
        );
    }
}
