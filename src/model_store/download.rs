//! A whole model: the list of its files, room for them, one after the other, and at the end the name that points to it.

use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::model_store::choose;
use crate::model_store::choose::Choice;
use crate::model_store::fetch::{Job, patiently};
use crate::model_store::hub::Hub;
use crate::model_store::id::{ModelId, is_commit};
use crate::model_store::listing;
use crate::model_store::listing::{Listing, RemoteFile};
use crate::model_store::model_card;
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Disk space left over for everybody else.
const SPARE: u64 = 64 << 20;

/// What is being done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The hub is asked for the list of files.
    #[default]
    Asking,
    /// Bytes are coming.
    Fetching,
    /// What has come is compared with its checksum.
    Verifying,
    /// Something went wrong; it is tried again.
    Waiting {
        /// In so many seconds.
        seconds: u64,
        /// What went wrong.
        reason: String,
    },
}

/// How far a download is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DownloadProgress {
    /// What is being done.
    pub stage: Stage,
    /// The file, by its name in the repository.
    pub file: String,
    /// Its number, from 1.
    pub number: usize,
    /// Files in all.
    pub files: usize,
    /// Bytes of all files that are there.
    pub done: u64,
    /// Bytes of all files; 0: not known yet.
    pub total: u64,
    /// Bytes that have come over the network in this download.
    pub fetched: u64,
    /// Bytes a second over the last seconds; 0: not known. Filled in by whoever has a clock.
    pub speed: f64,
}

impl DownloadProgress {
    /// Share of the bytes that are there, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { (self.done as f64 / self.total as f64).min(1.0) }
    }

    /// Seconds until the rest is there at this speed.
    pub fn seconds_left(&self) -> Option<f64> {
        (self.speed > 0.0 && self.total > 0).then(|| self.total.saturating_sub(self.done) as f64 / self.speed)
    }
}

/// What a finished download has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Downloaded {
    /// The name under which it can be used.
    pub id: String,
    /// The snapshot directory, or the GGUF file.
    pub path: PathBuf,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// Whoever wants the download: hears about it, and can end it.
pub trait Watcher {
    /// How far it is, after every few kilobytes; false gives it up.
    fn told(&mut self, progress: &DownloadProgress) -> bool;
    /// Lets this time go by; false gives it up.
    fn wait(&mut self, time: Duration) -> bool;
    /// Free disk space where this path is or will be; nothing: unknown.
    fn free_space(&self, path: &Path) -> Option<u64>;
    /// A file of this name keeps others from fetching the same from now on.
    fn locked(&mut self, lock: &Path);
}

/// Fetches a model into the cache, or what is missing of it.
pub fn download(hub: &Hub, id: &ModelId, watcher: &mut dyn Watcher) -> Result<Downloaded> {
    if let Some(variable) = hub.offline {
        return Err(Error::config(format!(
            "{variable} is set, so nothing is fetched; unset it to download {id} (adamix models lists what is on disk)"
        )));
    }
    let api = api(hub)?;
    let mut progress = DownloadProgress::default();
    if !watcher.told(&progress) {
        return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
    }
    let named = Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision().to_owned());
    let repo = api.repo(named.clone());
    let Listing { commit, files } =
        patiently(&mut progress, watcher, |_, _| listing::list(hub, &repo, id).map_err(|trouble| (trouble, false)))?;
    let choice = choose::choose(id, &files)?;
    let pinned = Repo::with_revision(id.repo.clone(), RepoType::Model, commit.clone());
    let dir = hub.cache.join(id.folder());
    let job = Job { hub, id, api: &api, repo: api.repo(pinned), dir, commit };
    check_space(&job, &choice, watcher)?;
    let fetched = fetch_all(&job, &choice, &mut progress, watcher);
    let cache = Cache::new(hub.cache.clone()).repo(named);
    // The crate leaves a name for the commit itself, which says nothing.
    if !is_commit(id.revision()) {
        fs::remove_file(job.dir.join("refs").join(&job.commit)).ok();
    }
    fetched?;
    if !is_commit(id.revision()) {
        let refs = job.dir.join("refs");
        cache.create_ref(&job.commit).map_err(|err| Error::io("writing into the cache", &refs, err))?;
    }
    let gguf = choice.weights.first().filter(|_| choice.small.is_empty()).map(|file| file.name.clone());
    let path = gguf.as_ref().map_or_else(|| job.snapshot(), |file| job.pointer(file));
    let id = ModelId { file: gguf, ..id.clone() };
    Ok(Downloaded { id: id.to_string(), path, bytes: progress.done })
}

fn api(hub: &Hub) -> Result<Api> {
    let builder = ApiBuilder::from_cache(Cache::new(hub.cache.clone()));
    let builder = builder.with_endpoint(hub.endpoint.clone()).with_token(hub.token.clone()).with_progress(false);
    let builder = builder.with_retries(0).with_user_agent("adamix", env!("CARGO_PKG_VERSION"));
    builder.build().map_err(|err| Error::new(ErrorKind::Network, format!("no connection can be made: {err}")))
}

fn check_space(job: &Job<'_>, choice: &Choice, watcher: &dyn Watcher) -> Result<()> {
    let missing = |file: &RemoteFile| match job.is_there(file) {
        Some(_) => 0,
        None => file.bytes.unwrap_or(0).saturating_sub(job.part_bytes(file)),
    };
    let needed: u64 = choice.small.iter().chain(&choice.weights).map(missing).fold(0, u64::saturating_add);
    match watcher.free_space(&job.dir) {
        Some(free) if needed > 0 && free < needed.saturating_add(SPARE) => Err(Error::new(
            ErrorKind::Io,
            format!(
                "{} needs {} and the disk of the cache has {} left; free some space (adamix models remove NAME), or set \
                 HF_HUB_CACHE to a directory on a larger disk: {}",
                job.id.repo,
                format::bytes(needed),
                format::bytes(free),
                job.hub.cache.display()
            ),
        )),
        _ => Ok(()),
    }
}

fn fetch_all(job: &Job<'_>, choice: &Choice, progress: &mut DownloadProgress, watcher: &mut dyn Watcher) -> Result<()> {
    let all = || choice.small.iter().chain(&choice.weights);
    progress.files = all().count();
    progress.total = all().map(|file| file.bytes.unwrap_or(0)).fold(0, u64::saturating_add);
    for (number, file) in all().enumerate() {
        // What cannot be used is found out before the large files.
        if number == choice.small.len() && number > 0 {
            model_card::check_described(&job.snapshot()).map_err(|err| {
                err.context(format!("{} cannot be used here, so its weights were not fetched", job.id.repo))
            })?;
        }
        progress.number = number + 1;
        progress.stage = Stage::Fetching;
        job.fetch(file, progress, watcher)?;
    }
    model_card::check_shards(&job.snapshot())
}
