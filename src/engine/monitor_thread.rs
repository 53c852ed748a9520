//! Samples how busy the computer is, once a second while the window shows it; otherwise the thread sleeps.

use crate::engine::outbox::Shared;
use crate::machine::monitor::Monitor;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// The thread's body: `wanted` says whether samples are wanted from now on; it ends when the window is gone.
#[expect(clippy::needless_pass_by_value, reason = "the thread owns its channels")]
pub(super) fn run(shared: Arc<Shared>, wanted: Receiver<bool>) {
    while let Ok(on) = wanted.recv() {
        if !on {
            continue;
        }
        let mut monitor = Monitor::new();
        loop {
            *shared.machine.lock() = Some(monitor.sample());
            shared.wake();
            match wanted.recv_timeout(INTERVAL) {
                Err(RecvTimeoutError::Timeout) | Ok(true) => {}
                Ok(false) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
