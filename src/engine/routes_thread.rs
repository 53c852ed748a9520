//! The thread that reads recorded draws and computes from them, beside the training thread.

use crate::engine::outbox::Outbox;
use crate::error::{Error, Result};
use crate::protocol::*;
use crate::workflow::timeline;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interval at which events that found no room are sent again.
const RETRY: Duration = Duration::from_millis(20);

/// State of the thread.
pub(super) struct RoutesThread {
    pub(super) outbox: Outbox,
    /// The window is gone.
    pub(super) end: Arc<AtomicBool>,
}

impl RoutesThread {
    /// The thread's body; ends when all senders are dropped.
    pub(super) fn run(&self, asks: &Receiver<(RequestId, RoutesAsk)>) {
        loop {
            let received = match self.outbox.flush() {
                true => asks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => asks.recv_timeout(RETRY),
            };
            match received {
                Ok((req, ask)) => {
                    self.outbox.accept(req);
                    let answer = catch_unwind(AssertUnwindSafe(|| self.answer(&ask)));
                    let failed = || Err(Error::internal("reading recorded draws has failed; this is a bug"));
                    let answer = answer.unwrap_or_else(|_| failed());
                    self.outbox.answer(req, answer.map(|answer| Outcome::Routes(Box::new(answer))));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&self, ask: &RoutesAsk) -> Result<RoutesAnswer> {
        Ok(match ask {
            RoutesAsk::Read(plan) => RoutesAnswer::Part(timeline::read(plan)?),
            RoutesAsk::Fit { timeline, after } => {
                RoutesAnswer::Fit(timeline.fit(*after, &|| !self.end.load(Ordering::SeqCst))?)
            }
        })
    }
}
