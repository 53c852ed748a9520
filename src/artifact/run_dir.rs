//! One directory per run: the product's memory.
//!
//! ```text
//! runs/<name>/
//!   run.toml           every setting, resolved
//!   label.toml         what people call it, their notes and tags; may be missing
//!   lock               held by the process that writes
//!   metrics.jsonl      one JSON object a line: start, step, eval, lamp, checkpoint, end
//!   routes.bin         which expert ran where, every step
//!   metrics.index, routes.index   caches of the two, where they are long; may be deleted
//!   samples.jsonl      what a language model wrote on the way, one JSON object a line
//!   events.log         for people, one line an event, UTC
//!   events.out.tfevents.*   the same curves for TensorBoard
//!   checkpoint-N/      everything needed to go on from step N
//!   exports/<name>/    what was exported, each with its certificate
//! ```
//!
//! A directory is a run when it holds a `run.toml`. It can be moved and renamed freely.

use super::run_lock::{RunLock, is_locked};
use super::utc;
use crate::atomic::{clean_leftovers, delete_dir, write_file};
use crate::config::{LAB, RunConfig, Task, WRITER_LAB, choice_name, model_id};
use crate::data::tasks;
use crate::error::{Context as _, Error, Result};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Name of the settings file.
pub const RUN_FILE: &str = "run.toml";

/// What marks a directory as an unpacked capsule.
pub(super) const CAPSULE_FILE: &str = "capsule.json";

/// Name of the record of a run.
pub(super) const METRICS_FILE: &str = "metrics.jsonl";

/// A run on disk, with its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDir {
    path: PathBuf,
    config: RunConfig,
}

impl RunDir {
    /// The directory that holds the runs: the one in the settings, else [`default_root`].
    pub fn root(config: &RunConfig) -> Result<PathBuf> {
        if config.runs_dir.is_empty() { default_root() } else { Ok(PathBuf::from(&config.runs_dir)) }
    }

    /// Makes a new run directory under [`RunDir::root`] and takes its lock. The name is the one in the settings,
    /// or made from task, model and time; a number is appended when it is taken. The resolved name and root are
    /// in [`RunDir::config`] and in `run.toml`, and so are the full paths of model and data: a run is opened from
    /// wherever one happens to be.
    pub fn create(config: &RunConfig) -> Result<(Self, RunLock)> {
        config.validate()?;
        let root = Self::root(config)?;
        fs::create_dir_all(&root).map_err(|err| Error::io("creating a directory", &root, err))?;
        let root = std::path::absolute(&root).map_err(|err| Error::io("resolving", &root, err))?;
        let base = if config.name.is_empty() { automatic_name(config) } else { config.name.clone() };
        let (name, path) = claim(&root, &base)?;
        let mut config = config.clone();
        config.name = name;
        config.runs_dir = root.display().to_string();
        resolve_paths(&mut config)?;
        let lock = RunLock::acquire(&path)?;
        write_file(&path.join(RUN_FILE), config.to_toml()?.as_bytes())?;
        Ok((Self { path, config }, lock))
    }

