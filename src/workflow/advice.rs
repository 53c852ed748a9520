//! What is known of a prepared run, for [`crate::config::advice`].

use crate::config::advice::{self, RunFacts};
use crate::data::Row;
use crate::train::ModelAndData;
use crate::train::trainer::Trainer;
use std::collections::BTreeSet;

/// Settings and data of this run that seldom give what is hoped for, in words.
pub(super) fn warnings(trainer: &Trainer) -> Vec<String> {
    let (start, subject) = (trainer.start_record(), trainer.subject());
    let train = subject.train();
    let epochs = start.total_steps as f64 / start.steps_per_epoch.max(1e-9);
    let mut facts = RunFacts {
        parameters: start.trunk_parameters,
        epochs,
        train_rows: train.rows,
        eval_rows: start.eval_rows,
        cut: train.truncated,
        ..RunFacts::default()
    };
    match subject {
        ModelAndData::Classifier(_, task) => {
            let rows = &task.train.rows;
            facts.repeats = rows.len() - rows.iter().map(Row::key).collect::<BTreeSet<_>>().len();
            let special = if rows.first().is_some_and(|row| row.pair.is_some()) { 3.0 } else { 2.0 };
            facts.tokens = (train.tokens as f64 / train.rows.max(1) as f64 - special).max(0.1);
            let numbers = rows.iter().filter(|row| row.text.trim().parse::<f64>().is_ok()).count();
            facts.numbers = numbers as f64 / rows.len().max(1) as f64;
        }
        ModelAndData::Lm(_, data) => {
            let examples = &data.train.examples;
            facts.repeats =
                examples.len() - examples.iter().map(|example| example.key()).collect::<BTreeSet<_>>().len();
        }
    }
    advice::warnings(trainer.config(), &facts)
}
