//! Windows and panels for tests: no display, no engine but a fake one.

use crate::fake_engine::data;
use crate::fake_engine::{FakeEngine, FakeHandle};
use crate::panel_support as support;
pub use crate::panel_support::panel;
use adamix::app::files::{FileAnswer, FilePicker, Purpose};
use adamix::app::session::Session;
use adamix::app::settings::Settings;
use adamix::app::{WindowOptions, WorkbenchApp, first_form};
use adamix::protocol::*;
use egui_kittest::Harness;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// A whole window over a fake that says only what it is told to.
pub fn window(settings: Settings, picker: ScriptedPicker) -> (Harness<'static, WorkbenchApp>, FakeHandle) {
    let (engine, handle) = FakeEngine::manual();
    (window_over(engine, settings, picker), handle)
}

/// A whole window over this engine.
pub fn window_over(engine: FakeEngine, settings: Settings, picker: ScriptedPicker) -> Harness<'static, WorkbenchApp> {
    Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        WorkbenchApp::new(&cc.egui_ctx, Ok(Box::new(engine)), Box::new(picker), settings, WindowOptions::default())
    })
}

/// A session over an engine that is ready.
pub fn ready_session() -> Session {
    support::ready_with(first_form())
}

/// What an engine says when a run starts.
pub fn run_started(run: RunId, total: u64) -> Event {
    let mut config = first_form();
    config.train.max_steps = total;
    Event::RunStarted {
        run,
        dir: PathBuf::from("runs/test-run"),
        start: Box::new(data::start_record(&config, 0)),
        config: Box::new(config),
        history: Vec::new(),
        evals: Vec::new(),
    }
}

/// Steps `first..=last` of a run.
pub fn steps(run: RunId, first: u64, last: u64) -> Incoming {
    let buckets = (first..=last).map(|step| StepBucket::of(data::step(step, 240))).collect();
    Incoming::Steps(run, buckets)
}

/// A session in the middle of a run.
pub fn training_session() -> (Session, RunId) {
    let mut session = ready_session();
    let (req, run) = (session.next_request(), session.next_run());
    session.begin_run(req, run);
    session.apply(Incoming::Event(run_started(run, 240)));
    session.apply(Incoming::Event(Event::PhaseChanged(run, RunPhase::Training)));
    session.apply(steps(run, 1, 100));
    session.apply(Incoming::Event(Event::Evaluated(run, data::eval(40, 240))));
    session.apply(Incoming::Event(Event::Evaluated(run, data::eval(80, 240))));
    session.apply(Incoming::Event(Event::GradientHealth(run, data::gradient_health(10))));
    (session, run)
}

/// A picker with prepared answers.
#[derive(Default)]
pub struct ScriptedPicker {
    /// What the next dialogs answer; none: cancelled.
    pub picks: VecDeque<PathBuf>,
    /// No dialog can open.
    pub no_dialogs: bool,
    /// Text of the files there are.
    pub texts: BTreeMap<PathBuf, String>,
    /// Directories that were shown in the file manager.
    pub revealed: Arc<Mutex<Vec<PathBuf>>>,
    /// Titles of the notices on the desktop.
    pub notices: Arc<Mutex<Vec<String>>>,
    /// The files that were written whole.
    pub saved: Rc<RefCell<BTreeMap<PathBuf, Vec<u8>>>>,
    answers: VecDeque<FileAnswer>,
}

impl ScriptedPicker {
    fn text(&self, path: &Path) -> Result<String, String> {
        self.texts.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }
}

impl FilePicker for ScriptedPicker {
    fn pick(&mut self, purpose: Purpose, _start: Option<&Path>) {
        self.answers.push_back(match self.picks.pop_front() {
            _ if self.no_dialogs => FileAnswer::NoDialog(purpose),
            Some(path) => FileAnswer::Picked(purpose, path),
            None => FileAnswer::Cancelled,
        });
    }

    fn is_open(&self) -> bool {
        false
    }

    fn list(&mut self, path: PathBuf) {
        let place = adamix::app::chooser::folder::read(&path);
        self.answers.push_back(FileAnswer::Listed(path, place));
    }

    fn read(&mut self, purpose: Purpose, path: PathBuf) {
        let text = self.text(&path);
        self.answers.push_back(FileAnswer::Read(purpose, path, text));
    }

    fn write(&mut self, purpose: Purpose, path: PathBuf, bytes: Vec<u8>) {
        if let Ok(text) = String::from_utf8(bytes.clone()) {
            self.texts.insert(path.clone(), text);
        }
        self.saved.borrow_mut().insert(path.clone(), bytes);
        self.answers.push_back(FileAnswer::Written(purpose, path, Ok(())));
    }

    fn reveal(&mut self, dir: PathBuf) {
        self.revealed.lock().push(dir.clone());
        self.answers.push_back(FileAnswer::Revealed(dir, Ok(())));
    }

    fn notice(&mut self, title: String, text: String) {
        self.notices.lock().push(format!("{title}; {text}"));
    }

    fn poll(&mut self) -> Option<FileAnswer> {
        self.answers.pop_front()
    }
}
