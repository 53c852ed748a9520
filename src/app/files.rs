//! File dialogs and small text files, on threads of their own.
//!
//! Where neither the desktop portal nor `zenity` is there, a dialog cannot open and answers at once as if it were
//! cancelled; such an answer is recognised by its time. Every path can also be typed or dropped onto the window.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes read of a text file: enough for a run file, and for the column names of a table.
const MOST_BYTES: u64 = 1 << 20;

/// Answers faster than this were not given by a user.
const FASTEST_ANSWER: Duration = Duration::from_millis(200);

/// What a path is chosen for.
#[expect(missing_docs, reason = "the titles of the dialogs say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Model,
    DataDir,
    TrainFile,
    DevFile,
    Run,
    RunsDir,
    ExportDir,
    OpenSettings,
    SaveSettings,
}

impl Purpose {
    /// Title of the dialog, and text of the button that opens it.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Model => ("Choose a model directory", "Model directory…"),
            Self::DataDir => ("Choose a data directory in GLUE layout", "Data directory…"),
            Self::TrainFile => ("Choose the training file", "Training file…"),
            Self::DevFile => ("Choose the evaluation file", "Evaluation file…"),
            Self::Run => ("Open a run directory", "Open run…"),
            Self::RunsDir => ("Choose the directory of the runs", "Directory of runs…"),
            Self::ExportDir => ("Choose where to export", "Export directory…"),
            Self::OpenSettings => ("Open a run file", "Open run file…"),
            Self::SaveSettings => ("Save the run file", "Save run file…"),
        }
    }

    /// Title of the dialog.
    pub fn title(self) -> &'static str {
        self.describe().0
    }

    /// Text of the button that opens the dialog.
    pub fn button(self) -> &'static str {
        self.describe().1
    }
}

/// An answer of a [`FilePicker`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAnswer {
    /// This path was chosen.
    Picked(Purpose, PathBuf),
    /// Nothing was chosen.
    Cancelled,
    /// No dialog could open: the desktop has none.
    NoDialog,
    /// The beginning of a text file, or why it cannot be read.
    Read(Purpose, PathBuf, Result<String, String>),
    /// A text file was written, or could not be.
    Written(PathBuf, Result<(), String>),
}

/// Asks the user for paths and touches small files; never blocks.
pub trait FilePicker {
    /// Opens a dialog, unless one is open.
    fn pick(&mut self, purpose: Purpose, start: Option<&Path>);
    /// Whether a dialog is open.
    fn is_open(&self) -> bool;
    /// Reads the first MiB of a text file.
    fn read(&mut self, purpose: Purpose, path: PathBuf);
    /// Writes a text file.
    fn write(&mut self, path: PathBuf, text: String);
    /// The next answer, if there is one.
    fn poll(&mut self) -> Option<FileAnswer>;
}

/// Calls the window when an answer is there.
type Wake = std::sync::Arc<dyn Fn() + Send + Sync>;

/// The desktop's file dialogs, each on its own thread.
pub struct RfdPicker {
    sender: Sender<FileAnswer>,
    receiver: Receiver<FileAnswer>,
    open: bool,
    wake: Wake,
}

impl RfdPicker {
    /// Answers wake the window through `wake`.
    pub fn new(wake: Wake) -> Self {
        let (sender, receiver) = bounded(8); // one dialog is open at a time, so it never fills
        Self { sender, receiver, open: false, wake }
    }

    /// Runs `job` on a thread named `name`; false if the thread cannot start.
    fn spawn(&self, name: &str, job: impl FnOnce() -> FileAnswer + Send + 'static) -> bool {
        let (sender, wake) = (self.sender.clone(), self.wake.clone());
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // The window may be closed; then the answer is dropped.
            sender.try_send(job()).ok();
            wake();
        });
        let failed = |err| log::error!("the file dialog's thread cannot start: {err}; type the path instead");
        spawned.map_err(failed).is_ok()
    }
}

fn ask(purpose: Purpose, start: Option<PathBuf>) -> Option<PathBuf> {
    let mut dialog = rfd::FileDialog::new().set_title(purpose.title());
    if let Some(start) = start {
        dialog = dialog.set_directory(start);
    }
    let tables = ["tsv", "csv", "jsonl", "ndjson", "txt"];
    match purpose {
        Purpose::TrainFile | Purpose::DevFile => {
            dialog.add_filter("Tables", &tables).add_filter("All files", &["*"]).pick_file()
        }
        Purpose::OpenSettings => dialog.add_filter("Run files", &["toml"]).pick_file(),
        Purpose::SaveSettings => dialog.add_filter("Run files", &["toml"]).set_file_name("run.toml").save_file(),
        Purpose::Model | Purpose::DataDir | Purpose::Run | Purpose::RunsDir | Purpose::ExportDir => {
            dialog.pick_folder()
        }
    }
}

/// The beginning of a file as text.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl FilePicker for RfdPicker {
    fn pick(&mut self, purpose: Purpose, start: Option<&Path>) {
        if self.open {
            return;
        }
        let start = start.map(Path::to_owned);
        self.open = self.spawn("adamix-dialog", move || {
            let asked = Instant::now();
            match ask(purpose, start) {
                Some(path) => FileAnswer::Picked(purpose, path),
                None if asked.elapsed() < FASTEST_ANSWER => FileAnswer::NoDialog,
                None => FileAnswer::Cancelled,
            }
        });
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn read(&mut self, purpose: Purpose, path: PathBuf) {
        self.spawn("adamix-file", move || {
            let text = read_text(&path).map_err(|err| err.to_string());
            FileAnswer::Read(purpose, path, text)
        });
    }

    fn write(&mut self, path: PathBuf, text: String) {
        self.spawn("adamix-file", move || {
            let written = std::fs::write(&path, text).map_err(|err| err.to_string());
            FileAnswer::Written(path, written)
        });
    }

    fn poll(&mut self) -> Option<FileAnswer> {
        let answer = self.receiver.try_recv().ok()?;
        if matches!(answer, FileAnswer::Picked(..) | FileAnswer::Cancelled | FileAnswer::NoDialog) {
            self.open = false;
        }
        Some(answer)
    }
}
