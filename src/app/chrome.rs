//! The bars above and below the views, keyboard shortcuts, dropped files, toasts.

use super::WorkbenchApp;
use super::actions::Action;
use super::files::Purpose;
use super::panel_ctx::PanelCtx;
use super::query::JobProgress;
use super::session::{EngineState, Session};
use super::theme::Theme;
use super::widgets::cards;
use crate::format;
use crate::protocol::{LogLevel, RunPhase};
use egui::{Button, Color32, RichText, Ui};

/// Width of a notice in points before it wraps.
const TOAST_WIDTH: f32 = 370.0;

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
pub fn top_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    egui::Panel::top("top bar").show(ui, |ui| {
        ui.add_space(3.0);
        ui.horizontal(|ui| {
            ctx.primary(ui, Action::StartRun, "▶ Start").accessible_name("Start");
            ctx.button(ui, if ctx.session.phase == RunPhase::Paused { Action::Resume } else { Action::Pause });
            ctx.button(ui, Action::Step);
            ctx.button(ui, Action::Stop);
            ui.separator();
            phase_ui(ui, ctx);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                menu_ui(ui, ctx);
                progress_ui(ui, ctx.session);
            });
        });
        ui.add_space(3.0);
    });
}

fn phase_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    let (name, color) = phase_label(ctx.session.phase, ctx.theme);
    cards::badge(ui, name, color);
    match &ctx.session.live {
        Some(run) => ui
            .add(egui::Label::new(RichText::new(run.name()).strong()).truncate())
            .on_hover_text(run.dir.display().to_string()),
        None if ctx.session.phase == RunPhase::Preparing => ui.label("loading model and data"),
        None => cards::muted(ui, ctx.theme, "no run yet"),
    };
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

fn menu_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
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
            let button = Button::new(action.text()).shortcut_text(action.keys(ui.ctx()).unwrap_or_default());
            if ctx.button_as(ui, action, button).clicked() {
                ui.close();
            }
        }
    });
}

/// Engine, device, what is being computed, the newest notice.
pub fn bottom_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    let (session, theme) = (ctx.session, ctx.theme);
    egui::Panel::bottom("status bar").show(ui, |ui| {
        ui.horizontal(|ui| {
            match &session.engine {
                EngineState::Starting => cards::muted(ui, theme, "Starting the engine…"),
                EngineState::Ready { device, threads } => {
                    let plural = if *threads == 1 { "thread" } else { "threads" };
                    cards::muted(ui, theme, format!("{device}, {threads} {plural}"))
                }
                EngineState::Failed(reason) => {
                    ui.label(RichText::new("Engine failed").color(theme.error)).on_hover_text(reason)
                }
            };
            if let Some((what, progress)) = session.job() {
                ui.separator();
                cards::loading(ui, progress.map_or(what, |p| p.what.as_str()), progress.and_then(JobProgress::share));
                if session.job_pending() {
                    ctx.button_as(ui, Action::CancelJob, Button::new("Cancel").small());
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

impl WorkbenchApp {
    /// Turns key presses into actions. Keys without a modifier are ignored while a text field has the focus.
    pub(super) fn shortcuts(&self, ctx: &egui::Context) {
        let typing = ctx.egui_wants_keyboard_input();
        let keys_of = |action: Action| Some((action.shortcut()?, action));
        let mut actions: Vec<_> = Action::palette().into_iter().filter_map(keys_of).collect();
        // The longest combinations first: Ctrl+Shift+Z is not Ctrl+Z.
        actions.sort_by_key(|(keys, _)| !keys.modifiers.shift);
        for (keys, action) in actions {
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
                self.actions.push(action);
            }
        }
        let list = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::Slash);
        if ctx.input_mut(|input| input.consume_shortcut(&list)) {
            self.actions.push(Action::ToggleShortcuts);
        }
    }

    pub(super) fn take_drops(&self, ctx: &egui::Context) {
        let dropped = ctx.input(|input| input.raw.dropped_files.clone());
        for path in dropped.into_iter().map(|file| file.path().to_owned()) {
            self.actions.push(Action::Dropped(path));
        }
    }

    pub(super) fn toasts_ui(&mut self, ctx: &egui::Context, theme: &Theme) {
        for notice in self.session.notices.drain(..) {
            let color = theme.level(notice.level);
            let seconds = if notice.level == LogLevel::Info { 3 } else { 8 };
            // Toasts do not wrap text by themselves.
            let font = egui::TextStyle::Body.resolve(&ctx.global_style());
            let text = format::ellipsis(&notice.text, 400);
            let text = ctx.fonts_mut(|fonts| fonts.layout(text, font, egui::Color32::PLACEHOLDER, TOAST_WIDTH));
            self.toasts
                .custom(text, "●".to_owned(), color)
                .closable(false)
                .duration(std::time::Duration::from_secs(seconds));
        }
        self.toasts.show(ctx);
    }
}
