//! Models on disk, in the window's terms: what is asked of the thread that looks after them, and what it answers.

pub use crate::model_store::model_card::StoredFile;
pub use crate::model_store::{CacheInfo, DownloadProgress, Downloaded, ModelKind, Stage, StoredModel};

/// A question about models on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAsk {
    /// What is there: [`StoreAnswer::Cached`].
    List,
    /// Fetch a model by its name; reports [`Event::Downloading`](crate::protocol::Event::Downloading) and ends with
    /// [`StoreAnswer::Downloaded`]. One download runs at a time, the next ones wait.
    Download(String),
    /// Remove a model by its name, for good: [`StoreAnswer::Removed`].
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
        /// Bytes that are free now.
        bytes: u64,
    },
}
