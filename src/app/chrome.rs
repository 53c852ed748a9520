//! The bars above and below the views, keyboard shortcuts, dropped files, toasts.

use super::WorkbenchApp;
use super::actions::Action;
use super::files::Purpose;
use super::panel_ctx::PanelCtx;
use super::query::JobProgress;
use super::run_state;
use super::run_view::RunView;
use super::session::{EngineState, Session};
use super::theme::Theme;
use super::view::Page;
use super::widgets::{cards, focus_view, focused_widget, keys_are_claimed};
use crate::format;
use crate::protocol::{Environment, LogLevel, RunPhase};
use egui::{Button, RichText, Ui};

/// Width of a notice in points before it wraps.
const TOAST_WIDTH: f32 = 370.0;
/// Widest progress bar, and what the menu, the way back and a letter of the run's name take.
const PROGRESS_WIDTH: f32 = 260.0;
const MENU_WIDTH: f32 = 80.0;
const BACK_WIDTH: f32 = 200.0;
const LETTER: f32 = 7.5;

/// Run name, phase, progress, and the buttons that control a run.
pub fn top_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    egui::Panel::top("top bar").show(ui, |ui| {
        ui.add_space(3.0);
        ui.horizontal(|ui| {
            // Where the run on screen can be resumed, that is the main action, and Start says that it begins another one.
            match ctx.session.resumable() {
                Some(dir) => {
                    ctx.primary(ui, Action::ResumeRun(dir), "Resume");
                    ctx.button_as(ui, Action::StartRun, Button::new("▶ Start new run")).accessible_name("Start");
                }
                None => drop(ctx.primary(ui, Action::StartRun, "▶ Start").accessible_name("Start")),
            }
            ctx.button(ui, if ctx.session.phase == RunPhase::Paused { Action::Resume } else { Action::Pause });
            ctx.button(ui, Action::Step);
            ctx.button(ui, Action::Stop);
            ui.separator();
            run_ui(ui, ctx);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                menu_ui(ui, ctx);
                back_ui(ui, ctx);
                progress_ui(ui, ctx.session);
            });
        });
        ui.add_space(3.0);
    });
}

/// State and name of the run on screen: the only place where it is named.
fn run_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    let (state, color) = run_state::describe(ctx.session, ctx.theme);
    cards::badge(ui, &state, color);
    match ctx.session.shown() {
        Some(run) => {
            let back = if other_run(ctx.session).is_some() { BACK_WIDTH } else { 0.0 };
            let room = ui.available_width() - PROGRESS_WIDTH - MENU_WIDTH - back;
            let name = format::ellipsis(&run.name(), (room / LETTER).clamp(8.0, 60.0) as usize);
            ui.label(RichText::new(name).strong()).on_hover_text(run.dir.display().to_string());
            capsule_ui(ui, ctx, run);
        }
        None if ctx.session.phase == RunPhase::Preparing => drop(ui.label("loading model and data")),
        None => drop(cards::muted(ui, ctx.theme, "no run yet")),
    }
}

/// That a run was opened from a capsule; nothing for other runs.
pub fn capsule_ui(ui: &mut Ui, ctx: &PanelCtx<'_>, run: &RunView) {
    let Some(capsule) = &run.capsule else { return };
    let Environment { system, device, threads, .. } = &capsule.environment;
    let tip = format!(
        "A run in one file; every member was verified when it was opened. It stays as it is.\nWritten by {} on {}\n\
         Computed on {device}, {threads} threads, {system}",
        capsule.tool, capsule.created
    );
    let left_out: String = capsule.left_out.iter().map(|text| format!("\n{text}")).collect();
    cards::badge(ui, "capsule, read only", ctx.theme.accent).on_hover_text(tip + &left_out);
}

/// The run of this window, where another one is on screen.
fn other_run(session: &Session) -> Option<&RunView> {
    session.live.as_ref().filter(|_| session.opened.is_some())
}