    /// Opens an existing run for reading.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(RUN_FILE);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(Error::config(format!("not a run directory, it holds no {RUN_FILE}: {}", path.display())));
            }
            Err(err) => return Err(Error::io("reading", &file, err)),
        };
        let config = RunConfig::from_toml(&text).with_context(|| format!("opening the run {}", path.display()))?;
        Ok(Self { path: path.to_owned(), config })
    }

    /// Takes the right to write, and tidies up what a killed process left behind; with a sentence for each thing done.
    pub fn lock(&self) -> Result<(RunLock, Vec<String>)> {
        if self.is_capsule() {
            let words = "this run was opened from a capsule, which stays as it is; train a new one with its settings";
            return Err(Error::config(format!("{words}: {}", self.path.display())));
        }
        let lock = RunLock::acquire(&self.path)?;
        let mut done = clean_leftovers(&self.path)?;
        done.extend(clean_leftovers(&self.exports())?);
        Ok((lock, done))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Its last component.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
    /// Whether it was unpacked from a capsule: then nothing is written into it.
    pub fn is_capsule(&self) -> bool {
        self.path.join(CAPSULE_FILE).is_file()
    }
    /// The settings it was started with.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }
    /// One JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS_FILE)
    }
    /// Which expert ran where.
    pub fn routes(&self) -> PathBuf {
        self.path.join("routes.bin")
    }
    /// What a language model wrote while it learned, one JSON object a line.
    pub fn samples(&self) -> PathBuf {
        self.path.join("samples.jsonl")
    }
    /// The log for people.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.log")
    }
    /// The checkpoint after `step` steps.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join(format!("checkpoint-{step}"))
    }
    /// Where exports go.
    pub fn exports(&self) -> PathBuf {
        self.path.join("exports")
    }
    /// A directory name under [`RunDir::exports`] that is not taken yet; nothing is made.
    pub fn new_export(&self, base: &str) -> Result<PathBuf> {
        if self.is_capsule() {
            let words = "this run was opened from a capsule, which stays as it is; choose a destination (--output DIR)";
            return Err(Error::config(words));
        }
        let exports = self.exports();
        let mut candidates = (1..).map(|n| if n == 1 { base.to_owned() } else { format!("{base}-{n}") });
        let free = candidates.find(|name| !exports.join(name).exists());
        free.map(|name| exports.join(name)).ok_or_else(|| Error::internal("no free name for an export"))
    }
}

/// Writes the paths of model, data and chat template in full where they lead to something; what is bundled, and the hub's
/// models, are named, not found on a path.
pub(super) fn resolve_paths(config: &mut RunConfig) -> Result<()> {
    let (data, template) = (&mut config.data, &mut config.text.template);
    // What a name of something bundled, or of a kind of template, is in one place is an ordinary directory in another.
    let paths: [(&mut String, &[&str]); 5] = [
        (&mut config.model.path, &[LAB, WRITER_LAB]),
        (&mut data.path, &[]),
        (&mut data.train_file, &[]),
        (&mut data.dev_file, &[]),
        (template, &["auto", "none", "model"]),
    ];
    for (path, names) in paths {
        if path.is_empty() || names.contains(&path.as_str()) {
            continue;
        }
        if Path::new(path.as_str()).exists() {
            *path = full(path)?;
        } else if path.contains(';') || path.contains('*') {
            // Several files, or a pattern for their names.
            let parts = path.split(';').map(str::trim).filter(|part| !part.is_empty());
            *path = parts.map(full_where_it_leads).collect::<Result<Vec<_>>>()?.join(";");
        }
    }
    Ok(())
}

fn full(path: &str) -> Result<String> {
    let full = std::path::absolute(path).map_err(|err| Error::io("resolving", Path::new(path), err))?;
    Ok(full.display().to_string())
}

/// In full where the path, or the directory of a pattern, is there.
fn full_where_it_leads(path: &str) -> Result<String> {
    let parent =
        Path::new(path).parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let pattern = path.contains('*') && parent.is_some_and(Path::is_dir);
    if pattern || Path::new(path).exists() { full(path) } else { Ok(path.to_owned()) }
}

/// Deletes the run `name` in `root` with all its files. Only a real directory directly in `root` that holds a
/// `run.toml` and that nobody writes into is touched; links are not followed.
pub fn delete(root: &Path, name: &str) -> Result<()> {
    let mut components = Path::new(name).components();
    let plain = matches!((components.next(), components.next()), (Some(Component::Normal(part)), None) if part == name);
    if !plain || name.starts_with('.') {
        return Err(Error::config(format!("{name:?} is not the name of a run; nothing was deleted")));
    }
    let path = root.join(name);
    let meta = fs::symlink_metadata(&path).map_err(|err| Error::io("deleting", &path, err))?;
    if meta.is_symlink() || !meta.is_dir() {
        return Err(Error::config(format!("not a directory, so nothing was deleted: {}", path.display())));
    }
    if !fs::symlink_metadata(path.join(RUN_FILE)).is_ok_and(|meta| meta.is_file()) {
        return Err(Error::config(format!("it holds no {RUN_FILE}, so nothing was deleted: {}", path.display())));
    }
    if is_locked(&path) {
        return Err(Error::config(format!("the run is being written; stop it first: {}", path.display())));
    }
    delete_dir(&path)
}

