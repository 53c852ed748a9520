//! The cache: from a model's name to its directory, the list of models, removing them. No network.

use crate::atomic::remove;
use crate::config::WRITER_LAB;
use crate::config::model_id::{ModelId, is_commit, is_gguf_name};
use crate::error::{Error, Result};
use crate::model_store::fetch::size;
use crate::model_store::hub::Hub;
use crate::model_store::model_card::{self, ModelReader, StoredFile, StoredModel};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The models in the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CacheInfo {
    /// The directory.
    pub cache: PathBuf,
    /// Where downloads come from.
    pub endpoint: String,
    /// The variable that forbids downloads, if any.
    pub offline: Option<String>,
    /// The models, by name.
    pub models: Vec<StoredModel>,
}

/// Where a model is: the path itself when there is something of that name, else the cached model of that name.
/// Nothing is ever fetched here.
pub fn locate(path: &str) -> Result<PathBuf> {
    let own = Path::new(path);
    // The bundled language model has a name and no path.
    if own.exists() || path == WRITER_LAB {
        return Ok(own.to_owned());
    }
    let missing = |more: &str| {
        Error::config(format!(
            "no such directory or file; choose a directory in Hugging Face layout, a GGUF file, a model by its name{more}, or \"lab\": {path}"
        ))
    };
    match ModelId::parse(path) {
        Ok(id) if !own.is_absolute() => {
            let hub = Hub::from_env()?;
            hub.find(&id)?.ok_or_else(|| {
                let cache = hub.cache.display();
                missing(&format!(" (none of this name is in {cache}; adamix models download {id} fetches it)"))
            })
        }
        _ => Err(missing("")),
    }
}

/// The same model by a name that never changes its meaning: with its commit. Paths and names that are not in the
/// cache stay as they are.
pub fn pinned(path: &str) -> String {
    let pinned = || {
        let id = ModelId::parse(path).ok().filter(|_| !Path::new(path).exists())?;
        let found = Hub::from_env().ok()?.snapshot(&id)?;
        let commit = found.file_name()?.to_str().filter(|commit| is_commit(commit))?.to_owned();
        Some(ModelId { revision: Some(commit), ..id }.to_string())
    };
    pinned().unwrap_or_else(|| path.to_owned())
}

/// `name` for a snapshot directory in a cache (`models--org--name/snapshots/<commit>`), the directory's name for others.
pub fn short_name(path: &Path) -> Option<String> {
    let of_cache = || {
        let snapshots = path.parent()?;
        let folder = snapshots.parent().filter(|_| snapshots.file_name().is_some_and(|name| name == "snapshots"))?;
        let id = ModelId::of_folder(folder.file_name()?.to_str()?)?;
        Some(id.repo.rsplit('/').next()?.to_owned())
    };
    of_cache().or_else(|| Some(path.file_name()?.to_string_lossy().into_owned()))
}

impl Hub {
    /// The directory or GGUF file of a model in the cache.
    pub fn locate(&self, id: &ModelId) -> Result<PathBuf> {
        self.find(id)?.ok_or_else(|| {
            Error::config(format!(
                "{id} is not on disk; adamix models download {id} fetches it (looked in {})",
                self.cache.display()
            ))
        })
    }

    /// As [`Hub::locate`]; `None` where nothing of the repository is in the cache.
    fn find(&self, id: &ModelId) -> Result<Option<PathBuf>> {
        let snapshot = match self.snapshot(id) {
            Some(snapshot) => snapshot,
            None if self.cache.join(id.folder()).is_dir() => {
                let whole = ModelId { file: None, ..id.clone() };
                return Err(Error::config(format!(
                    "{whole} is not on disk, or not completely; adamix models download {id} fetches it, or goes on where it stopped"
                )));
            }
            None => return Ok(None),
        };
        if let Some(file) = &id.file {
            let path = snapshot.join(file);
            return if path.is_file() {
                Ok(Some(path))
            } else {
                Err(Error::config(format!("{id} is not on disk; adamix models download {id} fetches it")))
            };
        }
        if snapshot.join("config.json").is_file() {
            return match incomplete(&snapshot) {
                None => Ok(Some(snapshot)),
                Some(why) => Err(Error::config(format!(
                    "{id} is not completely on disk ({why}); adamix models download {id} goes on where it stopped"
                ))),
            };
        }
        let mut ggufs: Vec<String> = files(&snapshot).into_iter().map(|file| file.name).collect();
        ggufs.retain(|name| is_gguf_name(name));
        match ggufs.as_slice() {
            [only] => Ok(Some(snapshot.join(only))),
            [] => Err(Error::config(format!(
                "{id} is on disk without config.json or a GGUF file; adamix models download {id} fetches what is missing"
            ))),
            several => {
                let names: Vec<String> =
                    several.iter().map(|file| ModelId { file: Some(file.clone()), ..id.clone() }.to_string()).collect();
                Err(Error::config(format!("several GGUF files of {id} are on disk; choose one: {}", names.join(", "))))
            }
        }
    }

