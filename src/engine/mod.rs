//! Between the window and the training: messages, the training thread, snapshots.
//!
//! Neither side ever waits for the other; [`protocol`] says how. [`fake`] is an engine without a model, for tests and demonstrations.
//!
//! | module | what |
//! |---|---|
//! | [`protocol`], [`questions`], [`news`], [`snapshots`], [`step_profile`], [`store`], [`studies`] | the messages: plain data |
//! | [`handle`] | the window's end: starts the thread, sends, drains |
//! | `worker`, `desk`, `publisher`, `link` | the thread: questions, training, what it tells |
//! | `storekeeper`, [`transfer`] | the thread that looks after models on disk, and one download |
//! | [`mailbox`] | lanes that forget on purpose |
//! | [`snapshot`], [`runs`] | weights, routes and run directories as numbers to look at |
//! | [`mod@prepare`], [`run`], [`opened`], [`exports`], [`averages`], [`rounding`], [`written`], [`speaker`], [`plan`], [`estimate`], [`machine`], [`memory`], [`device`], [`selftest`], [`mod@bench`] | without threads: shared with the command line |

pub mod averages;
pub mod bench;
mod bundled;
mod desk;
pub mod device;
pub mod estimate;
pub mod exports;
pub mod fake;
pub mod fake_data;
pub mod fake_store;
pub mod fake_studies;
pub mod fake_texts;
pub mod handle;
pub mod imported;
mod link;
mod lm_exports;
mod lora_exports;
pub mod machine;
pub mod mailbox;
pub mod memory;
mod meter;
pub mod news;
pub mod opened;
pub mod plan;
mod play;
pub mod playground;
pub mod prepare;
mod previews;
pub mod protocol;
mod publisher;
pub mod questions;
pub mod rounding;
pub mod run;
pub mod runs;
pub mod selftest;
pub mod snapshot;
pub mod snapshots;
pub mod speaker;
pub mod step_profile;
pub mod store;
mod storekeeper;
pub mod studies;
pub mod transfer;
mod whole;
mod worker;
pub mod written;

pub use handle::EngineHandle;
