//! Models by name: what lies in the Hugging Face cache, and fetching what does not.
//!
//! `org/name` stands for a repository of the hub. Its files lie where every other program of this world looks for
//! them: `models--org--name/{blobs,refs,snapshots/<commit>}` in the cache ([`Hub`] says where that is). Opening a
//! model ([`locate()`]) only ever reads this cache; the network is used by [`download()`] alone, when it is asked for.
//!
//! | module | what |
//! |---|---|
//! | [`hub`] | where the cache is, which server, with which token: the environment variables of the hub's own tools |
//! | [`id`] | `org/name@revision:file.gguf` |
//! | [`cache`] | from a name to a directory; what is there; removing it |
//! | [`model_card`] | what a snapshot holds, and whether it can be trained here |
//! | [`choose`] | which files of a repository are needed |
//! | [`download`](mod@download), [`fetch`] | the whole model; one file, resumed and verified |
//! | [`verify`] | SHA-256 of large files, Git's SHA-1 of small ones |
//! | [`error`] | what went wrong on the way, in words that say what to do |
//!
//! The transfer itself is the `hf-hub` crate's. Around it lie what it leaves to its user: the variables it does not
//! read, choosing files, disk space, cancelling within a file, patience with a bad connection, and the check of what
//! arrived *before* it gets its final name.

pub mod cache;
pub mod choose;
pub mod download;
pub mod error;
pub mod fetch;
pub mod hub;
pub mod id;
mod listing;
pub mod model_card;
pub mod verify;

pub use cache::{Shelf, base_name, locate, pinned};
pub use download::{DownloadProgress, Downloaded, Stage, Watcher, download};
pub use hub::Hub;
pub use id::ModelId;
pub use model_card::{ModelKind, StoredModel};
