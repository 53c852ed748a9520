//! File dialogs, small text files and notices on the desktop, on threads of their own.
//!
//! Where neither the desktop portal nor `zenity` is there, a dialog cannot open: it is not tried where neither can be
//! reached, and an answer at once as if it were cancelled is recognised by its time. The window then opens its own
//! [`chooser`](super::chooser). Every path can also be typed or dropped onto the window.

use super::chooser::folder::{self, Place};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes read of a text file: enough for a run file, and for the column names of a table.
const MOST_BYTES: u64 = 1 << 20;

/// Answers faster than this were not given by a user.
const FASTEST_ANSWER: Duration = Duration::from_millis(200);

/// Files by their endings; none: all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What they are.
    pub name: &'static str,
    /// Their endings in lower case.
    pub endings: &'static [&'static str],
}

const TABLES: Kind = Kind {
    name: "Tables",
    endings: &[
        "tsv", "csv", "jsonl", "ndjson", "json", "txt", "parquet", "arrow", "feather", "xlsx", "xls", "ods", "gz",
        "zst",
    ],
};
const RUN_FILES: Kind = Kind { name: "Run files", endings: &["toml"] };
const CAPSULES: Kind = Kind { name: "Capsules", endings: &["capsule"] };
const SCRIPTS: Kind = Kind { name: "Scripts", endings: &["sh"] };
const GGUF: Kind = Kind { name: "Folders and GGUF files", endings: &["gguf"] };
const PNG: Kind = Kind { name: "PNG pictures", endings: &["png"] };
const SVG: Kind = Kind { name: "SVG pictures", endings: &["svg"] };
const CSV: Kind = Kind { name: "CSV tables", endings: &["csv"] };
const HTML: Kind = Kind { name: "HTML pages", endings: &["html"] };
const ANY: Kind = Kind { name: "All files", endings: &[] };

impl Kind {
    /// Whether a file is of this kind.
    pub fn fits(&self, file: &Path) -> bool {
        let ending = file.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        self.endings.is_empty() || ending.is_some_and(|ending| self.endings.contains(&ending.as_str()))
    }

    /// Name and endings.
    pub fn words(&self) -> String {
        match self.endings {
            [] => self.name.to_owned(),
            endings => format!("{} ({})", self.name, endings.join(", ")),
        }
    }
}

/// Whether a file or a folder is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A file that is there.
    File,
    /// A folder.
    Folder,
    /// A folder or a file.
    Either,
    /// A file to write.
    NewFile,
}

impl Wants {
    /// Whether a file can be chosen.
    pub fn file(self) -> bool {
        self != Self::Folder
    }
}

/// What a path is chosen for.
#[expect(missing_docs, reason = "the titles of the dialogs say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Model,
    DataDir,
    TrainFile,
    DevFile,
    Run,
    Capsule,
    RunsDir,
    ExportDir,
    OpenSettings,
    SaveSettings,
    SaveScript,
    SavePng,
    SaveSvg,
    SaveCsv,
    SaveReport,
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
            Self::Capsule => ("Open a capsule", "Open capsule…"),
            Self::RunsDir => ("Choose the directory of the runs", "Directory of runs…"),
            Self::ExportDir => ("Choose where to export", "Export directory…"),
            Self::OpenSettings => ("Open a run file", "Open run file…"),
            Self::SaveSettings => ("Save the run file", "Save run file…"),
            Self::SaveScript => ("Save this sitting as a script", "Save this sitting as a script…"),
            Self::SavePng => ("Save the picture", "Save as PNG…"),
            Self::SaveSvg => ("Save the picture", "Save as SVG…"),
            Self::SaveCsv => ("Save the values", "Save as CSV…"),
            Self::SaveReport => ("Save the report", "Report…"),
        }
    }

    /// Whether a figure or a report is written, whose name is proposed.
    pub fn saves_figure(self) -> bool {
        matches!(self, Self::SavePng | Self::SaveSvg | Self::SaveCsv | Self::SaveReport)
    }

    /// Whether a file or a folder is chosen.
    pub fn wants(self) -> Wants {
        match self {
            Self::Model => Wants::Either,
            Self::TrainFile | Self::DevFile | Self::Capsule | Self::OpenSettings => Wants::File,
            Self::SaveSettings | Self::SaveScript => Wants::NewFile,
            Self::SavePng | Self::SaveSvg | Self::SaveCsv | Self::SaveReport => Wants::NewFile,
            Self::DataDir | Self::Run | Self::RunsDir | Self::ExportDir => Wants::Folder,
        }
    }

    /// The kinds of files that are offered, the usual one first.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Model => &[GGUF, ANY],
            Self::TrainFile | Self::DevFile => &[TABLES, ANY],
            Self::OpenSettings | Self::SaveSettings => &[RUN_FILES, ANY],
            Self::Capsule => &[CAPSULES, ANY],
            Self::SaveScript => &[SCRIPTS, ANY],
            Self::SavePng => &[PNG, ANY],
            Self::SaveSvg => &[SVG, ANY],
            Self::SaveCsv => &[CSV, ANY],
            Self::SaveReport => &[HTML, ANY],
            Self::DataDir | Self::Run | Self::RunsDir | Self::ExportDir => &[],
        }
    }

    /// Name of a new file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::SaveSettings => "run.toml",
            Self::SaveScript => "adamix-sitting.sh",
            _ => "",
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
    NoDialog(Purpose),
    /// What is at a path, or why it cannot be read.
    Listed(PathBuf, Result<Place, String>),
    /// The beginning of a text file, or why it cannot be read.
    Read(Purpose, PathBuf, Result<String, String>),
    /// A file was written, or could not be.
    Written(Purpose, PathBuf, Result<(), String>),
    /// A directory was shown in the file manager, or could not be.
    Revealed(PathBuf, Result<(), String>),
}

