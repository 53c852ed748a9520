//! The bars above and below the views, keyboard shortcuts, dropped files, toasts.

use super::WorkbenchApp;
use super::actions::{Action, ActionQueue};
use super::query::JobProgress;
use super::session::{EngineState, Session};
use super::theme::Theme;
use super::widgets::cards;
use crate::format;
use crate::protocol::{LogLevel, RunPhase};
use egui::{Button, Color32, RichText, Ui};

/// Name and colour of a phase.
pub fn phase_label(phase: RunPhase, theme: &Theme) -> (&'static str, Color32) {
    match phase {
        RunPhase::Idle => ("Ready", theme.muted),
        RunPhase::Preparing => ("Preparing", theme.accent),
        RunPhase::Training => ("Training", theme.accent),
        RunPhase::Paused => ("Paused", theme.warning),
        RunPhase::Evaluating => ("Evaluating", theme.accent),
        RunPhase::Stopping => ("Stopping", theme.warning),
        RunPhase::Finished => ("Finished", theme.ok),
        RunPhase::Failed => ("Failed", theme.error),
    }
}

/// Run name, phase, progress, and the buttons that control a run.
pub fn top_ui(ui: &mut Ui, session: &Session, actions: &ActionQueue, theme: &Theme) {
    egui::Panel::top("top bar").show(ui, |ui| {
        ui.add_space(3.0);
        ui.horizontal(|ui| {
            let start = Action::StartRun;
            let words = RichText::new("▶ Start").strong();
            let button = match start.enabled(session) {
                Ok(()) => Button::new(words.color(theme.on_accent)).fill(theme.accent),
                Err(_) => Button::new(words).fill(ui.visuals().widgets.inactive.weak_bg_fill),
            };
            actions.button_as(ui, session, start, button).accessible_name("Start");
            let pause = if session.phase == RunPhase::Paused { Action::Resume } else { Action::Pause };
            actions.button(ui, session, pause);
            actions.button(ui, session, Action::Step);
            actions.button(ui, session, Action::Stop);
            ui.separator();
            phase_ui(ui, session, theme);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                menu_ui(ui, session, actions);
                progress_ui(ui, session);
            });
        });
        ui.add_space(3.0);
    });
}

fn phase_ui(ui: &mut Ui, session: &Session, theme: &Theme) {
    let (name, color) = phase_label(session.phase, theme);
    cards::badge(ui, name, color);
    match (&session.live, session.phase) {
        (Some(run), _) => {
            ui.add(egui::Label::new(RichText::new(run.name()).strong()).truncate())
                .on_hover_text(run.dir.display().to_string());
        }
        (None, RunPhase::Preparing) => {
            ui.label("loading model and data");
        }
        (None, _) => {
            ui.label(RichText::new("no run yet").color(theme.muted));
        }
    }
}

fn progress_ui(ui: &mut Ui, session: &Session) {
    let Some(run) = &session.live else { return };
    if run.start.total_steps == 0 {
        return;
    }
    let steps = format!("{} / {}", format::count(run.step()), format::count(run.start.total_steps));
    let text = match run.seconds_left() {
        Some(seconds) if session.phase.is_active() && seconds > 0.0 => {
            format!("{steps}   {} left", format::duration(seconds))
        }
        _ => steps,
    };
    let width = (ui.available_width() - 8.0).clamp(60.0, 260.0);
    ui.add(egui::ProgressBar::new(run.progress()).desired_width(width).text(text))
        .on_hover_text("Steps done of the steps planned");
}

fn menu_ui(ui: &mut Ui, session: &Session, actions: &ActionQueue) {
    use super::files::Purpose;
    ui.menu_button("Menu", |ui| {
        for action in [
            Action::TogglePalette,
            Action::Pick(Purpose::Run),
            Action::Pick(Purpose::OpenSettings),
            Action::Pick(Purpose::SaveSettings),
            Action::ToggleSettings,
            Action::ToggleShortcuts,
            Action::ResetLayout,
            Action::ToggleFullScreen,
            Action::ToggleAbout,
            Action::Quit,
        ] {
            let keys = action.shortcut().map(|keys| ui.ctx().format_shortcut(&keys)).unwrap_or_default();
            let button = Button::new(action.text()).shortcut_text(keys);
            if actions.button_as(ui, session, action, button).clicked() {
                ui.close();
            }
        }
    });
}

