//! The thread of the model store: lists and removes cached models, and runs one download at a time.
//!
//! It never waits for the training thread, so training continues during a download.

use crate::engine::outbox::Link;
use crate::engine::transfer::{Transfer, TransferEvent};
use crate::error::{Error, Result};
use crate::model_store::{Hub, ModelId};
use crate::protocol::*;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Interval at which cancellations and waiting events are checked.
const POLL: Duration = Duration::from_millis(100);

/// A download in work.
struct Active {
    req: RequestId,
    id: ModelId,
    transfer: Transfer,
}

/// Everything the thread owns.
pub(crate) struct ModelStoreThread<'a> {
    link: &'a Link,
    hub: Hub,
    active: Option<Active>,
    waiting: VecDeque<(RequestId, ModelId)>,
}

impl ModelStoreThread<'_> {
    /// The thread's body: until the senders are gone.
    #[expect(clippy::needless_pass_by_value, reason = "the thread owns its link")]
    pub(crate) fn run(link: Link, asks: &Receiver<(RequestId, StoreAsk)>, hub: Result<Hub>) {
        let hub = match hub {
            Ok(hub) => hub,
            Err(err) => {
                let why = err.to_string();
                for (req, _) in asks {
                    link.open(req);
                    link.answer(req, Err(Error::config(why.clone())));
                }
                return;
            }
        };
        let mut store = ModelStoreThread { link: &link, hub, active: None, waiting: VecDeque::new() };
        loop {
            let busy = store.active.is_some() || !link.flush();
            let received =
                if busy { asks.recv_timeout(POLL) } else { asks.recv().map_err(|_| RecvTimeoutError::Disconnected) };
            match received {
                Ok((req, ask)) => store.take(req, ask),
                Err(RecvTimeoutError::Timeout) => {}
                // Dropping the transfer cancels it; what was fetched is kept.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            store.take_cancellations(asks);
            store.forward_events();
        }
    }

    fn take(&mut self, req: RequestId, ask: StoreAsk) {
        self.link.open(req);
        let done = catch_unwind(AssertUnwindSafe(|| self.answer(req, ask)));
        match done {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(answer))) => self.link.answer(req, Ok(Outcome::Store(Box::new(answer)))),
            Ok(Err(err)) => self.link.answer(req, Err(err)),
            Err(_) => self.link.answer(req, Err(Error::internal("the model store has panicked; this is a bug"))),
        }
    }

    /// The answer; nothing where it comes later.
    fn answer(&mut self, req: RequestId, ask: StoreAsk) -> Result<Option<StoreAnswer>> {
        match ask {
            StoreAsk::List => Ok(Some(StoreAnswer::Cached(self.hub.scan()))),
            StoreAsk::Download(name) => {
                let id = ModelId::parse(&name)?;
                let known = self.active.iter().map(|active| &active.id).chain(self.waiting.iter().map(|(_, id)| id));
                if known.into_iter().any(|other| *other == id) {
                    return Err(Error::config(format!("{id} is being fetched already")));
                }
                self.waiting.push_back((req, id));
                self.start_next();
                Ok(None)
            }
            StoreAsk::Remove(name) => {
                let id = ModelId::parse(&name)?;
                if self.active.as_ref().is_some_and(|active| active.id.repo == id.repo) {
                    return Err(Error::config(format!("{} is being fetched; cancel that first", id.repo)));
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
                Ok(transfer) => self.active = Some(Active { req, id, transfer }),
                Err(err) => self.link.answer(req, Err(err)),
            }
        }
    }

    fn take_cancellations(&mut self, asks: &Receiver<(RequestId, StoreAsk)>) {
        let cancelled_requests = std::mem::take(&mut *self.link.shared.cancelled_downloads.lock());
        // A cancelled download may still be waiting in the channel.
        while let Ok((req, ask)) = asks.try_recv() {
            self.take(req, ask);
        }
        for req in cancelled_requests {
            if let Some(active) = self.active.as_mut().filter(|active| active.req == req) {
                active.transfer.stop();
            }
            if let Some(at) = self.waiting.iter().position(|(other, _)| *other == req) {
                self.waiting.remove(at);
                self.link.answer(req, Err(Error::cancelled()));
            }
        }
    }

    /// Passes on the events of the download.
    fn forward_events(&mut self) {
        while let Some(active) = &mut self.active {
            match active.transfer.next(Duration::ZERO) {
                None => return,
                Some(TransferEvent::Progress(progress)) => {
                    self.link.say(Event::Downloading { req: active.req, progress })
                }
                Some(TransferEvent::Ended(result)) => {
                    let outcome = result.map(|done| Outcome::Store(Box::new(StoreAnswer::Downloaded(done))));
                    self.link.answer(active.req, outcome);
                    self.active = None;
                    self.start_next();
                }
            }
        }
    }
}
