//! Keyboard focus stays in sight.

use egui::{Id, Ui};

/// Scrolls to the widget that has just got the keyboard focus, if it is one of this scroll area's contents. To be called
/// last in the area.
pub fn follow_focus(ui: &Ui) {
    let Some(focused) = ui.memory(|memory| memory.focused()) else { return };
    let key = Id::unique("focus that was followed");
    if ui.data(|data| data.get_temp::<Id>(key)) == Some(focused) {
        return;
    }
    let Some(response) = ui.ctx().read_response(focused) else { return };
    let is_inside = response.layer_id == ui.layer_id() && ui.min_rect().contains(response.rect.center());
    if is_inside && ui.clip_rect().x_range().contains(response.rect.center().x) {
        ui.data_mut(|data| data.insert_temp(key, focused));
        ui.scroll_to_rect(response.rect.expand(12.0), None);
    }
}

/// Plain keys (Space, arrows) belong to what calls this in every frame, and not to the window's shortcuts.
pub fn claim_keys(ctx: &egui::Context) {
    let frame = ctx.cumulative_pass_nr();
    ctx.data_mut(|data| data.insert_temp(claimed_key(), frame));
}

/// Whether plain keys were claimed in the last frame.
pub fn keys_are_claimed(ctx: &egui::Context) -> bool {
    let at: Option<u64> = ctx.data(|data| data.get_temp(claimed_key()));
    at.is_some_and(|at| at + 1 >= ctx.cumulative_pass_nr())
}

fn claimed_key() -> Id {
    Id::unique("plain keys are claimed")
}
