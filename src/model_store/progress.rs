//! How far a download is, and who follows it.

use serde::Serialize;
use std::path::Path;
use std::time::Duration;

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
    /// Bytes a second over the last seconds; 0: not known. [`download`](super::download()) leaves it 0.
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

/// Follows a download, and can cancel it.
pub trait Watcher {
    /// Called after every read with where the download stands; false cancels it.
    fn report(&mut self, progress: &DownloadProgress) -> bool;
    /// Waits for this time; false cancels the download.
    fn wait(&mut self, time: Duration) -> bool;
    /// Free bytes on the disk where this path is or will be; nothing where that is not known.
    fn free_space(&self, path: &Path) -> Option<u64>;
}
