//! The threads of the workbench: the training thread, the model-store thread, and the channels to the window.
//!
//! Neither side ever waits for the other; [`crate::protocol`] says how.
//!
//! | module | what |
//! |---|---|
//! | [`handle`] | the window's end: starts the threads, sends commands, drains events |
//! | `worker`, `query_service`, `publisher`, `outbox` | the training thread: runs, answers to queries, reports, the sender |
//! | `model_store_thread`, [`transfer`] | the thread that lists and removes models on disk, and one download |
//! | [`mailbox`] | bounded, coalescing telemetry |

pub mod handle;
pub mod mailbox;
mod model_store_thread;
mod outbox;
mod profile_collector;
mod publisher;
mod query_service;
pub mod transfer;
mod worker;

pub use handle::EngineHandle;
