//! The record of runs as a table: every step and evaluation, every digit.

use crate::artifact::RunDir;
use crate::artifact::recorder::{Line, read_lines};
use crate::error::Result;
use crate::figure::{Cell, Table};
use crate::protocol::RecordPlan;
use crate::records::Quantity;
use std::collections::BTreeMap;

/// What is known at a step: tokens and seconds up to it, and the values of the quantities.
#[derive(Default)]
struct Row {
    epoch: Option<f64>,
    tokens: Option<u64>,
    seconds: Option<f64>,
    values: Vec<Cell>,
}

/// A row for each step and each evaluation, run after run: run, step, epoch, tokens and seconds of training up to it, and
/// the quantities. Values are those of `metrics.jsonl`.
///
/// # Errors
///
/// A directory holds no run, or its record cannot be read.
pub fn table(plan: &RecordPlan) -> Result<Table> {
    let fixed = ["run", "step", "epoch", "tokens", "seconds"];
    let mut table = Table::new(fixed.into_iter().chain(plan.quantities.iter().map(|quantity| quantity.name())));
    for dir in &plan.runs {
        let run = RunDir::open(dir)?;
        let name = run.name();
        for (step, row) in rows(&run, &plan.quantities)? {
            let head = [name.as_str().into(), step.into(), row.epoch.into(), row.tokens.into(), row.seconds.into()];
            table.push(head.into_iter().chain(row.values));
        }
    }
    Ok(table)
}

fn rows(run: &RunDir, quantities: &[Quantity]) -> Result<BTreeMap<u64, Row>> {
    let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
    let empty = || Row { values: vec![Cell::Empty; quantities.len()], ..Row::default() };
    let (mut tokens, mut seconds) = (0, 0.0);
    let wants_steps = quantities.iter().any(|q| !matches!(q, Quantity::EvalLoss | Quantity::EvalMetric));
    for line in read_lines(&run.metrics())?.lines {
        match line {
            Line::Step(record) => {
                tokens += record.tokens as u64;
                seconds += if record.seconds.is_finite() { record.seconds } else { 0.0 };
                if !wants_steps {
                    continue;
                }
                let row = rows.entry(record.step).or_insert_with(empty);
                (row.epoch, row.tokens, row.seconds) = (Some(record.epoch), Some(tokens), Some(seconds));
                fill(row, quantities, |quantity| quantity.of_step(&record));
            }
            Line::Eval(record) if quantities.iter().any(|quantity| quantity.of_eval(&record).is_some()) => {
                let row = rows.entry(record.step).or_insert_with(empty);
                (row.epoch, row.tokens, row.seconds) = (Some(record.epoch), Some(tokens), Some(seconds));
                fill(row, quantities, |quantity| quantity.of_eval(&record));
            }
            _ => {}
        }
    }
    Ok(rows)
}

fn fill(row: &mut Row, quantities: &[Quantity], value: impl Fn(Quantity) -> Option<f64>) {
    for (cell, &quantity) in row.values.iter_mut().zip(quantities) {
        if let Some(value) = value(quantity) {
            *cell = Cell::Number(value);
        }
    }
}
