//! Dialogs in front of the views: command palette, settings, shortcuts, confirmations.

use super::WorkbenchApp;
use super::actions::{Action, ActionQueue};
use super::files::Purpose;
use super::session::Session;
use super::settings::{Appearance, Settings};
use super::theme::Theme;
use super::widgets::confirm::{DialogState, dialog};
use super::widgets::labeled;
use egui::{Button, Key, Modifiers, RichText, Ui};
use std::path::{Path, PathBuf};

/// The dialog in front of the views.
pub enum Dialog {
    /// Finds any action by a part of its name.
    Palette {
        /// The search text.
        text: String,
        /// Index of the selected hit.
        selected: usize,
    },
    Settings,
    Shortcuts,
    About,
    /// Confirmation of closing the window during training.
    Close,
    /// Confirmation of deleting this run.
    Delete(PathBuf),
    /// Confirmation of removing this model.
    RemoveModel(String),
    /// What a dropped directory is.
    Dropped(PathBuf),
}

impl WorkbenchApp {
    /// Draws the open dialog, if any.
    pub(super) fn dialog_ui(&mut self, ctx: &egui::Context, theme: &Theme) {
        let Self { dialog: open, session, settings, actions, frame_times, .. } = self;
        let Some(open) = open else { return };
        let answer = match open {
            Dialog::Palette { text, selected } => {
                dialog(ctx, "palette", "Command palette", 460.0, |ui| palette_ui(ui, session, actions, text, selected))
            }
            Dialog::Settings => {
                dialog(ctx, "settings", "Window settings", 420.0, |ui| settings_ui(ui, settings, actions))
            }
            Dialog::Shortcuts => {
                dialog(ctx, "shortcuts", "Keyboard shortcuts", 420.0, |ui| shortcuts_ui(ui, actions, theme))
            }
            Dialog::About => {
                dialog(ctx, "about", "AdaMix workbench", 420.0, |ui| about_ui(ui, actions, frame_times.summary()))
            }
            Dialog::Close => {
                dialog(ctx, "close", "Training is still running", 440.0, |ui| close_ui(ui, session, actions))
            }
            Dialog::Delete(dir) => dialog(ctx, "delete", "Delete this run?", 440.0, |ui| {
                let what = "Its curves, checkpoints and exports are removed from disk. This cannot be undone.";
                let action = Action::DeleteRun(dir.clone());
                confirm_ui(ui, session, actions, theme, action, what, dir.display().to_string());
            }),
            Dialog::RemoveModel(id) => dialog(ctx, "remove model", "Remove this model?", 440.0, |ui| {
                let bytes = session.stored_model(id).map_or(0, |model| model.bytes);
                let what = format!(
                    "{} are removed from the cache that other programs use too. Runs that were trained from it are \
                     kept, but need the model again to be resumed or exported.",
                    crate::format::bytes(bytes)
                );
                confirm_ui(ui, session, actions, theme, Action::RemoveModel(id.clone()), &what, id.clone());
            }),
            Dialog::Dropped(path) => {
                dialog(ctx, "dropped", "What is this directory?", 460.0, |ui| dropped_ui(ui, actions, path))
            }
        };
        if answer == DialogState::Dismissed {
            actions.push(Action::CloseDialog);
        }
    }
}

fn palette_ui(ui: &mut Ui, session: &Session, actions: &ActionQueue, text: &mut String, selected: &mut usize) {
    let edit =
        egui::TextEdit::singleline(text).hint_text("Type a part of an action's name").desired_width(f32::INFINITY);
    let edit = ui.add(edit).accessible_name("Find an action");
    edit.request_focus();
    if edit.changed() {
        *selected = 0;
    }
    let words: Vec<String> = text.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let fits = |action: &Action| {
        let name = action.text().to_lowercase();
        *action != Action::TogglePalette && words.iter().all(|word| name.contains(word))
    };
    // Enabled actions come first.
    let mut hits: Vec<Action> = Action::palette().into_iter().filter(fits).collect();
    hits.sort_by_key(|action| action.enabled(session).is_err());
    let [down, up] = [Key::ArrowDown, Key::ArrowUp]
        .map(|key| ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, key)));
    *selected = (*selected + down).saturating_sub(up).min(hits.len().saturating_sub(1));
    let enter = ui.input(|input| input.key_pressed(Key::Enter));
    ui.add_space(4.0);
    egui::ScrollArea::vertical().max_height(320.0).auto_shrink([false, true]).show(ui, |ui| {
        for (i, action) in hits.iter().enumerate() {
            let keys = action.shortcut().map(|keys| ui.ctx().format_shortcut(&keys)).unwrap_or_default();
            let button = Button::new(action.text())
                .shortcut_text(keys)
                .selected(i == *selected)
                .frame(true)
                .min_size(egui::vec2(ui.available_width(), 0.0));
            let response = actions.button_as(ui, session, action.clone(), button);
            let chosen = enter && i == *selected && action.enabled(session).is_ok();
            if chosen {
                actions.push(action.clone());
            }
            if chosen || response.clicked() {
                // The action may open another dialog: close this one first.
                let queued = actions.take();
                actions.push(Action::CloseDialog);
                queued.into_iter().for_each(|action| actions.push(action));
            }
            if i == *selected && (down, up) != (0, 0) {
                response.scroll_to_me(None);
            }
        }
        if hits.is_empty() {
            ui.label("No action has a name like this");
        }
    });
}

