//! The routes of the last steps: time to the right. Where a batch took one expert, it is drawn by height and colour; where
//! examples or tokens drew for themselves, each step is a column of shares.

use crate::app::names;
use crate::app::theme::Theme;
use crate::format;
use crate::protocol::{RoutingSnapshot, StepRoute};
use egui::{Align2, FontId, Rangef, Rect, Sense, Ui, pos2, vec2};

/// Steps that the strip has room for at least.
const STEPS: usize = 32;

/// One strip: a side of a module in a pass.
pub struct Strip<'a> {
    pub pass: usize,
    /// Its place in the routes of a step.
    pub cell: usize,
    /// Module and side.
    pub name: &'a str,
}

/// What is drawn, above all strips; first and last step below them.
pub fn frame_ui(theme: &Theme, routing: &RoutingSnapshot, area: Rangef, rows: Rangef, ui: &Ui) {
    let (painter, small) = (ui.painter(), FontId::proportional(11.0));
    let height =
        if routing.policy.is_per_batch() || !routing.policy.is_random() { "expert" } else { "share of each expert" };
    let words = format!("last {}; height: {height}", format::counted(routing.recent.len(), "step"));
    painter.text(pos2(area.min, rows.min), Align2::LEFT_TOP, words, small.clone(), theme.muted);
    let (Some(first), Some(last)) = (routing.recent.first(), routing.recent.last()) else { return };
    let step = |step: &StepRoute| format!("step {}", format::count(step.step));
    let left = area.max - area.span() * routing.recent.len() as f32 / routing.recent.len().max(STEPS) as f32;
    painter.text(pos2(area.max, rows.max), Align2::RIGHT_BOTTOM, step(last), small.clone(), theme.muted);
    if area.max - left > 140.0 {
        painter.text(pos2(left, rows.max), Align2::LEFT_BOTTOM, step(first), small, theme.muted);
    }
}

/// Draws one strip; hovering names step and experts.
pub fn ui(theme: &Theme, routing: &RoutingSnapshot, strip: &Strip<'_>, area: Rect, ui: &Ui) {
    let painter = ui.painter();
    painter.rect_filled(area, 2.0, ui.visuals().faint_bg_color);
    let n = routing.recent.len().max(1);
    let width = area.width() / n.max(STEPS) as f32;
    let column = (width - 0.5).max(1.0);
    for (i, step) in routing.recent.iter().enumerate() {
        let left = area.right() - (n - i) as f32 * width;
        let shares = step.shares_of(strip.cell, routing.experts);
        if step.shares.is_empty() {
            let height = area.height() / shares.len().max(1) as f32;
            let Some(expert) = shares.iter().position(|&share| share > 0.5) else { continue };
            let top = area.bottom() - (expert + 1) as f32 * height;
            let cell = Rect::from_min_size(pos2(left, top), vec2(column, (height - 0.5).max(1.0)));
            painter.rect_filled(cell, 0.0, theme.series(expert));
        } else {
            let mut bottom = area.bottom();
            for (expert, share) in shares.iter().enumerate() {
                let top = (bottom - share * area.height()).max(area.top());
                painter.rect_filled(
                    Rect::from_min_max(pos2(left, top), pos2(left + column, bottom)),
                    0.0,
                    theme.series(expert),
                );
                bottom = top;
            }
        }
    }
    let pass = if strip.pass == 0 { "pass A" } else { "pass B" };
    let about =
        format!("{}, {pass}: experts of the last {}", strip.name, format::counted(routing.recent.len(), "step"));
    let response = ui.interact(area, egui::Id::unique(("route history", strip.cell)), Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &about));
    let pointed = response.hover_pos().and_then(|at| {
        let back = ((area.right() - at.x) / width).floor() as usize;
        routing.recent.get(n.checked_sub(back + 1)?)
    });
    response.on_hover_text_at_pointer(pointed.map_or(about, |step| step_text(step, strip, routing)));
}

/// What a step drew: `layer 3 down, pass A, step 412: expert 2`.
pub fn step_text(step: &StepRoute, strip: &Strip<'_>, routing: &RoutingSnapshot) -> String {
    let shares = step.shares_of(strip.cell, routing.experts);
    let drawn = if step.shares.is_empty() {
        let expert = shares.iter().position(|&share| share > 0.5);
        expert.map_or_else(|| "nothing".to_owned(), |expert| format!("expert {expert}"))
    } else {
        let parts: Vec<String> =
            shares.iter().enumerate().map(|(e, &share)| format!("expert {e} {}", names::share(share))).collect();
        parts.join(", ")
    };
    let pass = if strip.pass == 0 { "pass A" } else { "pass B" };
    format!("{}, {pass}, step {}: {drawn}", strip.name, format::count(step.step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_its_expert_or_its_shares() {
        let routing = RoutingSnapshot { experts: [4, 1], ..RoutingSnapshot::default() };
        let strip = Strip { pass: 0, cell: 0, name: "layer 3 down" };
        let one = StepRoute { step: 1412, experts: vec![2, 0], shares: Vec::new() };
        assert_eq!(step_text(&one, &strip, &routing), "layer 3 down, pass A, step 1,412: expert 2");
        let many = StepRoute { step: 5, experts: vec![1, 0], shares: vec![51, 102, 0, 102, 255] };
        let words = step_text(&many, &strip, &routing);
        assert!(words.ends_with("step 5: expert 0 20 %, expert 1 40 %, expert 2 0 %, expert 3 40 %"), "{words}");
    }
}
