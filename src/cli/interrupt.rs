//! Ctrl-C and SIGTERM: the first asks the training to write a checkpoint and stop, the second ends the program at once.

use crate::error::{Error, Result};
use crate::train::control::Control;
use std::sync::atomic::{AtomicUsize, Ordering};

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// A control that a signal stops. To be called once.
pub fn watched_control() -> Result<Control> {
    let control = Control::default();
    let stopped = control.clone();
    ctrlc::set_handler(move || on_signal(&stopped))
        .map_err(|err| Error::internal(format!("signals cannot be caught: {err}")))?;
    Ok(control)
}

#[expect(clippy::exit, reason = "the second signal means now; the run directory survives that by design")]
fn on_signal(control: &Control) {
    if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
        std::process::exit(130);
    }
    super::out::note("interrupted: writing a checkpoint (once more to end at once)");
    control.stop("interrupted");
}
