//! Studies of a trained mixture: what the draw causes, averages of its experts, and what each number format of an export costs.

pub mod averages;
pub mod causes;
pub mod lora_averages;
pub mod rounding;
pub mod spread;

use crate::artifact::RunDir;
use crate::config::RunConfig;
use crate::error::Result;
use crate::protocol::{Study, StudyReport};
use crate::train::ModelAndData;

/// The run whose model is studied.
#[derive(Clone, Copy)]
pub struct StudiedRun<'a> {
    /// Its settings.
    pub config: &'a RunConfig,
    /// Its directory.
    pub dir: &'a RunDir,
    /// Steps done at the studied weights.
    pub step: u64,
}

/// What is computed, in the words of a progress line.
pub fn what(study: &Study) -> &'static str {
    match study {
        Study::Causes(_) => "each layer on each expert, and without its modules",
        Study::Averages => "three averages",
        Study::Rounding(_) => "number formats",
        Study::Spread(_) => "experts moved from their mean",
    }
}

/// Runs a study of the model in `subject`. `go_on` takes the share done, 0 to 1, and returns false to cancel.
///
/// # Errors
///
/// The study does not exist for this model or its experts; a file of the run cannot be read; it was cancelled.
pub fn run(
    subject: &ModelAndData,
    run: StudiedRun<'_>,
    study: &Study,
    go_on: &dyn Fn(f64) -> bool,
) -> Result<StudyReport> {
    let StudiedRun { config, dir, step } = run;
    Ok(match study {
        Study::Causes(plan) => {
            StudyReport::Causes(Box::new(causes::causes_subject(subject, config, (dir, step), plan, go_on)?))
        }
        Study::Averages => StudyReport::Averages(averages::averages_subject(subject, config, go_on)?),
        Study::Spread(plan) => StudyReport::Spread(spread::spread_subject(subject, config, plan, go_on)?),
        Study::Rounding(plan) => {
            StudyReport::Rounding(rounding::rounding_of_run(subject, (config, Some(dir)), plan, go_on)?)
        }
    })
}
