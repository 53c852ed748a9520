//! Opens the run that a command names.

use super::{Done, args, out, runs};
use crate::artifact::RunDir;
use crate::error::Result;
use crate::machine::facts;
use crate::protocol::WeightsOf;
use crate::workflow::saved_run::Opened;
use clap::{Arg, ArgMatches};
use std::path::PathBuf;

/// `--dev-file`, shared with `inspect`.
pub(super) fn dev_file() -> Arg {
    args::path("dev-file", "FILE").help("Other rows to measure on, in the layout of the run's data")
}

/// Opens the run these arguments name and hands it to `job` inside a compute pool.
pub(super) fn with_opened(matches: &ArgMatches, job: impl FnOnce(&Opened) -> Done + Send) -> Done {
    let dir = runs::open(matches)?;
    let which = runs::checkpoint(matches);
    let dev_file = matches.try_get_one::<PathBuf>("dev-file").ok().flatten().cloned();
    let pool = facts::pool(args::given(matches, "threads").unwrap_or(dir.config().model.threads), 0)?;
    pool.install(|| {
        let mut opened = Opened::open(&dir, which)?;
        if let Some(file) = dev_file {
            opened.measure_on(&file)?;
        }
        job(&opened)
    })
}

/// A run and which of its weights: `runs/lab, step 400 (best checkpoint)`.
pub(super) fn about(dir: &RunDir, weights: WeightsOf) -> String {
    format!("{}, {weights}", dir.path().display())
}

/// Which checkpoint of which run was opened.
pub(super) fn title(opened: &Opened) -> Result<()> {
    out::line(&about(&opened.dir, opened.weights))
}