/// The way back to the run of this window, and how far it is.
fn back_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    let Some(run) = other_run(ctx.session) else { return };
    let name = format::ellipsis(&run.name(), 16);
    let text = if ctx.session.phase.is_active() {
        format!("Back to {name}, {:.0} %", 100.0 * run.progress())
    } else {
        format!("Back to {name}")
    };
    ctx.button_as(ui, Action::ShowLive, Button::new(text));
}

fn progress_ui(ui: &mut Ui, session: &Session) {
    let Some(progress) = run_state::progress(session) else { return };
    let width = (ui.available_width() - 8.0).clamp(60.0, PROGRESS_WIDTH);
    ui.add(egui::ProgressBar::new(progress.share).desired_width(width).text(progress.text)).on_hover_text(progress.tip);
}

fn menu_ui(ui: &mut Ui, ctx: &PanelCtx<'_>) {
    ui.menu_button("Menu", |ui| {
        for action in [
            Action::TogglePalette,
            Action::ShowPage(Page::Start),
            Action::ShowPage(Page::Help),
            Action::Pick(Purpose::Run),
            Action::Pick(Purpose::Capsule),
            Action::Pick(Purpose::OpenSettings),
            Action::Pick(Purpose::SaveSettings),
            Action::ToggleSettings,
            Action::ToggleShortcuts,
            Action::ToggleScript,
            Action::ToggleLayouts,
            Action::ResetLayout,
            Action::TogglePresenter,
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
                    cards::muted(ui, theme, format!("{device}, {}", format::counted(*threads, "thread")))
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
            if let Some((notice, left)) = session.notice() {
                // It disappears by itself.
                let left = std::time::Duration::try_from_secs_f64(left).unwrap_or_default();
                ui.ctx().request_repaint_after(left);
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
    let words = "Drop a model directory, a table (TSV, CSV, JSONL), a run directory, a capsule or a run.toml";
    painter.text(rect.center(), egui::Align2::CENTER_CENTER, words, egui::FontId::proportional(20.0), theme.accent);
}

impl WorkbenchApp {
    /// Turns key presses into actions. Keys without a modifier are ignored while a text field has the focus.
    pub(super) fn shortcuts(&self, ctx: &egui::Context) {
        // A map that steps through a run has the plain keys while the pointer is over it.
        let typing = focused_widget(ctx).is_some();
        let claimed = keys_are_claimed(ctx);
        let keys_of = |action: Action| Some((action.shortcut()?, action));
        let mut actions: Vec<_> = Action::palette().into_iter().filter_map(keys_of).collect();
        // The longest combinations first: Ctrl+Shift+Z is not Ctrl+Z.
        actions.sort_by_key(|(keys, _)| !keys.modifiers.shift);
        for (keys, action) in actions {
            let plain =
                keys.modifiers.is_none() && !matches!(keys.logical_key, egui::Key::F1 | egui::Key::F5 | egui::Key::F11);
            let text_edits = matches!(action, Action::UndoForm | Action::RedoForm);
            if typing && (plain || text_edits) || (self.dialog.is_some() || claimed) && plain {
                continue;
            }
            // Pause and continue share a key: the enabled one is used.
            if plain && action.enabled(&self.session).is_err() {
                continue;
            }
            if ctx.input_mut(|input| input.consume_shortcut(&keys)) {
                if let Action::Show(view) = action {
                    focus_view(ctx, view.title());
                }
                self.actions.push(action);
            }
        }
        // Of a page below presenter mode, presenter mode is left first.
        let escape = |input: &mut egui::InputState| input.consume_key(egui::Modifiers::NONE, egui::Key::Escape);
        let free = self.dialog.is_none() && !ctx.text_edit_focused();
        let leave = match self.presenter {
            Some(_) => Some(Action::TogglePresenter),
            None => self.layout.page().map(|_| Action::ClosePage),
        };
        if let Some(action) = leave.filter(|_| free && ctx.input_mut(escape)) {
            self.actions.push(action);
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
