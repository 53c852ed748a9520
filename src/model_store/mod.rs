//! Models by name: listing and removing what is in the Hugging Face cache, and downloading into it.
//!
//! The files of a repository are where all Hugging Face tools keep them: `models--org--name/{blobs,refs,snapshots/<commit>}`
//! in the cache directory of a [`Hub`]. [`locate()`] only reads this cache; the network is used by [`download()`] alone.
//! Names, sizes and checksums that a server sends are checked; lists and redirects are bounded.

pub mod cache;
pub mod choose;
pub mod client;
pub mod download;
pub mod error;
mod fetch;
pub mod hub;
mod listing;
pub mod model_card;
mod progress;
pub mod verify;

pub use crate::config::model_id::ModelId;
pub use cache::{CacheInfo, locate, pinned};
pub use client::Client;
pub use download::{Downloaded, download};
pub(crate) use fetch::cancelled;
pub use hub::Hub;
pub use model_card::{ModelKind, ModelReader, StoredModel};
pub use progress::{DownloadProgress, Stage, Watcher};