/// Asks the user for paths and touches small files; never blocks.
pub trait FilePicker {
    /// Opens a dialog, unless one is open.
    fn pick(&mut self, purpose: Purpose, start: Option<&Path>);
    /// Whether a dialog is open.
    fn is_open(&self) -> bool;
    /// Reads what is at a path.
    fn list(&mut self, path: PathBuf);
    /// Reads the first MiB of a text file.
    fn read(&mut self, purpose: Purpose, path: PathBuf);
    /// Writes a file.
    fn write(&mut self, purpose: Purpose, path: PathBuf, bytes: Vec<u8>);
    /// Shows a directory in the desktop's file manager.
    fn reveal(&mut self, dir: PathBuf);
    /// Shows a notice on the desktop: a title and a line of text.
    fn notice(&mut self, title: String, text: String);
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
    let mut name = purpose.file_name().to_owned();
    if let Some(start) = start {
        // A figure has a name already.
        let file = start.file_name().filter(|_| purpose.saves_figure());
        let dir = if file.is_some() { start.parent() } else { Some(&*start) };
        if let Some(dir) = dir.filter(|dir| !dir.as_os_str().is_empty()) {
            dialog = dialog.set_directory(dir);
        }
        if let Some(file) = file {
            name = file.to_string_lossy().into_owned();
        }
    }
    for kind in purpose.kinds() {
        dialog = dialog.add_filter(kind.name, if kind.endings.is_empty() { &["*"] } else { kind.endings });
    }
    match purpose.wants() {
        Wants::File => dialog.pick_file(),
        Wants::NewFile => dialog.set_file_name(name).save_file(),
        // Desktops have no dialog for either of both.
        Wants::Folder | Wants::Either => dialog.pick_folder(),
    }
}

/// Whether a dialog of the desktop may open here: through the portal, which needs the session's bus, or `zenity`.
fn desktop_may_have_dialogs() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    desktop_may_have_notices() || std::env::split_paths(&path).any(|dir| dir.join("zenity").is_file())
}

/// Whether the desktop may show notices: elsewhere than on macOS and Windows they need the session's bus.
fn desktop_may_have_notices() -> bool {
    if !cfg!(all(unix, not(target_vendor = "apple"))) {
        return true;
    }
    let bus = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty());
    bus || std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("bus").exists())
}

#[cfg(not(target_vendor = "apple"))]
fn show_notice(title: &str, text: &str) -> Result<(), String> {
    let mut notice = notify_rust::Notification::new();
    notice.appname(super::TITLE).summary(title).body(text);
    notice.show().map(drop).map_err(|err| err.to_string())
}

#[cfg(target_vendor = "apple")]
fn show_notice(_title: &str, _text: &str) -> Result<(), String> {
    Err("the entry in the dock asks for attention instead".to_owned())
}

/// Asks the desktop to show a directory.
fn show_in_file_manager(dir: &Path) -> Result<(), String> {
    if !dir.is_dir() {
        return Err("there is no such directory".to_owned());
    }
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let quiet = std::process::Stdio::null;
    let status = std::process::Command::new(program).arg(dir).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    match status {
        // The explorer of Windows ends with 1 when it has opened the directory.
        Ok(status) if status.success() || program == "explorer" => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
        Err(err) => Err(format!("{program} cannot be started ({err})")),
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
            if !desktop_may_have_dialogs() {
                return FileAnswer::NoDialog(purpose);
            }
            let asked = Instant::now();
            match ask(purpose, start) {
                Some(path) => FileAnswer::Picked(purpose, path),
                None if asked.elapsed() < FASTEST_ANSWER => FileAnswer::NoDialog(purpose),
                None => FileAnswer::Cancelled,
            }
        });
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn list(&mut self, path: PathBuf) {
        self.spawn("adamix-folder", move || {
            let place = folder::read(&path);
            FileAnswer::Listed(path, place)
        });
    }

    fn read(&mut self, purpose: Purpose, path: PathBuf) {
        self.spawn("adamix-file", move || {
            let text = read_text(&path).map_err(|err| err.to_string());
            FileAnswer::Read(purpose, path, text)
        });
    }

    fn write(&mut self, purpose: Purpose, path: PathBuf, bytes: Vec<u8>) {
        self.spawn("adamix-file", move || {
            let written = std::fs::write(&path, bytes).map_err(|err| err.to_string());
            FileAnswer::Written(purpose, path, written)
        });
    }

    fn reveal(&mut self, dir: PathBuf) {
        self.spawn("adamix-file", move || {
            let shown = show_in_file_manager(&dir);
            FileAnswer::Revealed(dir, shown)
        });
    }

    fn notice(&mut self, title: String, text: String) {
        // Nobody waits for it, and not every desktop shows notices: the title of the window says the same.
        let shown = std::thread::Builder::new().name("adamix-notice".to_owned()).spawn(move || {
            if desktop_may_have_notices()
                && let Err(err) = show_notice(&title, &text)
            {
                log::info!("the desktop shows no notice: {err}");
            }
        });
        if let Err(err) = shown {
            log::info!("the thread of the desktop's notice cannot start: {err}");
        }
    }

    fn poll(&mut self) -> Option<FileAnswer> {
        let answer = self.receiver.try_recv().ok()?;
        if matches!(answer, FileAnswer::Picked(..) | FileAnswer::Cancelled | FileAnswer::NoDialog(_)) {
            self.open = false;
        }
        Some(answer)
    }
}
