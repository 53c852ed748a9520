//! A run as one file: which checkpoints go into it, and where it is unpacked.

use crate::artifact::capsule::{self, Capsule, Environment, VerifiedCapsule};
use crate::artifact::{RunDir, checkpoint, checkpoint_choice};
use crate::error::{Error, Result};
use crate::machine::{facts, gpu_tiles};
use crate::protocol::Checkpoint;
use crate::workflow::runs::RecordedMetrics;
use std::path::{Path, PathBuf};

/// Writes a run with its best and its last checkpoint, and the one of step 0 that imported runs are compared with, into one
/// file. Checkpoints that are too large are left out; [`Capsule::left_out`] says so.
pub fn save(run: &RunDir, to: &Path) -> Result<Capsule> {
    let had = checkpoint::list(run)?;
    let (mut steps, mut left_out): (Vec<u64>, Vec<String>) = Default::default();
    for which in [Checkpoint::Best, Checkpoint::Last] {
        match checkpoint_choice::resolve(run, which) {
            Ok(weights) if !steps.contains(&weights.step) => steps.push(weights.step),
            Ok(_) => {}
            Err(err) if !had.is_empty() => left_out.push(err.to_string()),
            Err(_) => {}
        }
    }
    if had.contains(&0) && !steps.contains(&0) {
        steps.push(0);
    }
    steps.sort_unstable();
    capsule::write(run, &steps, environment(run), left_out, to)
}

fn environment(run: &RunDir) -> Environment {
    let machine = facts::machine();
    let start = RecordedMetrics::read(&run.metrics()).unwrap_or_default().start;
    Environment { system: machine.system, processor: machine.processor, device: start.device, threads: start.threads }
}

/// The file that a run's capsule is written to when nobody says otherwise: beside the run directory.
pub fn default_file(run: &RunDir) -> PathBuf {
    let name = format!("{}.{}", run.name(), capsule::EXTENSION);
    run.path().with_file_name(name)
}

/// Verifies a capsule and unpacks it into the user's cache directory. Returns the run directory.
pub fn open(file: &Path) -> Result<PathBuf> {
    let cache = gpu_tiles::cache_dir().ok_or_else(|| {
        Error::config("no home directory is known, so there is no place to unpack a capsule; set HOME")
    })?;
    open_in(file, &cache.join("capsules"))
}

/// As [`open`], unpacked below `cache`.
pub fn open_in(file: &Path, cache: &Path) -> Result<PathBuf> {
    VerifiedCapsule::open(file)?.unpack(cache)
}

/// The run directory that a path names: itself, or where the capsule it is was unpacked.
pub fn located(path: &Path) -> Result<PathBuf> {
    if path.is_file() { open(path) } else { Ok(path.to_owned()) }
}
