//! One step of a run, made again in memory, beside what the run recorded of it.
//!
//! Micro-batches, dropout masks and routes are functions of the seed and the step, so the nearest checkpoint before it and the
//! settings are enough. Nothing is written.

use crate::artifact::recorder::RecordedStep;
use crate::artifact::run_label::RunLabel;
use crate::artifact::{RunDir, checkpoint};
use crate::config::choice_name;
use crate::error::{Error, Result};
use crate::protocol::studies::{ReplayPlan, ReplayReport, ReplayedValue, ReplayedWeights};
use crate::records::{CheckpointData, Pick, Route, SIDES, StepRecord};
use crate::tensor::HostTensor;
use crate::train::{Observer, Trainer};
use crate::workflow::rebuild::{self, Rebuilt};
use std::time::Instant;

/// Differing picks that are told in words.
const TOLD: usize = 8;

/// A number of a step, and its name in the record.
type NamedNumber = (&'static str, fn(&StepRecord) -> f64);

/// Keeps the step that is made.
#[derive(Default)]
struct Kept(Option<StepRecord>);

impl Observer for Kept {
    fn on_step(&mut self, step: &StepRecord) {
        self.0 = Some(step.clone());
    }
}

/// What the run recorded of a step.
///
/// # Errors
///
/// The record has no such step; it says which it has.
pub fn recorded(dir: &RunDir, step: u64) -> Result<StepRecord> {
    let found = RecordedStep::read(dir, step)?;
    found.record.ok_or_else(|| {
        Error::config(match found.last {
            0 => "this run has recorded no step yet".to_owned(),
            last => format!("this run has recorded no step {step}; choose 1 to {last}"),
        })
    })
}

/// Makes the step again. `go_on` gets the share done, 0 to 1; false cancels.
pub fn replay(dir: &RunDir, plan: ReplayPlan, go_on: &dyn Fn(f64) -> bool) -> Result<ReplayReport> {
    let (clock, step) = (Instant::now(), plan.step);
    let record = recorded(dir, step)?;
    let Rebuilt { mut trainer, cost, mut warnings } = rebuild::after(dir, step.saturating_sub(1), go_on)?;
    warnings.extend(made_elsewhere(&RunLabel::read(dir.path()), step));
    let mut kept = Kept::default();
    trainer.advance(&mut kept)?;
    let replayed = kept.0.ok_or_else(|| Error::internal("a step was made and not told"))?;
    let modules = trainer.model().site_names();
    let (picks_differing, different_picks) = different_picks(&replayed.routes, &record.routes, &modules);
    let mut report = ReplayReport {
        replayed_step: step,
        from: cost.from,
        steps_before: cost.steps,
        law: trainer.law_of(step).to_string(),
        values: values(&replayed, &record),
        modules,
        routes_recorded: record.routes.len(),
        routes: replayed.routes,
        different_picks,
        picks_differing,
        weights: weights(dir, step, &trainer)?,
        warnings,
        ..ReplayReport::default()
    };
    report.differs = differences(&report);
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}

/// What is to be known of a step that a run has from the one it goes on from: it may have been made under other settings.
fn made_elsewhere(label: &RunLabel, step: u64) -> Option<String> {
    let from = label.edge.strip_prefix("from step ")?.split(':').next()?.trim().parse().ok()?;
    (step <= from).then(|| {
        format!(
            "steps up to {from} were made in run {}; where its settings were others, replay them there",
            label.parent
        )
    })
}

/// Every number that is a function of the run, which seconds are not.
fn values(replayed: &StepRecord, recorded: &StepRecord) -> Vec<ReplayedValue> {
    let all: [NamedNumber; 7] = [
        ("loss", |step| step.loss),
        ("task_loss", |step| step.task_loss),
        ("consistency_loss", |step| step.consistency_loss),
        ("grad_norm", |step| step.grad_norm),
        ("learning_rate", |step| step.learning_rate),
        ("tokens", |step| step.tokens as f64),
        ("epoch", |step| step.epoch),
    ];
    let value = |(name, get): NamedNumber| ReplayedValue {
        name: name.to_owned(),
        replayed: get(replayed),
        recorded: get(recorded),
    };
    all.into_iter().map(value).collect()
}

/// How many picks differ, and the first of them in words.
fn different_picks(replayed: &[Route], recorded: &[Route], modules: &[String]) -> (usize, Vec<String>) {
    let mut told = Vec::new();
    let mut differing = 0;
    for (micro_batch, (now, then)) in replayed.iter().zip(recorded).enumerate() {
        for (at, pair) in now.picks.iter().zip(&then.picks).enumerate().filter(|(_, (now, then))| now != then) {
            differing += 1;
            if told.len() < TOLD {
                let (cell, side) = (at / SIDES.len(), choice_name(SIDES[at % SIDES.len()]));
                let (pass, site) = (cell / now.sites.max(1), cell % now.sites.max(1));
                let module = modules.get(site).map_or("an unknown module", String::as_str);
                let pass = ["A", "B"].get(pass).copied().unwrap_or("?");
                let (now, then) = experts(pair);
                told.push(format!(
                    "micro-batch {micro_batch}, pass {pass}, {module} {side}: {now}, in the record {then}"
                ));
            }
        }
        // Routes of other shapes have picks that the other has not.
        differing += now.picks.len().abs_diff(then.picks.len());
    }
    (differing, told)
}

/// Two picks in words; of many experts the first place where they differ.
fn experts((now, then): (&Pick, &Pick)) -> (String, String) {
    let list = |pick: &Pick| match pick {
        Pick::One(expert) => vec![*expert],
        Pick::PerExample(list) | Pick::PerToken(list) => list.clone(),
    };
    let (a, b) = (list(now), list(then));
    let at = a.iter().zip(&b).position(|(a, b)| a != b).unwrap_or(0);
    let words = |pick: &Pick, list: &[u8]| {
        let expert = list.get(at).map_or_else(|| "none".to_owned(), |expert| format!("expert {expert}"));
        match pick {
            Pick::One(_) => expert,
            Pick::PerExample(_) => format!("{expert} for example {at}"),
            Pick::PerToken(_) => format!("{expert} for token {at}"),
        }
    };
    (words(now, &a), words(then, &b))
}

/// Against the checkpoint of this step, where there is one that can be read.
fn weights(dir: &RunDir, step: u64, trainer: &Trainer) -> Result<Option<ReplayedWeights>> {
    if !checkpoint::list(dir)?.contains(&step) {
        return Ok(None);
    }
    let (now, then) = (trainer.checkpoint_data()?, checkpoint::read(dir, step)?);
    let all = |data: &CheckpointData| data.tensors.iter().chain(&data.optimizer).cloned().collect::<Vec<_>>();
    let (now, then) = (all(&now), all(&then));
    let bits = |tensor: &HostTensor| tensor.data.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let same = |tensor: &HostTensor| {
        let other = then.iter().find(|other| other.name == tensor.name);
        other.is_some_and(|other| other.shape == tensor.shape && bits(other) == bits(tensor))
    };
    let differing = now.iter().filter(|tensor| !same(tensor)).map(|tensor| tensor.name.clone()).collect();
    Ok(Some(ReplayedWeights { tensors: now.len(), differing }))
}

/// What differs, in words.
fn differences(report: &ReplayReport) -> Vec<String> {
    let different = report.values.iter().filter(|value| !value.is_equal());
    let mut found: Vec<String> = different.map(|value| value.name.clone()).collect();
    if report.routes_recorded > 0 && report.routes_recorded != report.routes.len() {
        let now = report.routes.len();
        found.push(format!("routes of {} micro-batches are recorded, {now} were drawn", report.routes_recorded));
    }
    if report.picks_differing > 0 {
        let first = report.different_picks.first().cloned().unwrap_or_default();
        found.push(format!("{} picks of the routes ({first})", report.picks_differing));
    }
    if let Some(weights) = report.weights.as_ref().filter(|weights| !weights.differing.is_empty()) {
        let (n, first) = (weights.differing.len(), &weights.differing[0]);
        found.push(format!("{n} of {} tensors of checkpoint-{} ({first})", weights.tensors, report.replayed_step));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_run_that_a_branch_goes_on_from_are_told() {
        let label = |edge: &str| RunLabel { parent: "lab".to_owned(), edge: edge.to_owned(), ..RunLabel::default() };
        let told = made_elsewhere(&label("from step 400: learning_rate 0.003 -> 0.001"), 400).unwrap();
        assert!(told.starts_with("steps up to 400 were made in run lab"), "{told}");
        assert!(made_elsewhere(&label("from step 400"), 3).is_some());
        for (edge, step) in [("from step 400", 401), ("", 1), ("from step x", 1), ("seed 0 -> 1", 1)] {
            assert_eq!(made_elsewhere(&label(edge), step), None, "{edge}");
        }
    }

    #[test]
    fn the_first_differing_pick_is_named() {
        let route = |picks: Vec<Pick>| Route { passes: 2, sites: 1, picks };
        let one = |experts: [u8; 4]| route(experts.map(Pick::One).to_vec());
        let modules = ["layers.0.ffn".to_owned()];
        assert_eq!(different_picks(&[one([1, 0, 2, 0])], &[one([1, 0, 2, 0])], &modules), (0, Vec::new()));
        let (n, told) = different_picks(&[one([1, 0, 2, 0])], &[one([1, 0, 3, 1])], &modules);
        assert_eq!(n, 2);
        assert_eq!(told[0], "micro-batch 0, pass B, layers.0.ffn down: expert 2, in the record expert 3");
        let many = |last: u8| route(vec![Pick::PerToken(vec![0, 1, last]), Pick::One(0), Pick::One(0), Pick::One(0)]);
        let (n, told) = different_picks(&[many(2)], &[many(3)], &modules);
        assert_eq!((n, told.len()), (1, 1));
        assert!(
            told[0].ends_with("pass A, layers.0.ffn down: expert 2 for token 2, in the record expert 3 for token 2")
        );
        let shorter = route(vec![Pick::One(1), Pick::One(0)]);
        assert_eq!(different_picks(&[one([1, 0, 2, 0])], &[shorter], &modules).0, 2);
    }
}
