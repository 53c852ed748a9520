//! The window's own file chooser, for where the desktop has none.
//!
//! This file is what it knows and decides; `ui` draws it. Folders are read by the [`FilePicker`](super::files::FilePicker).

pub mod folder;
mod ui;

use super::actions::{Action, ActionQueue};
use super::files::{Kind, Purpose, Wants};
use folder::{Entry, Place, shown};
use std::path::{Component, Path, PathBuf};

pub use ui::ui;

/// A pause in typing after which a new search begins, in seconds.
const TYPING_PAUSE: f64 = 1.0;

/// A file chooser that is open.
pub struct Chooser {
    purpose: Purpose,
    /// The folder that is shown.
    dir: PathBuf,
    /// What the path field says.
    typed: String,
    /// Name of the file to write.
    name: String,
    entries: Vec<Entry>,
    cut: bool,
    /// The path that is being read.
    reading: Option<PathBuf>,
    /// The kind of files shown, by its place in [`Purpose::kinds`].
    kind: usize,
    hidden: bool,
    /// The selected entry, by its place in `entries`.
    selected: Option<usize>,
    /// The entry is to be scrolled to.
    scroll: bool,
    /// What was typed to find an entry, and when.
    search: (String, f64),
    message: Option<String>,
    /// The file that would be replaced, once that was said.
    replaces: Option<PathBuf>,
    /// It was drawn.
    drawn: bool,
}

impl Chooser {
    /// A chooser that begins at `start`, which may be a file, and asks for what is there.
    pub fn new(purpose: Purpose, start: &Path, actions: &ActionQueue) -> Self {
        let mut chooser = Self {
            purpose,
            dir: PathBuf::new(),
            typed: String::new(),
            name: purpose.file_name().to_owned(),
            entries: Vec::new(),
            cut: false,
            reading: None,
            kind: 0,
            hidden: false,
            selected: None,
            scroll: false,
            search: (String::new(), 0.0),
            message: None,
            replaces: None,
            drawn: false,
        };
        let start = if start.is_absolute() { start.to_owned() } else { working_dir().join(start) };
        chooser.go(&start, actions);
        chooser
    }

    /// The same with a name for the new file.
    pub fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// What it chooses for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Asks for what is at a path.
    fn go(&mut self, path: &Path, actions: &ActionQueue) {
        let path = plain(path);
        self.message = None;
        self.reading = Some(path.clone());
        actions.push(Action::ListFolder(path));
    }

