//! `checkpoint-N/`: everything needed to go on from step N, bit for bit.
//!
//! | file | what |
//! |---|---|
//! | `experts.safetensors` | every trained tensor, banks and head, `f32` |
//! | `optimizer.safetensors` | the optimizer's tensors, `f32` |
//! | `state.json` | step, epoch, best and the like, as the trainer gave them |
//! | `manifest.json` | format, version, step, tool, time; size and SHA-256 of the other files |
//!
//! The directory appears only when all of it is on disk. Randomness needs no state: streams are indexed by step.

use super::json::{read_json, write_json};
use super::{RunDir, TOOL, utc};
use crate::atomic::{delete_dir, write_dir};
use crate::error::{Context as _, Error, Result};
use crate::records::CheckpointData;
use crate::tensor::NumberFormat;
use crate::tensor::hash::FileHash;
use crate::tensor::safetensors::{self, Metadata};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const EXPERTS: &str = "experts.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "adamix-checkpoint";
pub(super) const PREFIX: &str = "checkpoint-";
/// The files of a checkpoint.
pub(super) const FILES: [&str; 4] = [EXPERTS, OPTIMIZER, STATE, MANIFEST];

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    step: u64,
    tool: String,
    created: String,
    files: Vec<FileHash>,
}

/// The newest checkpoint that is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its step.
    pub step: u64,
    /// What it holds.
    pub data: CheckpointData,
    /// A sentence for each newer one that was passed over, naming the damaged file.
    pub warnings: Vec<String>,
}

/// Writes the checkpoint of `step`, replacing an older one of that step. Atomic.
pub fn write(run: &RunDir, step: u64, data: &CheckpointData) -> Result<()> {
    let write_parts = |dir: &Path| {
        let metadata = |what: &str| {
            Metadata::from([("format".to_owned(), what.to_owned()), ("step".to_owned(), step.to_string())])
        };
        let experts = metadata("adamix-checkpoint-experts");
        safetensors::write(&dir.join(EXPERTS), &data.tensors, NumberFormat::F32, &experts)?;
        let optimizer = metadata("adamix-checkpoint-optimizer");
        safetensors::write(&dir.join(OPTIMIZER), &data.optimizer, NumberFormat::F32, &optimizer)?;
        write_json(&dir.join(STATE), &data.state)?;
        let files = [EXPERTS, OPTIMIZER, STATE].iter().map(|name| FileHash::of(dir, name)).collect::<Result<_>>()?;
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: 1,
            step,
            tool: TOOL.to_owned(),
            created: utc::stamp(utc::now()),
            files,
        };
        write_json(&dir.join(MANIFEST), &manifest)
    };
    write_dir(&run.checkpoint(step), write_parts).with_context(|| format!("writing the checkpoint of step {step}"))
}

/// Reads the checkpoint of `step` after checking every file against the manifest.
pub fn read(run: &RunDir, step: u64) -> Result<CheckpointData> {
    let dir = run.checkpoint(step);
    let load = || -> Result<CheckpointData> {
        verify(&dir, step)?;
        let state = read_json(&dir.join(STATE))?;
        let (tensors, _) = safetensors::read(&dir.join(EXPERTS))?;
        let (optimizer, _) = safetensors::read(&dir.join(OPTIMIZER))?;
        Ok(CheckpointData { tensors, optimizer, state })
    };
    load().with_context(|| format!("checkpoint-{step} cannot be used"))
}

/// The newest checkpoint that is whole, falling back to older ones; nothing when there is none.
pub fn latest_valid(run: &RunDir) -> Result<Option<Found>> {
    let mut warnings = Vec::new();
    for step in list(run)?.into_iter().rev() {
        match read(run, step) {
            Ok(data) => return Ok(Some(Found { step, data, warnings })),
            Err(err) => warnings.push(err.to_string()),
        }
    }
    match warnings.is_empty() {
        true => Ok(None),
        false => Err(Error::format(format!("every checkpoint is damaged: {}", warnings.join("; ")))),
    }
}

/// The steps that have a checkpoint directory, in order. Unfinished ones have another name and do not count.
pub fn list(run: &RunDir) -> Result<Vec<u64>> {
    let entries = fs::read_dir(run.path()).map_err(|err| Error::io("reading a directory", run.path(), err))?;
    let names = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let step = |name: std::ffi::OsString| -> Option<u64> {
        let name = name.into_string().ok()?;
        // Only the name we would give: `checkpoint-007` is somebody else's.
        let step = name.strip_prefix(PREFIX)?.parse().ok()?;
        (name == format!("{PREFIX}{step}")).then_some(step)
    };
    let mut steps: Vec<u64> = names.filter_map(|entry| step(entry.file_name())).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Deletes all checkpoints but the `last` newest (at least one), that of step `best`, and that of step 0, which only
/// imported runs have: it is the start that their experts are compared with. Returns the steps deleted.
pub fn prune(run: &RunDir, last: usize, best: Option<u64>) -> Result<Vec<u64>> {
    let steps = list(run)?;
    let old = steps.len().saturating_sub(last.max(1));
    let doomed: Vec<u64> = steps[..old].iter().copied().filter(|&step| step > 0 && Some(step) != best).collect();
    for &step in &doomed {
        delete_dir(&run.checkpoint(step))?;
    }
    Ok(doomed)
}

fn verify(dir: &Path, step: u64) -> Result<()> {
    let manifest: Manifest = read_json(&dir.join(MANIFEST))?;
    if manifest.format != FORMAT || manifest.version != 1 {
        let Manifest { format, version, tool, .. } = manifest;
        return Err(Error::format(format!("{MANIFEST} has format {format} {version}, written by {tool}")));
    }
    if manifest.step != step {
        return Err(Error::format(format!("{MANIFEST} belongs to step {}", manifest.step)));
    }
    for name in [EXPERTS, OPTIMIZER, STATE] {
        let listed = manifest.files.iter().find(|file| file.name == name);
        let problem = match listed {
            Some(file) => file.problem(dir),
            None => Some(format!("{MANIFEST} does not list {name}")),
        };
        if let Some(problem) = problem {
            return Err(Error::format(format!("{problem}: {}", dir.display())));
        }
    }
    Ok(())
}
