//! A part of the records of some runs, with every digit.

use crate::records::Quantity;
use std::path::PathBuf;

/// Which values are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPlan {
    /// The run directories, in the order of the table.
    pub runs: Vec<PathBuf>,
    /// The columns of values.
    pub quantities: Vec<Quantity>,
}

impl RecordPlan {
    /// Adds a quantity of a run, unless it is there already.
    pub fn add(&mut self, run: &std::path::Path, quantity: Quantity) {
        if !self.runs.iter().any(|known| known == run) {
            self.runs.push(run.to_owned());
        }
        if !self.quantities.contains(&quantity) {
            self.quantities.push(quantity);
        }
    }
}
