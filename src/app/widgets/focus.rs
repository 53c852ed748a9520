//! Keyboard focus stays in sight, and is somewhere.
//!
//! Each view has an anchor at its top. It takes the focus when the view is called by a key, and when the widget that had the focus
//! is gone (a dialog that closed, a button that its own action removed): the next Tab goes on in the view, not in the toolbar.

use egui::{Context, Id, Rect, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};

/// Passes for which a wish for the focus is kept.
const PATIENCE: u64 = 5;

fn anchor_of(view: &str) -> Id {
    Id::unique(("anchor of a view", view))
}

fn drawn_key() -> Id {
    Id::unique("anchor that is drawn")
}

fn wanted_key() -> Id {
    Id::unique("anchor that wants the focus")
}

fn home_key() -> Id {
    Id::unique("anchor of the view that has the focus")
}

/// The view of this title is to have the keyboard focus.
pub fn focus_view(ctx: &Context, view: &str) {
    want(ctx, anchor_of(view));
}

fn want(ctx: &Context, anchor: Id) {
    let pass = ctx.cumulative_pass_nr();
    ctx.data_mut(|data| data.insert_temp(wanted_key(), (anchor, pass)));
}

/// The widget with the keyboard focus, but for anchors: keys without a modifier are the window's while one of those has it.
pub fn focused_widget(ctx: &Context) -> Option<Id> {
    let focused = ctx.memory(|memory| memory.focused())?;
    let anchor: Option<Id> = ctx.data(|data| data.get_temp(drawn_key()));
    (anchor != Some(focused)).then_some(focused)
}

/// The anchor of a view: to be called first in it. It is there only while it has the focus or is to get it.
pub fn anchor(ui: &Ui, view: &str) {
    let id = anchor_of(view);
    let wanted: Option<(Id, u64)> = ui.data(|data| data.get_temp(wanted_key()));
    let fresh = |(_, pass): &(Id, u64)| pass + PATIENCE >= ui.ctx().cumulative_pass_nr();
    let wanted = wanted.filter(fresh).is_some_and(|(anchor, _)| anchor == id);
    if !wanted && !ui.memory(|memory| memory.has_focus(id)) {
        return;
    }
    let top = ui.max_rect().left_top();
    let place = Rect::from_min_size(pos2(top.x, ui.clip_rect().top().max(top.y)), vec2(ui.available_width(), 3.0));
    let response = ui.interact(place, id, Sense::focusable_noninteractive());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{view}: the view")));
    ui.data_mut(|data| {
        data.insert_temp(drawn_key(), id);
    });
    if wanted {
        ui.data_mut(|data| data.remove::<(Id, u64)>(wanted_key()));
        response.request_focus();
    }
    ui.painter().hline(place.x_range(), place.top() + 1.0, Stroke::new(2.0, ui.visuals().selection.stroke.color));
}

/// Notes that the focus is in this view, if it is. To be called last in it.
pub fn note_home(ui: &Ui, view: &str) {
    let Some(focused) = ui.memory(|memory| memory.focused()) else { return };
    let here = ui
        .ctx()
        .read_response(focused)
        .is_some_and(|response| response.layer_id == ui.layer_id() && ui.min_rect().contains(response.rect.center()));
    if here {
        ui.data_mut(|data| data.insert_temp(home_key(), anchor_of(view)));
    }
}

/// Gives the focus back to the view it was in last, where the widget that had it is gone or a dialog has been closed with the
/// keyboard. `dialog`: whether one is open. To be called once in a frame.
pub fn keep_focus(ctx: &Context, dialog: bool) {
    let [widget, open] = ["widget that had the focus", "a dialog was open"].map(Id::unique);
    let was_open = ctx.data_mut(|data| std::mem::replace(data.get_temp_mut_or_default::<bool>(open), dialog));
    let before: Option<Id> = ctx.data(|data| data.get_temp(widget));
    if let Some(focused) = ctx.memory(|memory| memory.focused()) {
        ctx.data_mut(|data| {
            data.insert_temp(widget, focused);
        });
        return;
    }
    ctx.data_mut(|data| data.remove::<Id>(widget));
    let gone = before.is_some_and(|before| ctx.read_response(before).is_none());
    let closed = was_open && !dialog;
    let by_mouse = ctx.input(|input| input.pointer.any_pressed() || input.pointer.any_released());
    if let Some(home) = ctx.data(|data| data.get_temp::<Id>(home_key())).filter(|_| (gone || closed) && !by_mouse) {
        want(ctx, home);
    }
}

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
