//! The model-store thread: lists and removes models on disk, and runs one download at a time, beside the training thread.

use crate::engine::outbox::Outbox;
use crate::engine::transfer::{Transfer, TransferEvent};
use crate::error::{Error, Result};
use crate::model::HeaderReader;
use crate::model_store::{Hub, ModelId};
use crate::protocol::*;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Interval at which cancellations and events without room are checked.
const POLL: Duration = Duration::from_millis(100);

/// A download in progress.
struct ActiveDownload {
    req: RequestId,
    id: ModelId,
    transfer: Transfer,
}

/// State of the thread.
pub(crate) struct ModelStoreThread<'a> {
    outbox: &'a Outbox,
    hub: Hub,
    active: Option<ActiveDownload>,
    waiting: VecDeque<(RequestId, ModelId)>,
}

impl ModelStoreThread<'_> {
    /// The thread's body; ends when all senders are dropped.
    #[expect(clippy::needless_pass_by_value, reason = "the thread owns its outbox")]
    pub(crate) fn run(outbox: Outbox, asks: &Receiver<(RequestId, StoreAsk)>, hub: Result<Hub>) {
        let hub = match hub {
            Ok(hub) => hub,
            Err(err) => {
                let why = err.to_string();
                for (req, _) in asks {
                    outbox.accept(req);
                    outbox.answer(req, Err(Error::config(why.clone())));
                }
                return;
            }
        };
        let mut thread = ModelStoreThread { outbox: &outbox, hub, active: None, waiting: VecDeque::new() };
        loop {
            let busy = thread.active.is_some() || !outbox.flush();
            let received =
                if busy { asks.recv_timeout(POLL) } else { asks.recv().map_err(|_| RecvTimeoutError::Disconnected) };
            match received {
                Ok((req, ask)) => thread.take(req, ask),
                Err(RecvTimeoutError::Timeout) => {}
                // Dropping the transfer ends it; what it has downloaded is kept.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            thread.cancel_downloads(asks);
            thread.forward_progress();
        }
    }

    fn take(&mut self, req: RequestId, ask: StoreAsk) {
        self.outbox.accept(req);
        let done = catch_unwind(AssertUnwindSafe(|| self.answer(req, ask)));
        match done {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(answer))) => self.outbox.answer(req, Ok(Outcome::Store(Box::new(answer)))),
            Ok(Err(err)) => self.outbox.answer(req, Err(err)),
            Err(_) => self.outbox.answer(req, Err(Error::internal("the model store has failed; this is a bug"))),
        }
    }

    /// The answer; `None` for a download, which is answered when it ends.
    fn answer(&mut self, req: RequestId, ask: StoreAsk) -> Result<Option<StoreAnswer>> {
        match ask {
            StoreAsk::List => Ok(Some(StoreAnswer::Cached(self.hub.scan(&HeaderReader)))),
            StoreAsk::Download(name) => {
                let id = ModelId::parse(&name)?;
                let known = self.active.iter().map(|active| &active.id).chain(self.waiting.iter().map(|(_, id)| id));
                if known.into_iter().any(|other| *other == id) {
                    return Err(Error::config(format!("{id} is being downloaded already")));
                }
                self.waiting.push_back((req, id));
                self.start_next();
                Ok(None)
            }
            StoreAsk::Remove(name) => {
                let id = ModelId::parse(&name)?;
                if self.active.as_ref().is_some_and(|active| active.id.repo == id.repo) {
                    return Err(Error::config(format!("{} is being downloaded; cancel that first", id.repo)));
                }
                let bytes = self.hub.remove(&id)?;
                Ok(Some(StoreAnswer::Removed { id: id.to_string(), bytes }))
            }
        }
    }

    fn start_next(&mut self) {
        while self.active.is_none() {
            let Some((req, id)) = self.waiting.pop_front() else { return };
            match Transfer::start(&self.hub, id.clone()) {
                Ok(transfer) => self.active = Some(ActiveDownload { req, id, transfer }),
                Err(err) => self.outbox.answer(req, Err(err)),
            }
        }
    }

    fn cancel_downloads(&mut self, asks: &Receiver<(RequestId, StoreAsk)>) {
        let cancelled_requests = std::mem::take(&mut *self.outbox.shared.cancelled_downloads.lock());
        // A cancelled download may still wait in the channel.
        while let Ok((req, ask)) = asks.try_recv() {
            self.take(req, ask);
        }
        for req in cancelled_requests {
            if let Some(active) = self.active.as_mut().filter(|active| active.req == req) {
                active.transfer.stop();
            }
            if let Some(at) = self.waiting.iter().position(|(other, _)| *other == req) {
                self.waiting.remove(at);
                self.outbox.answer(req, Err(Error::cancelled()));
            }
        }
    }

    /// Forwards the progress and the end of the download.
    fn forward_progress(&mut self) {
        while let Some(active) = &mut self.active {
            match active.transfer.next(Duration::ZERO) {
                None => return,
                Some(TransferEvent::Progress(progress)) => {
                    self.outbox.send(Event::Downloading(active.req, progress));
                }
                Some(TransferEvent::Ended(result)) => {
                    let outcome = result.map(|done| Outcome::Store(Box::new(StoreAnswer::Downloaded(done))));
                    self.outbox.answer(active.req, outcome);
                    self.active = None;
                    self.start_next();
                }
            }
        }
    }
}
