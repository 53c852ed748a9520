//! Dialogs in front of the views: command palette, settings, shortcuts, confirmations.

mod layouts;
mod script;

use super::actions::Action;
use super::chooser::{self, Chooser};
use super::files::Purpose;
use super::frame_times::FrameTimes;
use super::panel_ctx::PanelCtx;
use super::settings::Appearance;
use super::widgets::labeled;
use egui::{Button, Context, Id, Key, Modifiers, RichText, Ui};
use std::path::{Path, PathBuf};

/// Height of the list of actions.
const PALETTE: f32 = 320.0;

/// The dialog in front of the views.
pub enum Dialog {
    /// Finds any action by a part of its name.
    Palette {
        text: String,
        selected: usize,
    },
    /// The window's own file chooser.
    Choose(Box<Chooser>),
    Settings,
    Shortcuts,
    About,
    /// Confirmation of closing the window during training.
    Close,
    /// Confirmation of deleting this run.
    Delete(PathBuf),
    /// Confirmation of removing this model.
    RemoveModel(String),
    /// Arrangements of the views; the name being typed.
    Layouts {
        name: String,
    },
    /// This sitting as a script; when it was asked for, in seconds since 1970.
    Script(u64),
    /// What a dropped directory is.
    Dropped(PathBuf),
}

pub fn ui(open: &mut Dialog, egui: &Context, ctx: &PanelCtx<'_>, frame_times: &FrameTimes) {
    let dismissed = match open {
        Dialog::Palette { text, selected } => {
            dialog(egui, "Command palette", 460.0, |ui| palette_ui(ui, ctx, text, selected))
        }
        Dialog::Choose(open) => dialog(egui, open.purpose().title(), 620.0, |ui| chooser::ui(open, ctx, ui)),
        Dialog::Settings => dialog(egui, "Window settings", 420.0, |ui| settings_ui(ui, ctx)),
        Dialog::Shortcuts => dialog(egui, "Keyboard shortcuts", 420.0, |ui| shortcuts_ui(ui, ctx)),
        Dialog::About => dialog(egui, "AdaMix workbench", 420.0, |ui| about_ui(ui, ctx, frame_times)),
        Dialog::Close => dialog(egui, "Training is still running", 440.0, |ui| close_ui(ui, ctx)),
        Dialog::Delete(dir) => dialog(egui, "Delete this run?", 440.0, |ui| {
            let what = "Its curves, checkpoints and exports are removed from disk. This cannot be undone.";
            confirm_ui(ui, ctx, Action::DeleteRun(dir.clone()), what, dir.display().to_string());
        }),
        Dialog::RemoveModel(id) => dialog(egui, "Remove this model?", 440.0, |ui| {
            let bytes = ctx.session.stored_model(id).map_or(0, |model| model.bytes);
            let what = format!(
                "{} are removed from the cache that other programs use too. Runs that were trained from it are \
                 kept, but need the model again to be resumed or exported.",
                crate::format::bytes(bytes)
            );
            confirm_ui(ui, ctx, Action::RemoveModel(id.clone()), &what, id.clone());
        }),
        Dialog::Layouts { name } => dialog(egui, "Arrangements of the views", 420.0, |ui| layouts::ui(ui, ctx, name)),
        Dialog::Script(unix) => dialog(egui, "This sitting as a script", 620.0, |ui| script::ui(ui, ctx, *unix)),
        Dialog::Dropped(path) => dialog(egui, "What is this directory?", 460.0, |ui| dropped_ui(ui, ctx, path)),
    };
    if dismissed {
        ctx.push(Action::CloseDialog);
    }
}

/// A modal dialog with a title; its contents bring their own buttons. Returns whether Escape was pressed or a click
/// was outside.
fn dialog(ctx: &Context, title: &str, width: f32, contents: impl FnOnce(&mut Ui)) -> bool {
    let frame = egui::Frame::popup(&ctx.global_style()).inner_margin(egui::Margin::same(16));
    let response = egui::Modal::new(Id::unique(("dialog", title))).frame(frame).show(ctx, |ui| {
        ui.set_width(width.min(ui.ctx().content_rect().width() - 48.0));
        ui.label(RichText::new(title).heading());
        ui.add_space(6.0);
        contents(ui);
    });
    response.should_close()
}

