//! The window; the only module that uses egui.
//!
//! `logic` applies messages of the engine and executes actions, `session` is the state that all views read, `panels`
//! draw it. A panel reads a [`panel_ctx::PanelCtx`] and pushes [`actions::Action`]s; it never calls the engine. Nothing
//! here blocks.

pub mod actions;
pub mod curves;
pub mod files;
pub mod history;
pub mod layout;
pub mod names;
pub mod panel_ctx;
pub mod panels;
pub mod phases;
pub mod query;
pub mod run_view;
pub mod session;
pub mod settings;
pub mod theme;
pub mod view;
pub mod widgets;

mod chrome;
mod dialogs;
mod frame_times;
mod help;
mod logic;
mod screenshot;

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::protocol::{Engine, EngineFactory, LogLevel, Watch};
use actions::{Action, ActionQueue};
use dialogs::Dialog;
use files::{FilePicker, RfdPicker};
use frame_times::FrameTimes;
use layout::ViewLayout;
use panel_ctx::PanelCtx;
use panels::Panels;
pub use screenshot::Screenshot;
use screenshot::{ScreenshotTaker, WINDOW_SIZE};
use session::{EngineState, Session};
use settings::{Appearance, Settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use theme::Theme;
use view::View;

/// The window's title.
pub const TITLE: &str = "AdaMix workbench";
/// Key of the window's settings in eframe's storage.
const STORAGE_KEY: &str = "workbench";
/// Delay between a wake-up by the engine and the next frame.
const WAKE_AFTER: Duration = Duration::from_millis(33);

/// How the window is opened.
#[derive(Default)]
pub struct WindowOptions {
    /// Settings of the form instead of those of the last session.
    pub form: Option<RunConfig>,
    /// A run directory to open.
    pub open: Option<PathBuf>,
    /// Take a screenshot after some frames, then close: for tests of the real window.
    pub screenshot: Option<Screenshot>,
}

/// Opens the window and returns when it is closed.
pub fn run(options: WindowOptions, engine: EngineFactory) -> Result<()> {
    let size = options.screenshot.as_ref().map_or(WINDOW_SIZE, |screenshot| screenshot.size);
    let viewport = egui::ViewportBuilder::default()
        .with_title(TITLE)
        .with_app_id("adamix-workbench")
        .with_inner_size(size)
        .with_min_inner_size([760.0, 480.0])
        .with_drag_and_drop(true)
        .with_icon(Arc::new(icon(64)));
    let native = eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Glow,
        system_font_fallback: true,
        // A screenshot for a test must not depend on the last session.
        persist_window: options.screenshot.is_none(),
        ..eframe::NativeOptions::default()
    };
    let shot = Arc::new(parking_lot::Mutex::new(None));
    let result = shot.clone();
    let create: eframe::AppCreator<'_> = Box::new(move |cc| {
        let wake = wake_of(&cc.egui_ctx);
        let settings = match (&options.screenshot, cc.storage.and_then(|storage| storage.get_string(STORAGE_KEY))) {
            (None, Some(text)) => Settings::from_json(&text),
            _ => Settings::default(),
        };
        let picker = Box::new(RfdPicker::new(wake.clone()));
        let mut app = WorkbenchApp::new(&cc.egui_ctx, engine(wake), picker, settings, options);
        app.screenshot.result = result;
        Ok(Box::new(app))
    });
    let opened = eframe::run_native(TITLE, native, create);
    opened.map_err(|err| {
        Error::internal(format!("the window cannot open: {err}; use the commands in a terminal, see adamix --help"))
    })?;
    match shot.lock().take() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// The form at the first start: the bundled lab model and data.
pub fn first_form() -> RunConfig {
    let mut form = RunConfig::default();
    crate::config::presets::lab().apply(&mut form);
    form
}

/// A callback that wakes the window; it can be called from any thread.
fn wake_of(ctx: &egui::Context) -> Arc<dyn Fn() + Send + Sync> {
    let ctx = ctx.clone();
    Arc::new(move || ctx.request_repaint_after(WAKE_AFTER))
}

fn apply_appearance(ctx: &egui::Context, appearance: Appearance) {
    ctx.set_theme(match appearance {
        Appearance::System => egui::ThemePreference::System,
        Appearance::Light => egui::ThemePreference::Light,
        Appearance::Dark => egui::ThemePreference::Dark,
    });
}

/// The window's icon: four experts that are merged into one.
fn icon(size: u32) -> egui::IconData {
    let theme = Theme::new(false);
    let dots = [(0.24, 0.16), (0.24, 0.39), (0.24, 0.62), (0.24, 0.85)];
    let mut rgba = Vec::with_capacity((size * size * 4) as usize);
    for y in 0..size {
        for x in 0..size {
            let (u, v) = ((x as f32 + 0.5) / size as f32, (y as f32 + 0.5) / size as f32);
            let near = |cx: f32, cy: f32| ((u - cx).powi(2) + (v - cy).powi(2)).sqrt();
            let mut pixel = [0, 0, 0, 0];
            for (i, &(cx, cy)) in dots.iter().enumerate() {
                // A line from each dot to the merged one.
                let t = ((u - cx) / (0.74 - cx)).clamp(0.0, 1.0);
                if near(cx + t * (0.74 - cx), cy + t * (0.5 - cy)) < 0.018 {
                    pixel = [128, 136, 144, 255];
                }
                if near(cx, cy) < 0.1 {
                    pixel = theme.expert(i).to_array();
                }
            }
            if near(0.74, 0.5) < 0.19 {
                pixel = theme.accent.to_array();
            }
            rgba.extend(pixel);
        }
    }
    egui::IconData { rgba, width: size, height: size }
}

