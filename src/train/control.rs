//! Stop, pause, single step, pace and law: what any thread may set and the training loop obeys between steps.

use crate::config::RoutingLaw;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A shared handle; clones act on the same run.
#[derive(Clone, Debug, Default)]
pub struct Control {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    stop: AtomicBool,
    reason: Mutex<String>,
    pause: AtomicBool,
    steps: AtomicU64,
    /// Nanoseconds from one step to the next, at least.
    interval: AtomicU64,
    /// The law that was asked for and not taken yet.
    law: Mutex<Option<RoutingLaw>>,
    change: (Mutex<()>, Condvar),
}

impl Control {
    /// Asks the run to stop after writing a checkpoint; the first reason counts.
    pub fn stop(&self, reason: &str) {
        let mut held = self.inner.reason.lock();
        if !self.inner.stop.load(Ordering::SeqCst) {
            reason.clone_into(&mut held);
            self.inner.stop.store(true, Ordering::SeqCst);
        }
        self.wake();
    }
    /// Whether somebody asked to stop.
    pub fn stopped(&self) -> bool {
        self.inner.stop.load(Ordering::SeqCst)
    }
    /// Why, once stopped.
    pub fn reason(&self) -> String {
        self.inner.reason.lock().clone()
    }
    /// Pauses the run before its next step.
    pub fn pause(&self) {
        self.inner.pause.store(true, Ordering::SeqCst);
    }
    /// Ends the pause. Single steps that were asked for and not taken yet belong to it: the next pause has none.
    pub fn resume(&self) {
        self.inner.steps.store(0, Ordering::SeqCst);
        self.inner.pause.store(false, Ordering::SeqCst);
        self.wake();
    }
    /// Lets a paused run make one more step.
    pub fn step(&self) {
        self.inner.steps.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }
    /// Whether a pause is asked for.
    pub fn paused(&self) -> bool {
        self.inner.pause.load(Ordering::SeqCst)
    }
    /// Takes one asked-for single step, if there is one.
    pub fn take_step(&self) -> bool {
        self.inner.steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }
    /// Whether a single step was asked for and not taken yet.
    pub fn step_asked(&self) -> bool {
        self.inner.steps.load(Ordering::SeqCst) > 0
    }
    /// At most this many steps a second from now on; 0: as many as possible.
    pub fn set_pace(&self, steps_per_second: u32) {
        let interval = 1_000_000_000u64.checked_div(u64::from(steps_per_second)).unwrap_or(0);
        self.inner.interval.store(interval, Ordering::SeqCst);
        self.wake();
    }
    /// Shortest time from the start of one step to that of the next.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.inner.interval.load(Ordering::SeqCst))
    }
    /// Draws by this law from the next step on; of several before that step the last counts.
    pub fn set_law(&self, law: RoutingLaw) {
        *self.inner.law.lock() = Some(law);
    }
    /// Takes the law that was asked for, if there is one.
    pub fn take_law(&self) -> Option<RoutingLaw> {
        self.inner.law.lock().take()
    }
    /// Waits until a flag changes or `at_most` has passed.
    pub fn wait(&self, at_most: Duration) {
        let (lock, change) = &self.inner.change;
        change.wait_for(&mut lock.lock(), at_most);
    }
    fn wake(&self) {
        self.inner.change.1.notify_all();
    }
}
