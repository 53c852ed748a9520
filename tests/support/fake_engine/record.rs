//! What [`super::FakeEngine`] reads from records.

use adamix::figure::{Cell, Table};
use adamix::protocol::RecordPlan;

/// The record of some runs: two steps each.
pub fn table(plan: &RecordPlan) -> Table {
    let mut table = Table::new(["run", "step"].into_iter().chain(plan.quantities.iter().map(|q| q.name())));
    for run in &plan.runs {
        for step in 1..=2u64 {
            let values = plan.quantities.iter().map(|_| Cell::Number(1.0 / 3.0 + step as f64));
            table.push([run.display().to_string().into(), step.into()].into_iter().chain(values));
        }
    }
    table
}