    /// Goes to what was typed into the path field: absolute, from the home directory (`~`), or from the shown folder.
    fn go_typed(&mut self, actions: &ActionQueue) {
        let typed = self.typed.trim();
        let path = match (typed.strip_prefix('~'), home_dir()) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with(['/', '\\']) => {
                home.join(rest.trim_start_matches(['/', '\\']))
            }
            _ => self.dir.join(typed),
        };
        self.go(&path, actions);
    }

    fn up(&mut self, actions: &ActionQueue) {
        if let Some(parent) = self.dir.parent().map(Path::to_owned) {
            self.go(&parent, actions);
        }
    }

    /// Takes what is at a path that was asked for.
    pub fn take(&mut self, path: PathBuf, place: Result<Place, String>, actions: &ActionQueue) {
        if self.reading.as_ref() != Some(&path) {
            return; // the user has gone elsewhere
        }
        self.reading = None;
        match place {
            Ok(Place::Folder { entries, cut }) => {
                // Coming from below, that folder is selected.
                let from = self.dir.strip_prefix(&path).ok().and_then(|rest| rest.components().next());
                let from = from.map(|part| part.as_os_str().to_owned());
                (self.dir, self.entries, self.cut) = (path, entries, cut);
                self.selected = self.entries.iter().position(|entry| Some(&entry.name) == from.as_ref());
                (self.scroll, self.replaces) = (true, None);
                self.typed = shown(&self.dir);
                self.search.0.clear();
            }
            Ok(Place::File) if self.dir.as_os_str().is_empty() => {
                // It begins at a file: in its folder.
                let dir = path.parent().map_or_else(working_dir, Path::to_owned);
                self.go(&dir, actions);
            }
            Ok(Place::File) if self.purpose.wants().file() => self.choose(path, actions),
            Ok(Place::File) => self.message = Some(format!("{} is a file; choose a folder", shown(&path))),
            Err(why) => {
                self.message = Some(format!("{} cannot be opened: {why}; choose another one", shown(&path)));
                if self.dir.as_os_str().is_empty() {
                    // There is nothing to show yet: the nearest folder that may be there.
                    let message = self.message.take();
                    let nearest = path.parent().map_or_else(working_dir, Path::to_owned);
                    self.go(&nearest, actions);
                    self.message = message;
                }
            }
        }
    }

    fn kinds(&self) -> &'static [Kind] {
        self.purpose.kinds()
    }

    /// Whether an entry is shown.
    fn shows(&self, entry: &Entry) -> bool {
        let fits = |kind: &Kind| kind.fits(Path::new(&entry.name));
        let listed =
            entry.folder || self.purpose.wants() == Wants::Folder || self.kinds().get(self.kind).is_none_or(fits);
        listed && (self.hidden || !entry.hidden())
    }

    /// Whether an entry can be gone into or chosen.
    fn takes(&self, entry: &Entry) -> bool {
        entry.folder || self.purpose.wants().file()
    }

    /// The shown entries, by their places.
    fn shown(&self) -> Vec<usize> {
        (0..self.entries.len()).filter(|i| self.shows(&self.entries[*i])).collect()
    }

    fn select(&mut self, entry: usize) {
        self.selected = Some(entry);
        self.replaces = None;
        if self.purpose.wants() == Wants::NewFile && !self.entries[entry].folder {
            self.name = self.entries[entry].shown();
        }
    }

    /// Moves the selection by so many shown entries.
    fn step(&mut self, by: isize) {
        let shown = self.shown();
        let at = self.selected.and_then(|selected| shown.iter().position(|i| *i == selected));
        let to = match at {
            None => 0,
            Some(at) => at.saturating_add_signed(by).min(shown.len().saturating_sub(1)),
        };
        if let Some(entry) = shown.get(to) {
            self.select(*entry);
            self.scroll = true;
        }
    }

    /// Selects the next shown entry whose name begins with what is being typed. `now` in seconds.
    fn type_ahead(&mut self, text: &str, now: f64) {
        let (search, at) = &mut self.search;
        if now - *at > TYPING_PAUSE {
            search.clear();
        }
        search.push_str(&text.to_lowercase());
        *at = now;
        let search = search.clone();
        let hit = self.shown().into_iter().find(|i| self.entries[*i].shown().to_lowercase().starts_with(&search));
        if let Some(entry) = hit {
            self.select(entry);
            self.scroll = true;
        }
    }

    /// Goes into a folder, or chooses a file.
    fn open(&mut self, entry: usize, actions: &ActionQueue) {
        let Some(entry) = self.entries.get(entry) else { return };
        let path = self.dir.join(&entry.name);
        if entry.folder {
            self.go(&path, actions);
        } else if self.purpose.wants() == Wants::NewFile {
            self.name = entry.shown();
            self.confirm(actions);
        } else if self.takes(entry) {
            self.choose(path, actions);
        }
    }

    /// What the main button would choose now, or why it cannot.
    fn target(&self) -> Result<PathBuf, &'static str> {
        let selected = self.selected.and_then(|i| self.entries.get(i)).filter(|entry| self.shows(entry));
        let path = |entry: &Entry| self.dir.join(&entry.name);
        match self.purpose.wants() {
            _ if self.dir.as_os_str().is_empty() => Err("the folder is being read"),
            Wants::NewFile => match self.name.trim() {
                "" | "." | ".." => Err("type a name for the file"),
                name if name.contains(['/', '\\']) => Err("the name of a file has no slash; choose its folder above"),
                name => Ok(self.dir.join(name)),
            },
            Wants::File => selected.filter(|entry| !entry.folder).map(path).ok_or("select a file"),
            Wants::Either => Ok(selected.map_or_else(|| self.dir.clone(), path)),
            Wants::Folder => Ok(selected.filter(|entry| entry.folder).map_or_else(|| self.dir.clone(), path)),
        }
    }

    /// Presses the main button: chooses, after a question where a file would be replaced.
    fn confirm(&mut self, actions: &ActionQueue) {
        let Ok(path) = self.target() else { return };
        let taken = |entry: &Entry| self.dir.join(&entry.name) == path;
        if self.purpose.wants() == Wants::NewFile {
            match self.entries.iter().find(|entry| taken(entry)) {
                Some(entry) if entry.folder => {
                    self.message = Some(format!("{} is a folder; type another name", entry.shown()));
                    return;
                }
                Some(entry) if self.replaces.as_ref() != Some(&path) => {
                    self.message = Some(format!("{} is there already; Replace writes over it", entry.shown()));
                    self.replaces = Some(path);
                    return;
                }
                _ => {}
            }
        }
        self.choose(path, actions);
    }

    fn choose(&mut self, path: PathBuf, actions: &ActionQueue) {
        if path.to_str().is_none() {
            self.message = Some(not_utf8(&path));
            return;
        }
        actions.push(Action::CloseDialog);
        actions.push(Action::Chosen(self.purpose, path));
    }
}