/// Where runs are kept when nobody says otherwise: `runs` in [`data_dir`].
pub fn default_root() -> Result<PathBuf> {
    let found = root_from(std::env::consts::OS, |name| std::env::var_os(name));
    found.map(|data| data.join("runs")).ok_or_else(|| {
        Error::config("no home directory is known, so there is no place for runs; set runs_dir (or HOME)")
    })
}

/// What the program keeps for its user: `adamix` under the user's data directory (`$XDG_DATA_HOME` or `~/.local/share`;
/// `~/Library/Application Support` on macOS; `%LOCALAPPDATA%` on Windows).
pub fn data_dir() -> Result<PathBuf> {
    root_from(std::env::consts::OS, |name| std::env::var_os(name))
        .ok_or_else(|| Error::config("no home directory is known, so there is no place for data; set HOME"))
}

fn root_from(system: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = match system {
        "windows" => directory("LOCALAPPDATA").or_else(|| Some(directory("USERPROFILE")?.join("AppData/Local"))),
        "macos" => Some(directory("HOME")?.join("Library/Application Support")),
        _ => directory("XDG_DATA_HOME").or_else(|| Some(directory("HOME")?.join(".local/share"))),
    };
    Some(data?.join("adamix"))
}

/// Such as `sst2-roberta-base-20260301-070409`.
fn automatic_name(config: &RunConfig) -> String {
    let task = match config.data.task {
        Task::Custom | Task::Text => tasks::name(&config.data),
        task => choice_name(task),
    };
    let model = model_id::title(&config.model.path);
    let mut parts: Vec<String> = std::iter::once(task).chain(model).collect();
    parts.dedup();
    parts.push(utc::compact(utc::now()));
    let plain = |c: char| if c.is_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
    let name: String = parts.join("-").chars().map(plain).collect();
    name.trim_start_matches(['.', '-']).to_owned()
}

/// Makes the first free directory of `base`, `base-2`, `base-3`... Two processes never get the same one.
fn claim(root: &Path, base: &str) -> Result<(String, PathBuf)> {
    for n in 1.. {
        let name = if n == 1 { base.to_owned() } else { format!("{base}-{n}") };
        let path = root.join(&name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok((name, path)),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && n < 10_000 => {}
            Err(err) => return Err(Error::io("creating a directory", &path, err)),
        }
    }
    Err(Error::internal("no free name for a run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_root_follows_each_system_s_custom() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let root = |system: &str, pairs| root_from(system, with(pairs)).map(|path| path.display().to_string());
        assert_eq!(root("linux", &[("HOME", "/h")]).as_deref(), Some("/h/.local/share/adamix"));
        assert_eq!(root("linux", &[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).as_deref(), Some("/x/adamix"));
        assert_eq!(
            root("linux", &[("HOME", "/h"), ("XDG_DATA_HOME", "relative")]).as_deref(),
            Some("/h/.local/share/adamix"),
            "the specification says to ignore relative paths"
        );
        let mac = root("macos", &[("HOME", "/h")]);
        assert_eq!(mac.as_deref(), Some("/h/Library/Application Support/adamix"));
        assert_eq!(root("linux", &[]), None);
    }

    #[test]
    fn files_are_found_from_everywhere_and_names_stay_names() -> Result<()> {
        let mut config = RunConfig::default();
        config.model.path = "src/lib.rs".to_owned();
        config.data.train_file = "../no/such.csv".to_owned();
        config.data.path = WRITER_LAB.to_owned();
        resolve_paths(&mut config)?;
        let here = std::env::current_dir().map_err(|err| Error::io("reading", Path::new("."), err))?;
        assert_eq!(Path::new(&config.model.path), here.join("src/lib.rs"));
        assert_eq!((config.data.train_file.as_str(), config.data.path.as_str()), ("../no/such.csv", WRITER_LAB));
        config.model.path = "org/name".to_owned();
        resolve_paths(&mut config)?;
        assert_eq!(config.model.path, "org/name");
        Ok(())
    }
}
