//! The Setup view in a whole window: the focus stays in sight, nothing is cut.

use crate::fake_engine::FakeEngine;
use crate::harness::{ScriptedPicker, window_over};
use adamix::app::WorkbenchApp;
use adamix::app::settings::Settings;
use egui::Key;
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

fn window(zoom: f32) -> Harness<'static, WorkbenchApp> {
    let (engine, _handle) = FakeEngine::demo(10, None);
    let mut window = window_over(engine, Settings { zoom, ..Settings::default() }, ScriptedPicker::default());
    window.run_steps(6);
    window
}

#[test]
fn the_widget_with_the_keyboard_focus_is_in_sight() {
    let mut window = window(1.0);
    let screen = window.ctx.content_rect();
    let mut below = 0;
    for _ in 0..60 {
        window.key_press(Key::Tab);
        window.run_steps(3);
        let Some(id) = window.ctx.memory(|memory| memory.focused()) else { continue };
        let Some(response) = window.ctx.read_response(id) else { continue };
        assert!(screen.contains_rect(response.rect), "{:?} has the focus out of sight", response.rect);
        below += usize::from(response.rect.min.y > 0.6 * screen.max.y);
    }
    assert!(below > 10, "the form is longer than the window");
}

#[test]
fn fields_are_whole_at_every_zoom() {
    for zoom in [1.0, 1.4, 2.0] {
        let window = window(zoom);
        let pane = window.get_by_label("Preset").rect().min.x..0.4 * window.ctx.content_rect().width();
        for role in [Role::SpinButton, Role::ComboBox] {
            for node in window.query_all_by_role(role) {
                let rect = node.rect();
                if rect.min.x < pane.end {
                    assert!(
                        rect.max.x <= pane.end,
                        "zoom {zoom}: {:?} ends at {rect:?}",
                        node.accesskit_node().label()
                    );
                }
            }
        }
    }
}
