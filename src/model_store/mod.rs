//! Models by name: listing and removing what is in the Hugging Face cache, and downloading into it.
//!
//! `org/name` is a repository of the hub. Its files are where all Hugging Face tools keep them:
//! `models--org--name/{blobs,refs,snapshots/<commit>}` in the cache directory ([`Hub`] says which). Opening a model
//! ([`locate()`]) only reads this cache; the network is used by [`download()`] alone.
//!
//! | module | what |
//! |---|---|
//! | [`hub`] | cache directory, server and token, from the environment variables of Hugging Face's own tools |
//! | [`cache`] | from a name to a directory; the models in the cache; removing them |
//! | [`model_card`] | what a snapshot holds, and whether it can be trained here |
//! | [`choose`] | which files of a repository are needed |
//! | [`client`] | HTTP: time limits, redirects, where the token may go |
//! | [`download`](mod@download), `fetch` | a whole model; one file, resumed and verified |
//! | [`verify`] | SHA-256 of large files, Git's SHA-1 of small ones |
//! | [`error`] | failures, and what the user can do about them |
//!
//! Nothing that a server sends is used unchecked: names of files must stay inside their directory, a file must have
//! the announced size and checksum before it gets its name, lists and redirects are bounded.

pub mod cache;
pub mod choose;
pub mod client;
pub mod download;
pub mod error;
mod fetch;
pub mod hub;
mod listing;
pub mod model_card;
pub mod verify;

pub use crate::config::model_id::ModelId;
pub use cache::{CacheInfo, locate, pinned};
pub use client::Client;
pub use download::{DownloadProgress, Downloaded, Stage, Watcher, download, download_with};
pub(crate) use fetch::cancelled;
pub use hub::Hub;
pub use model_card::{ModelKind, StoredModel};
