//! The threads of the workbench: the training thread, the model-store thread, the thread that reads recorded draws, the monitor of the computer, and the channels to the window.
//!
//! Neither side ever waits for the other; [`crate::protocol`] says how.

pub mod handle;
pub mod mailbox;
mod model_store_thread;
mod monitor_thread;
mod outbox;
mod profile_collector;
mod publisher;
mod query_service;
mod routes_thread;
pub mod transfer;
mod worker;

pub use handle::EngineHandle;
