//! Progress of a job whose parts are known beforehand, and its cancellation.

use crate::error::{Error, Result};
use std::cell::Cell;

/// Adds up finished parts, in any unit, and reports the share done.
pub(crate) struct Progress<'a> {
    go_on: &'a dyn Fn(f64) -> bool,
    done: Cell<f64>,
    all: f64,
}

impl<'a> Progress<'a> {
    /// A job of `all` units. `go_on` gets the share done, 0 to 1; it returns false to cancel.
    pub fn new(all: f64, go_on: &'a dyn Fn(f64) -> bool) -> Self {
        Self { go_on, done: Cell::new(0.0), all: all.max(f64::MIN_POSITIVE) }
    }

    /// `units` more are done. Fails with [`Error::cancelled`] where the job was cancelled.
    pub fn step(&self, units: f64) -> Result<()> {
        self.done.set(self.done.get() + units);
        if (self.go_on)((self.done.get() / self.all).min(1.0)) { Ok(()) } else { Err(Error::cancelled()) }
    }

    /// The callback of a part of `units` that reports its own share; call [`Progress::step`] when the part is done.
    pub fn within(&self, units: f64) -> impl Fn(f64) -> bool + '_ {
        move |share| (self.go_on)(((self.done.get() + share * units) / self.all).min(1.0))
    }
}
