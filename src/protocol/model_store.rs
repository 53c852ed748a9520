//! Queries about models on disk and their answers.

pub use crate::model_store::model_card::StoredFile;
pub use crate::model_store::{CacheInfo, DownloadProgress, Downloaded, ModelKind, Stage, StoredModel};

/// A query about models on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAsk {
    /// List the models: [`StoreAnswer::Cached`].
    List,
    /// Download a model by its name; reports [`Event::Downloading`](crate::protocol::Event::Downloading) and ends with
    /// [`StoreAnswer::Downloaded`]. One download runs at a time, the next ones wait.
    Download(String),
    /// Permanently remove a model by its name: [`StoreAnswer::Removed`].
    Remove(String),
}

/// The answer to a [`StoreAsk`].
#[derive(Clone, Debug, PartialEq)]
pub enum StoreAnswer {
    /// To `List`.
    Cached(CacheInfo),
    /// To `Download`.
    Downloaded(Downloaded),
    /// To `Remove`.
    Removed {
        /// The model's name.
        id: String,
        /// Freed bytes.
        bytes: u64,
    },
}
