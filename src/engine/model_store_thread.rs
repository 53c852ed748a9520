//! The thread that looks after models on disk: lists them, removes them, and watches one download at a time.
//!
//! It never computes and never waits for the training thread, so that training goes on while something is fetched.

use crate::engine::outbox::Link;
use crate::engine::transfer::{News, Transfer};
use crate::error::{Error, Result};
use crate::model_store::{Hub, ModelId};
use crate::protocol::*;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How often it looks whether a download was given up, or an event found no room.
const LOOK: Duration = Duration::from_millis(100);

/// A download in work.
struct Active {
    req: RequestId,
    id: ModelId,
    transfer: Transfer,
}

/// Everything the thread owns.
pub(crate) struct Storekeeper<'a> {
    link: &'a Link,
    hub: Hub,
    active: Option<Active>,
    waiting: VecDeque<(RequestId, ModelId)>,
}

impl Storekeeper<'_> {
    /// The thread's body: until nobody can ask any more.
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
        let mut keeper = Storekeeper { link: &link, hub, active: None, waiting: VecDeque::new() };
        loop {
            let busy = keeper.active.is_some() || !link.flush();
            let received =
                if busy { asks.recv_timeout(LOOK) } else { asks.recv().map_err(|_| RecvTimeoutError::Disconnected) };
            match received {
                Ok((req, ask)) => keeper.take(req, ask),
                Err(RecvTimeoutError::Timeout) => {}
                // Dropping the transfer ends it; what it has fetched stays.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            keeper.hear_cancellations(asks);
            keeper.look();
        }
    }

    fn take(&mut self, req: RequestId, ask: StoreAsk) {
        self.link.open(req);
        let done = catch_unwind(AssertUnwindSafe(|| self.answer(req, ask)));
        match done {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(answer))) => self.link.answer(req, Ok(Outcome::Store(Box::new(answer)))),
            Ok(Err(err)) => self.link.answer(req, Err(err)),
            Err(_) => self.link.answer(req, Err(Error::internal("looking after models has failed; this is a bug"))),
        }
    }

    /// The answer, where there is one at once.
    fn answer(&mut self, req: RequestId, ask: StoreAsk) -> Result<Option<StoreAnswer>> {
        match ask {
            StoreAsk::List => Ok(Some(StoreAnswer::Shelf(self.hub.shelf()))),
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
            match Transfer::start(self.hub.clone(), id.clone()) {
                Ok(transfer) => self.active = Some(Active { req, id, transfer }),
                Err(err) => self.link.answer(req, Err(err)),
            }
        }
    }

    fn hear_cancellations(&mut self, asks: &Receiver<(RequestId, StoreAsk)>) {
        let given_up = std::mem::take(&mut *self.link.shared.cancelled_downloads.lock());
        // What is given up was asked for before: it may still lie in the lane.
        while let Ok((req, ask)) = asks.try_recv() {
            self.take(req, ask);
        }
        for req in given_up {
            if let Some(active) = self.active.as_mut().filter(|active| active.req == req) {
                active.transfer.stop();
            }
            if let Some(at) = self.waiting.iter().position(|(other, _)| *other == req) {
                self.waiting.remove(at);
                self.link.answer(req, Err(Error::cancelled()));
            }
        }
    }

    /// Passes on what the download has to say.
    fn look(&mut self) {
        while let Some(active) = &mut self.active {
            match active.transfer.next(Duration::ZERO) {
                None => return,
                Some(News::Progress(progress)) => self.link.say(Event::Downloading { req: active.req, progress }),
                Some(News::Ended(result)) => {
                    let outcome = result.map(|done| Outcome::Store(Box::new(StoreAnswer::Downloaded(done))));
                    self.link.answer(active.req, outcome);
                    self.active = None;
                    self.start_next();
                }
            }
        }
    }
}
