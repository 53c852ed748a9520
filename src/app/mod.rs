//! The window. egui lives here and nowhere else.
//!
//! [`WorkbenchApp`] is thin: `logic` takes in messages and carries out actions, `session` is the model that all
//! views read, `panels` draw it. A panel reads a [`panels::PanelCtx`] and pushes [`actions::Action`]s; it never
//! talks to the engine. Nothing in here waits for anything.

pub mod actions;
pub mod curves;
pub mod files;
pub mod history;
pub mod layout;
pub mod names;
pub mod panels;
pub mod phases;
pub mod query;
pub mod run_view;
pub mod session;
pub mod settings;
pub mod theme;
pub mod widgets;

mod chrome;
mod dialogs;
mod frame_work;
mod help;
mod logic;
mod screenshot;

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::protocol::{Engine, EngineFactory, LogLevel, Watch};
use actions::{Action, ActionQueue};
use dialogs::Dialog;
use files::{FilePicker, RfdPicker};
use frame_work::FrameWork;
use layout::{Layout, View};
use panels::{PanelCtx, Panels};
use screenshot::Shooting;
use session::{EngineState, Session};
use settings::{Appearance, Settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use theme::Theme;

/// The window's title.
pub const TITLE: &str = "AdaMix workbench";
/// Name under which the window's settings are stored.
const STORAGE_KEY: &str = "workbench";
/// The engine wakes the window at most so often.
const WAKE_AFTER: Duration = Duration::from_millis(33);

/// The window's size in points at the very first start.
const WINDOW_SIZE: [f32; 2] = [1280.0, 800.0];

/// How the window is opened.
#[derive(Default)]
pub struct Options {
    /// Settings to put into the form instead of those of last time.
    pub form: Option<RunConfig>,
    /// A run directory to show at once.
    pub open: Option<PathBuf>,
    /// Take a picture after some frames, then close: for tests of the real window.
    pub picture: Option<Picture>,
}

/// A picture of the window, taken by the window itself.
#[derive(Clone, Debug)]
pub struct Picture {
    /// PNG file to write; absent: only the frames are drawn.
    pub file: Option<PathBuf>,
    /// Frames to draw before.
    pub frames: u32,
    /// Light or dark; absent: as the settings say.
    pub appearance: Option<Appearance>,
    /// View to bring to the front.
    pub view: Option<View>,
    /// Carried out after the first frames.
    pub actions: Vec<Action>,
    /// Window size in points.
    pub size: [f32; 2],
}

impl Default for Picture {
    fn default() -> Self {
        Self { file: None, frames: 40, appearance: None, view: None, actions: Vec::new(), size: WINDOW_SIZE }
    }
}

/// Opens the window and returns when it is closed.
pub fn run(options: Options, engine: EngineFactory) -> Result<()> {
    let size = options.picture.as_ref().map_or(WINDOW_SIZE, |picture| picture.size);
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
        // A picture for a test must not depend on what the user did last time.
        persist_window: options.picture.is_none(),
        ..eframe::NativeOptions::default()
    };
    let shot = Arc::new(parking_lot::Mutex::new(None));
    let result = shot.clone();
    let create: eframe::AppCreator<'_> = Box::new(move |cc| {
        let wake = wake_of(&cc.egui_ctx);
        let settings = match (&options.picture, cc.storage.and_then(|storage| storage.get_string(STORAGE_KEY))) {
            (None, Some(text)) => Settings::from_json(&text),
            _ => Settings::default(),
        };
        let picker = Box::new(RfdPicker::new(wake.clone()));
        let mut app = WorkbenchApp::new(&cc.egui_ctx, engine(wake), picker, settings, options);
        app.shooting.result = result;
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

/// What the form shows at the very first start: the lab, ready to train.
pub fn first_form() -> RunConfig {
    let mut form = RunConfig::default();
    crate::config::presets::lab().apply(&mut form);
    form
}

/// Wakes the window soon; safe to call from any thread, as often as one likes.
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

/// The window's icon: four experts that become one.
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

/// The window: everything it shows and everything it owns.
pub struct WorkbenchApp {
    engine: Option<Box<dyn Engine>>,
    picker: Box<dyn FilePicker>,
    /// The model that all views read.
    pub session: Session,
    /// What is remembered between two starts.
    pub settings: Settings,
    panels: Panels,
    layout: Layout,
    actions: ActionQueue,
    dialog: Option<Dialog>,
    toasts: egui_notify::Toasts,
    watch: Watch,
    open_at_start: Option<PathBuf>,
    shooting: Shooting,
    work: FrameWork,
    asked_first: bool,
    seen_version: u64,
    check_due: Option<f64>,
    checked: Option<RunConfig>,
    followed_at: f64,
    listed_at: f64,
    runs_seen: bool,
    models_seen: bool,
    /// The screen's size was looked at.
    sized: bool,
    quit_when_stopped: bool,
    may_close: bool,
}

impl WorkbenchApp {
    /// A window over this engine. An engine that could not start leaves a window that says so.
    pub fn new(
        ctx: &egui::Context,
        engine: Result<Box<dyn Engine>>,
        picker: Box<dyn FilePicker>,
        settings: Settings,
        options: Options,
    ) -> Self {
        theme::install(ctx);
        apply_appearance(ctx, settings.appearance);
        ctx.set_zoom_factor(settings.zoom);
        let form = options.form.or_else(|| settings.form.clone()).unwrap_or_else(first_form);
        let layout = settings.layout.as_deref().and_then(Layout::from_json).unwrap_or_default();
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
            shooting: Shooting::new(options.picture),
            work: FrameWork::default(),
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

    /// Wishes from outside, carried out with the next picture.
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

    /// At the very first start on a small screen: the window fills it, instead of hanging over its edge.
    fn fit_screen(&mut self, ctx: &egui::Context) {
        let Some(screen) = ctx.input(|input| input.viewport().monitor_size) else { return };
        if std::mem::replace(&mut self.sized, true) || self.settings.layout.is_some() || self.shooting.is_active() {
            return;
        }
        // Room for the title bar and the desktop's own bars.
        if screen.x < WINDOW_SIZE[0] + 40.0 || screen.y < WINDOW_SIZE[1] + 100.0 {
            ctx.send_viewport_cmd(egui::ViewportCommand::Maximized(true));
        }
    }

    /// Takes what changes outside of the settings into them.
    fn take_settings(&mut self) {
        self.settings.form = Some(self.session.form.clone());
        self.settings.layout = self.layout.to_json();
    }
}

impl eframe::App for WorkbenchApp {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.work.begin();
        let now = ctx.input(|input| input.time);
        self.settings.zoom = ctx.zoom_factor();
        self.fit_screen(ctx);
        self.before_picture(ctx, now);
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
        self.shooting.after_picture(&ctx, &self.actions);
        self.execute(&ctx, now);
        self.work.laid_out(frame.info().cpu_usage);
    }

    fn on_exit(&mut self, _gl: Option<&eframe::glow::Context>) {
        if let Some(words) = self.work.words() {
            log::info!("{words}");
        }
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        if self.shooting.is_active() {
            return;
        }
        self.take_settings();
        if let Some(text) = self.settings.to_json() {
            storage.set_string(STORAGE_KEY, text);
        }
    }
}