    /// The snapshot that a revision means: by its name, by its commit or the beginning of one; the only one there is,
    /// when none was named.
    fn snapshot(&self, id: &ModelId) -> Option<PathBuf> {
        let dir = self.cache.join(id.folder());
        let snapshots = dir.join("snapshots");
        let all = commits(&dir);
        let named = fs::read_to_string(dir.join("refs").join(id.revision())).unwrap_or_default();
        let only = |fits: &dyn Fn(&str) -> bool| {
            let mut fitting = all.iter().filter(|commit| fits(commit));
            fitting.next().filter(|_| fitting.next().is_none())
        };
        let found = only(&|commit| commit == named.trim()).or_else(|| match &id.revision {
            None => only(&|_| true),
            Some(begin) => only(&|commit| begin.len() >= 7 && commit.starts_with(begin.as_str())),
        });
        found.map(|commit| snapshots.join(commit))
    }

    /// The models in the cache. Directories that are no models are left out; a cache that does not exist is empty.
    pub fn scan(&self, reader: &dyn ModelReader) -> CacheInfo {
        let mut models = Vec::new();
        for folder in names(&self.cache) {
            if let Some(id) = ModelId::of_folder(&folder) {
                self.list_repo(&id, reader, &mut models);
            }
        }
        CacheInfo {
            cache: self.cache.clone(),
            endpoint: self.endpoint.clone(),
            offline: self.offline.map(str::to_owned),
            models,
        }
    }

    fn list_repo(&self, id: &ModelId, reader: &dyn ModelReader, models: &mut Vec<StoredModel>) {
        let dir = self.cache.join(id.folder());
        let blobs = files(&dir.join("blobs"));
        let begun = |file: &&StoredFile| file.name.ends_with(".part") || file.name.ends_with(".incomplete");
        let parts: u64 = blobs.iter().filter(begun).map(|file| file.bytes).sum();
        let before = models.len();
        let main = fs::read_to_string(dir.join("refs/main")).map(|commit| commit.trim().to_owned());
        let all = commits(&dir);
        for commit in &all {
            let is_main = main.as_ref().map_or(all.len() == 1, |main| main == commit);
            let revision = (!is_main).then(|| commit.get(..12).unwrap_or(commit).to_owned());
            let id = ModelId { revision, ..id.clone() };
            list_snapshot(&id, &dir.join("snapshots").join(commit), reader, models);
        }
        // Parts of files count for the first model of the repository.
        match models.get_mut(before) {
            Some(first) => first.bytes += parts,
            None if parts > 0 => models.push(StoredModel {
                id: id.to_string(),
                path: dir,
                bytes: parts,
                incomplete: true,
                problem: Some(unfinished(id)),
                ..StoredModel::default()
            }),
            None => {}
        }
    }

    /// Removes a model from the cache: the whole repository for `org/name`, else one revision or one file of it.
    /// Returns the bytes that are free now.
    pub fn remove(&self, id: &ModelId) -> Result<u64> {
        let dir = self.cache.join(id.folder());
        let absent = || Error::config(format!("{id} is not on disk, so nothing was removed"));
        let place = dir.display();
        match fs::symlink_metadata(&dir) {
            Err(_) => return Err(Error::config(format!("{id} is not on disk, so nothing was removed: {place}"))),
            Ok(meta) if !meta.is_dir() => {
                return Err(Error::config(format!("it is a link, so nothing was removed; remove it by hand: {place}")));
            }
            Ok(_) => {}
        }
        let before = occupied(&dir);
        if id.revision.is_some() || id.file.is_some() {
            let snapshot = self.snapshot(id).ok_or_else(absent)?;
            match &id.file {
                None => remove(&snapshot)?,
                Some(file) if snapshot.join(file).symlink_metadata().is_ok() => remove(&snapshot.join(file))?,
                Some(_) => return Err(absent()),
            }
            if names(&snapshot).is_empty() && snapshot.is_dir() {
                remove(&snapshot)?;
            }
            sweep(&dir)?;
        }
        if id.revision.is_none() && id.file.is_none() || commits(&dir).is_empty() {
            remove(&dir)?;
            remove(&self.cache.join(".locks").join(id.folder()))?;
        }
        Ok(before - occupied(&dir).min(before))
    }
}

