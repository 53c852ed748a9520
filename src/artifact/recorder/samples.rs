//! `samples.jsonl`: what a language model wrote while it learned, one JSON object a line for each step at which it was
//! asked, in order of the steps.

use super::lines::Tail;
use crate::error::{Context as _, Error, Result};
use crate::records::SampleRecord;
use std::path::Path;

/// The object of one line, without the line's end.
pub(super) fn to_json(record: &SampleRecord) -> Result<String> {
    serde_json::to_string(record).map_err(|err| Error::internal(format!("samples cannot be written: {err}")))
}

/// The step of one line with its end; nothing for an incomplete or damaged one.
pub(super) fn step_of(line: &[u8]) -> Option<u64> {
    line.ends_with(b"\n").then(|| serde_json::from_slice::<SampleRecord>(line).ok())?.map(|record| record.step)
}

/// All complete lines of a file, at most `most` of them: the first, the last, and what lies between evenly thinned. A
/// file that does not exist is empty; lines that cannot be understood are left out.
pub fn read_samples(path: &Path, most: usize) -> Result<Vec<SampleRecord>> {
    let read = Tail::new(path).appended().context("reading the samples of a run")?;
    let lines: Vec<&[u8]> = read.lines().collect();
    let chosen = thinned(lines.len(), most).filter_map(|line| lines.get(line));
    Ok(chosen.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// At most `most` of the numbers below `all`, the first and the last among them.
fn thinned(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let kept = all.min(most);
    (0..kept).map(move |i| if kept < 2 { i } else { i * (all - 1) / (kept - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_both_ends() {
        let list = |all, most| thinned(all, most).collect::<Vec<_>>();
        assert_eq!(list(0, 5), [0usize; 0]);
        assert_eq!(list(4, 5), [0, 1, 2, 3]);
        assert_eq!(list(100, 4), [0, 33, 66, 99]);
        assert_eq!(list(100, 1), [0]);
    }
}
