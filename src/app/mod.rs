//! The window; the only module that uses egui.
//!
//! `logic` applies messages of the engine and executes actions, `session` is the state that all views read, `panels`
//! draw it. A panel reads a [`panel_ctx::PanelCtx`] and pushes [`actions::Action`]s; it never calls the engine. Nothing
//! here blocks.

pub mod actions;
pub mod chooser;
pub mod commands;
pub mod files;
pub mod glossary;
pub mod headless;
pub mod history;
pub mod pages;
pub mod panel_ctx;
pub mod panels;
pub mod run_view;
pub mod session;
pub mod settings;
pub mod sitting;
pub mod theme;
pub mod view;
pub mod view_help;

mod chrome;
mod clock;
mod curves;
mod dialogs;
mod fields;
mod frame_times;
mod help;
mod layout;
mod logic;
mod names;
mod phases;
mod presenter;
mod query;
mod run_columns;
mod run_state;
mod screenshot;
mod studies;
mod tables;
mod try_flags;
mod weights_line;
mod widgets;
mod x_axis;

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::protocol::{Engine, EngineFactory, LogLevel, Watch};
use actions::ActionQueue;
use dialogs::Dialog;
use files::{FilePicker, RfdPicker};
use frame_times::FrameTimes;
use layout::ViewLayout;
use logic::{QueueUpkeep, Upkeep};
use panel_ctx::PanelCtx;
use panels::Panels;
use presenter::Presenter;
pub use screenshot::Screenshot;
use screenshot::{ScreenshotTaker, WINDOW_SIZE};
use session::{EngineState, Session};
use settings::{Appearance, Settings};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use theme::Theme;
use view::{Page, View};

/// The window's title.
pub const TITLE: &str = "AdaMix workbench";
/// The window's icon: four experts that are merged into one.
const ICON: &[u8] = include_bytes!("../../assets/desktop/window-icon.png");
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
    /// Begin as for somebody new: the start page, unless the settings say no, and what each view shows.
    pub guided: bool,
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
        .with_icon(Arc::new(eframe::icon_data::from_png_bytes(ICON).unwrap_or_default()));
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
        let ctx = cc.egui_ctx.clone();
        let wake = Arc::new(move || ctx.request_repaint_after(WAKE_AFTER));
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
    shot.lock().take().unwrap_or(Ok(()))
}

/// The label of a setting, such as `train.learning_rate`, in the Setup view.
pub fn field(path: &str) -> &'static str {
    fields::label(path)
}

/// The form at the first start: the bundled lab model and data.
pub fn first_form() -> RunConfig {
    let mut form = RunConfig::default();
    crate::config::presets::lab().apply(&mut form);
    form
}

fn apply_appearance(ctx: &egui::Context, appearance: Appearance) {
    ctx.set_theme(match appearance {
        Appearance::System => egui::ThemePreference::System,
        Appearance::Light => egui::ThemePreference::Light,
        Appearance::Dark => egui::ThemePreference::Dark,
    });
}

/// State of the window.
pub struct WorkbenchApp {
    engine: Option<Box<dyn Engine>>,
    picker: Box<dyn FilePicker>,
    /// The state that all views read.
    pub session: Session,
    /// Settings that are stored between two sessions.
    pub settings: Settings,
    /// The views, with what they remember on screen.
    pub panels: Panels,
    /// The arrangement of the views.
    pub layout: ViewLayout,
    /// The actions of the next frame.
    pub actions: ActionQueue,
    /// The dialog in front of the views.
    pub dialog: Option<Dialog>,
    toasts: egui_notify::Toasts,
    watch: Watch,
    /// The title says that a run has ended.
    titled: bool,
    /// A run whose report waits for its place.
    report_of: Option<PathBuf>,
    /// A figure that waits for its values or its place.
    saving: Option<widgets::export_menu::SavedFigure>,
    open_at_start: Option<PathBuf>,
    screenshot: ScreenshotTaker,
    frame_times: FrameTimes,
    upkeep: Upkeep,
    queue_upkeep: QueueUpkeep,
    presenter: Option<Presenter>,
    /// The size of the screen was checked.
    sized: bool,
    /// The desktop has no file dialogs: the window's own chooser opens instead.
    no_desktop_dialogs: bool,
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
        let mut settings = settings;
        let mut layout = settings.layout.as_deref().and_then(ViewLayout::from_json).unwrap_or_default();
        match options.guided {
            true if settings.start_page => layout.show_page(Page::Start),
            true => {}
            false => settings.explained = View::ALL.to_vec(),
        }
        let mut session = Session::new(form);
        if let Some(suggested) = settings.suggested.clone() {
            session.memory.suggested = Some(suggested);
        }
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
            titled: false,
            saving: None,
            report_of: None,
            open_at_start: options.open,
            screenshot: ScreenshotTaker::new(options.screenshot),
            frame_times: FrameTimes::default(),
            upkeep: Upkeep::default(),
            queue_upkeep: QueueUpkeep::default(),
            presenter: None,
            sized: false,
            no_desktop_dialogs: false,
            quit_when_stopped: false,
            may_close: false,
        }
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
}

impl WorkbenchApp {
    /// What happens before a frame is drawn: messages, shortcuts, dropped files.
    fn begin_frame(&mut self, ctx: &egui::Context) {
        self.frame_times.begin();
        let now = ctx.input(|input| input.time);
        self.session.now = now;
        self.settings.zoom = ctx.zoom_factor() / if self.presenter.is_some() { presenter::SCALE } else { 1.0 };
        self.fit_screen(ctx);
        self.before_frame(ctx, now);
        widgets::keep_focus(ctx, self.dialog.is_some());
        self.shortcuts(ctx);
        self.take_drops(ctx);
    }

    /// Draws a frame, then executes what the user asked for. `whole_before`: seconds of the frame before, with drawing.
    fn draw(&mut self, ui: &mut egui::Ui, whole_before: Option<f32>) {
        let ctx = ui.ctx().clone();
        let theme = Theme::new(ui.visuals().dark_mode);
        let now = ctx.input(|input| input.time);
        let panel_ctx =
            PanelCtx { session: &self.session, settings: &self.settings, actions: &self.actions, theme: &theme };
        if let Some(presenter) = self.presenter {
            presenter::ui(presenter, &mut self.panels, &panel_ctx, ui);
        } else {
            chrome::top_ui(ui, &panel_ctx);
            chrome::bottom_ui(ui, &panel_ctx);
            let ground = egui::Frame::new().fill(ui.visuals().panel_fill);
            egui::CentralPanel::no_frame()
                .frame(ground)
                .show(ui, |ui| self.layout.ui(ui, &mut self.panels, &panel_ctx));
        }
        if let Some(dialog) = &mut self.dialog {
            dialogs::ui(dialog, &ctx, &panel_ctx, &self.frame_times);
        }
        chrome::drop_hint_ui(&ctx, &theme);
        self.toasts_ui(&ctx, &theme);
        for saved in widgets::export_menu::take(&ctx) {
            self.actions.push(actions::Action::SaveFigure(Box::new(saved)));
        }
        self.screenshot.after_frame(&ctx, &self.actions);
        self.execute(&ctx, now);
        self.frame_times.laid_out(now, whole_before);
    }
}

impl eframe::App for WorkbenchApp {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.begin_frame(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        self.draw(ui, frame.info().cpu_usage);
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
        self.settings.form = Some(self.session.form.clone());
        self.settings.suggested = self.session.memory.suggested.clone();
        self.settings.layout = self.layout.to_json();
        if let Some(text) = self.settings.to_json() {
            storage.set_string(STORAGE_KEY, text);
        }
    }
}
