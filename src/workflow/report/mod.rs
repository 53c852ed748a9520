//! A run as one HTML page that needs nothing else: no other file, no network, no script.
//!
//! Everything comes from the run's directory; the model and the data are not opened, so that a report can be written of any
//! run, on any computer. Texts of the run (its name, notes, samples) are escaped.

mod figures;
mod page;
mod sections;

use crate::atomic::write_file;
use crate::error::Result;
use crate::protocol::RunDetail;
use crate::workflow::runs;
use page::Page;
use std::path::Path;

/// Writes the report of the run in `dir` into the file `to`.
///
/// # Errors
///
/// The directory holds no run that can be read, or the file cannot be written.
pub fn write(dir: &Path, to: &Path) -> Result<()> {
    write_file(to, html(&runs::detail(dir)?).as_bytes())
}

/// The page.
pub fn html(run: &RunDetail) -> String {
    let mut page = Page::new(run.summary.title());
    sections::head(&mut page, run);
    sections::settings(&mut page, run);
    sections::data(&mut page, run);
    figures::curves(&mut page, run);
    figures::scores(&mut page, run);
    figures::routing(&mut page, run);
    sections::evaluations(&mut page, run);
    sections::samples(&mut page, run);
    sections::gradient_health(&mut page, run);
    sections::certificates(&mut page, run);
    sections::environment(&mut page, run);
    page.finish()
}

#[cfg(test)]
mod tests;