/// State of the window.
pub struct WorkbenchApp {
    engine: Option<Box<dyn Engine>>,
    picker: Box<dyn FilePicker>,
    /// The state that all views read.
    pub session: Session,
    /// Settings that are stored between two sessions.
    pub settings: Settings,
    panels: Panels,
    layout: ViewLayout,
    actions: ActionQueue,
    dialog: Option<Dialog>,
    toasts: egui_notify::Toasts,
    watch: Watch,
    open_at_start: Option<PathBuf>,
    screenshot: ScreenshotTaker,
    frame_times: FrameTimes,
    asked_first: bool,
    seen_version: u64,
    check_due: Option<f64>,
    checked: Option<RunConfig>,
    followed_at: f64,
    listed_at: f64,
    runs_seen: bool,
    models_seen: bool,
    /// The size of the screen was checked.
    sized: bool,
    quit_when_stopped: bool,
    may_close: bool,
}

impl WorkbenchApp {
    /// A window over this engine; where the engine could not start, the window shows the error.
    pub fn new(
        ctx: &egui::Context,
        engine: Result<Box<dyn Engine>>,
        picker: Box<dyn FilePicker>,
        settings: Settings,
        options: WindowOptions,
    ) -> Self {
        theme::install(ctx);
        apply_appearance(ctx, settings.appearance);
        ctx.set_zoom_factor(settings.zoom);
        let form = options.form.or_else(|| settings.form.clone()).unwrap_or_else(first_form);
        let layout = settings.layout.as_deref().and_then(ViewLayout::from_json).unwrap_or_default();
        let mut session = Session::new(form);
        let engine = match engine {
            Ok(engine) => Some(engine),
            Err(err) => {
                session.engine = EngineState::Failed(err.to_string());
                session.log(LogLevel::Error, format!("the engine cannot start: {err}"));
                None
            }
        };
        Self {
            engine,
            picker,
            session,
            settings,
            panels: Panels::default(),
            layout,
            actions: ActionQueue::default(),
            dialog: None,
            toasts: egui_notify::Toasts::default()
                .with_anchor(egui_notify::Anchor::BottomRight)
                .with_margin(egui::vec2(12.0, 36.0)),
            watch: Watch::default(),
            open_at_start: options.open,
            screenshot: ScreenshotTaker::new(options.screenshot),
            frame_times: FrameTimes::default(),
            asked_first: false,
            seen_version: 0,
            check_due: None,
            checked: None,
            followed_at: f64::NEG_INFINITY,
            listed_at: f64::NEG_INFINITY,
            runs_seen: false,
            models_seen: false,
            sized: false,
            quit_when_stopped: false,
            may_close: false,
        }
    }

    /// Queues an action for the next frame.
    pub fn request(&self, action: Action) {
        self.actions.push(action);
    }

    /// Whether a view can be seen.
    pub fn is_visible(&self, view: View) -> bool {
        self.layout.is_visible(view)
    }

    /// Whether a dialog is in front of the views.
    pub fn dialog_open(&self) -> bool {
        self.dialog.is_some()
    }

    /// Maximises the window at the first start on a small screen.
    fn fit_screen(&mut self, ctx: &egui::Context) {
        let Some(screen) = ctx.input(|input| input.viewport().monitor_size) else { return };
        if std::mem::replace(&mut self.sized, true) || self.settings.layout.is_some() || self.screenshot.is_active() {
            return;
        }
        // Room for the title bar and the bars of the desktop.
        if screen.x < WINDOW_SIZE[0] + 40.0 || screen.y < WINDOW_SIZE[1] + 100.0 {
            ctx.send_viewport_cmd(egui::ViewportCommand::Maximized(true));
        }
    }

    /// Copies form and arrangement into the settings.
    fn take_settings(&mut self) {
        self.settings.form = Some(self.session.form.clone());
        self.settings.layout = self.layout.to_json();
    }
}

impl eframe::App for WorkbenchApp {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.frame_times.begin();
        let now = ctx.input(|input| input.time);
        self.settings.zoom = ctx.zoom_factor();
        self.fit_screen(ctx);
        self.before_frame(ctx, now);
        self.shortcuts(ctx);
        self.take_drops(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        let theme = Theme::new(ui.visuals().dark_mode);
        let now = ctx.input(|input| input.time);
        chrome::top_ui(ui, &self.session, &self.actions, &theme);
        chrome::bottom_ui(ui, &self.session, &self.actions, &theme);
        let panel_ctx =
            PanelCtx { session: &self.session, settings: &self.settings, actions: &self.actions, theme: &theme, now };
        let ground = egui::Frame::new().fill(ui.visuals().panel_fill);
        egui::CentralPanel::no_frame().frame(ground).show(ui, |ui| self.layout.ui(ui, &mut self.panels, &panel_ctx));
        self.dialog_ui(&ctx, &theme);
        chrome::drop_hint_ui(&ctx, &theme);
        self.toasts_ui(&ctx, &theme);
        self.screenshot.after_frame(&ctx, &self.actions);
        self.execute(&ctx, now);
        self.frame_times.laid_out(frame.info().cpu_usage);
    }

    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        if let Some(summary) = self.frame_times.summary() {
            log::info!("{summary}");
        }
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        if self.screenshot.is_active() {
            return;
        }
        self.take_settings();
        if let Some(text) = self.settings.to_json() {
            storage.set_string(STORAGE_KEY, text);
        }
    }
}
