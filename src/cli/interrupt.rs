//! Ctrl-C and SIGTERM: the first asks the work to come to a good end, the second ends the program at once.

use crate::error::{Error, Result};
use crate::train::control::Control;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a training says.
pub const CHECKPOINT: &str = "interrupted: writing a checkpoint (once more to end at once)";

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// A control that a signal stops, with these words on stderr. To be called once.
pub fn watched_control(words: &'static str) -> Result<Control> {
    let control = Control::default();
    let stopped = control.clone();
    ctrlc::set_handler(move || on_signal(&stopped, words))
        .map_err(|err| Error::internal(format!("signals cannot be caught: {err}")))?;
    Ok(control)
}

#[expect(clippy::exit, reason = "the second signal means now; what is on disk survives that by design")]
fn on_signal(control: &Control, words: &str) {
    if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
        std::process::exit(130);
    }
    super::out::note(words);
    control.stop("interrupted");
}
