//! `metrics.jsonl`: one JSON object a line, in the order in which things happened.
//!
//! The field `event` says what a line is: `start`, `law`, `step`, `eval`, `lamp`, `checkpoint` or `end`; the other
//! fields are those of the records in [`crate::records`]. `start` and `end` carry the `time` (UTC).
//! Numbers that are not finite are `null`. Unknown fields and events are for later versions: readers skip them.

use super::step_line;
use crate::config::LawChange;
use crate::error::{Context as _, Error, Result};
use crate::records::{EndRecord, EvalRecord, StartRecord, StepRecord, TensorHealth};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// Training begins, or goes on under changed circumstances.
    Start {
        /// When, UTC.
        #[serde(default)]
        time: String,
        /// What is known then.
        #[serde(flatten)]
        record: StartRecord,
    },
    /// The law of routing is another one from this step on.
    Law(LawChange),
    /// An optimizer step. Its routes are in `routes.bin`.
    Step(StepRecord),
    /// An evaluation.
    Eval(EvalRecord),
    /// Whether a tensor learns.
    #[serde(rename = "lamp")]
    TensorHealth(TensorHealth),
    /// A checkpoint is about to be written.
    Checkpoint {
        /// Steps done; the directory is `checkpoint-<step>`.
        step: u64,
        /// Whether it is the best so far.
        best: bool,
    },
    /// Training ends.
    End {
        /// When, UTC.
        #[serde(default)]
        time: String,
        /// How.
        #[serde(flatten)]
        record: Box<EndRecord>,
    },
    /// An event of a later version.
    #[serde(other)]
    Unknown,
}

impl Line {
    /// The JSON object, without the line's end.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|err| Error::internal(format!("a record cannot be written: {err}")))
    }

    /// Reads one line, with or without its end.
    pub fn parse(line: &[u8]) -> Result<Self> {
        if let Some(step) = step_line::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            return Ok(Self::Step(step));
        }
        serde_json::from_slice(line).map_err(|err| Error::format(format!("not a line of metrics: {err}")))
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
    /// Everything before this is read.
    offset: u64,
    /// The last bytes before `offset`, at most [`Tail::KNOWN`]: a file may be replaced by a longer one of the same identity.
    known: Vec<u8>,
    identity: Option<u64>,
}

impl Tail {
    /// Bytes in front of the place read up to that must still be there, or else the file is another one.
    pub(in crate::artifact) const KNOWN: usize = 1024;

    /// Goes on after the first `offset` bytes of a file, of which `known` are the last, at most [`Tail::KNOWN`].
    pub(in crate::artifact) fn after(path: &Path, offset: u64, known: Vec<u8>, file: &std::fs::Metadata) -> Self {
        Self { path: path.to_owned(), offset, known, identity: Some(identity(file)) }
    }

    /// Starts at the beginning of the file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: 0, known: Vec::new(), identity: None }
    }

    /// The records written since the last call.
    pub fn poll(&mut self) -> Result<News> {
        let new = self.appended()?;
        let mut news = News { restarted: new.restarted, ..News::default() };
        for line in new.lines() {
            match Line::parse(line) {
                Ok(Line::Unknown) => {}
                Ok(line) => news.lines.push(line),
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
        let mut read_from = |start: u64| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut bytes)).map_err(failed)?;
            Ok(bytes)
        };
        let mut new = Appended { restarted: false, bytes: read_from(self.offset - self.known.len() as u64)? };
        let identity = Some(identity(&meta));
        if (self.identity.is_some() && self.identity != identity) || !new.bytes.starts_with(&self.known) {
            new = Appended { restarted: true, bytes: read_from(0)? };
            (self.offset, self.known) = (0, Vec::new());
        } else {
            new.bytes.drain(..self.known.len());
        }
        self.identity = identity;
        let done = complete(&new.bytes);
        self.offset += done as u64;
        self.known.extend_from_slice(&new.bytes[done.saturating_sub(Self::KNOWN)..done]);
        self.known.drain(..self.known.len().saturating_sub(Self::KNOWN));
        Ok(new)
    }
}

/// Hands every line of `file` from where it stands to `take`, with its end where it has one: the last one may be
/// incomplete. Memory for one line only.
pub(in crate::artifact) fn for_each_line(
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> Result<()>,
    failed: impl Fn(io::Error) -> Error,
) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(&failed)? == 0 {
            return Ok(());
        }
        take(&line)?;
    }
}

/// All complete lines of a file.
pub fn read_lines(path: &Path) -> Result<News> {
    Tail::new(path).poll().context("reading the metrics of a run")
}

#[cfg(unix)]
fn identity(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

/// Elsewhere another file is recognised by its contents alone.
#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> u64 {
    0
}
