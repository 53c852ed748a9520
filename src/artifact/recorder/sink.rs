//! A growing file that never stops its writer: what cannot be written now is kept and tried again.

use crate::error::Error;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Bytes kept in memory while a file cannot be written; what comes after is lost, and counted.
const MAX_PENDING: usize = 64 << 20;

/// An append-only file. What is on disk is always a prefix of what was sent, unless the memory for waiting
/// bytes ran out; then whole records are missing, and their number is reported.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
    failing: bool,
    lost: usize,
}

impl Sink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, pending: Vec::new(), failing: false, lost: 0 }
    }

    /// Appends a record; a sentence when something changed: the file can no longer be written, or can again.
    pub(super) fn send(&mut self, record: &[u8]) -> Option<String> {
        if self.pending.len() + record.len() <= MAX_PENDING {
            self.pending.extend_from_slice(record);
        } else {
            self.lost += 1;
        }
        let flushed = self.flush();
        self.report(flushed)
    }

    /// Tries to bring everything that waits to the disk itself.
    pub(super) fn sync(&mut self) -> Option<String> {
        let flushed = self.flush().and_then(|()| self.file.as_ref().map_or(Ok(()), File::sync_data));
        self.report(flushed)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(File::options().create(true).append(true).open(&self.path)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut written = 0;
        let result = loop {
            match file.write(&self.pending[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => break Err(err),
            }
            if written == self.pending.len() {
                break Ok(());
            }
        };
        self.pending.drain(..written);
        result
    }

    fn report(&mut self, result: io::Result<()>) -> Option<String> {
        match (result, self.failing) {
            (Err(err), false) => {
                self.failing = true;
                let err = Error::io("writing", &self.path, err);
                Some(format!("{err}; training goes on, and the record is tried again"))
            }
            (Ok(()), true) => {
                self.failing = false;
                let lost = std::mem::take(&mut self.lost);
                let gap = if lost > 0 { format!("; {lost} records were lost in between") } else { String::new() };
                Some(format!("writing works again{gap}: {}", self.path.display()))
            }
            _ => None,
        }
    }
}
