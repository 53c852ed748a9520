//! A model: the list of its files, a check of the disk space, one file after the other, at the end the ref.

use crate::config::model_id::{ModelId, is_commit};
use crate::error::{Error, Result};
use crate::model_store::choose;
use crate::model_store::client::Client;
use crate::model_store::fetch::{RepoDownload, Tracker};
use crate::model_store::listing::{self, Listing};
use crate::model_store::model_card::{self, ModelReader};
use crate::model_store::progress::{DownloadProgress, Stage, Watcher};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

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

/// Fetches a model into the cache, or what is missing of it.
/// Its `config.json` is shown to `reader` before any weights are fetched.
pub fn download(
    client: &Client,
    id: &ModelId,
    reader: &dyn ModelReader,
    watcher: &mut dyn Watcher,
) -> Result<Downloaded> {
    let hub = &client.hub;
    if let Some(variable) = hub.offline {
        return Err(Error::config(format!(
            "{variable} is set, so nothing is fetched; unset it to download {id} (adamix models lists what is on disk)"
        )));
    }
    let mut tracker = Tracker { progress: DownloadProgress::default(), watcher };
    tracker.report()?;
    let Listing { commit, files } = tracker.retry(|_| listing::list(client, id))?;
    let choice = choose::choose(id, &files)?;
    let repo = RepoDownload { client, id, dir: hub.cache.join(id.folder()), commit };
    let all = || choice.small.iter().chain(&choice.weights);
    let needed = all().map(|file| repo.missing(file)).fold(0, u64::saturating_add);
    repo.check_space(needed, &*tracker.watcher)?;
    tracker.progress.files = all().count();
    tracker.progress.total = all().map(|file| file.bytes.unwrap_or(0)).fold(0, u64::saturating_add);
    for (number, file) in all().enumerate() {
        // A model that cannot be used is refused before its large files are fetched.
        if number == choice.small.len() && number > 0 {
            model_card::check_config(&repo.snapshot(), reader).map_err(|err| {
                err.context(format!("{} cannot be used here, so its weights were not fetched", id.repo))
            })?;
        }
        tracker.progress.number = number + 1;
        tracker.progress.stage = Stage::Fetching;
        repo.fetch(file, &mut tracker)?;
    }
    model_card::check_shards(&repo.snapshot())?;
    if !is_commit(id.revision()) {
        let path = repo.dir.join("refs").join(id.revision());
        let written =
            fs::create_dir_all(path.parent().unwrap_or(&repo.dir)).and_then(|()| fs::write(&path, &repo.commit));
        written.map_err(|err| Error::io("writing into the cache", &path, err))?;
    }
    let gguf = choice.weights.first().filter(|_| choice.small.is_empty()).map(|file| file.name.clone());
    let path = gguf.as_ref().map_or_else(|| repo.snapshot(), |file| repo.pointer(file));
    let id = ModelId { file: gguf, ..id.clone() };
    Ok(Downloaded { id: id.to_string(), path, bytes: tracker.progress.done })
}