fn settings_ui(ui: &mut Ui, settings: &Settings, actions: &ActionQueue) {
    let mut appearance = settings.appearance;
    let options = [(Appearance::System, "As the system"), (Appearance::Light, "Light"), (Appearance::Dark, "Dark")];
    if labeled::choice(ui, "Colours", "Light or dark background", &mut appearance, &options).changed() {
        actions.push(Action::SetAppearance(appearance));
    }
    let mut zoom = ui.ctx().zoom_factor();
    if labeled::number(ui, "Size", "Size of everything; Ctrl and + or - do the same", &mut zoom, 0.5..=3.0, 0.01)
        .changed()
    {
        ui.ctx().set_zoom_factor(zoom);
    }
    let mut smoothing = settings.smoothing;
    let tip = "Half-life of the smoothing in steps; 0 draws the means. The range of the values is always drawn too";
    if labeled::number(ui, "Smoothing (steps)", tip, &mut smoothing, 0.0..=1000.0, 0.5).changed() {
        actions.push(Action::SetSmoothing(smoothing));
    }
    close_button(ui, actions);
}

fn shortcuts_ui(ui: &mut Ui, actions: &ActionQueue, theme: &Theme) {
    egui::ScrollArea::vertical().max_height(420.0).auto_shrink([false, true]).show(ui, |ui| {
        egui::Grid::new("shortcuts").num_columns(2).striped(true).spacing([24.0, 5.0]).show(ui, |ui| {
            let keys_of = |action: Action| Some((action.text(), ui.ctx().format_shortcut(&action.shortcut()?)));
            let actions: Vec<(String, String)> = Action::palette().into_iter().filter_map(keys_of).collect();
            let others = [
                ("Another layer (Experts)", "Alt+Up / Down"),
                ("Another expert (Experts)", "Alt+Left / Right"),
                ("This list", "Ctrl+/"),
                ("Larger, smaller, normal size", "Ctrl + / - / 0"),
                ("Close a dialog", "Escape"),
            ];
            for (what, keys) in actions.into_iter().chain(others.map(|(what, keys)| (what.into(), keys.into()))) {
                ui.label(what);
                ui.label(RichText::new(keys).monospace().color(theme.accent));
                ui.end_row();
            }
        });
    });
    close_button(ui, actions);
}

fn about_ui(ui: &mut Ui, actions: &ActionQueue, work: Option<String>) {
    ui.label(format!("Version {}", env!("CARGO_PKG_VERSION")));
    ui.label("Fine-tunes language models with AdaMix on this machine: a mixture of adaptation modules with random routing, merged into one.");
    ui.add_space(4.0);
    ui.label("MIT or Apache 2.0, at your choice. Nothing is sent anywhere.");
    if let Some(work) = work {
        ui.add_space(4.0);
        ui.label(RichText::new(format!("This window: {work}.")).small());
    }
    close_button(ui, actions);
}

fn close_ui(ui: &mut Ui, session: &Session, actions: &ActionQueue) {
    ui.label("A checkpoint can be written first; the run can then be resumed from Runs exactly where it was.");
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        focus_first(&actions.button(ui, session, Action::CheckpointAndQuit));
        let keep = Button::new("Keep training");
        actions.button_as(ui, session, Action::CloseDialog, keep).on_hover_text("Leaves the window open");
        actions.button(ui, session, Action::QuitNow);
    });
}

/// Asks before `action`, which removes something: what happens, and to what.
fn confirm_ui(
    ui: &mut Ui,
    session: &Session,
    actions: &ActionQueue,
    theme: &Theme,
    action: Action,
    what: &str,
    to: String,
) {
    ui.label(what);
    ui.add_space(2.0);
    ui.label(RichText::new(to).monospace());
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        let words = RichText::new(action.text()).color(theme.error);
        actions.button_as(ui, session, action, Button::new(words));
        focus_first(&actions.button_as(ui, session, Action::CloseDialog, Button::new("Keep it")));
    });
}

fn dropped_ui(ui: &mut Ui, actions: &ActionQueue, path: &Path) {
    ui.label(RichText::new(path.display().to_string()).monospace());
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        for (words, purpose) in [
            ("A model", Purpose::Model),
            ("Data in GLUE layout", Purpose::DataDir),
            ("A run", Purpose::Run),
            ("A table", Purpose::TrainFile),
        ] {
            if ui.button(words).on_hover_text(purpose.title()).clicked() {
                actions.push(Action::CloseDialog);
                actions.push(Action::UsePath(purpose, path.to_owned()));
            }
        }
        if ui.button("Cancel").clicked() {
            actions.push(Action::CloseDialog);
        }
    });
}

/// Enter presses this button, unless something else has the keyboard focus.
fn focus_first(response: &egui::Response) {
    if response.ctx.memory(|memory| memory.focused().is_none()) {
        response.request_focus();
    }
}

fn close_button(ui: &mut Ui, actions: &ActionQueue) {
    ui.add_space(8.0);
    if ui.button("Close").clicked() {
        actions.push(Action::CloseDialog);
    }
}
