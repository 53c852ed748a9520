//! Progress of a job whose parts are known beforehand.

use crate::error::{Error, Result};
use std::cell::Cell;

/// Adds up parts, of any unit, to shares of the whole.
pub(crate) struct Meter<'a> {
    go_on: &'a dyn Fn(f64) -> bool,
    done: Cell<f64>,
    all: f64,
}

impl<'a> Meter<'a> {
    /// A job of so many units. `go_on` hears the share done, 0 to 1; false cancels.
    pub fn new(all: f64, go_on: &'a dyn Fn(f64) -> bool) -> Self {
        Self { go_on, done: Cell::new(0.0), all: all.max(f64::MIN_POSITIVE) }
    }

    /// So many units more are done; an error where somebody gave up.
    pub fn step(&self, units: f64) -> Result<()> {
        self.done.set(self.done.get() + units);
        if (self.go_on)((self.done.get() / self.all).min(1.0)) { Ok(()) } else { Err(Error::cancelled()) }
    }

    /// For a part of so many units that tells its own shares; call [`Meter::step`] when it is over.
    pub fn within(&self, units: f64) -> impl Fn(f64) -> bool + '_ {
        move |share| (self.go_on)(((self.done.get() + share * units) / self.all).min(1.0))
    }
}
