//! The Setup view in a whole window: the focus stays in sight, nothing is cut.

use crate::fake_engine::FakeEngine;
use crate::harness::{ScriptedPicker, window_over};
use adamix::app::WorkbenchApp;
use adamix::app::actions::Action;
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

fn focused(window: &Harness<'_, WorkbenchApp>) -> Option<egui::Response> {
    window.ctx.read_response(window.ctx.memory(|memory| memory.focused())?)
}

#[test]
fn a_view_that_a_key_calls_has_the_focus_and_tab_goes_on_in_it() {
    let mut window = window(1.0);
    window.key_press_modifiers(egui::Modifiers::COMMAND, Key::Num7);
    window.run_steps(4);
    window.get_by_label("Export: the view");
    window.key_press(Key::Tab);
    window.run_steps(4);
    let pane = window.get_by_label("Preset").rect().min.x..0.4 * window.ctx.content_rect().width();
    let next = focused(&window).expect("something has the focus").rect;
    assert!(!pane.contains(&next.min.x) && next.min.y > 60.0, "{next:?} is in the form or in the toolbar");
    assert!(window.query_by_label("Export: the view").is_none(), "the anchor is there only while it has the focus");
    // A dialog that closes gives the focus back to the view.
    window.state().actions.push(Action::ToggleAbout);
    window.run_steps(4);
    window.key_press(Key::Tab);
    window.run_steps(3);
    window.key_press(Key::Escape);
    window.run_steps(8);
    window.get_by_label("Export: the view");
    // Keys without a modifier are still the window's.
    window.key_press(Key::Tab);
    window.run_steps(3);
    assert!(focused(&window).expect("the focus goes on").rect.min.y > 60.0);
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
