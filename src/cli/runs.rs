//! Run directories as arguments: by path, or by name in the directory that holds the runs.

use super::args::{option, path};
use crate::artifact::RunDir;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::protocol::Checkpoint;
use crate::workflow::capsule;
use clap::{Arg, ArgMatches, value_parser};
use std::path::{Path, PathBuf};

/// A checkpoint of a run: [`argument`], [`root_argument`] and [`checkpoint_argument`].
pub fn arguments() -> [Arg; 3] {
    [argument(), root_argument(), checkpoint_argument()]
}

/// One run.
pub fn argument() -> Arg {
    Arg::new("run")
        .value_name("RUN")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("A run directory, the name of a run, or a capsule")
}

/// The directory that holds the runs.
pub fn root_argument() -> Arg {
    path("runs-dir", "DIR").help("Directory that holds the runs [default: adamix/runs in the user's data directory]")
}

/// Which checkpoint of the run.
pub fn checkpoint_argument() -> Arg {
    option("checkpoint", "best|last|N")
        .value_parser(|text: &str| text.parse::<Checkpoint>().map_err(|err| err.to_string()))
        .default_value("best")
        .help("The checkpoint: the one with the best metric (the first of equals), the newest, or the one of step N")
}

/// What `--checkpoint` says.
pub fn checkpoint(matches: &ArgMatches) -> Checkpoint {
    matches.get_one("checkpoint").copied().unwrap_or_default()
}

/// The directory that holds the runs, as `--runs-dir` says or by default.
pub fn root(matches: &ArgMatches) -> Result<PathBuf> {
    match matches.get_one::<PathBuf>("runs-dir") {
        Some(root) => Ok(root.clone()),
        None => RunDir::root(&RunConfig::default()),
    }
}

/// Opens the run that the arguments name.
pub fn open(matches: &ArgMatches) -> Result<RunDir> {
    let named = matches.get_one::<PathBuf>("run").map_or(Path::new(""), PathBuf::as_path);
    open_named(named, matches)
}

/// Opens a run by path or by name.
pub fn open_named(named: &Path, matches: &ArgMatches) -> Result<RunDir> {
    if named.is_dir() {
        return RunDir::open(named);
    }
    if named.is_file() {
        return RunDir::open(&capsule::open(named)?);
    }
    let below = root(matches)?.join(named);
    if below.is_dir() {
        return RunDir::open(&below);
    }
    let place = below.parent().map(|parent| parent.display().to_string()).unwrap_or_default();
    Err(Error::config(format!("there is no run {:?}, neither here nor in {place}", named.display().to_string())))
}