/// Why a path cannot be used whose name is not UTF-8.
pub fn not_utf8(path: &Path) -> String {
    format!("{} has a name that is not UTF-8 and cannot be stored in settings; rename it", shown(path))
}

/// The directory the program was started in.
fn working_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from(std::path::MAIN_SEPARATOR_STR))
}

fn home_dir() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chooser in a folder with these entries; names that end with a slash are folders.
    fn chooser(purpose: Purpose, names: &[&str]) -> (Chooser, ActionQueue) {
        let actions = ActionQueue::default();
        let mut chooser = Chooser::new(purpose, Path::new("/data"), &actions);
        let entry = |name: &&str| Entry {
            name: name.trim_end_matches('/').into(),
            folder: name.ends_with('/'),
            bytes: 1,
            modified: 0,
        };
        assert_eq!(actions.take(), [Action::ListFolder("/data".into())]);
        chooser.take(
            "/data".into(),
            Ok(Place::Folder { entries: names.iter().map(entry).collect(), cut: false }),
            &actions,
        );
        (chooser, actions)
    }

    fn names(chooser: &Chooser) -> Vec<String> {
        chooser.shown().into_iter().map(|i| chooser.entries[i].shown()).collect()
    }

    #[test]
    fn it_shows_folders_and_files_of_the_kind_and_hides_the_hidden() {
        let (mut chooser, _) = chooser(Purpose::TrainFile, &["sub/", ".git/", "a.TSV", "b.png", ".c.csv"]);
        assert_eq!(names(&chooser), ["sub", "a.TSV"]);
        chooser.hidden = true;
        assert_eq!(names(&chooser), ["sub", ".git", "a.TSV", ".c.csv"]);
        chooser.kind = chooser.kinds().len() - 1;
        assert_eq!(names(&chooser).len(), 5, "the last kind is all files");
    }

    #[test]
    fn typing_finds_and_arrows_stay_inside() {
        let (mut chooser, _) = chooser(Purpose::TrainFile, &["sub/", "train.tsv", "train2.tsv", "valid.tsv"]);
        chooser.type_ahead("T", 1.0);
        assert_eq!(chooser.selected, Some(1));
        chooser.type_ahead("rain2", 1.5);
        assert_eq!(chooser.selected, Some(2));
        chooser.type_ahead("v", 9.0);
        assert_eq!(chooser.selected, Some(3), "after a pause a new search begins");
        chooser.step(5);
        assert_eq!(chooser.selected, Some(3));
        chooser.step(-100);
        assert_eq!(chooser.selected, Some(0));
    }

    #[test]
    fn enter_goes_into_folders_and_chooses_files_and_up_comes_back_to_the_folder() {
        let (mut chooser, actions) = chooser(Purpose::TrainFile, &["sub/", "a.tsv"]);
        chooser.open(1, &actions);
        assert_eq!(actions.take(), [Action::CloseDialog, Action::Chosen(Purpose::TrainFile, "/data/a.tsv".into())]);
        chooser.open(0, &actions);
        assert_eq!(actions.take(), [Action::ListFolder("/data/sub".into())]);
        let empty = || Ok(Place::Folder { entries: Vec::new(), cut: false });
        chooser.take("/data/other".into(), Err("late".into()), &actions);
        assert_eq!(chooser.message, None, "an answer to an older question");
        chooser.take("/data/sub".into(), empty(), &actions);
        assert_eq!(chooser.typed, "/data/sub");
        chooser.up(&actions);
        assert_eq!(actions.take(), [Action::ListFolder("/data".into())]);
        let entries = vec![
            Entry { name: "else".into(), folder: true, bytes: 0, modified: 0 },
            Entry { name: "sub".into(), folder: true, bytes: 0, modified: 0 },
        ];
        chooser.take("/data".into(), Ok(Place::Folder { entries, cut: false }), &actions);
        assert_eq!(chooser.selected, Some(1), "the folder one comes from");
    }

    #[test]
    fn a_typed_path_may_be_relative_a_file_or_wrong() {
        let (mut chooser, actions) = chooser(Purpose::TrainFile, &["a.tsv"]);
        chooser.typed = "../x/./b.tsv".to_owned();
        chooser.go_typed(&actions);
        assert_eq!(actions.take(), [Action::ListFolder("/x/b.tsv".into())]);
        chooser.take("/x/b.tsv".into(), Err("there is no permission to read it".into()), &actions);
        let message = chooser.message.clone().expect("it is said");
        assert!(message.contains("/x/b.tsv") && message.contains("no permission"), "{message}");
        assert_eq!((chooser.dir.as_path(), chooser.entries.len()), (Path::new("/data"), 1), "the old folder stays");
        chooser.go_typed(&actions);
        actions.take();
        chooser.take("/x/b.tsv".into(), Ok(Place::File), &actions);
        assert_eq!(actions.take()[1], Action::Chosen(Purpose::TrainFile, "/x/b.tsv".into()));
    }

    #[test]
    fn a_folder_is_chosen_by_name_or_as_the_shown_one() {
        let (mut chooser, actions) = chooser(Purpose::DataDir, &["SST-2/", "a.tsv"]);
        assert_eq!(chooser.target(), Ok("/data".into()));
        chooser.select(0);
        assert_eq!(chooser.target(), Ok("/data/SST-2".into()));
        chooser.select(1);
        chooser.open(1, &actions);
        assert!(actions.take().is_empty(), "a file is no folder");
        assert_eq!(chooser.target(), Ok("/data".into()));
    }

    #[test]
    fn saving_asks_before_it_replaces() {
        let (mut chooser, actions) = chooser(Purpose::SaveSettings, &["run.toml", "sub/"]);
        chooser.confirm(&actions);
        assert!(actions.take().is_empty());
        assert!(chooser.message.clone().expect("it is said").contains("run.toml is there already"));
        chooser.confirm(&actions);
        assert_eq!(actions.take()[1], Action::Chosen(Purpose::SaveSettings, "/data/run.toml".into()));
        chooser.name = "sub".to_owned();
        chooser.confirm(&actions);
        assert!(chooser.message.clone().expect("it is said").contains("is a folder") && actions.take().is_empty());
        for bad in ["", "..", "a/b"] {
            chooser.name = bad.to_owned();
            assert!(chooser.target().is_err(), "{bad}");
        }
    }

    #[test]
    fn it_begins_at_a_file_in_its_folder_and_above_a_vanished_one() {
        let actions = ActionQueue::default();
        let mut chooser = Chooser::new(Purpose::TrainFile, Path::new("/gone/a.tsv"), &actions);
        actions.take();
        chooser.take("/gone/a.tsv".into(), Err("it does not exist (any more)".into()), &actions);
        assert_eq!(actions.take(), [Action::ListFolder("/gone".into())]);
        chooser.take("/gone".into(), Err("it does not exist (any more)".into()), &actions);
        assert_eq!(actions.take(), [Action::ListFolder("/".into())]);
        assert!(chooser.message.is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf8_is_refused_with_the_reason() {
        use std::os::unix::ffi::OsStringExt as _;
        let (mut chooser, actions) = chooser(Purpose::TrainFile, &["a.tsv"]);
        chooser.entries[0].name = std::ffi::OsString::from_vec(b"\xff.tsv".to_vec());
        chooser.open(0, &actions);
        assert!(actions.take().is_empty());
        assert!(chooser.message.expect("it is said").contains("not UTF-8"));
    }
}