/// Engine, device, what is being computed, the newest notice.
pub fn bottom_ui(ui: &mut Ui, session: &Session, actions: &ActionQueue, theme: &Theme) {
    egui::Panel::bottom("status bar").show(ui, |ui| {
        ui.horizontal(|ui| {
            match &session.engine {
                EngineState::Starting => ui.label(RichText::new("Starting the engine…").color(theme.muted)),
                EngineState::Ready { device, threads } => {
                    let plural = if *threads == 1 { "thread" } else { "threads" };
                    ui.label(RichText::new(format!("{device}, {threads} {plural}")).color(theme.muted))
                }
                EngineState::Failed(reason) => {
                    ui.label(RichText::new("Engine failed").color(theme.error)).on_hover_text(reason)
                }
            };
            if let Some((what, progress)) = session.job() {
                ui.separator();
                cards::loading(ui, progress.map_or(what, |p| p.what.as_str()), progress.and_then(JobProgress::share));
                if session.job_pending() {
                    actions.button_as(ui, session, Action::CancelJob, Button::new("Cancel").small());
                }
            }
            if let Some(notice) = &session.last_notice {
                ui.separator();
                let words = RichText::new(&notice.text).color(theme.level(notice.level));
                ui.add(egui::Label::new(words).truncate()).on_hover_text(&notice.text);
            }
        });
    });
}

/// The hint while a file is dragged over the window.
pub fn drop_hint_ui(ctx: &egui::Context, theme: &Theme) {
    if ctx.input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop hint"));
    let (painter, rect) = (ctx.layer_painter(layer), ctx.content_rect());
    painter.rect_filled(rect, 0.0, theme.card.gamma_multiply(0.85));
    let words = "Drop a model directory, a table (TSV, CSV, JSONL), a run directory or a run.toml";
    painter.text(rect.center(), egui::Align2::CENTER_CENTER, words, egui::FontId::proportional(20.0), theme.accent);
}

/// Breaks a notice into lines that fit a toast.
fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let n = word.chars().count();
        if column > 0 && column + n + 1 > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += n;
    }
    format::ellipsis(&out, 400)
}

impl WorkbenchApp {
    /// Turns key presses into actions. Keys without a modifier are ignored while a text field has the focus.
    pub(super) fn shortcuts(&self, ctx: &egui::Context) {
        let typing = ctx.egui_wants_keyboard_input();
        let palette = Action::palette();
        // The longest combinations first: Ctrl+Shift+Z is not Ctrl+Z.
        let mut actions: Vec<&Action> = palette.iter().filter(|action| action.shortcut().is_some()).collect();
        actions.sort_by_key(|action| action.shortcut().is_some_and(|keys| !keys.modifiers.shift));
        for action in actions {
            let Some(keys) = action.shortcut() else { continue };
            let plain =
                keys.modifiers.is_none() && !matches!(keys.logical_key, egui::Key::F1 | egui::Key::F5 | egui::Key::F11);
            let text_edits = matches!(action, Action::UndoForm | Action::RedoForm);
            if typing && (plain || text_edits) || self.dialog.is_some() && plain {
                continue;
            }
            // Pause and continue share a key: the enabled one is used.
            if plain && action.enabled(&self.session).is_err() {
                continue;
            }
            if ctx.input_mut(|input| input.consume_shortcut(&keys)) {
                self.actions.push(action.clone());
            }
        }
        let list = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::Slash);
        if ctx.input_mut(|input| input.consume_shortcut(&list)) {
            self.actions.push(Action::ToggleShortcuts);
        }
    }

    /// Files dropped onto the window.
    pub(super) fn take_drops(&self, ctx: &egui::Context) {
        let dropped = ctx.input(|input| input.raw.dropped_files.clone());
        for path in dropped.into_iter().map(|file| file.path().to_owned()) {
            self.actions.push(Action::Dropped(path));
        }
    }

    /// New notices as toasts.
    pub(super) fn toasts_ui(&mut self, ctx: &egui::Context, theme: &Theme) {
        for notice in self.session.notices.drain(..) {
            let color = theme.level(notice.level);
            let level = egui_notify::ToastLevel::Custom("●".to_owned(), color);
            let seconds = if notice.level == LogLevel::Info { 3 } else { 8 };
            self.toasts
                .custom(wrapped(&notice.text, 56), "●".to_owned(), color)
                .level(level)
                .closable(false)
                .duration(std::time::Duration::from_secs(seconds));
        }
        self.toasts.show(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toasts_break_between_words() {
        let text = wrapped("one two three four five six", 10);
        assert!(text.lines().all(|line| line.chars().count() <= 10), "{text:?}");
        assert_eq!(text.split_whitespace().count(), 6);
    }
}
