//! Runs that wait for the machine: one file, changed by the window and by the command line.
//!
//! ```text
//! queue/
//!   queue.json     the entries in order
//!   lock           held for the moment of a change
//!   starting-N/    its lock is held by the process that starts entry N, until the run has a directory of its own
//! ```
//!
//! An entry leaves the file when its run directory is there: from then on the run is one like any other, and can be resumed.
//! A process that is killed before leaves the entry waiting. So no entry runs twice and none is lost.

use super::run_dir::{data_dir, resolve_paths};
use super::run_lock::{RunLock, is_locked};
use super::utc;
use crate::atomic::write_file;
use crate::config::{RunConfig, choice_name, model_id};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "queue.json";
const FORMAT: &str = "adamix-queue";
/// Entries that may wait.
const MOST: usize = 1000;
/// How often the lock is tried for; each attempt waits 50 ms.
const ATTEMPTS: usize = 40;

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its number; never given twice.
    pub id: u64,
    /// When it was added, seconds since 1970.
    pub added: u64,
    /// All settings.
    pub config: RunConfig,
    /// Why it could not start; it stays in the list, and the next one is taken.
    #[serde(default)]
    pub failed: Option<String>,
    /// Whether some process is starting it right now.
    #[serde(skip)]
    pub starting: bool,
}

impl QueueEntry {
    /// What it trains, in a few words.
    pub fn title(&self) -> String {
        if !self.config.name.is_empty() {
            return self.config.name.clone();
        }
        let (task, model) = (choice_name(self.config.data.task), model_id::base_name(&self.config.model.path));
        if task == model { task } else { format!("{task}, {model}") }
    }

    /// Whether it is the turn of this one when the ones before it are gone.
    pub fn waits(&self) -> bool {
        self.failed.is_none() && !self.starting
    }
}

/// The entries in order, and what the user should know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueState {
    /// The next one first.
    pub entries: Vec<QueueEntry>,
    /// Such as a damaged file that was kept aside.
    pub notes: Vec<String>,
}

impl QueueState {
    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.entries.iter().filter(|entry| entry.waits()).count()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct QueueFile {
    format: String,
    version: u32,
    next_id: u64,
    entries: Vec<QueueEntry>,
}

impl Default for QueueFile {
    fn default() -> Self {
        Self { format: FORMAT.to_owned(), version: 1, next_id: 1, entries: Vec::new() }
    }
}

/// The queue in a directory.
#[derive(Clone, Debug)]
pub struct Queue {
    dir: PathBuf,
}

impl Queue {
    /// The queue in this directory, which need not be there yet.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The user's own.
    pub fn of_user() -> Result<Self> {
        Ok(Self::at(data_dir()?.join("queue")))
    }

    /// The entries.
    pub fn list(&self) -> Result<QueueState> {
        match fs::symlink_metadata(self.dir.join(FILE)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(QueueState::default()),
            _ => self.change(|_| Ok(())),
        }
    }

    /// Adds a run at the end.
    pub fn add(&self, config: &RunConfig) -> Result<QueueState> {
        config.validate()?;
        let mut config = config.clone();
        // It is started from another directory, perhaps.
        resolve_paths(&mut config)?;
        if !config.runs_dir.is_empty() {
            let full = std::path::absolute(&config.runs_dir)
                .map_err(|err| Error::io("resolving", Path::new(&config.runs_dir), err))?;
            config.runs_dir = full.display().to_string();
        }
        self.change(|file| {
            if file.entries.len() >= MOST {
                return Err(Error::config(format!("{MOST} runs wait already; remove some first")));
            }
            let (id, added) = (file.next_id, utc::now() as u64);
            file.next_id += 1;
            file.entries.push(QueueEntry { id, added, config, failed: None, starting: false });
            Ok(())
        })
    }

    /// Removes an entry.
    pub fn remove(&self, id: u64) -> Result<QueueState> {
        self.change(|file| {
            let at = self.place_of(file, id)?;
            if self.is_starting(id) {
                return Err(Error::config(format!("entry {id} of the queue is being started; stop the run instead")));
            }
            file.entries.remove(at);
            Ok(())
        })
    }

    /// Moves an entry to this place, counted from 0; beyond the end: to the end.
    pub fn move_to(&self, id: u64, place: usize) -> Result<QueueState> {
        self.change(|file| {
            let entry = {
                let at = self.place_of(file, id)?;
                file.entries.remove(at)
            };
            let place = place.min(file.entries.len());
            file.entries.insert(place, entry);
            Ok(())
        })
    }

    /// Lets an entry that could not start wait again.
    pub fn retry(&self, id: u64) -> Result<QueueState> {
        self.change(|file| {
            let at = self.place_of(file, id)?;
            file.entries[at].failed = None;
            Ok(())
        })
    }

