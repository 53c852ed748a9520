//! What `metrics.jsonl` comes down to, read line by line in bounded memory: the progress, the curve in at most [`CURVE`]
//! buckets, the evaluations, the newest check of every tensor, the end.
//!
//! A long record is read once. Beside it stands `metrics.index` ([`super::growing_cache`]): what was read, and how far.
//! Later only what was appended is read. The index is never needed: where it is absent, damaged, of another version or
//! of another record, everything is read and it is written anew.

mod index;

use super::growing_cache::GrowingCache;
use super::recorder::{Line, Tail, for_each_line};
use super::run_progress::RunProgress;
use crate::config::LawChange;
use crate::error::{Context as _, Error, Result};
use crate::records::decimation::Decimated;
use crate::records::{EndRecord, EvalRecord, StartRecord, StepBucket, TensorHealth};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Most buckets of the curve.
pub const CURVE: usize = 4096;
/// Most evaluations; beyond it every second one is dropped, but for the newest best one.
pub const EVALUATIONS: usize = 4096;
/// Bytes behind the index from which on it is written anew: reading fewer takes no time that anybody notices.
const INDEX_EVERY: u64 = 1 << 20;

/// What `metrics.jsonl` holds.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedMetrics {
    /// How far the run came.
    pub progress: RunProgress,
    /// The last start.
    pub start: StartRecord,
    /// Changes of the routing law.
    pub laws: Vec<LawChange>,
    /// The steps.
    pub curve: Decimated<StepBucket>,
    /// The evaluations.
    pub evals: Vec<EvalRecord>,
    /// The newest check of every trained tensor.
    pub gradient_health: Vec<TensorHealth>,
    /// The end, where there is one.
    pub end: Option<EndRecord>,
}

impl Default for RecordedMetrics {
    fn default() -> Self {
        Self {
            progress: RunProgress::default(),
            start: StartRecord::default(),
            laws: Vec::new(),
            curve: Decimated::new(CURVE),
            evals: Vec::new(),
            gradient_health: Vec::new(),
            end: None,
        }
    }
}

/// A record as far as it was read.
#[derive(Debug)]
pub(super) struct ReadRecord {
    pub(super) metrics: RecordedMetrics,
    /// Follows the file from where it was read up to.
    pub(super) tail: Tail,
    /// Bytes of the record that were read.
    pub(super) bytes_read: u64,
}

impl RecordedMetrics {
    /// Reads the record at `path`, up to its last complete line; an absent file is empty.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(read(path)?.metrics)
    }

    /// Takes the next line as it stands in the file.
    fn add_text(&mut self, line: &[u8]) {
        match Line::parse(line) {
            Ok(line) => self.add(line),
            Err(_) => self.progress.add_damaged(1),
        }
    }

    fn add(&mut self, line: Line) {
        self.progress.add(&line);
        match line {
            Line::Start { record, .. } => {
                self.start = record;
                // A resumed run has not ended yet.
                self.end = None;
            }
            Line::Law(change) => self.laws.push(change),
            Line::Step(record) => self.curve.push(StepBucket::of((&record).into())),
            Line::Eval(record) => self.add_evaluation(record),
            Line::TensorHealth(health) => {
                // Each check replaces the one before.
                self.gradient_health.retain(|old| old.step == health.step);
                self.gradient_health.push(health);
            }
            Line::Checkpoint { .. } | Line::Unknown => {}
            Line::End { record, .. } => self.end = Some(*record),
        }
    }

    fn add_evaluation(&mut self, record: EvalRecord) {
        self.evals.push(record);
        if self.evals.len() > EVALUATIONS {
            let best = self.evals.iter().rposition(|eval| eval.best);
            let mut index = 0;
            self.evals.retain(|_| {
                index += 1;
                (index - 1) % 2 == 0 || Some(index - 1) == best
            });
        }
    }
}

/// Reads a record, with the help of its index, and brings the index up to date where much was appended.
pub(super) fn read(path: &Path) -> Result<ReadRecord> {
    read_record(path).context("reading the metrics of a run")
}

fn read_record(path: &Path) -> Result<ReadRecord> {
    let nothing = || ReadRecord { metrics: RecordedMetrics::default(), tail: Tail::new(path), bytes_read: 0 };
    let failed = |err| Error::io("reading", path, err);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(nothing()),
        Err(err) => return Err(Error::io("opening", path, err)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(nothing());
    }
    let index = GrowingCache::of(path, index::VERSION);
    let known = index.load(&mut file).and_then(|(bytes, length)| Some((index::decode(&bytes)?, length)));
    let (mut metrics, from) = known.unwrap_or_default();
    let mut until = from;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let take = |line: &[u8]| {
        // An incomplete last line waits for its rest.
        if line.ends_with(b"\n") {
            until += line.len() as u64;
            if line.len() > 1 {
                metrics.add_text(line);
            }
        }
        Ok(())
    };
    for_each_line(&mut file, take, failed)?;
    if until - from >= INDEX_EVERY {
        // It is a help for next time, and where nobody may write here there is none.
        index.store(&mut file, until, &index::encode(&metrics)?);
    }
    let known = last_bytes(&mut file, until).map_err(failed)?;
    let tail = Tail::after(path, until, known, &file.metadata().map_err(failed)?);
    Ok(ReadRecord { metrics, tail, bytes_read: until - from })
}

/// The bytes before `until` by which a tail recognises the file.
fn last_bytes(file: &mut File, until: u64) -> io::Result<Vec<u8>> {
    let from = until.saturating_sub(Tail::KNOWN as u64);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(until - from).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
