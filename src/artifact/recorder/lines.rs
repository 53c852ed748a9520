//! `metrics.jsonl`: one JSON object a line, in the order in which things happened.
//!
//! The field `event` says what a line is: `start`, `step`, `eval`, `lamp`, `checkpoint` or `end`; the other
//! fields are those of the records in [`crate::records`]. `start` and `end` carry the `time` (UTC).
//! Numbers that are not finite are `null`. Unknown fields and events are for later versions: readers skip them.

use super::lenient;
use crate::error::{Context as _, Error, Result};
use crate::records::{EndRecord, EvalRecord, StartRecord, StepRecord, TensorHealth};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Training begins, or goes on under changed circumstances; with the time.
    Start(String, StartRecord),
    /// An optimizer step. Its routes are in `routes.bin`.
    Step(StepRecord),
    /// An evaluation.
    Eval(EvalRecord),
    /// Whether a tensor learns.
    TensorHealth(TensorHealth),
    /// A checkpoint.
    Checkpoint(CheckpointLine),
    /// Training ends; with the time.
    End(String, Box<EndRecord>),
}

/// That a checkpoint was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointLine {
    /// Steps done; the directory is `checkpoint-<step>`.
    pub step: u64,
    /// Whether it is the best so far.
    pub best: bool,
}

impl Line {
    /// The step the line belongs to: a resumed run keeps the lines up to its checkpoint's step.
    pub fn step(&self) -> u64 {
        match self {
            Self::Start(_, record) => record.first_step,
            Self::Step(record) => record.step,
            Self::Eval(record) => record.step,
            Self::TensorHealth(record) => record.step,
            Self::Checkpoint(record) => record.step,
            Self::End(_, record) => record.step,
        }
    }

    /// The JSON object, without the line's end.
    pub fn to_json(&self) -> Result<String> {
        let (event, time, record) = match self {
            Self::Start(time, record) => ("start", Some(time), serde_json::to_value(record)),
            Self::Step(record) => ("step", None, serde_json::to_value(record)),
            Self::Eval(record) => ("eval", None, serde_json::to_value(record)),
            Self::TensorHealth(record) => ("lamp", None, serde_json::to_value(record)),
            Self::Checkpoint(record) => ("checkpoint", None, serde_json::to_value(record)),
            Self::End(time, record) => ("end", Some(time), serde_json::to_value(record)),
        };
        let record = record.map_err(|err| Error::internal(format!("a record cannot be written: {err}")))?;
        let mut object = Map::new();
        object.insert("event".to_owned(), event.into());
        if let Some(time) = time {
            object.insert("time".to_owned(), time.as_str().into());
        }
        if let Value::Object(fields) = record {
            object.extend(fields);
        }
        Ok(Value::Object(object).to_string())
    }

    /// Reads one line; nothing for an event this version does not know.
    pub fn parse(line: &str) -> Result<Option<Self>> {
        Self::parse_bytes(line.as_bytes())
    }

    pub(in crate::artifact) fn parse_bytes(line: &[u8]) -> Result<Option<Self>> {
        let bad = |err: serde_json::Error| Error::format(format!("not a line of metrics: {err}"));
        let value: Value = serde_json::from_slice(line).map_err(bad)?;
        let time = || value["time"].as_str().unwrap_or_default().to_owned();
        Ok(Some(match value["event"].as_str() {
            Some("start") => Self::Start(time(), lenient::from_value(&value).map_err(bad)?),
            Some("step") => Self::Step(lenient::from_value(&value).map_err(bad)?),
            Some("eval") => Self::Eval(lenient::from_value(&value).map_err(bad)?),
            Some("lamp") => Self::TensorHealth(lenient::from_value(&value).map_err(bad)?),
            Some("checkpoint") => Self::Checkpoint(lenient::from_value(&value).map_err(bad)?),
            Some("end") => Self::End(time(), Box::new(lenient::from_value(&value).map_err(bad)?)),
            Some(_) => return Ok(None),
            None => return Err(Error::format("not a line of metrics: it has no event")),
        }))
    }
}

/// What was appended to a growing file: complete lines only.
#[derive(Clone, Debug, Default)]
pub(in crate::artifact) struct Appended {
    /// The file was cut or replaced (a resumed run): forget all earlier lines.
    pub restarted: bool,
    /// Everything read, an incomplete last line included; that one is read again next time.
    pub bytes: Vec<u8>,
}

impl Appended {
    /// The complete lines that are not empty, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[..complete(&self.bytes)].split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
    }
}

/// Length up to the end of the last complete line.
fn complete(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

/// The records appended to a growing `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// The file was cut or replaced (a resumed run): forget all earlier lines.
    pub restarted: bool,
    /// The new complete lines.
    pub lines: Vec<Line>,
    /// Complete lines that cannot be read.
    pub damaged: usize,
}

/// Follows `metrics.jsonl` while another process writes it. An incomplete last line waits for its rest.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    identity: Option<u64>,
}

impl Tail {
    /// Starts at the beginning of the file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: 0, identity: None }
    }

    /// The records written since the last call.
    pub fn poll(&mut self) -> Result<News> {
        let new = self.appended()?;
        let mut news = News { restarted: new.restarted, ..News::default() };
        for line in new.lines() {
            match Line::parse_bytes(line) {
                Ok(line) => news.lines.extend(line),
                Err(_) => news.damaged += 1,
            }
        }
        Ok(news)
    }

    /// The lines written since the last call.
    pub(in crate::artifact) fn appended(&mut self) -> Result<Appended> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Appended::default()),
            Err(err) => return Err(Error::io("opening", &self.path, err)),
        };
        let failed = |err| Error::io("reading", &self.path, err);
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Ok(Appended::default());
        }
        let identity = Some(identity(&meta));
        let mut new = Appended::default();
        if meta.len() < self.offset || (self.identity.is_some() && self.identity != identity) {
            new.restarted = true;
            self.offset = 0;
        }
        self.identity = identity;
        if meta.len() > self.offset {
            file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut new.bytes)).map_err(failed)?;
        }
        self.offset += complete(&new.bytes) as u64;
        Ok(new)
    }
}

/// All complete lines of a file.
pub fn read_lines(path: &Path) -> Result<News> {
    Tail::new(path).poll().context("reading the metrics of a run")
}

/// The bytes of a file up to the end of its last complete line; none of a file that does not exist.
pub(super) fn complete_lines(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(err) => return Err(Error::io("reading", path, err)),
    };
    bytes.truncate(complete(&bytes));
    Ok(bytes)
}

#[cfg(unix)]
fn identity(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

/// Elsewhere a cut file is recognised by its length alone.
#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> u64 {
    0
}