/// Why a snapshot with a `config.json` is incomplete.
fn incomplete(snapshot: &Path) -> Option<String> {
    let file = |name: &str| snapshot.join(name).is_file();
    // With pickles alone it is complete; opening it says that they cannot be used.
    if !file("model.safetensors") && !file(crate::model_store::choose::INDEX) && !file("pytorch_model.bin") {
        return Some("model.safetensors is missing".to_owned());
    }
    model_card::check_shards(snapshot).err().map(|err| err.to_string())
}

fn unfinished(id: &ModelId) -> String {
    format!("it is incomplete; adamix models download {id} goes on where it stopped")
}

/// One entry for a directory in Hugging Face layout, and one for each GGUF file.
fn list_snapshot(id: &ModelId, snapshot: &Path, reader: &dyn ModelReader, models: &mut Vec<StoredModel>) {
    let commit = snapshot.file_name().unwrap_or_default().to_string_lossy();
    let mut files = files(snapshot);
    let mut add = |id: ModelId, path: PathBuf, files: Vec<StoredFile>, model: StoredModel| {
        let (commit, bytes) = (commit.clone().into_owned(), files.iter().map(|file| file.bytes).sum());
        models.push(StoredModel { id: id.to_string(), commit, path, bytes, files, ..model });
    };
    let ggufs: Vec<StoredFile> = files.extract_if(.., |file| is_gguf_name(&file.name)).collect();
    if files.iter().any(|file| file.name == "config.json") && (ggufs.is_empty() || incomplete(snapshot).is_none()) {
        let mut model = StoredModel { incomplete: incomplete(snapshot).is_some(), ..StoredModel::default() };
        let problem = model_card::read_dir(snapshot, reader, &mut model).err().map(|err| err.to_string());
        model.problem = if model.incomplete { Some(unfinished(id)) } else { problem };
        add(id.clone(), snapshot.to_owned(), files, model);
    } else if ggufs.is_empty() && !files.is_empty() {
        // A README alone, or a kind of model that has no config.json.
        let problem = Some("it has neither config.json nor a GGUF file".to_owned());
        add(id.clone(), snapshot.to_owned(), files, StoredModel { problem, ..StoredModel::default() });
    }
    for file in ggufs {
        let path = snapshot.join(&file.name);
        let id = ModelId { file: Some(file.name.clone()), ..id.clone() };
        let mut model = StoredModel::default();
        model.problem = model_card::read_gguf(&path, reader, &mut model).err().map(|err| err.to_string());
        add(id, path, vec![file], model);
    }
}

/// All files below a directory that are there, by name.
fn files(dir: &Path) -> Vec<StoredFile> {
    let mut found = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(below) = waiting.pop() {
        for name in names(&dir.join(&below)) {
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            let path = dir.join(&name);
            match size(&path) {
                Some(bytes) => found.push(StoredFile { name, bytes }),
                // A link to a directory would lead out of the snapshot.
                None if path.is_dir() && !path.is_symlink() => waiting.push(name),
                None => {}
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn commits(dir: &Path) -> Vec<String> {
    let mut commits = names(&dir.join("snapshots"));
    commits.retain(|name| dir.join("snapshots").join(name).is_dir());
    commits
}

/// Names in a directory, in order; a directory that cannot be read is empty.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Bytes below a directory, links not followed.
fn occupied(dir: &Path) -> u64 {
    let one = |name: &String| {
        let path = dir.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => occupied(&path),
            Ok(meta) if meta.is_file() => meta.len(),
            _ => 0,
        }
    };
    names(dir).iter().map(one).sum()
}

/// Removes names of snapshots that are gone, and blobs that no snapshot points to.
fn sweep(dir: &Path) -> Result<()> {
    let left = commits(dir);
    for file in files(&dir.join("refs")) {
        let path = dir.join("refs").join(&file.name);
        let commit = fs::read_to_string(&path).unwrap_or_default();
        if !left.iter().any(|other| other == commit.trim()) {
            remove(&path)?;
        }
    }
    let mut used = BTreeSet::new();
    for commit in &left {
        let snapshot = dir.join("snapshots").join(commit);
        let target =
            |file: &StoredFile| Some(fs::canonicalize(snapshot.join(&file.name)).ok()?.file_name()?.to_owned());
        used.extend(files(&snapshot).iter().filter_map(target));
    }
    let blobs = dir.join("blobs");
    for name in names(&blobs).into_iter().filter(|name| !used.contains(std::ffi::OsStr::new(name))) {
        remove(&blobs.join(name))?;
    }
    Ok(())
}