    /// Takes the first entry that waits; nobody else gets it as long as the returned value lives.
    pub fn take_next(&self) -> Result<Option<TakenEntry>> {
        let mut taken = None;
        self.change(|file| {
            let next = file.entries.iter().find(|entry| entry.failed.is_none() && !self.is_starting(entry.id));
            if let Some(entry) = next {
                let dir = self.starting_dir(entry.id);
                fs::create_dir_all(&dir).map_err(|err| Error::io("creating a directory", &dir, err))?;
                let lock = RunLock::acquire(&dir)?;
                taken = Some(TakenEntry { entry: entry.clone(), queue: self.clone(), lock: Some(lock) });
            }
            Ok(())
        })?;
        Ok(taken)
    }

    fn starting_dir(&self, id: u64) -> PathBuf {
        self.dir.join(format!("starting-{id}"))
    }

    fn is_starting(&self, id: u64) -> bool {
        is_locked(&self.starting_dir(id))
    }

    fn place_of(&self, file: &QueueFile, id: u64) -> Result<usize> {
        let found = file.entries.iter().position(|entry| entry.id == id);
        found.ok_or_else(|| Error::config(format!("there is no entry {id} in the queue; adamix queue list shows them")))
    }

    /// Changes the file under its lock; nothing is written where nothing changes or the change fails.
    fn change(&self, change: impl FnOnce(&mut QueueFile) -> Result<()>) -> Result<QueueState> {
        fs::create_dir_all(&self.dir).map_err(|err| Error::io("creating a directory", &self.dir, err))?;
        let _lock = self.lock()?;
        let (mut file, notes) = self.read()?;
        let before = serde_json::to_vec_pretty(&file).map_err(|err| Error::internal(format!("the queue: {err}")))?;
        change(&mut file)?;
        let after = serde_json::to_vec_pretty(&file).map_err(|err| Error::internal(format!("the queue: {err}")))?;
        if before != after {
            write_file(&self.dir.join(FILE), &after)?;
        }
        let mut entries = file.entries;
        entries.iter_mut().for_each(|entry| entry.starting = self.is_starting(entry.id));
        Ok(QueueState { entries, notes })
    }

    fn lock(&self) -> Result<RunLock> {
        let busy = || format!("another program is changing the queue in {}; try again", self.dir.display());
        let mut attempts = (0..ATTEMPTS).map(|_| RunLock::acquire(&self.dir));
        attempts.find_map(Result::ok).ok_or_else(|| Error::config(busy()))
    }

    /// Reads the file. One that cannot be understood is kept under another name, and said.
    fn read(&self) -> Result<(QueueFile, Vec<String>)> {
        let path = self.dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok((QueueFile::default(), Vec::new())),
            Err(err) => return Err(Error::io("reading", &path, err)),
        };
        let problem = match serde_json::from_slice::<QueueFile>(&bytes) {
            Ok(file) if file.format == FORMAT && file.version == 1 => return Ok((file, Vec::new())),
            Ok(file) => format!("it has format {:?} {}", file.format, file.version),
            Err(err) => err.to_string(),
        };
        let mut names = (1..).map(|n| self.dir.join(format!("queue-damaged-{}-{n}.json", utc::compact(utc::now()))));
        let aside = names.find(|path| !path.exists()).ok_or_else(|| Error::internal("no free name"))?;
        fs::rename(&path, &aside).map_err(|err| Error::io("renaming", &path, err))?;
        let note = format!(
            "the list of waiting runs could not be read ({problem}) and begins empty; the old one is kept as {}",
            aside.display()
        );
        log::warn!("{note}");
        Ok((QueueFile::default(), vec![note]))
    }
}

/// An entry that this process is starting. Dropped without a word it waits again.
#[derive(Debug)]
pub struct TakenEntry {
    /// The entry.
    pub entry: QueueEntry,
    queue: Queue,
    lock: Option<RunLock>,
}

impl TakenEntry {
    /// Its run has a directory now: the entry is gone.
    pub fn started(mut self) -> Result<()> {
        let id = self.entry.id;
        self.end(|file| file.entries.retain(|entry| entry.id != id))
    }

    /// It could not start: it stays with the reason, and is not taken again until the user says so.
    pub fn failed(mut self, why: &str) -> Result<()> {
        let id = self.entry.id;
        self.end(|file| {
            if let Some(entry) = file.entries.iter_mut().find(|entry| entry.id == id) {
                entry.failed = Some(why.to_owned());
            }
        })
    }

    fn end(&mut self, change: impl FnOnce(&mut QueueFile)) -> Result<()> {
        let (queue, dir) = (self.queue.clone(), self.queue.starting_dir(self.entry.id));
        queue.change(|file| {
            change(file);
            // Released under the lock of the queue: nobody takes it in between.
            self.lock = None;
            fs::remove_dir_all(&dir).ok(); // an empty leftover is harmless
            Ok(())
        })?;
        Ok(())
    }
}

impl Drop for TakenEntry {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(err) = self.end(|_| {})
        {
            log::warn!("entry {} of the queue waits again: {err}", self.entry.id);
        }
    }
}
