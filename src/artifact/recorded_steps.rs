//! The steps of a record with their routes, part by part: `metrics.jsonl` and `routes.bin` side by side.
//!
//! A record may be long, and may be growing: a reader says where it stands ([`StepPlace`]), and another one goes on from there.
//! A step belongs to the record once its line is whole; its routes were written before it.

use super::RunDir;
use super::recorder::{Line, RouteFile, RouteRecord, crc32c};
use crate::error::{Error, Result};
use crate::records::StepRecord;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Bytes before a place by which it is recognised.
const KNOWN: u64 = 256;

/// Where a reader stands in both files, and what stands before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepPlace {
    metrics: FilePlace,
    routes: FilePlace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FilePlace {
    offset: u64,
    /// Checksum of the bytes before.
    check: u32,
}

impl FilePlace {
    fn at(path: &Path, offset: u64) -> Result<Self> {
        let failed = |err| Error::io("reading", path, err);
        let mut file = File::open(path).map_err(failed)?;
        let from = offset.saturating_sub(KNOWN);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.take(offset - from).read_to_end(&mut bytes))
            .map_err(failed)?;
        Ok(Self { offset, check: crc32c(&bytes) })
    }

    /// Whether the file still holds what was read.
    fn holds(self, path: &Path) -> Result<bool> {
        Ok(Self::at(path, self.offset)? == self)
    }
}

/// Reads steps.
#[derive(Debug)]
pub struct RecordedSteps<'a> {
    run: &'a RunDir,
    metrics: BufReader<File>,
    /// Bytes of whole lines read, and in all.
    read: u64,
    length: u64,
    routes: RouteFile,
    /// The next route, which may be of a later step, and where it begins.
    next: Option<RouteRecord>,
    routes_at: u64,
    restarted: bool,
}

impl<'a> RecordedSteps<'a> {
    /// Goes on at a place; from the start where a file is another one than it was there, or was cut.
    pub fn open(run: &'a RunDir, place: StepPlace) -> Result<Self> {
        let (metrics, routes) = (run.metrics(), run.routes());
        let known = place == StepPlace::default() || (place.metrics.holds(&metrics)? && place.routes.holds(&routes)?);
        let from = if known { place } else { StepPlace::default() };
        let failed = |err| Error::io("reading", &metrics, err);
        let mut file = File::open(&metrics).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(from.metrics.offset)).map_err(failed)?;
        let mut routes = match from.routes.offset {
            0 => RouteFile::open(&routes)?,
            offset => RouteFile::open_at(&routes, offset)?,
        };
        let routes_at = routes.position();
        let next = routes.next().transpose()?;
        let metrics = BufReader::with_capacity(1 << 16, file);
        Ok(Self { run, metrics, read: from.metrics.offset, length, routes, next, routes_at, restarted: !known })
    }

    /// Whether it began at the start although it was to go on.
    pub fn restarted(&self) -> bool {
        self.restarted
    }

    /// The share of the record that is read, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.length == 0 { 1.0 } else { (self.read as f64 / self.length as f64).min(1.0) }
    }

    /// Where it stands.
    pub fn place(&self) -> Result<StepPlace> {
        Ok(StepPlace {
            metrics: FilePlace::at(&self.run.metrics(), self.read)?,
            routes: FilePlace::at(&self.run.routes(), self.routes_at)?,
        })
    }

    /// The next step with its routes; none where its routes are lost. `None` at the end of the record. Damaged lines are left out.
    pub fn next_step(&mut self) -> Result<Option<StepRecord>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self
                .metrics
                .read_until(b'\n', &mut line)
                .map_err(|err| Error::io("reading", &self.run.metrics(), err))?;
            // An incomplete last line waits for its rest, and what came since the routes were looked at for the next reader.
            if read == 0 || !line.ends_with(b"\n") || self.read + read as u64 > self.length {
                return Ok(None);
            }
            self.read += read as u64;
            if let Ok(Line::Step(mut step)) = Line::parse(&line) {
                while let Some(route) = self.next.take_if(|route| route.step <= step.step) {
                    if route.step == step.step {
                        step.routes.push(route.route);
                    }
                    self.routes_at = self.routes.position();
                    self.next = self.routes.next().transpose()?;
                }
                return Ok(Some(step));
            }
        }
    }
}
