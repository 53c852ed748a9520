//! Studies of a trained mixture: what the draw causes, averages of its experts, what each number format of an export costs,
//! the loss on a plane, what each expert is worth, two ways of running it row by row.

pub mod averages;
pub mod causes;
pub mod fan;
pub mod grid;
pub mod lora_averages;
pub mod plane;
pub mod replay;
pub mod reroll;
pub mod rounding;
pub mod routes;
pub mod rows;
pub mod spread;
pub mod worth;

use crate::artifact::RunDir;
use crate::config::RunConfig;
use crate::error::{Error, Result};
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
        Study::Replay(_) => "the step, made again",
        Study::Reroll(_) => "the batch under other routes",
        Study::Routes(_) => "the loss along every route",
        Study::Fan(_) => "one example, layer by layer",
        Study::Grid(_) => "one module on each of its experts",
        Study::Plane(_) => "the loss on a plane",
        Study::Worth(_) => "merges of subsets of the experts",
        Study::Spread(_) => "experts moved from their mean",
        Study::Rows(_) => "two ways, row by row",
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
    let at = (dir, step);
    Ok(match study {
        Study::Plane(plan) => StudyReport::Plane(Box::new(plane::plane_subject(subject, config, at, plan, go_on)?)),
        Study::Worth(plan) => StudyReport::Worth(Box::new(worth::worth_subject(subject, config, step, plan, go_on)?)),
        Study::Causes(plan) => {
            StudyReport::Causes(Box::new(causes::causes_subject(subject, config, (dir, step), plan, go_on)?))
        }
        Study::Averages => StudyReport::Averages(averages::averages_subject(subject, config, go_on)?),
        Study::Spread(plan) => StudyReport::Spread(spread::spread_subject(subject, config, plan, go_on)?),
        Study::Rounding(plan) => {
            StudyReport::Rounding(rounding::rounding_of_run(subject, (config, Some(dir)), plan, go_on)?)
        }
        Study::Routes(plan) => StudyReport::Routes(Box::new(routes::routes_subject(subject, config, plan, go_on)?)),
        Study::Fan(plan) => StudyReport::Fan(Box::new(fan::fan_subject(subject, config, (plan, step), go_on)?)),
        Study::Grid(plan) => StudyReport::Grid(Box::new(grid::grid_subject(subject, config, (plan, step), go_on)?)),
        Study::Replay(_) | Study::Reroll(_) => of_step(dir, study, go_on)?,
        Study::Rows(plan) => StudyReport::Rows(Box::new(rows::rows_subject(subject, config, dir, plan, go_on)?)),
    })
}

/// Runs a study of a recorded step, which builds its own training from the run's files.
///
/// # Errors
///
/// The study is not of a step; the step is not recorded; a file of the run cannot be read; it was cancelled.
pub fn of_step(dir: &RunDir, study: &Study, go_on: &dyn Fn(f64) -> bool) -> Result<StudyReport> {
    match study {
        Study::Replay(plan) => Ok(StudyReport::Replay(Box::new(replay::replay(dir, *plan, go_on)?))),
        Study::Reroll(plan) => Ok(StudyReport::Reroll(Box::new(reroll::reroll(dir, *plan, go_on)?))),
        _ => Err(Error::internal("this study is about weights, not about a step")),
    }
}
