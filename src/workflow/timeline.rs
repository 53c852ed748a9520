//! The draws of a run from its files, part by part.

use crate::analysis::timeline::{Layout, StepRows};
use crate::artifact::RunDir;
use crate::artifact::recorded::RecordedMetrics;
use crate::artifact::recorded_steps::{RecordedSteps, StepPlace};
use crate::config::Method;
use crate::error::{Error, Result};
use crate::protocol::{ReadRoutes, RoutesPart};

/// Most steps of a part, and most bytes.
const STEPS: usize = 4096;
const BYTES: usize = 4 << 20;

/// Reads the next part: at most 4,096 steps or 4 MB.
///
/// # Errors
/// Where the run has no mixture, or no route log that can be read.
pub fn read(ask: &ReadRoutes) -> Result<RoutesPart> {
    let run = RunDir::open(&ask.dir)?;
    let config = run.config();
    if config.model.method != Method::Adamix {
        return Err(Error::config("this run has no experts, so nothing is drawn; only method adamix has"));
    }
    let layout = match &ask.layout {
        Some(layout) => layout.clone(),
        None => {
            let sites = RecordedMetrics::read(&run.metrics())?.start.sites;
            Layout::of(&config.mixture, sites, config.train.gradient_accumulation_steps)
        }
    };
    let mut steps = RecordedSteps::open(&run, ask.from)?;
    let mut rows = StepRows::default();
    let mut more = true;
    while rows.len() < STEPS && rows.bytes() < BYTES {
        match steps.next_step()? {
            Some(step) => drop(rows.push(&layout, &step)?),
            None => {
                more = false;
                break;
            }
        }
    }
    let (restarted, share) = (steps.restarted() && ask.from != StepPlace::default(), steps.share());
    Ok(RoutesPart { dir: ask.dir.clone(), layout, rows, next: steps.place()?, restarted, more, share })
}