fn palette_ui(ui: &mut Ui, ctx: &PanelCtx<'_>, text: &mut String, selected: &mut usize) {
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
    hits.sort_by_key(|action| action.enabled(ctx.session).is_err());
    let [down, up] = [Key::ArrowDown, Key::ArrowUp]
        .map(|key| ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, key)));
    *selected = (*selected + down).saturating_sub(up).min(hits.len().saturating_sub(1));
    let enter = ui.input(|input| input.key_pressed(Key::Enter));
    ui.add_space(4.0);
    // The same height with any number of hits, so that the field stays where it is while somebody types.
    egui::ScrollArea::vertical().max_height(PALETTE).min_scrolled_height(PALETTE).auto_shrink(false).show(ui, |ui| {
        for (i, action) in hits.iter().enumerate() {
            let button = Button::new(action.text())
                .shortcut_text(action.keys(ui.ctx()).unwrap_or_default())
                .selected(i == *selected)
                .frame(true)
                .min_size(egui::vec2(ui.available_width(), 0.0));
            let response = ctx.button_as(ui, action.clone(), button);
            let chosen = enter && i == *selected && action.enabled(ctx.session).is_ok();
            if chosen {
                ctx.push(action.clone());
            }
            if chosen || response.clicked() {
                // The action may open another dialog: close this one first.
                let queued = ctx.actions.take();
                ctx.push(Action::CloseDialog);
                queued.into_iter().for_each(|action| ctx.push(action));
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

fn settings_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    let mut appearance = ctx.settings.appearance;
    let options = [(Appearance::System, "As the system"), (Appearance::Light, "Light"), (Appearance::Dark, "Dark")];
    if labeled::choice(ui, "Colours", "Light or dark background", &mut appearance, &options).changed() {
        ctx.push(Action::SetAppearance(appearance));
    }
    let mut zoom = ui.ctx().zoom_factor();
    let tip = "Size of everything; Ctrl and + or - do the same";
    if labeled::number(ui, "Size", tip, &mut zoom, 0.5..=3.0, 0.01).changed() {
        ui.ctx().set_zoom_factor(zoom);
    }
    let mut smoothing = ctx.settings.smoothing;
    let tip = "Half-life of the smoothing in steps; 0 draws the means. The range of the values is always drawn too";
    if labeled::number(ui, "Smoothing (steps)", tip, &mut smoothing, 0.0..=1000.0, 0.5).changed() {
        ctx.push(Action::SetSmoothing(smoothing));
    }
    let mut still = ctx.settings.reduced_motion;
    if labeled::toggle(ui, "Reduced motion", "Pictures that move by themselves stand still", &mut still).changed() {
        ctx.push(Action::SetReducedMotion(still));
    }
    let mut own = ctx.settings.own_chooser;
    let tip = "Browse opens a file chooser inside this window instead of the desktop's; without the desktop's it does so \
               in any case";
    if labeled::toggle(ui, "Built-in file chooser", tip, &mut own).changed() {
        ctx.push(Action::SetOwnChooser(own));
    }
    let mut notify = ctx.settings.notify;
    let tip = "When a run ends and the window is not in front, its title says so and the task bar asks for attention";
    if labeled::toggle(ui, "Ask for attention when a run ends", tip, &mut notify).changed() {
        ctx.push(Action::SetNotify(notify));
    }
    close_button(ui, ctx);
}

fn shortcuts_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    egui::ScrollArea::vertical().max_height(420.0).auto_shrink([false, true]).show(ui, |ui| {
        egui::Grid::new("shortcuts").num_columns(2).striped(true).spacing([24.0, 5.0]).show(ui, |ui| {
            let keys_of = |action: Action| Some((action.text(), action.keys(ui.ctx())?));
            let actions: Vec<(String, String)> = Action::palette().into_iter().filter_map(keys_of).collect();
            let others = [
                ("Another layer (Experts)", "Alt+Up / Down"),
                ("Another expert (Experts)", "Alt+Left / Right"),
                ("Another step, with Shift ten (Routing)", "Left / Right"),
                ("First step, last step, newest step (Routing)", "Home / End / F"),
                ("Play the draws (pointer over Routing)", "Space"),
                ("This list", "Ctrl+/"),
                ("Larger, smaller, normal size", "Ctrl + / - / 0"),
                ("Close a dialog, leave presenter mode, close a page", "Escape"),
            ];
            for (what, keys) in actions.into_iter().chain(others.map(|(what, keys)| (what.into(), keys.into()))) {
                ui.label(what);
                ui.label(RichText::new(keys).monospace().color(ctx.theme.accent));
                ui.end_row();
            }
        });
    });
    close_button(ui, ctx);
}

fn about_ui(ui: &mut Ui, ctx: &PanelCtx<'_>, frame_times: &FrameTimes) {
    ui.label(format!("Version {}", env!("CARGO_PKG_VERSION")));
    ui.label("Fine-tunes language models with AdaMix on this machine: a mixture of adaptation modules with random routing, merged into one.");
    ui.add_space(4.0);
    ui.label("MIT or Apache 2.0, at your choice. Nothing is sent anywhere.");
    if let Some(work) = frame_times.summary() {
        ui.add_space(4.0);
        ui.label(RichText::new(format!("This window: {work}.")).small());
    }
    close_button(ui, ctx);
}

fn close_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    ui.label("A checkpoint can be written first; the run can then be resumed from Runs exactly where it was.");
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        focus_first(&ctx.button(ui, Action::CheckpointAndQuit));
        ctx.button_as(ui, Action::CloseDialog, Button::new("Keep training")).on_hover_text("Leaves the window open");
        ctx.button(ui, Action::QuitNow);
    });
}

/// Asks before `action`, which removes something: what happens, and to what.
fn confirm_ui(ui: &mut Ui, ctx: &PanelCtx<'_>, action: Action, what: &str, to: String) {
    ui.label(what);
    ui.add_space(2.0);
    ui.label(RichText::new(to).monospace());
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        let text = RichText::new(action.text()).color(ctx.theme.error);
        ctx.button_as(ui, action, Button::new(text));
        focus_first(&ctx.button_as(ui, Action::CloseDialog, Button::new("Keep it")));
    });
}

fn dropped_ui(ui: &mut Ui, ctx: &PanelCtx<'_>, path: &Path) {
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
                ctx.push(Action::CloseDialog);
                ctx.push(Action::UsePath(purpose, path.to_owned()));
            }
        }
        if ui.button("Cancel").clicked() {
            ctx.push(Action::CloseDialog);
        }
    });
}

/// Enter presses this button, unless something else has the keyboard focus.
fn focus_first(response: &egui::Response) {
    if response.ctx.memory(|memory| memory.focused().is_none()) {
        response.request_focus();
    }
}

fn close_button(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    ui.add_space(8.0);
    if ui.button("Close").clicked() {
        ctx.push(Action::CloseDialog);
    }
}
