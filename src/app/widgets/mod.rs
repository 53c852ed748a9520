//! Widgets that depend on the theme only.

pub mod cards;
pub mod cell_grid;
pub mod column_plot;
pub mod dot_plot;
pub mod export_menu;
mod focus;
pub mod heatmap;
pub mod labeled;
pub mod legend;
pub mod listing;
pub mod metric_plot;
pub mod pen;
pub mod simplex;
pub mod stacked_bar;
pub mod term;
pub mod verdict;

pub use focus::{claim_keys, follow_focus, keys_are_claimed};

use egui::{Id, Rect, Response, Role, Sense, Ui, Vec2, WidgetInfo};

/// Room for a drawing; `name` is read by screen readers.
pub fn canvas(ui: &mut Ui, size: Vec2, role: Role, name: &str) -> (Rect, Response) {
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(role, true, name));
    (rect, response)
}

/// A part of a drawing; `about` is its tooltip and is read by screen readers. It is only made where somebody asks: a drawing
/// has hundreds of parts.
pub fn part<T: Into<String>>(ui: &Ui, rect: Rect, id: Id, about: impl Fn() -> T) -> Response {
    described(ui.interact(rect, id, Sense::hover()), Role::Label, about)
}

/// The same for a response that is there already.
pub fn described<T: Into<String>>(response: Response, role: Role, about: impl Fn() -> T) -> Response {
    response.widget_info(|| WidgetInfo::labeled(role, true, about().into()));
    if response.hovered() { response.on_hover_text(about().into()) } else { response }
}

/// Adds a tooltip, if there is one.
pub fn with_tip(response: Response, tip: &str) -> Response {
    if tip.is_empty() { response } else { response.on_hover_text(tip) }
}
