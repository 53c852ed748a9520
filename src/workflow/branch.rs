//! A run that goes on from a checkpoint of another one with other settings: a branch.
//!
//! The new run directory begins with a copy of what the other run recorded up to that checkpoint, and of the checkpoint; it is
//! a whole run, and stays one when the other is deleted. Without any change it makes the bits that the other run made.

use crate::artifact::recorder::truncate_after;
use crate::artifact::run_label::RunLabel;
use crate::artifact::{RunDir, checkpoint, checkpoint_choice};
use crate::config::{RunConfig, branching};
use crate::error::{Context as _, Error, Result};
use crate::protocol::Checkpoint;
use std::fs;
use std::path::Path;

/// Makes the directory of a run that goes on from a checkpoint of `parent` with these settings; resuming it trains it. The
/// name in the settings is taken, or one that names the parent.
///
/// # Errors
///
/// A setting that shapes what was trained is other than in the parent; there is no such checkpoint, or it is damaged; a
/// file cannot be copied. Then nothing is left behind.
pub fn branch(parent: &RunDir, which: Checkpoint, config: &RunConfig) -> Result<RunDir> {
    let step = checkpoint_choice::resolve(parent, which)?.step;
    let changes = branching::changes(config, parent.config())?;
    branching::check(&changes, config, parent.config(), step)?;
    let data = checkpoint::read(parent, step)?;
    let mut config = config.clone();
    if config.name.is_empty() {
        config.name = format!("{}-from-{step}", parent.name());
    }
    let (run, lock) = RunDir::create(&config)?;
    let fill = || -> Result<()> {
        for (from, to) in
            [(parent.metrics(), run.metrics()), (parent.routes(), run.routes()), (parent.samples(), run.samples())]
        {
            copy(&from, &to)?;
        }
        truncate_after(&run, step)?;
        checkpoint::write(&run, step, &data)?;
        // The best weights so far may be those of an earlier checkpoint; where they are gone, resuming says so.
        if let Some(best) = data.best_step().filter(|best| *best != step)
            && let Ok(best_data) = checkpoint::read(parent, best)
        {
            checkpoint::write(&run, best, &best_data)?;
        }
        let mut edge = format!("from step {step}");
        if !changes.is_empty() {
            edge.push_str(&format!(": {}", branching::in_words(&changes)));
        }
        RunLabel { parent: parent.name(), edge, ..RunLabel::default() }.write(run.path())
    };
    let filled = fill().with_context(|| format!("going on from step {step} of {}", parent.path().display()));
    drop(lock);
    if filled.is_err() {
        // Only this function knows the directory so far.
        fs::remove_dir_all(run.path()).ok();
    }
    filled.map(|()| run)
}

/// Copies a file of a record, where there is one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::copy(from, to).map_err(|err| Error::io("copying", from, err))?;
    }
    Ok(())
}
