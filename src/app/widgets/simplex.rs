//! A triangle for the shares of three parts: its corners are one part alone, its middle equal shares.

use super::canvas;
use crate::app::theme::Theme;
use egui::{Align2, FontId, Pos2, Rect, Response, Sense, Stroke, Ui, pos2, vec2};

const SIZE: egui::Vec2 = vec2(210.0, 172.0);
/// Room for the names of the corners.
const MARGIN: f32 = 20.0;

/// Draws the triangle with a point at these shares; a drag or a click moves it. `names` of the parts, `name` is read by screen readers.
/// Shares are not negative and sum to 1 when they change.
pub fn ui(ui: &mut Ui, theme: &Theme, name: &str, names: [&str; 3], shares: &mut [f32; 3]) -> Response {
    let (rect, drawn) = canvas(ui, SIZE, egui::Role::Figure, name);
    let corners = corners(rect);
    let response = ui.interact(rect, drawn.id.with("drag"), Sense::click_and_drag());
    if let Some(at) = response.interact_pointer_pos().filter(|_| response.dragged() || response.clicked()) {
        *shares = shares_at(corners, at);
    }
    let painter = ui.painter();
    let outline = Stroke::new(1.5, theme.muted);
    for (i, corner) in corners.into_iter().enumerate() {
        painter.line_segment([corner, corners[(i + 1) % 3]], outline);
        // From each corner to the middle of the other side.
        let middle = corners[(i + 1) % 3] + (corners[(i + 2) % 3] - corners[(i + 1) % 3]) * 0.5;
        painter.line_segment([corner, middle], Stroke::new(0.5, theme.card_border));
        painter.circle_filled(corner, 4.0, theme.series(i));
        let (align, away) = match i {
            0 => (Align2::CENTER_BOTTOM, vec2(0.0, -6.0)),
            1 => (Align2::CENTER_TOP, vec2(0.0, 6.0)),
            _ => (Align2::CENTER_TOP, vec2(0.0, 6.0)),
        };
        painter.text(corner + away, align, names[i], FontId::proportional(11.0), ui.visuals().text_color());
    }
    let at = place(corners, *shares);
    painter.circle(at, 6.0, theme.accent, Stroke::new(1.5, ui.visuals().text_color()));
    response
}

/// Top, lower left, lower right.
fn corners(rect: Rect) -> [Pos2; 3] {
    let inner = rect.shrink(MARGIN);
    [pos2(inner.center().x, inner.top()), inner.left_bottom(), inner.right_bottom()]
}

/// The point of these shares.
fn place(corners: [Pos2; 3], shares: [f32; 3]) -> Pos2 {
    let sum: f32 = shares.iter().sum();
    let shares = if sum > 1e-6 { shares.map(|share| share / sum) } else { [1.0 / 3.0; 3] };
    let at = |pick: fn(&Pos2) -> f32| corners.iter().zip(shares).map(|(corner, share)| pick(corner) * share).sum();
    pos2(at(|corner| corner.x), at(|corner| corner.y))
}

/// The shares of a point; beyond the triangle those that would be negative are 0.
fn shares_at([a, b, c]: [Pos2; 3], at: Pos2) -> [f32; 3] {
    let area = |p: Pos2, q: Pos2, r: Pos2| (q.x - p.x) * (r.y - p.y) - (r.x - p.x) * (q.y - p.y);
    let whole = area(a, b, c);
    let parts = [area(at, b, c), area(a, at, c), area(a, b, at)].map(|part| (part / whole).max(0.0));
    let sum: f32 = parts.iter().sum();
    if sum > 1e-6 { parts.map(|part| part / sum) } else { [1.0 / 3.0; 3] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_shares_are_each_others_inverse() {
        let corners = corners(Rect::from_min_size(pos2(10.0, 20.0), SIZE));
        for shares in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5], [1.0 / 3.0; 3]] {
            let back = shares_at(corners, place(corners, shares));
            assert!(back.iter().zip(shares).all(|(a, b)| (a - b).abs() < 1e-5), "{back:?} of {shares:?}");
        }
        // Left of the triangle, half way up its left side.
        let left = corners[0] + (corners[1] - corners[0]) * 0.5 - vec2(40.0, 0.0);
        let shares = shares_at(corners, left);
        assert!(shares[2] == 0.0 && (shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{shares:?}");
    }
}
