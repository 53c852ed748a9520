//! Lines that the previews of rows and of texts have in common.

use super::out;
use crate::data::SkippedRow;
use crate::data::preview::Lengths;
use crate::error::Result;
use crate::format;

/// Rows that cannot be used, and whether training stops at them.
pub(super) fn print_skipped(rows: &[SkippedRow], refused: bool) -> Result<()> {
    let first: Vec<String> =
        rows.iter().take(10).map(|row| format!("{}:{}: {}", row.file, row.line, row.reason)).collect();
    let what = if refused {
        "rows cannot be used, and training stops at the first; mend them, or allow it with --bad-rows skip"
    } else {
        "rows cannot be used and are left out"
    };
    listed(what, rows.len(), &first)
}

/// What the user should know.
pub(super) fn print_notes(notes: &[String]) -> Result<()> {
    notes.iter().try_for_each(|note| out::line(&format!("note: {note}")))
}

pub(super) fn listed(what: &str, count: usize, examples: &[String]) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    out::line(&format!("{} {what}", format::count(count)))?;
    examples.iter().try_for_each(|example| out::line(&format!("    {}", out::one_line(example, 100))))
}

pub(super) fn print_lengths(lengths: &Lengths, max_length: Option<usize>) -> Result<()> {
    let Lengths { min, mean, median, p95, max, truncated_share, .. } = lengths;
    let cut = 100.0 * truncated_share;
    out::line(&format!("    tokens: {min} to {max}, mean {mean:.1}, median {median}, 95 % up to {p95}"))?;
    if let Some(max_length) = max_length {
        out::line(&format!("    {cut:.1} % of the rows are longer than {max_length} tokens and are cut"))?;
    }
    let highest = lengths.histogram.iter().copied().max().unwrap_or(0).max(1);
    for (bin, &count) in lengths.histogram.iter().enumerate() {
        let bar = "#".repeat((40 * count).div_ceil(highest));
        let from = bin * lengths.bin_width;
        let to = from + lengths.bin_width - 1;
        let line = format!("    {from:>5} to {to:>5} {:>9} {bar}", format::count(count));
        out::line(line.trim_end())?;
    }
    Ok(())
}
