//! A training in memory as it was after some steps: from the nearest checkpoint on, without writing anything.

use crate::artifact::recorder::RecordedStep;
use crate::artifact::{RunDir, checkpoint};
use crate::error::{Context as _, Error, Result};
use crate::protocol::studies::RebuildCost;
use crate::train::checkpoint::Place;
use crate::train::{NullObserver, Trainer};
use crate::workflow::prepare::{Prepared, prepare};
use crate::workflow::progress::Progress;
use crate::workflow::run::{placed, settled};

/// A training as it was, ready to make its next step.
pub struct Rebuilt {
    /// The training.
    pub trainer: Trainer,
    /// What it cost.
    pub cost: RebuildCost,
    /// What the user should know, in words.
    pub warnings: Vec<String>,
}

/// The training of a run after `done` steps, where the run was computed. Checkpoints that are damaged are passed over.
/// `go_on` gets the share done, 0 to 1; false cancels.
///
/// # Errors
///
/// Model, data or every checkpoint cannot be read; a step fails; it was cancelled.
pub fn after(dir: &RunDir, done: u64, go_on: &dyn Fn(f64) -> bool) -> Result<Rebuilt> {
    let mut warnings = Vec::new();
    let mut found = None;
    for step in checkpoint::list(dir)?.into_iter().rev().filter(|&step| step <= done) {
        match checkpoint::read(dir, step) {
            Ok(data) => {
                found = Some((step, data));
                break;
            }
            Err(err) => warnings.push(err.to_string()),
        }
    }
    let before = found.as_ref().and_then(|(_, data)| Place::of_checkpoint(data));
    let Prepared { config, subject, warnings: more } = prepare(&placed(dir.config(), before.as_ref(), None))?;
    let (config, note) = settled(&config, &subject);
    warnings.extend(more.into_iter().chain(note));
    let mut trainer = Trainer::new(config, subject)?;
    let mut from = 0;
    if let Some((step, data)) = found {
        trainer.restore(&data, None).with_context(|| format!("going on from checkpoint-{step}"))?;
        from = step;
    }
    if done > trainer.total_steps() {
        let total = trainer.total_steps();
        return Err(Error::config(format!("this run makes {total} steps; choose one of them")));
    }
    trainer.follow_laws(&RecordedStep::read(dir, done)?.laws);
    let cost = RebuildCost { from, steps: done - from };
    // Reading model and data counts as a step.
    let progress = Progress::new(cost.steps as f64 + 1.0, go_on);
    progress.step(1.0)?;
    for _ in 0..cost.steps {
        trainer.advance(&mut NullObserver)?;
        progress.step(1.0)?;
    }
    Ok(Rebuilt { trainer, cost, warnings })
}
